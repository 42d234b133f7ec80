//! One page of a list. Every list is bounded: a caller walks it with the cursor of the page before.

use serde::{Deserialize, Serialize};

/// Items per page when the caller does not say.
pub const DEFAULT_LIMIT: u32 = 100;
/// The most items of one page: bounds the memory and the time of one request.
pub const MAX_LIMIT: u32 = 1_000;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Give it as `?cursor=` to get the next page; absent on the last one. Its text has no meaning to callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The only page of a short list.
    pub fn only(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// The same page with each item turned into something else.
    pub fn map<U>(self, with: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(with).collect(), next_cursor: self.next_cursor }
    }
}
