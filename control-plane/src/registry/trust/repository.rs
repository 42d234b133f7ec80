//! The repositories' handle: what is there, what people add, what TUF clients read.

use super::access::Access;
use super::online;
use super::publish::{self, Draft};
use crate::platform::{
    clock::Clock,
    db::{Db, StoreError},
    http::Events,
    pki::Pki,
};
use crate::registry::store::artifacts;
use crate::registry::store::trust::{self as store, FileRow};
use crate::registry::{Artifacts, RegistryError};
use crate::tenants::{Activity, Caller};
use aidos_protocol::TenantId;
use aidos_protocol::api::keys;
use aidos_protocol::api::trust::{MAX_FILES, SignedFile, TrustRoleView, TrustView};
use aidos_protocol::artifact::Digest;
use aidos_protocol::enrol::TrustAnchor;
use aidos_protocol::trust::SigningKey;
use serde_json::json;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A timestamp older than this is made anew: a device that looks once a day always finds a fresh one.
const RENEW_SECONDS: i64 = 86_400;
/// Versions of the roles but root that are kept: clients in the middle of a refresh read the one that they began with.
const KEPT_VERSIONS: u64 = 8;
/// Bytes of the secret behind the addresses.
const SECRET_BYTES: usize = 32;

/// The deployment's keys, as the repositories need them.
pub(crate) struct Keys<'a> {
    /// Their folder, in which the repositories' own is made on the first start.
    pub(crate) folder: &'a Path,
    /// Vouches for the root that a device begins with.
    pub(crate) ca: Pki,
}

/// A cheap handle to the tenants' update repositories.
#[derive(Clone)]
pub(crate) struct Trust {
    db: Db,
    artifacts: Artifacts,
    activity: Activity,
    events: Events,
    clock: Clock,
    online: Arc<SigningKey>,
    ca: Pki,
    access: Arc<Access>,
    api_url: Arc<str>,
}

impl Trust {
    /// Opens the repositories.
    pub(crate) async fn open(
        db: Db,
        artifacts: Artifacts,
        activity: Activity,
        events: Events,
        clock: Clock,
        keys: Keys<'_>,
        api_url: &str,
    ) -> Result<Self, RegistryError> {
        let online = Arc::new(online::open_or_create(keys.folder)?);
        let mut tx = db.begin().await?;
        let secret = artifacts::secret(&mut tx, "tuf", &rand::random::<[u8; SECRET_BYTES]>()).await?;
        tx.commit().await?;
        let (access, api_url) = (Arc::new(Access::new(&secret)), api_url.trim_end_matches('/').into());
        Ok(Self { db, artifacts, activity, events, clock, online, ca: keys.ca, access, api_url })
    }

    /// Where the tenant's repository is and what is in it.
    pub(crate) async fn view(&self, tenant: TenantId) -> Result<TrustView, RegistryError> {
        let mut conn = self.db.pool().acquire().await.map_err(StoreError::from)?;
        Ok(self.shown(tenant, store::newest(&mut conn, tenant).await?))
    }

    /// The path of the tenant's repository; it ends with a slash.
    pub(crate) fn path(&self, tenant: TenantId) -> String {
        format!("/api/v1/tuf/{tenant}/{}/", self.access.of(tenant))
    }

    /// The newest root, by which a device begins to believe, vouched for by the deployment's CA. `None` before the first.
    pub(crate) async fn anchor(&self, tenant: TenantId) -> Result<Option<TrustAnchor>, RegistryError> {
        let Some(root) = store::body(self.db.pool(), tenant, "root", None).await? else { return Ok(None) };
        let root = String::from_utf8(root).map_err(io::Error::other)?;
        Ok(Some(self.ca.anchor(tenant, &root).map_err(io::Error::other)?))
    }

    /// The same, for whoever knows the repository's address.
    pub(crate) async fn anchor_at(&self, tenant: TenantId, access: &str) -> Result<TrustAnchor, RegistryError> {
        self.check_access(tenant, access)?;
        self.anchor(tenant).await?.ok_or_else(|| RegistryError::NotFound("root: its people have not made one yet".into()))
    }

    fn shown(&self, tenant: TenantId, rows: Vec<FileRow>) -> TrustView {
        let base = format!("{}{}", self.api_url, self.path(tenant));
        let role = |row: FileRow| TrustRoleView {
            role: row.role,
            version: row.version,
            expires_at: row.expires,
            created_at: row.created,
            created_by: row.created_by,
        };
        let top = rows.iter().find(|row| row.role == "targets");
        let publishers = top.map(|row| publish::publishers(&row.body)).unwrap_or_default();
        TrustView {
            metadata_url: format!("{base}metadata/"),
            targets_url: format!("{base}targets/"),
            online_key: self.online.public(),
            roles: rows.into_iter().map(role).collect(),
            publishers,
        }
    }

