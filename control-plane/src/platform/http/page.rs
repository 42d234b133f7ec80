//! `?limit=&cursor=`: how a caller asks for one page of a list, and how a list becomes one.

use super::error::ApiError;
use aidos_protocol::api::page::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest cursor that is decoded, in characters; ours are under 200.
const MAX_CURSOR: usize = 1_024;

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many items at most; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageQuery {
    /// How many items the page may hold. Ask the store for one more, so that [`PageQuery::page`] sees whether more follow.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ApiError::invalid("limit", format!("limit is {limit}, it must be 1 to {MAX_LIMIT}")));
        }
        Ok(limit as usize)
    }

    /// The key of the last item of the page before, as [`PageQuery::page`] was given it.
    pub(crate) fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let decode = || {
            let bytes = URL_SAFE_NO_PAD.decode(Some(cursor).filter(|text| text.len() <= MAX_CURSOR)?).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let refused = || ApiError::invalid("cursor", "the cursor is not one of this list; begin again without it");
        decode().map(Some).ok_or_else(refused)
    }

    /// Makes a page of `items`, of which there is one more than the limit when more follow. `key` says what to seek after.
    pub(crate) fn page<T, K: Serialize>(&self, mut items: Vec<T>, key: impl FnOnce(&T) -> K) -> Result<Page<T>, ApiError> {
        let limit = self.limit()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let last = if more { items.last() } else { None };
        let next_cursor = match last {
            None => None,
            Some(last) => Some(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&key(last)).map_err(ApiError::internal)?)),
        };
        Ok(Page { items, next_cursor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(limit: Option<u32>, cursor: Option<String>) -> PageQuery {
        PageQuery { limit, cursor }
    }

    #[test]
    fn a_cursor_leads_to_the_next_page_and_the_last_page_has_none() {
        let first = query(Some(2), None).page(vec![1, 2, 3], |n| (*n, "x")).unwrap();
        assert_eq!(first.items, [1, 2]);
        let next = query(Some(2), first.next_cursor);
        assert_eq!(next.after::<(i32, String)>().unwrap(), Some((2, "x".to_owned())));
        assert_eq!(next.page(vec![3], |n| *n).unwrap().next_cursor, None);
    }

    #[test]
    fn a_limit_out_of_range_and_a_foreign_cursor_are_named() {
        for bad in [0, 1_001] {
            assert!(query(Some(bad), None).limit().unwrap_err().to_string().contains("1 to 1000"));
        }
        for bad in ["%%%", "e30", &"A".repeat(2_000)] {
            assert!(query(None, Some(bad.to_owned())).after::<(i32, String)>().is_err(), "{bad}");
        }
    }
}
