//! What every REST endpoint shares: the server, errors as problem details, pages, entity tags, live events, and the OpenAPI
//! document. It must know no resource.

mod error;
mod etag;
mod events;
mod extract;
mod layers;
pub(crate) mod openapi;
mod page;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use error::ApiError;
pub(crate) use etag::{ETag, IfMatch};
pub(crate) use events::Events;
pub(crate) use extract::{Created, Json, Once, Path, Query};
pub(crate) use layers::{MAX_BODY, layered};
pub(crate) use page::PageQuery;
pub(crate) use server::serve;
