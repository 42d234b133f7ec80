//! What is trusted now, and the rules by which a new file may take an old one's place (specification 5.3 to 5.6).
//!
//! A file that is refused changes nothing. Rules need only what is kept here, so that a restart changes no verdict.

use super::envelope::Envelope;
use super::target::check_meta;
use super::{
    Key, KeyId, MAX_ROOT_BYTES, MAX_SNAPSHOT_BYTES, MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES, MetaFile, Metadata, Role, Root,
    Snapshot, Targets, Timestamp, TrustError,
};
use crate::time::Micros;
use std::collections::{BTreeMap, BTreeSet};

/// What is trusted now: a root, and as far as they are known the other roles.
#[derive(Debug, Clone)]
pub struct Trusted {
    root: Envelope<Root>,
    timestamp: Option<Envelope<Timestamp>>,
    snapshot: Option<Envelope<Snapshot>>,
    targets: Option<Envelope<Targets>>,
    /// Raw, since each use verifies them for the role that delegates. Only such that the snapshot lists.
    delegated: BTreeMap<String, Vec<u8>>,
}

/// The most delegated roles that are kept between refreshes; a search that needs others fetches them.
const MAX_KEPT: usize = super::MAX_DELEGATIONS;

impl Trusted {
    /// Begins to trust a root that came by a way that is trusted: at enrolment, or with the device. Its own keys must have
    /// signed it; that it may have expired does not matter until its successors are known.
    pub fn begin(root: &[u8]) -> Result<Self, TrustError> {
        let root = Envelope::<Root>::read("root.json", root, MAX_ROOT_BYTES)?;
        root.verify("root.json", "itself", &root.signed.roles.root, &root.signed.keys)?;
        Ok(Self { root, timestamp: None, snapshot: None, targets: None, delegated: BTreeMap::new() })
    }

    /// Takes up what [`Trusted::files`] gave, by role name. A file that no longer verifies (a damaged store) is left out and
    /// fetched again; without a good root there is nothing to go on from.
    pub fn open(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, TrustError> {
        let root = files.get("root").ok_or(TrustError::TooEarly { lacks: "root" })?;
        let mut trusted = Self::begin(root)?;
        let (root, keys) = (&trusted.root.signed, &trusted.root.signed.keys);
        trusted.timestamp = kept(files, "timestamp", MAX_TIMESTAMP_BYTES, &root.roles.timestamp, keys);
        trusted.snapshot = kept(files, "snapshot", MAX_SNAPSHOT_BYTES, &root.roles.snapshot, keys);
        trusted.targets = kept(files, "targets", MAX_TARGETS_BYTES, &root.roles.targets, keys);
        for (name, bytes) in files {
            if !["root", "timestamp", "snapshot", "targets"].contains(&name.as_str()) && trusted.delegated.len() < MAX_KEPT {
                trusted.delegated.insert(name.clone(), bytes.clone());
            }
        }
        Ok(trusted)
    }

    /// All files by role name, for the store: it keeps exactly these, all in one transaction.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let top = [
            Some(("root", self.root.bytes())),
            self.timestamp.as_ref().map(|e| ("timestamp", e.bytes())),
            self.snapshot.as_ref().map(|e| ("snapshot", e.bytes())),
            self.targets.as_ref().map(|e| ("targets", e.bytes())),
        ];
        top.into_iter().flatten().chain(self.delegated.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
    }

