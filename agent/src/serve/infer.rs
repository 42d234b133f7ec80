//! `POST …/infer`: a bounded body in, tensors through a model, an answer in the form that was asked for.

use super::{error::ServeError, models::Wanted};
use crate::infer::Models;
use aidos_protocol::oip::{HEADER_LENGTH, InferRequest, MAX_BODY};
use axum::{
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies held at a time, over all requests: two of the largest, or thousands of small ones. Beyond it a request is refused
/// before it is read, so that many large ones at once cannot fill the memory.
const BODIES: usize = 2 * MAX_BODY;
/// Bodies are counted in pieces of this size, so that empty ones count too.
const PIECE: usize = 4096;
/// The longest that a body may take to arrive; on loopback even the largest takes under a second.
const ARRIVAL: Duration = Duration::from_secs(30);

/// The memory that request bodies may take together.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODIES / PIECE)))
    }
}

impl Bodies {
    /// Room for one body of the announced length; one that announces none may become the largest.
    fn admit(&self, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, ServeError> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let length = announced.unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            return Err(too_large(length));
        }
        let pieces = u32::try_from(length / PIECE + 1).unwrap_or(u32::MAX);
        Arc::clone(&self.0)
            .try_acquire_many_owned(pieces)
            .map_err(|_| ServeError::retry("too many large requests at a time; try again in 1 s", Duration::from_secs(1)))
    }
}

fn too_large(length: usize) -> ServeError {
    aidos_protocol::oip::OipError::TooLarge(length).into()
}

pub(super) async fn infer(
    State(models): State<Models>,
    State(bodies): State<Bodies>,
    Path(wanted): Path<Wanted>,
    request: Request,
) -> Result<Response, ServeError> {
    let (name, version) = wanted.parse(&models)?;
    // Before the body is read: a model that is not there costs nothing.
    models.get(&name, version)?;
    let header_length = header_length(request.headers())?;
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
        let text = format!("Content-Encoding {encoding:?} is not taken; send the body as it is");
        return Err(ServeError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let _room = bodies.admit(request.headers())?;
    let body = tokio::time::timeout(ARRIVAL, to_bytes(request.into_body(), MAX_BODY)).await;
    let late =
        |_| ServeError::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {} s", ARRIVAL.as_secs()));
    let body = body.map_err(late)?.map_err(|error| {
        // The only other cause is a client that went away, which never sees this.
        ServeError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body could not be read up to {MAX_BODY} bytes: {error}"))
    })?;

    let request = InferRequest::decode(body, header_length)?;
    let form = request.answer_form();
    let answer = models.infer(&name, version, request).await?.encode(&form)?;
    let mut response = Response::new(Body::from(answer.body.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type()));
    if let Some(length) = answer.header_length {
        response.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, ServeError> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| {
        ServeError::new(StatusCode::BAD_REQUEST, format!("Inference-Header-Content-Length is {value:?}, not a number of bytes"))
    })
}
