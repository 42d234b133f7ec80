//! The registry's errors as problem details.

use crate::platform::http::ApiError;
use crate::registry::RegistryError;
use axum::http::StatusCode;

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        match error {
            RegistryError::NotFound(what) => Self::not_found(what),
            RegistryError::Conflict(_) => Self::conflict(text),
            RegistryError::Invalid { field, message } => Self::invalid(field, message),
            RegistryError::NotAModel(_) => Self::other(StatusCode::UNPROCESSABLE_ENTITY, "not_a_model", "Not a model", text),
            RegistryError::Stale { .. } => Self::precondition_failed(text),
            RegistryError::Offset { .. } => Self::other(StatusCode::CONFLICT, "wrong_offset", "Wrong offset", text),
            RegistryError::Mismatch { .. } => {
                Self::other(StatusCode::UNPROCESSABLE_ENTITY, "digest_mismatch", "Digest mismatch", text)
            }
            RegistryError::TooLarge { .. } => Self::too_large(text),
            RegistryError::Quota(_) => Self::other(StatusCode::TOO_MANY_REQUESTS, "quota", "Too many at once", text),
            RegistryError::DiskFull => Self::other(StatusCode::INSUFFICIENT_STORAGE, "disk_full", "Disk full", text),
            RegistryError::Denied(_) => Self::forbidden(text),
            RegistryError::Objects(error) => error.into(),
            RegistryError::Store(error) => error.into(),
            error @ (RegistryError::Staging(_) | RegistryError::Task(_) | RegistryError::Build(_)) => Self::internal(error),
        }
    }
}
