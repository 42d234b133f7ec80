//! A repository in memory, and the loop that drives a refresh from it.

use super::super::*;
use crate::time::Micros;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A repository whose every part a test may change before it publishes.
pub(super) struct Repository {
    pub(super) keys: BTreeMap<String, Vec<Arc<SigningKey>>>,
    pub(super) root: Root,
    pub(super) timestamp: Timestamp,
    pub(super) snapshot: Snapshot,
    pub(super) targets: Targets,
    pub(super) delegated: BTreeMap<String, Targets>,
    /// Whether snapshot and timestamp name lengths and hashes.
    pub(super) hashes: bool,
    /// All that was ever published, by address.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

pub(super) fn new_key() -> Arc<SigningKey> {
    Arc::new(SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap())
}

pub(super) fn targets(version: u64) -> Targets {
    Targets {
        kind: "targets".into(),
        spec_version: SPEC_VERSION.into(),
        version,
        expires: Expires::at(super::days(100)),
        targets: [].into(),
        delegations: None,
        extra: [].into(),
    }
}

impl Repository {
    pub(super) fn new() -> Self {
        let (spec_version, expires) = (SPEC_VERSION.to_owned(), Expires::at(super::days(100)));
        let nobody = Role::of(vec![], 1);
        let roles = RootRoles {
            root: nobody.clone(),
            snapshot: nobody.clone(),
            targets: nobody.clone(),
            timestamp: nobody,
            extra: [].into(),
        };
        let root = Root {
            kind: "root".into(),
            spec_version: spec_version.clone(),
            version: 0,
            expires,
            consistent_snapshot: true,
            keys: [].into(),
            roles,
            extra: [].into(),
        };
        let timestamp = Timestamp {
            kind: "timestamp".into(),
            spec_version: spec_version.clone(),
            version: 0,
            expires,
            meta: [].into(),
            signed_at: None,
            extra: [].into(),
        };
        let snapshot = Snapshot { kind: "snapshot".into(), spec_version, version: 0, expires, meta: [].into(), extra: [].into() };
        let (keys, delegated, files) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let targets = targets(0);
        let mut repository = Self { keys, root, timestamp, snapshot, targets, delegated, hashes: true, files };
        for role in ["root", "snapshot", "targets", "timestamp"] {
            repository.set_keys(role, vec![new_key()], 1);
        }
        repository.publish(&["root", "targets", "snapshot", "timestamp"]);
        repository
    }

    pub(super) fn role(&mut self, name: &str) -> &mut Role {
        let roles = &mut self.root.roles;
        match name {
            "root" => &mut roles.root,
            "snapshot" => &mut roles.snapshot,
            "targets" => &mut roles.targets,
            _ => &mut roles.timestamp,
        }
    }

    /// Names `keys` in the root for a role, and signs with them from now on.
    pub(super) fn set_keys(&mut self, name: &str, keys: Vec<Arc<SigningKey>>, threshold: u64) {
        *self.role(name) = Role::of(keys.iter().map(|key| key.id()).collect(), threshold);
        self.root.keys.extend(keys.iter().map(|key| (key.id(), key.public())));
        self.keys.insert(name.into(), keys);
    }

    /// New keys for a role; a root is signed by the old ones too.
    pub(super) fn rotate(&mut self, name: &str) {
        let old = self.keys.remove(name).unwrap();
        self.set_keys(name, vec![new_key()], 1);
        if name == "root" {
            self.keys.get_mut("root").unwrap().extend(old.into_iter().take(1));
        }
    }

    /// Makes `delegator` delegate the paths to `name`.
    pub(super) fn delegate(&mut self, delegator: &str, name: &str, paths: &[&str], terminating: bool) {
        let key = new_key();
        let role = DelegatedRole {
            name: name.into(),
            keyids: vec![key.id()],
            threshold: 1,
            terminating,
            paths: Some(paths.iter().map(|p| (*p).to_owned()).collect()),
            path_hash_prefixes: None,
            extra: [].into(),
        };
        let from = if delegator == "targets" { &mut self.targets } else { self.delegated.get_mut(delegator).unwrap() };
        let delegations =
            from.delegations.get_or_insert_with(|| Delegations { keys: [].into(), roles: vec![], extra: [].into() });
        delegations.keys.insert(key.id(), key.public());
        delegations.roles.push(role);
        self.keys.entry(name.into()).or_default().push(key);
        self.delegated.entry(name.into()).or_insert_with(|| targets(0));
    }

