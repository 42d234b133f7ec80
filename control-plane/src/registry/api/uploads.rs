//! `/uploads`: bytes on their way in.

use super::views;
use crate::platform::http::{ApiError, Created, Json, Path};
use crate::registry::uploads::Begun;
use crate::registry::{Artifacts, RegistryError};
use crate::tenants::{Operator, Viewer};
use aidos_protocol::ArtifactUploadId;
use aidos_protocol::api::artifacts::{ArtifactView, CreateUpload, MAX_CHUNK_BYTES, UPLOAD_OFFSET, UploadView};
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Chunks held in memory at once, over all uploads: with [`MAX_CHUNK_BYTES`] each, at most 128 MiB.
const CHUNKS_AT_ONCE: usize = 16;
/// How long one chunk may take to arrive: 8 MiB at 1 Mbit/s, and some. A slower line sends smaller chunks.
const CHUNK_PATIENCE: Duration = Duration::from_secs(90);
/// How long a request waits for its turn to be read.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// Turns for chunks.
#[derive(Clone)]
pub(super) struct Chunks(Arc<Semaphore>);

impl Chunks {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(CHUNKS_AT_ONCE)))
    }
}

/// Begin an upload
///
/// Answers 200 with `done` when the tenant has these bytes, and 200 with the upload begun before when there is one.
#[utoipa::path(post, path = "/api/v1/uploads", operation_id = "beginUpload", tag = "artifacts", request_body = CreateUpload, responses(
    (status = 201, body = UploadView), (status = 200, body = UploadView, description = "Nothing or only the rest has to be sent"),
))]
pub(super) async fn begin(
    Operator(caller): Operator,
    State(artifacts): State<Artifacts>,
    Json(request): Json<CreateUpload>,
) -> Result<Response, ApiError> {
    Ok(match artifacts.uploads().begin(&caller, request.digest, request.size).await? {
        Begun::New(row) => Created(views::upload(&row)).into_response(),
        Begun::Resumed(row) => Json(views::upload(&row)).into_response(),
        Begun::Done(row) => Json(views::done(&row)).into_response(),
    })
}

/// Show an upload
///
/// `Upload-Offset` says where to go on.
#[utoipa::path(get, path = "/api/v1/uploads/{id}", operation_id = "getUpload", tag = "artifacts", params(("id" = ArtifactUploadId, Path)),
    responses((status = 200, body = UploadView, headers(("Upload-Offset" = u64)))))]
pub(super) async fn show(
    Viewer(caller): Viewer,
    State(artifacts): State<Artifacts>,
    Path(id): Path<ArtifactUploadId>,
) -> Result<Response, ApiError> {
    let row = artifacts.uploads().get(caller.tenant, id).await?;
    Ok(at(row.stored, Json(views::upload(&row))))
}

/// Send a chunk
///
/// The body is at most 8 MiB and begins at byte `Upload-Offset` of the file. 409 when the upload stands elsewhere.
#[utoipa::path(patch, path = "/api/v1/uploads/{id}", operation_id = "appendToUpload", tag = "artifacts",
    params(("id" = ArtifactUploadId, Path), ("Upload-Offset" = u64, Header, description = "Where the chunk begins")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = UploadView, headers(("Upload-Offset" = u64))),
        (status = 409, description = "`Upload-Offset` says where to go on")))]
pub(super) async fn append(
    Operator(caller): Operator,
    State(artifacts): State<Artifacts>,
    State(chunks): State<Chunks>,
    Path(id): Path<ArtifactUploadId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let offset = headers.get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let offset: u64 =
        offset.ok_or_else(|| ApiError::invalid("Upload-Offset", "say with a number in this header where the chunk begins"))?;
    let turn = tokio::time::timeout(TURN_PATIENCE, chunks.0.acquire()).await;
    let _turn = turn.map_err(|_| ApiError::unavailable("too many chunks are arriving at once; send this one again", 5))?;
    let chunk = tokio::time::timeout(CHUNK_PATIENCE, to_bytes(body, MAX_CHUNK_BYTES)).await.map_err(|_| {
        ApiError::other(StatusCode::REQUEST_TIMEOUT, "timeout", "Timeout", "the chunk took too long: send smaller ones")
    })?;
    // The reader fails by its limit or because the connection broke; then nobody reads the answer.
    let chunk = chunk.map_err(|_| ApiError::too_large(format!("a chunk has at most {MAX_CHUNK_BYTES} bytes: send several")))?;
    match artifacts.uploads().append(caller.tenant, id, offset, chunk).await {
        Ok(row) => Ok(at(row.stored, Json(views::upload(&row)))),
        Err(error) => refused(error),
    }
}

/// Finish an upload
///
/// The bytes become an artifact when their digest is the one that was promised; otherwise they are discarded.
#[utoipa::path(post, path = "/api/v1/uploads/{id}/complete", operation_id = "completeUpload", tag = "artifacts", params(("id" = ArtifactUploadId, Path)),
    responses((status = 201, body = ArtifactView), (status = 409, description = "Bytes are missing"),
        (status = 422, description = "The digest is another one")))]
pub(super) async fn complete(
    Operator(caller): Operator,
    State(artifacts): State<Artifacts>,
    Path(id): Path<ArtifactUploadId>,
) -> Result<Response, ApiError> {
    match artifacts.uploads().complete(&caller, id).await {
        Ok(row) => Ok(Created(views::artifact(row)).into_response()),
        Err(error) => refused(error),
    }
}

/// Discard an upload
#[utoipa::path(delete, path = "/api/v1/uploads/{id}", operation_id = "cancelUpload", tag = "artifacts", params(("id" = ArtifactUploadId, Path)),
    responses((status = 204)))]
pub(super) async fn cancel(
    Operator(caller): Operator,
    State(artifacts): State<Artifacts>,
    Path(id): Path<ArtifactUploadId>,
) -> Result<StatusCode, ApiError> {
    artifacts.uploads().cancel(caller.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A wrong offset is answered with the right one.
fn refused(error: RegistryError) -> Result<Response, ApiError> {
    match error {
        RegistryError::Offset { stored } => Ok(at(stored, ApiError::from(error))),
        error => Err(error.into()),
    }
}

fn at(offset: u64, answer: impl IntoResponse) -> Response {
    ([(UPLOAD_OFFSET, offset.to_string())], answer).into_response()
}
