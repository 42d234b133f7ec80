//! Releases of the agent: an uploaded binary, a version, what it runs on, and a counter that only grows.
//!
//! What is released never changes: the same version for the same architecture is the same bytes for ever. The counter is what
//! devices hold against their security floor, so it is given here and by nobody else.

use super::artifacts::Artifacts;
use super::error::RegistryError;
use super::store::releases as store;
pub(crate) use super::store::releases::ReleaseRow;
use crate::platform::{
    clock::Clock,
    db::{Db, StoreError},
    http::Events,
};
use crate::tenants::{Activity, Caller};
use aidos_protocol::TenantId;
use aidos_protocol::api::releases::CreateRelease;
use aidos_protocol::elf;
use aidos_protocol::twin::release::{MAX_RELEASE_VERSION_BYTES, valid_release_version};
use futures::TryStreamExt as _;
use serde_json::json;

/// Bytes of an architecture's name.
const MAX_ARCH_BYTES: usize = 32;

/// A cheap handle to the releases.
#[derive(Clone)]
pub(crate) struct Releases {
    db: Db,
    artifacts: Artifacts,
    activity: Activity,
    events: Events,
    clock: Clock,
}

/// A version with all its binaries, as it goes to devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// One per architecture; never empty.
    pub(crate) binaries: Vec<ReleaseRow>,
    /// The floor of a device that runs it.
    pub(crate) floor: u64,
}

/// What came of registering a binary.
#[derive(Debug, PartialEq)]
pub(crate) enum Released {
    /// It is new.
    New(ReleaseRow),
    /// It was registered before.
    Existing(ReleaseRow),
}

impl Releases {
    /// The releases in `db`, made of `artifacts`.
    pub(crate) fn new(db: Db, artifacts: Artifacts, activity: Activity, events: Events, clock: Clock) -> Self {
        Self { db, artifacts, activity, events, clock }
    }

    /// Registers an uploaded binary.
    pub(crate) async fn create(&self, caller: &Caller, request: CreateRelease) -> Result<Released, RegistryError> {
        let invalid = |field, message: String| Err(RegistryError::Invalid { field, message });
        if !valid_release_version(&request.version) {
            let limit = MAX_RELEASE_VERSION_BYTES;
            return invalid("version", format!("a version is 1 to {limit} of a-z A-Z 0-9 . + - and begins with a digit: 1.4.0"));
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if request.arch.is_empty() || request.arch.len() > MAX_ARCH_BYTES || !request.arch.bytes().all(plain) {
            return invalid("arch", "an architecture is named as `uname -m` does: x86_64, aarch64, …".into());
        }
        let tenant = caller.tenant;
        let artifact = self.artifacts.get(tenant, &request.digest).await?;
        let end = artifact.size.min(elf::HEADER_BYTES as u64);
        let pieces: Vec<_> = self.artifacts.bytes(tenant, &artifact.digest, 0..end).await?.try_collect().await?;
        let header = pieces.concat();
        match elf::arch_of(&header) {
            Some(arch) if arch != request.arch => {
                return invalid("arch", format!("the binary is for {arch}, not for {}", request.arch));
            }
            None if elf::is_elf(&header) => {
                return invalid("digest", "the binary is for a machine that agents do not run on".into());
            }
            _ => {}
        }
        let mut tx = self.db.begin().await?;
        let taken = |error| match error {
            StoreError::Conflict(_) => {
                RegistryError::Conflict("another release was registered at the same moment: repeat this one".into())
            }
            error => RegistryError::from(error),
        };
        store::count_version(&mut tx, tenant, &request.version, request.raise_floor).await.map_err(taken)?;
        let row = ReleaseRow {
            version: request.version,
            arch: request.arch,
            digest: artifact.digest,
            size: artifact.size,
            counter: 0,
            raises_floor: request.raise_floor,
            created: self.clock.now(),
            created_by: caller.actor.clone(),
        };
        let new = store::insert_binary(&mut tx, tenant, &row).await?;
        let all = store::of_version(&mut tx, tenant, &row.version).await?;
        let stored = all.into_iter().find(|stored| stored.arch == row.arch);
        let stored = stored.ok_or(StoreError::NotFound)?;
        if stored.digest != row.digest || stored.raises_floor != row.raises_floor {
            return Err(RegistryError::Conflict(format!(
                "version {} for {} was released already and never changes: release it under another version",
                row.version, row.arch
            )));
        }
        if !new {
            return Ok(Released::Existing(stored));
        }
        let detail = json!({ "arch": stored.arch, "digest": stored.digest, "size": stored.size, "counter": stored.counter });
        self.activity.record(&mut tx, caller, "agent_release.create", &stored.version, detail).await?;
        tx.commit().await?;
        let told = json!({ "version": stored.version, "arch": stored.arch });
        self.events.publish(tenant, "agent_release.created", &stored.version, told);
        Ok(Released::New(stored))
    }

    /// Releases after `(counter, arch)`, newest first.
    pub(crate) async fn list(&self, tenant: TenantId, after: (u64, &str), limit: u32) -> Result<Vec<ReleaseRow>, RegistryError> {
        Ok(store::list(self.db.pool(), tenant, after, limit).await?)
    }

    /// A version with all its binaries.
    pub(crate) async fn version(&self, tenant: TenantId, version: &str) -> Result<Version, RegistryError> {
        let mut tx = self.db.begin().await?;
        let binaries = store::of_version(&mut tx, tenant, version).await?;
        let Some(first) = binaries.first() else {
            let shown: String = version.chars().take(MAX_RELEASE_VERSION_BYTES).collect();
            return Err(RegistryError::NotFound(format!("release `{shown}` of the agent: see `aidos agent release list`")));
        };
        let floor = store::floor(&mut tx, tenant, first.counter).await?;
        Ok(Version { binaries, floor })
    }
}