    /// Publishes the next version of each role, in that order.
    pub(super) fn publish(&mut self, roles: &[&str]) {
        for role in roles {
            match *role {
                "root" => self.root.version += 1,
                "timestamp" => self.timestamp.version += 1,
                "snapshot" => self.snapshot.version += 1,
                "targets" => self.targets.version += 1,
                name => self.delegated.get_mut(name).unwrap().version += 1,
            }
            self.put(role);
        }
    }

    /// Publishes a role at the version that it has.
    pub(super) fn put(&mut self, role: &str) {
        let keys: Vec<&SigningKey> = self.keys[role].iter().map(AsRef::as_ref).collect();
        let (version, bytes) = match role {
            "root" => (self.root.version, sign(&self.root, &keys)),
            "timestamp" => (self.timestamp.version, sign(&self.timestamp, &keys)),
            "snapshot" => (self.snapshot.version, sign(&self.snapshot, &keys)),
            "targets" => (self.targets.version, sign(&self.targets, &keys)),
            name => (self.delegated[name].version, sign(&self.delegated[name], &keys)),
        };
        let bytes = bytes.unwrap();
        let mut meta = MetaFile::of(version, &bytes);
        if !self.hashes {
            (meta.length, meta.hashes) = (None, None);
        }
        match role {
            "root" => {}
            "timestamp" => drop(self.files.insert("timestamp.json".into(), bytes.clone())),
            "snapshot" => drop(self.timestamp.meta.insert("snapshot.json".into(), meta)),
            name => drop(self.snapshot.meta.insert(format!("{name}.json"), meta)),
        }
        self.files.insert(format!("{}.json", quote(role)), bytes.clone());
        self.files.insert(format!("{version}.{}.json", quote(role)), bytes);
    }
}

/// Refreshes from any source of files and tells what was asked for.
pub(super) fn refresh_from(
    get: impl Fn(&Want) -> Option<Vec<u8>>,
    trusted: &mut Trusted,
    now: Micros,
) -> (Vec<String>, Result<(), TrustError>) {
    let (mut refresh, mut asked) = (Refresh::default(), Vec::new());
    loop {
        let want = match refresh.want(trusted, now) {
            Ok(Some(want)) => want,
            Ok(None) => return (asked, Ok(())),
            Err(error) => return (asked, Err(error)),
        };
        let bytes = get(&want);
        asked.push(want.address);
        let answer = bytes.as_deref().map_or(Answer::Missing, Answer::Bytes);
        if let Err(error) = refresh.take(trusted, answer, now) {
            return (asked, Err(error));
        }
    }
}

/// Refreshes from a repository and tells what was asked for.
pub(super) fn refresh(repository: &Repository, trusted: &mut Trusted, now: Micros) -> Result<Vec<String>, TrustError> {
    let (asked, result) = refresh_from(|want| repository.files.get(&want.address).cloned(), trusted, now);
    result.map(|()| asked)
}

/// Searches a path and tells who was asked, in order.
pub(super) fn search(
    repository: &Repository,
    trusted: &mut Trusted,
    path: &str,
    now: Micros,
) -> Result<(Vec<String>, Option<Found>), TrustError> {
    let (mut search, mut asked) = (Search::new(path), Vec::new());
    loop {
        match search.step(trusted, now)? {
            Step::Done(found) => return Ok((asked, found)),
            Step::Fetch(want) => {
                let bytes = repository.files.get(&want.address);
                asked.push(want.address);
                search.take(trusted, bytes.map_or(Answer::Missing, |b| Answer::Bytes(b)), now)?;
            }
        }
    }
}
