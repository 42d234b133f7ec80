//! The agent's own version as intent asks for it, and the settings' keys that only the control plane may write.

use super::edit::{Edit, Room};
use crate::DeploymentId;
use crate::artifact::{Digest, MAX_ARTIFACT_BYTES};
use crate::rollout::UpdatePolicy;
use serde::{Deserialize, Serialize};

/// Settings whose keys begin so are the control plane's: a site can neither set nor remove them.
pub const RESERVED_PREFIX: &str = "agent.";
/// The setting that holds the [`DesiredRelease`].
pub const AGENT_RELEASE: &str = "agent.release";
/// The setting that holds the [`crate::settings::SettingsDocument`].
pub const AGENT_CONFIG: &str = "agent.config";
/// Bytes of a release's version.
pub const MAX_RELEASE_VERSION_BYTES: usize = 64;

/// The version of the agent that a device should run. One scalar, like a model: concurrent writes never mix their fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DesiredRelease {
    /// As `aidos-agent --version` prints it; what follows a `+` is the packager's.
    pub version: String,
    /// Digest of the binary.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Counts the tenant's releases.
    pub counter: u64,
    /// Once this release has proved itself, the device starts none with a lower counter any more; 0 raises nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub floor: u64,
    /// What it runs on, as [`crate::inventory::Inventory::arch`] names it.
    pub arch: String,
    /// What asked for it. A new one tries a version again that has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// How the device goes about it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: UpdatePolicy,
}

/// A release that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the agent's release is not valid: {0}")]
pub struct ReleaseError(String);

impl DesiredRelease {
    /// Checks the ranges; call it on every release that came from outside.
    pub fn check(&self) -> Result<(), ReleaseError> {
        let fail = |text: String| Err(ReleaseError(text));
        if !valid_release_version(&self.version) {
            return fail(format!("version: use 1 to {MAX_RELEASE_VERSION_BYTES} of a-z A-Z 0-9 . + - that begin with a digit"));
        }
        if self.size == 0 || self.size > MAX_ARTIFACT_BYTES {
            return fail(format!("size is {}, use 1 to {MAX_ARTIFACT_BYTES}", self.size));
        }
        if self.counter == 0 || self.counter > i64::MAX.unsigned_abs() {
            return fail("counter counts from 1".into());
        }
        if self.floor > self.counter {
            return fail(format!("floor is {}, above its own counter {}", self.floor, self.counter));
        }
        self.update.check().map_err(|error| ReleaseError(error.to_string()))
    }

    /// Names the attempt to get to this release: the same text for the same wish, another for any other.
    pub fn attempt(&self) -> String {
        let text = serde_json::to_vec(self).expect("a release has only text keys");
        Digest::of(&text).hex()[..32].to_owned()
    }

    /// Whether a binary that prints `printed` as its version is this release.
    pub fn is_printed_as(&self, printed: &str) -> bool {
        self.version == printed || self.version.strip_prefix(printed).is_some_and(|rest| rest.starts_with('+'))
    }
}

/// Whether `text` can be the version of a release.
pub fn valid_release_version(text: &str) -> bool {
    text.len() <= MAX_RELEASE_VERSION_BYTES
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'))
}

/// Whether `key` of `room` is the control plane's own.
pub fn is_reserved(room: Room, key: &str) -> bool {
    room == Room::Config && key.starts_with(RESERVED_PREFIX)
}

impl Edit {
    /// Whether it writes what only the control plane itself may write: [`is_reserved`].
    pub fn is_reserved(&self) -> bool {
        is_reserved(self.room(), self.key())
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_default(policy: &UpdatePolicy) -> bool {
    *policy == UpdatePolicy::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> DesiredRelease {
        DesiredRelease {
            version: "1.4.0".into(),
            digest: Digest::of(b"x"),
            size: 1,
            counter: 3,
            floor: 0,
            arch: "x86_64".into(),
            deployment: None,
            update: UpdatePolicy::default(),
        }
    }

    #[test]
    fn a_release_out_of_range_is_named() {
        release().check().unwrap();
        for (bad, word) in [
            (DesiredRelease { version: "v1".into(), ..release() }, "version"),
            (DesiredRelease { size: 0, ..release() }, "size"),
            (DesiredRelease { counter: 0, ..release() }, "counter"),
            (DesiredRelease { floor: 4, ..release() }, "floor"),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains(word), "{bad:?}");
        }
    }

    #[test]
    fn another_deployment_is_another_attempt_and_the_same_wish_is_the_same() {
        let again = DesiredRelease { deployment: Some(DeploymentId::new(1)), ..release() };
        assert_eq!(release().attempt(), release().attempt());
        assert_ne!(release().attempt(), again.attempt());
        assert_eq!(again.attempt().len(), 32);
    }

    #[test]
    fn build_metadata_is_the_packagers() {
        let built = DesiredRelease { version: "1.4.0+arm".into(), ..release() };
        assert!(built.is_printed_as("1.4.0") && built.is_printed_as("1.4.0+arm") && release().is_printed_as("1.4.0"));
        assert!(!built.is_printed_as("1.4") && !release().is_printed_as("1.4.1") && !release().is_printed_as(""));
    }
}
