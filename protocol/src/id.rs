//! Typed ids. Each is a UUIDv7 with a short prefix, so that an id in a log says what it names and sorts by age.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id: expected `{prefix}_` and 32 hexadecimal digits")]
pub struct IdError {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// What every id of this kind begins with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id; its first 48 bits are `now_ms` (milliseconds since the Unix epoch), the rest random.
            pub fn new(now_ms: u64) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now_ms, &rand::random::<[u8; 10]>()).into_uuid())
            }

            /// The 16 bytes without the prefix, for places where the kind is known and bytes count.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// From the bytes of [`Self::as_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or_else(|| IdError { text: text.chars().take(80).collect(), kind: $kind, prefix: $prefix })
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-9a-f]{32}$")))
                    .build()
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

id!(
    /// A tenant: the border that nothing crosses.
    TenantId, "ten", "tenant"
);
id!(
    /// A device, unique over all tenants of a deployment.
    DeviceId, "dev", "device"
);
id!(
    /// An API key.
    ApiKeyId, "key", "API key"
);
id!(
    /// A join token.
    TokenId, "tok", "join token"
);
id!(
    /// A command to one device.
    CommandId, "cmd", "command"
);
id!(
    /// A deployment of one model version on a selector.
    DeploymentId, "dep", "deployment"
);
id!(
    /// An upload in progress.
    ArtifactUploadId, "upl", "upload"
);
id!(
    /// One entry of the activity log, or one server-sent event.
    EventId, "evt", "event"
);

/// The name of a model within its tenant: 1–64 of `a-z 0-9 . _ -`, beginning with a letter or digit and not with `agent.`.
/// It is part of URLs and of file names on devices, hence the narrow alphabet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ModelName(String);

/// A text that cannot name a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a model name: use 1 to 64 of a-z 0-9 . _ -, begin with a letter or digit, and not with `agent.`")]
pub struct NameError(String);

impl ModelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for ModelName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let ok = (1..=64).contains(&text.len())
            && text.bytes().all(inner)
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && !text.contains("..")
            && !crate::subject::is_the_agents(text);
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError(text.chars().take(80).collect())) }
    }
}
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl From<ModelName> for String {
    fn from(name: ModelName) -> String {
        name.0
    }
}
impl TryFrom<String> for ModelName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
impl utoipa::PartialSchema for ModelName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[a-z0-9][a-z0-9._-]{0,63}$"))
            .build()
            .into()
    }
}
impl utoipa::ToSchema for ModelName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_wrote_and_refuses_another_kind() {
        let id = DeviceId::new(1_700_000_000_000);
        assert_eq!(id.to_string().parse::<DeviceId>(), Ok(id));
        assert!(id.to_string().parse::<TenantId>().is_err());
        assert!("dev_short".parse::<DeviceId>().unwrap_err().to_string().contains("32 hexadecimal"));
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        assert!(CommandId::new(1).to_string() < CommandId::new(2).to_string());
    }

    #[test]
    fn a_model_name_cannot_leave_its_folder() {
        for bad in ["", "..", "a/b", "../x", "A", "a..b", "-x", &"x".repeat(65)] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad}");
        }
        assert!("silero-vad.v6_2".parse::<ModelName>().is_ok());
    }
}
