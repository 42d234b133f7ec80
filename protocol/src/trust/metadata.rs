//! The four kinds of metadata as they are written. Reading them here proves nothing about who wrote them.

use super::{Expires, Key, KeyId, Target, TrustError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The specification that is followed; files of every 1.x are read.
pub const SPEC_VERSION: &str = "1.0.34";

/// What all four kinds have.
pub trait Metadata: Serialize + DeserializeOwned {
    /// The value of `_type`.
    const TYPE: &'static str;
    /// The file's version, from 1.
    fn version(&self) -> u64;
    /// When it stops being valid.
    fn expires(&self) -> Expires;
    /// The specification that it was written for.
    fn spec_version(&self) -> &str;
    /// The value of `_type` in the file.
    fn kind(&self) -> &str;
    /// Rules that its shape does not express.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

macro_rules! metadata {
    ($type:ty, $kind:literal $(, $check:expr)?) => {
        impl Metadata for $type {
            const TYPE: &'static str = $kind;
            fn version(&self) -> u64 {
                self.version
            }
            fn expires(&self) -> Expires {
                self.expires
            }
            fn spec_version(&self) -> &str {
                &self.spec_version
            }
            fn kind(&self) -> &str {
                &self.kind
            }
            $(fn check(&self) -> Result<(), String> {
                $check(self)
            })?
        }
    };
}

/// Who signs a role and how many of them must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// The keys, each once.
    pub keyids: Vec<KeyId>,
    /// How many distinct ones must sign.
    pub threshold: u64,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Role {
    /// Any `threshold` of these keys.
    pub fn of(keyids: Vec<KeyId>, threshold: u64) -> Self {
        Self { keyids, threshold, extra: BTreeMap::new() }
    }

    fn check(&self, name: &str) -> Result<(), String> {
        if self.threshold == 0 {
            return Err(format!("{name} has threshold 0"));
        }
        let distinct: BTreeSet<_> = self.keyids.iter().collect();
        if distinct.len() != self.keyids.len() {
            return Err(format!("{name} names a key twice"));
        }
        Ok(())
    }
}

/// The top of trust: every other role's keys, and its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// `root`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// Which specification.
    pub spec_version: String,
    /// From 1.
    pub version: u64,
    /// When it stops being valid.
    pub expires: Expires,
    /// Whether files carry their version or hash in their names.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// All keys that roles name.
    pub keys: BTreeMap<KeyId, Key>,
    /// The top-level roles.
    pub roles: RootRoles,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The roles that root names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRoles {
    /// Who signs root.
    pub root: Role,
    /// Who signs the snapshot.
    pub snapshot: Role,
    /// Who signs targets.
    pub targets: Role,
    /// Who signs the timestamp.
    pub timestamp: Role,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl RootRoles {
    /// Root and targets by people, snapshot and timestamp by the control plane.
    pub fn new(root: Role, targets: Role, online: Role) -> Self {
        Self { root, targets, snapshot: online.clone(), timestamp: online, extra: BTreeMap::new() }
    }
}

impl Root {
    /// A root with consistent snapshots; `keys` are all that `roles` name, each under its customary id.
    pub fn new(version: u64, expires: Expires, roles: RootRoles, keys: impl IntoIterator<Item = Key>) -> Self {
        let keys = keys.into_iter().map(|key| (key.id(), key)).collect();
        let (kind, spec_version) = (Self::TYPE.to_owned(), SPEC_VERSION.to_owned());
        Self { kind, spec_version, version, expires, consistent_snapshot: true, keys, roles, extra: BTreeMap::new() }
    }
}

fn check_root(root: &Root) -> Result<(), String> {
    let roles = &root.roles;
    for (name, role) in
        [("root", &roles.root), ("snapshot", &roles.snapshot), ("targets", &roles.targets), ("timestamp", &roles.timestamp)]
    {
        role.check(name)?;
    }
    Ok(())
}
metadata!(Root, "root", check_root);

/// Version, length and hashes of a metadata file, as the file above it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// The version.
    pub version: u64,
    /// Its bytes, when said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes by algorithm, when said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl MetaFile {
    /// That version, with the length and SHA-256 of its bytes.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        let hashes = BTreeMap::from([("sha256".to_owned(), crate::artifact::Digest::of(bytes).hex())]);
        Self { version, length: Some(bytes.len() as u64), hashes: Some(hashes), extra: BTreeMap::new() }
    }

    fn check(&self, name: &str) -> Result<(), String> {
        if self.version == 0 {
            return Err(format!("{name} is listed with version 0"));
        }
        Ok(())
    }
}

/// The freshest file: which snapshot is current.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timestamp {
    /// `timestamp`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// Which specification.
    pub spec_version: String,
    /// From 1.
    pub version: u64,
    /// When it stops being valid.
    pub expires: Expires,
    /// One entry, `snapshot.json`.
    pub meta: BTreeMap<String, MetaFile>,
    /// When the control plane signed it, a field of AI-DOS: the time that a device without a clock may rely on.
    #[serde(rename = "x-aidos-signed-at", default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Expires>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Timestamp {
    pub(super) const SNAPSHOT: &'static str = "snapshot.json";

    /// The timestamp that names `snapshot`, signed at `signed_at`.
    pub fn new(version: u64, expires: Expires, snapshot: MetaFile, signed_at: Expires) -> Self {
        let (kind, spec_version) = (Self::TYPE.to_owned(), SPEC_VERSION.to_owned());
        let meta = BTreeMap::from([(Self::SNAPSHOT.to_owned(), snapshot)]);
        Self { kind, spec_version, version, expires, meta, signed_at: Some(signed_at), extra: BTreeMap::new() }
    }

    /// The snapshot that is current.
    pub fn snapshot(&self) -> Option<&MetaFile> {
        self.meta.get(Self::SNAPSHOT)
    }
}

