//! Entity tags: whoever edits something says which state of it they saw, so that no edit is lost to another.

use super::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::{HeaderValue, header, request::Parts};
use axum::response::{IntoResponseParts, ResponseParts};
use std::convert::Infallible;
use std::fmt;

/// The state of a resource, strong. Answer with it: `(etag, Json(view))`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ETag(String);

impl ETag {
    /// The tag of a resource that counts its edits.
    pub(crate) fn revision(revision: impl fmt::Display) -> Self {
        // Only characters that RFC 9110 allows within the quotes.
        let text: String = revision.to_string().chars().filter(|c| c.is_ascii_alphanumeric() || "-._:".contains(*c)).collect();
        Self(format!("\"{text}\""))
    }
}

impl IntoResponseParts for ETag {
    type Error = Infallible;
    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        let value = HeaderValue::try_from(self.0).expect("letters, digits and quotes make a header");
        parts.headers_mut().insert(header::ETAG, value);
        Ok(parts)
    }
}

/// The `If-Match` header; absent: the caller takes whatever state there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// Whether the caller said which state they saw.
    pub(crate) fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Fails with 412 unless the caller saw the state `current`, or any by `*`, or does not care.
    pub(crate) fn check(&self, current: &ETag) -> Result<(), ApiError> {
        match &self.0 {
            None => Ok(()),
            Some(tags) if tags.iter().any(|tag| tag == "*" || *tag == current.0) => Ok(()),
            Some(_) => Err(ApiError::precondition_failed(format!("someone changed it: its ETag is now {}", current.0))),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut tags = Vec::new();
        for value in parts.headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| ApiError::invalid("If-Match", "If-Match must be text"))?;
            tags.extend(text.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()));
        }
        Ok(Self((!tags.is_empty()).then_some(tags)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seen(header: Option<&str>) -> IfMatch {
        let mut request = axum::http::Request::builder();
        if let Some(text) = header {
            request = request.header("if-match", text);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        IfMatch::from_request_parts(&mut parts, &()).await.unwrap()
    }

    #[tokio::test]
    async fn a_stale_tag_is_refused_and_a_fresh_one_any_or_none_is_not() {
        let now = ETag::revision(7);
        for fine in [None, Some("*"), Some("\"7\""), Some("\"3\", \"7\"")] {
            assert!(seen(fine).await.check(&now).is_ok(), "{fine:?}");
        }
        for stale in ["\"6\"", "W/\"7\"", "7"] {
            assert_eq!(seen(Some(stale)).await.check(&now).unwrap_err().status(), 412, "{stale}");
        }
    }
}
