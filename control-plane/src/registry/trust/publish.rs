//! The checks of files that people signed, before they become a repository's next versions. Pure: rows go in, rows come out.

use crate::registry::RegistryError;
use crate::registry::store::trust::FileRow;
use aidos_protocol::api::trust::PublisherView;
use aidos_protocol::time::Micros;
use aidos_protocol::trust::{
    DelegatedRole, Envelope, Expires, MAX_ROOT_BYTES, MAX_TARGETS_BYTES, MetaFile, Metadata, Role, Root, SigningKey, Snapshot,
    Target, Targets, Timestamp, TrustError, Trusted, sign,
};
use std::collections::BTreeMap;

/// How long a timestamp is valid: a device that hears nothing newer for a week knows that something withholds it.
const TIMESTAMP_SECONDS: i64 = 7 * 86_400;
/// How long a snapshot is valid; it is made anew with every change, and with a timestamp once half its life is over.
const SNAPSHOT_SECONDS: i64 = 90 * 86_400;

/// The newest files by role, as they will be.
pub(super) struct Draft<'a> {
    files: BTreeMap<String, FileRow>,
    /// What is new, in order.
    pub(super) made: Vec<FileRow>,
    online: &'a SigningKey,
    now: Micros,
}

fn refused(message: impl ToString) -> RegistryError {
    RegistryError::Invalid { field: "files", message: message.to_string() }
}

fn signing(error: impl ToString) -> RegistryError {
    refused(format!("the control plane could not sign: {}", error.to_string()))
}

impl<'a> Draft<'a> {
    pub(super) fn new(newest: Vec<FileRow>, online: &'a SigningKey, now: Micros) -> Self {
        let files = newest.into_iter().map(|row| (row.role.clone(), row)).collect();
        Self { files, made: Vec::new(), online, now }
    }

    fn root(&self) -> Result<Root, RegistryError> {
        let row = self.files.get("root").ok_or_else(|| refused("there is no root yet; run `aidos trust init`"))?;
        Ok(Trusted::begin(&row.body).map_err(refused)?.root().clone())
    }

    fn next_version(&self, role: &str) -> u64 {
        self.files.get(role).map_or(1, |row| row.version + 1)
    }

    fn add<T: Metadata>(&mut self, role: &str, signed: &T, body: &[u8], by: &str) {
        let row = FileRow {
            role: role.to_owned(),
            version: signed.version(),
            body: body.to_vec(),
            expires: signed.expires().micros(),
            created: self.now,
            created_by: by.to_owned(),
        };
        self.files.insert(row.role.clone(), row.clone());
        self.made.push(row);
    }

    fn check_next<T: Metadata>(&self, role: &str, signed: &T) -> Result<(), RegistryError> {
        let next = self.next_version(role);
        if signed.version() != next {
            let text =
                format!("{role} has version {}, the next one is {next}: look at what is there and sign again", signed.version());
            return Err(refused(text));
        }
        if signed.expires().is_past(self.now) {
            return Err(refused(format!("{role} expired at {}: sign it with a later date", signed.expires())));
        }
        Ok(())
    }

    /// The root must name this control plane's key for what it signs; else no device would believe it.
    fn check_online(&self, root: &Root) -> Result<(), RegistryError> {
        let id = self.online.id();
        let names = |role: &Role| role.threshold == 1 && role.keyids.contains(&id);
        let known = root.keys.get(&id).map(|key| &key.keyval.public) == Some(&self.online.public().keyval.public);
        if known && names(&root.roles.snapshot) && names(&root.roles.timestamp) {
            return Ok(());
        }
        Err(refused(format!(
            "the root must name this control plane's key {id} for snapshot and timestamp, with threshold 1; \
             run `aidos trust rotate online`"
        )))
    }

    /// Takes a root: signed by itself and by the one before it, and naming the control plane's key for what that signs.
    pub(super) fn root_file(&mut self, body: &[u8], by: &str) -> Result<(), RegistryError> {
        let root = match self.files.get("root") {
            None => Trusted::begin(body),
            Some(row) => Trusted::begin(&row.body).and_then(|mut trusted| trusted.update_root(body).map(|()| trusted)),
        };
        let root = root.map_err(refused)?.root().clone();
        if body.len() as u64 > MAX_ROOT_BYTES {
            return Err(refused(TrustError::TooLarge { file: "root.json".into(), max: MAX_ROOT_BYTES }));
        }
        self.check_next("root", &root)?;
        self.check_online(&root)?;
        if !root.consistent_snapshot {
            return Err(refused("the root must have consistent_snapshot: clients read while files change"));
        }
        self.add("root", &root, body, by);
        Ok(())
    }