    /// The root.
    pub fn root(&self) -> &Root {
        &self.root.signed
    }
    /// The timestamp, once there is one.
    pub fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_ref().map(|e| &e.signed)
    }
    /// The snapshot, once there is one; it may be older than what the timestamp names.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().map(|e| &e.signed)
    }
    /// The targets, once there are some; they may be older than what the snapshot names.
    pub fn targets(&self) -> Option<&Targets> {
        self.targets.as_ref().map(|e| &e.signed)
    }
    /// When the first of the top-level roles that are known expires.
    pub fn expires(&self) -> Micros {
        let others = [
            self.timestamp().map(|signed| signed.expires),
            self.snapshot().map(|signed| signed.expires),
            self.targets().map(|signed| signed.expires),
        ];
        others.into_iter().flatten().fold(self.root().expires, super::Expires::min).micros()
    }
    /// When the newest trusted timestamp was signed, as far as it says so.
    pub fn signed_at(&self) -> Option<Micros> {
        self.timestamp().and_then(|t| t.signed_at).map(super::Expires::micros)
    }

    /// Takes the next root: one version on, signed by the keys of the present one and by its own. Whether it has expired is
    /// asked once the last is known ([`Trusted::check_root`]). Where it takes away a key of the timestamp or the snapshot,
    /// both are forgotten, so that versions which a stolen key signed bind nobody (fast-forward recovery).
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let wanted = self.root.signed.version.saturating_add(1);
        let file = format!("{wanted}.root.json");
        let new = Envelope::<Root>::read(&file, bytes, MAX_ROOT_BYTES)?;
        let old = &self.root.signed;
        new.verify(&file, &format!("root version {}", old.version), &old.roles.root, &old.keys)?;
        new.verify(&file, "itself", &new.signed.roles.root, &new.signed.keys)?;
        check_version(&file, new.signed.version, wanted)?;
        let (before, after) = (&old.roles, &new.signed.roles);
        let lost_key =
            |old_role: &Role, new_role: &Role| !materials(old_role, &old.keys).is_subset(&materials(new_role, &new.signed.keys));
        let still = |verified: Result<(), TrustError>| verified.is_ok();
        let keys = &new.signed.keys;
        let holds = !lost_key(&before.timestamp, &after.timestamp)
            && !lost_key(&before.snapshot, &after.snapshot)
            && self.timestamp.as_ref().is_none_or(|e| still(e.verify("", "", &after.timestamp, keys)))
            && self.snapshot.as_ref().is_none_or(|e| still(e.verify("", "", &after.snapshot, keys)));
        if !holds {
            self.timestamp = None;
            self.snapshot = None;
        }
        self.root = new;
        Ok(())
    }

    /// Whether the root, now known to be the last, is still valid.
    pub fn check_root(&self, now: Micros) -> Result<(), TrustError> {
        check_expiry("root", &self.root.signed, now)
    }

    /// Whether what is known is complete and valid: what may be relied on when the repository cannot be reached. Only then does
    /// a search give an answer that nobody withholds a newer one of.
    pub fn check_fresh(&self, now: Micros) -> Result<(), TrustError> {
        self.check_root(now)?;
        let timestamp = self.timestamp().ok_or(TrustError::TooEarly { lacks: "timestamp" })?;
        check_expiry("timestamp", timestamp, now)?;
        let snapshot = self.snapshot().ok_or(TrustError::TooEarly { lacks: "snapshot" })?;
        check_expiry("snapshot", snapshot, now)?;
        let targets = self.targets().ok_or(TrustError::TooEarly { lacks: "targets" })?;
        check_expiry("targets", targets, now)?;
        if self.has_targets(now) { Ok(()) } else { Err(TrustError::TooEarly { lacks: "current targets" }) }
    }

    /// Takes a timestamp. The same version again is normal and changes nothing: the known one stays.
    pub fn update_timestamp(&mut self, bytes: &[u8], now: Micros) -> Result<(), TrustError> {
        self.check_root(now)?;
        let file = "timestamp.json";
        let new = Envelope::<Timestamp>::read(file, bytes, MAX_TIMESTAMP_BYTES)?;
        new.verify(file, "root", &self.root.signed.roles.timestamp, &self.root.signed.keys)?;
        if let Some(old) = self.timestamp() {
            check_rollback("timestamp", new.signed.version, old.version)?;
            if new.signed.version == old.version {
                return check_expiry("timestamp", old, now);
            }
            if let (Some(offered), Some(trusted)) = (new.signed.snapshot(), old.snapshot()) {
                check_rollback("snapshot", offered.version, trusted.version)?;
            }
        }
        check_expiry("timestamp", &new.signed, now)?;
        self.timestamp = Some(new);
        Ok(())
    }

    /// The snapshot that the timestamp names.
    pub(super) fn wanted_snapshot(&self) -> Result<&MetaFile, TrustError> {
        self.timestamp().and_then(Timestamp::snapshot).ok_or(TrustError::TooEarly { lacks: "timestamp" })
    }

    /// Whether the snapshot at hand is the one that the timestamp names, and valid.
    pub(super) fn has_snapshot(&self, now: Micros) -> bool {
        let (Ok(meta), Some(snapshot)) = (self.wanted_snapshot(), &self.snapshot) else { return false };
        fits("snapshot.json", meta, snapshot) && !snapshot.signed.expires.is_past(now)
    }

    /// Takes the snapshot that the timestamp names. No role may be older than in the known snapshot, and none may be gone.
    pub fn update_snapshot(&mut self, bytes: &[u8], now: Micros) -> Result<(), TrustError> {
        let meta = self.wanted_snapshot()?;
        let file = "snapshot.json";
        if let Some(timestamp) = self.timestamp() {
            check_expiry("timestamp", timestamp, now)?;
        }
        check_meta(file, meta, bytes)?;
        let new = Envelope::<Snapshot>::read(file, bytes, meta.length.unwrap_or(MAX_SNAPSHOT_BYTES).min(MAX_SNAPSHOT_BYTES))?;
        new.verify(file, "root", &self.root.signed.roles.snapshot, &self.root.signed.keys)?;
        check_version(file, new.signed.version, meta.version)?;
        if let Some(old) = self.snapshot() {
            for (name, trusted) in &old.meta {
                let role = name.strip_suffix(".json").unwrap_or(name);
                let offered = new.signed.meta.get(name).ok_or_else(|| TrustError::RoleGone { role: role.into() })?;
                check_rollback(role, offered.version, trusted.version)?;
            }
        }
        check_expiry("snapshot", &new.signed, now)?;
        self.delegated.retain(|name, _| new.signed.meta.contains_key(&format!("{name}.json")));
        self.snapshot = Some(new);
        Ok(())
    }

    /// What the snapshot says about a targets role. The snapshot must be the one that the timestamp names.
    pub(super) fn wanted_role(&self, name: &str, now: Micros) -> Result<&MetaFile, TrustError> {
        if !self.has_snapshot(now) {
            return Err(TrustError::TooEarly { lacks: "current snapshot" });
        }
        let snapshot = self.snapshot().ok_or(TrustError::TooEarly { lacks: "snapshot" })?;
        snapshot.meta.get(&format!("{name}.json")).ok_or_else(|| TrustError::NotListed { role: name.into() })
    }

    /// Whether the targets at hand are the ones that the snapshot names, signed by the present root's keys, and valid.
    pub(super) fn has_targets(&self, now: Micros) -> bool {
        let (Ok(meta), Some(targets)) = (self.wanted_role("targets", now), &self.targets) else { return false };
        let root = &self.root.signed;
        fits("targets.json", meta, targets)
            && targets.verify("targets.json", "root", &root.roles.targets, &root.keys).is_ok()
            && !targets.signed.expires.is_past(now)
    }

    /// Takes the targets that the snapshot names.
    pub fn update_targets(&mut self, bytes: &[u8], now: Micros) -> Result<(), TrustError> {
        let meta = self.wanted_role("targets", now)?;
        let (role, keys) = (&self.root.signed.roles.targets, &self.root.signed.keys);
        self.targets = Some(check_role("targets", bytes, meta, "root", role, keys, now)?);
        Ok(())
    }

    /// Takes the role `name` as `delegator` delegates to it, and keeps it for the next time.
    pub fn update_delegated(
        &mut self,
        name: &str,
        delegator: &Targets,
        bytes: &[u8],
        now: Micros,
    ) -> Result<Targets, TrustError> {
        let targets = self.check_delegated(name, delegator, bytes, now)?;
        if self.delegated.len() < MAX_KEPT || self.delegated.contains_key(name) {
            self.delegated.insert(name.into(), bytes.to_vec());
        }
        Ok(targets)
    }

    /// The role `name` from what is kept, if that is valid for this delegator: one that another delegator vouches for is
    /// verified again.
    pub(super) fn kept_delegated(&self, name: &str, delegator: &Targets, now: Micros) -> Option<Targets> {
        self.check_delegated(name, delegator, self.delegated.get(name)?, now).ok()
    }

    fn check_delegated(&self, name: &str, delegator: &Targets, bytes: &[u8], now: Micros) -> Result<Targets, TrustError> {
        let meta = self.wanted_role(name, now)?;
        let not_delegated = || TrustError::NotListed { role: name.into() };
        let delegations = delegator.delegations.as_ref().ok_or_else(not_delegated)?;
        let role = delegations.roles.iter().find(|role| role.name == name).ok_or_else(not_delegated)?;
        Ok(check_role(name, bytes, meta, "the delegating role", &role.role(), &delegations.keys, now)?.signed)
    }
}

