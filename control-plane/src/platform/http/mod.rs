//! What every REST endpoint shares: errors as problem details, pages, entity tags, live events. It must know no resource.

mod error;
mod etag;
mod events;
mod extract;
mod page;

pub(crate) use error::ApiError;
pub(crate) use etag::{ETag, IfMatch};
pub(crate) use events::Events;
pub(crate) use extract::{Created, Json, Once, Path, Query};
pub(crate) use page::PageQuery;