    /// Takes files that people signed, all or none, and signs which are current. A root needs an owner.
    pub(crate) async fn publish(&self, caller: &Caller, files: &[SignedFile]) -> Result<TrustView, RegistryError> {
        let invalid = |message: String| RegistryError::Invalid { field: "files", message };
        if files.is_empty() || files.len() > MAX_FILES {
            return Err(invalid(format!("{} files, 1 to {MAX_FILES} are taken at once", files.len())));
        }
        if files.iter().any(|file| file.role == "root") && caller.role < keys::Role::Owner {
            return Err(RegistryError::Denied("a new root needs a key with the role owner"));
        }
        let tenant = caller.tenant;
        let mut tx = self.db.begin().await?;
        let mut draft = Draft::new(store::newest(&mut tx, tenant).await?, &self.online, self.clock.now());
        let mut named = Vec::new();
        for file in files {
            match file.role.as_str() {
                "root" => draft.root_file(file.body.as_bytes(), &caller.actor)?,
                "snapshot" | "timestamp" => return Err(invalid(format!("{} is signed by the control plane", file.role))),
                role => named.extend(draft.targets_file(role, file.body.as_bytes(), &caller.actor)?),
            }
        }
        draft.seal()?;
        for (path, target) in &named {
            let missing = |why: &str| invalid(format!("target `{path}`: {why}"));
            let digest = target.digest().ok_or_else(|| missing("it has no SHA-256"))?;
            let known = artifacts::artifact_in(&mut tx, tenant, &digest).await?;
            if known.is_none_or(|row| row.size != target.length) {
                return Err(missing("no artifact has that digest and length; push the model first"));
            }
        }
        for row in &draft.made {
            let stale = |error| match error {
                StoreError::Conflict(_) => {
                    RegistryError::Conflict(format!("{} was changed by somebody else: sign again", row.role))
                }
                error => error.into(),
            };
            store::insert(&mut tx, tenant, row).await.map_err(stale)?;
            if row.role != "root" {
                store::prune(&mut tx, tenant, &row.role, row.version.saturating_sub(KEPT_VERSIONS - 1)).await?;
            }
        }
        let versions: Vec<String> = draft.made.iter().map(|row| format!("{}@{}", row.role, row.version)).collect();
        self.activity.record(&mut tx, caller, "trust.publish", &tenant.to_string(), json!({ "files": versions })).await?;
        let rows = store::newest(&mut tx, tenant).await?;
        tx.commit().await?;
        self.events.publish(tenant, "trust.changed", &tenant.to_string(), json!({ "files": versions }));
        Ok(self.shown(tenant, rows))
    }

    /// Makes anew the timestamps that are a day old. Gives how many; one that cannot be made holds up no other.
    pub(crate) async fn renew_due(&self) -> Result<usize, RegistryError> {
        let mut renewed = 0;
        for tenant in store::tenants_due(self.db.pool(), self.clock.now().plus_seconds(-RENEW_SECONDS)).await? {
            match self.renew(tenant).await {
                Ok(()) => renewed += 1,
                Err(error) => tracing::warn!(%tenant, %error, "the update repository's timestamp was not made anew"),
            }
        }
        Ok(renewed)
    }

    async fn renew(&self, tenant: TenantId) -> Result<(), RegistryError> {
        let mut tx = self.db.begin().await?;
        let mut draft = Draft::new(store::newest(&mut tx, tenant).await?, &self.online, self.clock.now());
        draft.seal()?;
        for row in &draft.made {
            // A conflict is another replica that renewed first, which is as good.
            store::insert(&mut tx, tenant, row).await?;
            store::prune(&mut tx, tenant, &row.role, row.version.saturating_sub(KEPT_VERSIONS - 1)).await?;
        }
        Ok(tx.commit().await?)
    }

    fn check_access(&self, tenant: TenantId, access: &str) -> Result<(), RegistryError> {
        // As if it did not exist: that is what a TUF client must be told of a file that is not there, too.
        if self.access.opens(tenant, access) { Ok(()) } else { Err(RegistryError::NotFound("such repository".into())) }
    }

    /// A metadata file by the name that TUF clients ask for.
    pub(crate) async fn metadata(&self, tenant: TenantId, access: &str, file: &str) -> Result<Vec<u8>, RegistryError> {
        self.check_access(tenant, access)?;
        let none = || RegistryError::NotFound(format!("metadata file `{file}`"));
        let name = file.strip_suffix(".json").ok_or_else(none)?;
        let (role, version) = match name.split_once('.') {
            _ if name == "timestamp" => (name, None),
            Some((version, role)) => (role, Some(version.parse().map_err(|_| none())?)),
            None => return Err(none()),
        };
        store::body(self.db.pool(), tenant, role, version).await?.ok_or_else(none)
    }

    /// The artifact of a target by its hash-prefixed name. The specification puts the hash before the last part of the path;
    /// tough puts it before the first.
    pub(crate) fn target(&self, tenant: TenantId, access: &str, path: &str) -> Result<Digest, RegistryError> {
        self.check_access(tenant, access)?;
        let hash = |part: Option<&str>| format!("sha256:{}", part?.split_once('.')?.0).parse().ok();
        let digest = hash(path.rsplit('/').next()).or_else(|| hash(path.split('/').next()));
        digest.ok_or_else(|| RegistryError::NotFound(format!("target `{path}`: its name must begin with its SHA-256")))
    }

    /// The artifacts that targets are.
    pub(crate) fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }
}