    /// Takes targets, or a publisher's that targets delegates to. Gives the targets that are new in it: their files must be
    /// there.
    pub(super) fn targets_file(&mut self, role: &str, body: &[u8], by: &str) -> Result<Vec<(String, Target)>, RegistryError> {
        let file = format!("{role}.json");
        let new = Envelope::<Targets>::read(&file, body, MAX_TARGETS_BYTES).map_err(refused)?;
        let root = self.root()?;
        if role == "targets" {
            new.verify(&file, "root", &root.roles.targets, &root.keys).map_err(refused)?;
        } else {
            let top = self.targets("targets").ok_or_else(|| refused("there are no targets that could delegate"))?;
            let delegations = top.delegations.filter(|d| d.roles.iter().any(|r| r.name == role));
            let delegations = delegations.ok_or_else(|| refused(TrustError::NotListed { role: role.to_owned() }))?;
            let delegated = delegations.roles.iter().find(|r| r.name == role);
            let keys = delegated.map_or_else(|| Role::of(vec![], 1), |r| r.role());
            new.verify(&file, "targets", &keys, &delegations.keys).map_err(refused)?;
            // No device would look there; whoever signed it should know.
            let outside = new.signed.targets.keys().find(|path| !delegated.is_some_and(|r| r.covers(path)));
            if let Some(path) = outside {
                return Err(refused(format!("`{path}` is not among what {role} may sign; see `aidos trust status`")));
            }
            if new.signed.delegations.as_ref().is_some_and(|further| !further.roles.is_empty()) {
                return Err(refused(format!(
                    "{role} delegates further; only targets itself does, so that its people see to whom"
                )));
            }
        }
        self.check_next(role, &new.signed)?;
        let known = self.targets(role).map(|old| old.targets).unwrap_or_default();
        self.add(role, &new.signed, body, by);
        Ok(new.signed.targets.into_iter().filter(|(path, target)| known.get(path) != Some(target)).collect())
    }

    fn targets(&self, role: &str) -> Option<Targets> {
        let row = self.files.get(role)?;
        Envelope::<Targets>::read(role, &row.body, MAX_TARGETS_BYTES).ok().map(|envelope| envelope.signed)
    }

    /// Signs which files are current: the snapshot if something in it changed or it is old, and the timestamp.
    pub(super) fn seal(&mut self) -> Result<(), RegistryError> {
        if !self.files.contains_key("targets") {
            // Before the first targets there is nothing to be current.
            return Ok(());
        }
        self.check_online(&self.root()?)?;
        let roles = self.files.iter().filter(|(role, _)| !["root", "snapshot", "timestamp"].contains(&role.as_str()));
        let meta: BTreeMap<String, MetaFile> =
            roles.map(|(role, row)| (format!("{role}.json"), MetaFile::of(row.version, &row.body))).collect();
        let half = self.now.plus_seconds(SNAPSHOT_SECONDS / 2);
        let root_changed = self.made.iter().any(|row| row.role == "root");
        let fresh = self.files.get("snapshot").filter(|row| row.expires > half && !root_changed).and_then(|row| {
            let known = Envelope::<Snapshot>::read("snapshot.json", &row.body, MAX_TARGETS_BYTES).ok()?;
            (known.signed.meta == meta).then(|| MetaFile::of(row.version, &row.body))
        });
        let snapshot = match fresh {
            Some(meta) => meta,
            None => {
                let expires = Expires::at(self.now.plus_seconds(SNAPSHOT_SECONDS));
                let snapshot = Snapshot::new(self.next_version("snapshot"), expires, meta);
                let body = sign(&snapshot, &[self.online]).map_err(signing)?;
                self.add("snapshot", &snapshot, &body, "system");
                MetaFile::of(snapshot.version, &body)
            }
        };
        let expires = Expires::at(self.now.plus_seconds(TIMESTAMP_SECONDS));
        let timestamp = Timestamp::new(self.next_version("timestamp"), expires, snapshot, Expires::at(self.now));
        let body = sign(&timestamp, &[self.online]).map_err(signing)?;
        self.add("timestamp", &timestamp, &body, "system");
        Ok(())
    }
}

/// Whom a targets file delegates to, for people; it was verified when it was taken.
pub(super) fn publishers(targets: &[u8]) -> Vec<PublisherView> {
    let targets = Envelope::<Targets>::read("targets.json", targets, MAX_TARGETS_BYTES).ok();
    let roles = targets.and_then(|envelope| envelope.signed.delegations).map(|delegations| delegations.roles);
    let view = |role: DelegatedRole| PublisherView {
        name: role.name,
        paths: role.paths.unwrap_or_default(),
        keys: role.keyids.into_iter().map(|id| id.0).collect(),
    };
    roles.unwrap_or_default().into_iter().map(view).collect()
}
