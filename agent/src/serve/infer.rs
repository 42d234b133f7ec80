//! `POST …/infer`: a bounded body in, tensors through a model, an answer in the form that was asked for.

use super::{ServeContext, error::ServeError, models::Wanted};
use crate::infer::Models;
use aidos_protocol::oip::{HEADER_LENGTH, InferRequest, MAX_BODY};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::BytesMut;
use futures::StreamExt as _;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of bodies held at a time, over all requests: two of the largest, or thousands of small ones. Beyond it a request is
/// refused, so that many large ones at once cannot fill the memory.
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

/// A body and its room in the memory, which is free again when this goes.
struct Held {
    bytes: BytesMut,
    room: OwnedSemaphorePermit,
}

impl Bodies {
    fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ServeError> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX);
        let full = |_| ServeError::retry("too many large requests at a time; try again in 1 s", Duration::from_secs(1));
        Arc::clone(&self.0).try_acquire_many_owned(pieces).map_err(full)
    }

    /// Reads a body of at most [`MAX_BODY`] bytes. Room for the announced length is taken first, more as more arrives.
    async fn read(&self, request: Request) -> Result<Held, ServeError> {
        let announced =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let announced = announced.unwrap_or(0);
        if announced > MAX_BODY {
            return Err(too_large(announced));
        }
        let mut held = Held { bytes: BytesMut::with_capacity(announced), room: self.room(announced.max(1))? };
        let mut pieces = request.into_body().into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece =
                piece.map_err(|error| ServeError::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
            let length = held.bytes.len() + piece.len();
            if length > MAX_BODY {
                return Err(too_large(length));
            }
            let taken = held.room.num_permits() * PIECE;
            if length > taken {
                held.room.merge(self.room(length - taken)?);
            }
            held.bytes.extend_from_slice(&piece);
        }
        Ok(held)
    }
}

fn too_large(length: usize) -> ServeError {
    aidos_protocol::oip::OipError::TooLarge(length).into()
}

pub(super) async fn infer(
    State(models): State<Models>,
    State(bodies): State<Bodies>,
    State(context): State<ServeContext>,
    Path(wanted): Path<Wanted>,
    request: Request,
) -> Result<Response, ServeError> {
    let Some(_in_flight) = context.traffic.enter() else { return Err(ServeError::drained()) };
    let (name, version) = wanted.parse(&models)?;
    // Before the body is read: a model that is not there costs nothing.
    models.get(&name, version)?;
    let header_length = header_length(request.headers())?;
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
        let text = format!("Content-Encoding {encoding:?} is not taken; send the body as it is");
        return Err(ServeError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let late =
        |_| ServeError::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {} s", ARRIVAL.as_secs()));
    let Held { bytes, room } = tokio::time::timeout(ARRIVAL, bodies.read(request)).await.map_err(late)??;

    let request = InferRequest::decode(bytes.freeze(), header_length)?;
    let form = request.answer_form();
    let answer = models.infer(&name, version, request).await?.encode(&form)?;
    drop(room);
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