fn check_timestamp(timestamp: &Timestamp) -> Result<(), String> {
    // Else whoever stole the key could move every device's time past all expiry dates by one signature.
    if timestamp.signed_at.is_some_and(|at| at > timestamp.expires) {
        return Err("it says that it was signed after it expired".into());
    }
    timestamp.snapshot().ok_or("it does not name snapshot.json")?.check(Timestamp::SNAPSHOT)
}
metadata!(Timestamp, "timestamp", check_timestamp);

/// Which versions of all targets roles belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `snapshot`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// Which specification.
    pub spec_version: String,
    /// From 1.
    pub version: u64,
    /// When it stops being valid.
    pub expires: Expires,
    /// By file name: `targets.json` and each delegated role's.
    pub meta: BTreeMap<String, MetaFile>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Snapshot {
    /// The snapshot of these files, by file name.
    pub fn new(version: u64, expires: Expires, meta: BTreeMap<String, MetaFile>) -> Self {
        let (kind, spec_version) = (Self::TYPE.to_owned(), SPEC_VERSION.to_owned());
        Self { kind, spec_version, version, expires, meta, extra: BTreeMap::new() }
    }
}

fn check_snapshot(snapshot: &Snapshot) -> Result<(), String> {
    if !snapshot.meta.contains_key("targets.json") {
        return Err("it does not name targets.json".into());
    }
    snapshot.meta.iter().try_for_each(|(name, meta)| meta.check(name))
}
metadata!(Snapshot, "snapshot", check_snapshot);

/// Target files, and who else may name some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// `targets`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// Which specification.
    pub spec_version: String,
    /// From 1.
    pub version: u64,
    /// When it stops being valid.
    pub expires: Expires,
    /// By path.
    pub targets: BTreeMap<String, Target>,
    /// Who else may name some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Targets {
    /// Targets without any yet.
    pub fn new(version: u64, expires: Expires) -> Self {
        let (kind, spec_version) = (Self::TYPE.to_owned(), SPEC_VERSION.to_owned());
        Self { kind, spec_version, version, expires, targets: BTreeMap::new(), delegations: None, extra: BTreeMap::new() }
    }
}

/// Who else may name targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delegations {
    /// All keys that the roles name.
    pub keys: BTreeMap<KeyId, Key>,
    /// In the order in which they are asked.
    pub roles: Vec<DelegatedRole>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// One role that is delegated to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name.
    pub name: String,
    /// Who signs it.
    pub keyids: Vec<KeyId>,
    /// How many distinct keys must sign.
    pub threshold: u64,
    /// Whether a path that it covers is looked for nowhere after it.
    pub terminating: bool,
    /// Patterns of the paths that it covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Or beginnings of the SHA-256 of the paths that it covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl DelegatedRole {
    /// Whether it covers `path`.
    pub fn covers(&self, path: &str) -> bool {
        let any = |list: &Option<Vec<String>>, test: fn(&str, &str) -> bool| list.iter().flatten().any(|entry| test(entry, path));
        any(&self.paths, super::pattern::matches) || any(&self.path_hash_prefixes, super::pattern::hash_begins)
    }

    /// Who signs it.
    pub fn role(&self) -> Role {
        Role::of(self.keyids.clone(), self.threshold)
    }
}

/// Names that only root gives out.
const RESERVED: [&str; 4] = ["root", "snapshot", "targets", "timestamp"];

fn check_targets(targets: &Targets) -> Result<(), String> {
    let Some(delegations) = &targets.delegations else { return Ok(()) };
    let mut names = BTreeSet::new();
    for role in &delegations.roles {
        if role.name.is_empty() || RESERVED.contains(&role.name.as_str()) {
            return Err(format!("`{}` cannot be delegated to", role.name));
        }
        if !names.insert(&role.name) {
            return Err(format!("it delegates to `{}` twice", role.name));
        }
        if role.paths.is_some() == role.path_hash_prefixes.is_some() {
            return Err(format!("the delegation to `{}` needs either paths or path_hash_prefixes", role.name));
        }
        role.role().check(&role.name)?;
    }
    Ok(())
}
metadata!(Targets, "targets", check_targets);

/// Reads `value` as a `T` and checks what its shape does not express.
pub(super) fn read<T: Metadata>(file: &str, value: Value) -> Result<T, TrustError> {
    // The type comes first: the shape of another type would only yield a puzzling message.
    match value.get("_type").and_then(Value::as_str) {
        Some(kind) if kind == T::TYPE => {}
        other => return Err(TrustError::malformed(file, format!("its type is {}, not {}", other.unwrap_or("missing"), T::TYPE))),
    }
    let read: T = serde_json::from_value(value).map_err(|e| TrustError::malformed(file, e))?;
    if read.spec_version() != "1" && !read.spec_version().starts_with("1.") {
        let why = format!("it follows specification {}, this program knows 1.x", read.spec_version());
        return Err(TrustError::malformed(file, why));
    }
    if read.version() == 0 {
        return Err(TrustError::malformed(file, "its version is 0"));
    }
    read.check().map_err(|why| TrustError::malformed(file, why))?;
    Ok(read)
}
