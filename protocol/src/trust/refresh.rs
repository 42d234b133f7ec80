//! The course of a refresh: which file comes next, and when it is over. A pure machine; its driver fetches and stores.

use super::target::quote;
use super::{
    MAX_NEW_ROOTS, MAX_ROOT_BYTES, MAX_SNAPSHOT_BYTES, MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES, MetaFile, TrustError, Trusted,
};
use crate::time::Micros;

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Its address below the repository's, percent-encoded.
    pub address: String,
    /// The most bytes that may be read of it; one more is endless data and must be refused without reading on.
    pub max_bytes: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// The repository answered that there is no such file. Anything else that goes wrong ends the refresh instead.
    Missing,
}

/// One refresh, from root to targets.
#[derive(Debug, Clone, Default)]
pub struct Refresh {
    stage: Stage,
    roots: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Root,
    Timestamp,
    /// The snapshot and then the targets, as far as what is at hand is not what the file above names.
    Named,
}

impl Refresh {
    /// The file to fetch next; `None` when the refresh is complete.
    pub fn want(&self, trusted: &Trusted, now: Micros) -> Result<Option<Want>, TrustError> {
        let consistent = trusted.root().consistent_snapshot;
        Ok(match self.stage {
            Stage::Root => {
                let next = trusted.root().version.saturating_add(1);
                Some(Want { address: format!("{next}.root.json"), max_bytes: MAX_ROOT_BYTES })
            }
            Stage::Timestamp => Some(Want { address: "timestamp.json".into(), max_bytes: MAX_TIMESTAMP_BYTES }),
            Stage::Named if !trusted.has_snapshot(now) => {
                Some(named("snapshot", trusted.wanted_snapshot()?, consistent, MAX_SNAPSHOT_BYTES))
            }
            Stage::Named if !trusted.has_targets(now) => Some(role("targets", trusted, now)?),
            Stage::Named => None,
        })
    }

    /// Takes the answer to [`Refresh::want`]. On success the store keeps [`Trusted::files`] before the next step.
    pub fn take(&mut self, trusted: &mut Trusted, answer: Answer<'_>, now: Micros) -> Result<(), TrustError> {
        match (self.stage, answer) {
            (Stage::Root, Answer::Missing) => {
                trusted.check_root(now)?;
                self.stage = Stage::Timestamp;
            }
            (Stage::Root, Answer::Bytes(bytes)) => {
                if self.roots >= MAX_NEW_ROOTS {
                    return Err(TrustError::TooManyRoots { max: MAX_NEW_ROOTS });
                }
                trusted.update_root(bytes)?;
                self.roots += 1;
            }
            (Stage::Timestamp, Answer::Bytes(bytes)) => {
                trusted.update_timestamp(bytes, now)?;
                self.stage = Stage::Named;
            }
            (Stage::Named, Answer::Bytes(bytes)) if !trusted.has_snapshot(now) => trusted.update_snapshot(bytes, now)?,
            (Stage::Named, Answer::Bytes(bytes)) => trusted.update_targets(bytes, now)?,
            (Stage::Timestamp | Stage::Named, Answer::Missing) => {
                let file = self.want(trusted, now)?.map(|want| want.address).unwrap_or_default();
                return Err(TrustError::Missing { file });
            }
        }
        Ok(())
    }
}

/// How to fetch a targets role.
pub(super) fn role(name: &str, trusted: &Trusted, now: Micros) -> Result<Want, TrustError> {
    Ok(named(name, trusted.wanted_role(name, now)?, trusted.root().consistent_snapshot, MAX_TARGETS_BYTES))
}

fn named(name: &str, meta: &MetaFile, consistent: bool, max: u64) -> Want {
    let name = quote(name);
    let address = if consistent { format!("{}.{name}.json", meta.version) } else { format!("{name}.json") };
    Want { address, max_bytes: meta.length.map_or(max, |length| length.min(max)) }
}
