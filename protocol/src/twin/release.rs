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
/// Binaries of a release: more architectures than agents are built for, and together they fit a setting.
pub const MAX_RELEASE_BINARIES: usize = 16;
/// Bytes of a release's version.
pub const MAX_RELEASE_VERSION_BYTES: usize = 64;

/// The version of the agent that a device should run. One scalar, like a model: concurrent writes never mix their fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DesiredRelease {
    /// As `aidos-agent --version` prints it; what follows a `+` is the packager's.
    pub version: String,
    /// Its binaries, one for each architecture: every device is told the same, and takes the one for itself.
    pub binaries: Vec<ReleaseBinary>,
    /// Counts the tenant's releases.
    pub counter: u64,
    /// Once this release has proved itself, the device starts none with a lower counter any more; 0 raises nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub floor: u64,
    /// What asked for it. A new one tries a version again that has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// How the device goes about it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: UpdatePolicy,
}

/// The binary of a release for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReleaseBinary {
    /// What it runs on, as [`crate::inventory::Inventory::arch`] names it.
    pub arch: String,
    /// Digest of the binary.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
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
        if self.binaries.is_empty() || self.binaries.len() > MAX_RELEASE_BINARIES {
            return fail(format!("it has {} binaries, use 1 to {MAX_RELEASE_BINARIES}", self.binaries.len()));
        }
        if let Some(binary) = self.binaries.iter().find(|binary| binary.size == 0 || binary.size > MAX_ARTIFACT_BYTES) {
            return fail(format!("size for {} is {}, use 1 to {MAX_ARTIFACT_BYTES}", binary.arch, binary.size));
        }
        if self.counter == 0 || self.counter > i64::MAX.unsigned_abs() {
            return fail("counter counts from 1".into());
        }
        if self.floor > self.counter {
            return fail(format!("floor is {}, above its own counter {}", self.floor, self.counter));
        }
        self.update.check().map_err(|error| ReleaseError(error.to_string()))
    }

    /// The binary for a machine of `arch`.
    pub fn binary(&self, arch: &str) -> Option<&ReleaseBinary> {
        self.binaries.iter().find(|binary| binary.arch == arch)
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

    fn binary(arch: &str, size: u64) -> ReleaseBinary {
        ReleaseBinary { arch: arch.into(), digest: Digest::of(arch.as_bytes()), size }
    }

    fn release() -> DesiredRelease {
        DesiredRelease {
            version: "1.4.0".into(),
            binaries: vec![binary("x86_64", 1), binary("aarch64", 2)],
            counter: 3,
            floor: 0,
            deployment: None,
            update: UpdatePolicy::default(),
        }
    }

    #[test]
    fn a_release_out_of_range_is_named() {
        release().check().unwrap();
        for (bad, word) in [
            (DesiredRelease { version: "v1".into(), ..release() }, "version"),
            (DesiredRelease { binaries: vec![binary("x86_64", 1), binary("riscv64", 0)], ..release() }, "size for riscv64"),
            (DesiredRelease { binaries: Vec::new(), ..release() }, "0 binaries"),
            (DesiredRelease { binaries: vec![binary("x86_64", 1); MAX_RELEASE_BINARIES + 1], ..release() }, "17 binaries"),
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
    fn each_machine_takes_the_binary_for_itself_and_the_largest_release_fits_a_setting() {
        assert_eq!(release().binary("aarch64"), Some(&binary("aarch64", 2)));
        assert_eq!(release().binary("riscv64"), None);
        let binaries = (0..MAX_RELEASE_BINARIES).map(|n| binary(&format!("{n:0>32}"), MAX_ARTIFACT_BYTES)).collect();
        let update = UpdatePolicy { window: Some("Mon-Fri 22:00-04:00".parse().unwrap()), ..UpdatePolicy::default() };
        let version = "1".repeat(MAX_RELEASE_VERSION_BYTES);
        let counter = i64::MAX.unsigned_abs();
        let largest = DesiredRelease { version, binaries, update, counter, floor: counter, ..release() };
        largest.check().unwrap();
        assert!(serde_json::to_string(&largest).unwrap().len() < super::super::edit::MAX_CONFIG_BYTES);
    }

    #[test]
    fn build_metadata_is_the_packagers() {
        let built = DesiredRelease { version: "1.4.0+arm".into(), ..release() };
        assert!(built.is_printed_as("1.4.0") && built.is_printed_as("1.4.0+arm") && release().is_printed_as("1.4.0"));
        assert!(!built.is_printed_as("1.4") && !release().is_printed_as("1.4.1") && !release().is_printed_as(""));
    }
}