fn kept<T: Metadata>(
    files: &BTreeMap<String, Vec<u8>>,
    name: &str,
    max: u64,
    role: &Role,
    keys: &BTreeMap<KeyId, Key>,
) -> Option<Envelope<T>> {
    let envelope = Envelope::read(name, files.get(name)?, max).ok()?;
    envelope.verify(name, "root", role, keys).is_ok().then_some(envelope)
}

fn check_role(
    name: &str,
    bytes: &[u8],
    meta: &MetaFile,
    delegator: &str,
    role: &Role,
    keys: &BTreeMap<KeyId, Key>,
    now: Micros,
) -> Result<Envelope<Targets>, TrustError> {
    let file = format!("{name}.json");
    check_meta(&file, meta, bytes)?;
    let new = Envelope::<Targets>::read(&file, bytes, meta.length.unwrap_or(MAX_TARGETS_BYTES).min(MAX_TARGETS_BYTES))?;
    new.verify(&file, delegator, role, keys)?;
    check_version(&file, new.signed.version, meta.version)?;
    check_expiry(name, &new.signed, now)?;
    Ok(new)
}

fn materials(role: &Role, keys: &BTreeMap<KeyId, Key>) -> BTreeSet<(&'static str, Vec<u8>)> {
    role.keyids.iter().filter_map(|id| keys.get(id)?.material()).collect()
}

fn fits<T: Metadata>(file: &str, meta: &MetaFile, envelope: &Envelope<T>) -> bool {
    envelope.signed.version() == meta.version && check_meta(file, meta, envelope.bytes()).is_ok()
}

fn check_version(file: &str, found: u64, wanted: u64) -> Result<(), TrustError> {
    if found == wanted { Ok(()) } else { Err(TrustError::WrongVersion { file: file.into(), found, wanted }) }
}

fn check_rollback(role: &str, offered: u64, trusted: u64) -> Result<(), TrustError> {
    if offered >= trusted { Ok(()) } else { Err(TrustError::Rollback { role: role.into(), offered, trusted }) }
}

fn check_expiry<T: Metadata>(role: &str, signed: &T, now: Micros) -> Result<(), TrustError> {
    if !signed.expires().is_past(now) {
        return Ok(());
    }
    Err(TrustError::Expired { role: role.into(), version: signed.version(), expires: signed.expires() })
}
