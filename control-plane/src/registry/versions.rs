//! Versions: a file that was read as a model becomes the next number of its model, for ever.
//!
//! ```text
//! look for the same file and manifest → read the file → check the manifest → take the next number → write
//! ```
//! The same file again is the existing version, so a push may be repeated.

use super::error::RegistryError;
use super::inspect::check_manifest;
use super::models::Models;
use super::store::models as model_store;
use super::store::versions as store;
pub(crate) use super::store::versions::ModelVersion;
use crate::platform::db::StoreError;
use crate::tenants::Caller;
use aidos_protocol::golden::{Golden, GoldenError, MAX_GOLDEN_BYTES};
use aidos_protocol::{
    ModelName, TenantId,
    api::models::{CreateVersion, MAX_CARD_BYTES, MAX_SOURCE_BYTES, ModelRef, Which},
    manifest::Manifest,
};
use serde_json::json;

/// A manifest of at most so many bytes of JSON stands in a device's intent; a longer one becomes an artifact. Leaves room for
/// the other fields within the twin's limit of one model.
const MAX_INLINE_MANIFEST_BYTES: usize = 12 << 10;

/// What came of registering a file.
#[derive(Debug, PartialEq)]
pub(crate) enum Registered {
    /// It has a new number.
    New(ModelVersion),
    /// It was registered before.
    Existing(ModelVersion),
}

impl Models {
    /// Registers an uploaded artifact as the next version of `name`.
    pub(crate) async fn register(
        &self,
        caller: &Caller,
        name: &ModelName,
        request: CreateVersion,
    ) -> Result<Registered, RegistryError> {
        let tenant = caller.tenant;
        check_lengths(&request)?;
        if model_store::model(self.db.pool(), tenant, name).await?.is_none() {
            return Err(RegistryError::no_model(name));
        }
        let artifact = self.artifacts.get(tenant, &request.digest).await?;
        let facts = self.inspector.facts(&self.artifacts, tenant, &artifact.digest, artifact.size).await?;
        let now = self.clock.now();
        let mut manifest_digest = None;
        if let Some(manifest) = &request.manifest {
            check_manifest(manifest, &facts)?;
            let text = manifest_text(manifest);
            if text.len() > MAX_INLINE_MANIFEST_BYTES {
                manifest_digest = Some(self.artifacts.put(tenant, &caller.actor, text.as_bytes(), now).await?);
            }
        }
        if let Some(golden) = &request.golden {
            let artifact = self.artifacts.get(tenant, golden).await?;
            let invalid = |error: GoldenError| RegistryError::Invalid { field: "golden", message: error.to_string() };
            if artifact.size > MAX_GOLDEN_BYTES as u64 {
                return Err(invalid(GoldenError::Long(usize::try_from(artifact.size).unwrap_or(usize::MAX))));
            }
            Golden::from_json(&self.artifacts.read(tenant, &artifact).await?).map_err(invalid)?;
        }
        let mut tx = self.db.begin().await?;
        // Taken first, so that two pushes of the same file see one another.
        let version = model_store::next_version(&mut tx, tenant, name, now).await?;
        let version = version.ok_or_else(|| RegistryError::no_model(name))?;
        let same_file = store::with_digest(&mut tx, tenant, name, &request.digest).await?;
        if let Some(existing) = same_file.into_iter().find(|v| {
            (request.manifest.is_none() || v.manifest == request.manifest)
                && (request.golden.is_none() || v.golden_digest == request.golden)
        }) {
            return Ok(Registered::Existing(existing));
        }
        let row = ModelVersion {
            name: name.clone(),
            version,
            digest: artifact.digest,
            size: artifact.size,
            facts,
            manifest: request.manifest,
            manifest_digest,
            golden_digest: request.golden,
            card: request.card.unwrap_or_default(),
            source: request.source,
            created: now,
            created_by: caller.actor.clone(),
        };
        store::insert(&mut tx, tenant, &row).await.map_err(|error| match error {
            // The only thing it refers to that can go away meanwhile.
            StoreError::Conflict(_) => RegistryError::no_artifact(&row.digest),
            error => error.into(),
        })?;
        let detail = json!({ "version": version, "digest": row.digest, "size": row.size });
        self.activity.record(&mut tx, caller, "model.version", &format!("{name}@{version}"), detail).await?;
        tx.commit().await?;
        self.events.publish(tenant, "model.version", &format!("{name}@{version}"), json!({ "model": name, "version": version }));
        Ok(Registered::New(row))
    }

    /// One version.
    pub(crate) async fn version(&self, tenant: TenantId, name: &ModelName, version: u64) -> Result<ModelVersion, RegistryError> {
        let found = store::version(self.db.pool(), tenant, name, version).await?;
        found.ok_or_else(|| RegistryError::no_version(name, &version.to_string()))
    }

    /// Versions below `before`, newest first; one more than `limit` where more follow.
    pub(crate) async fn versions(
        &self,
        tenant: TenantId,
        name: &ModelName,
        before: u64,
        limit: u32,
    ) -> Result<Vec<ModelVersion>, RegistryError> {
        self.get(tenant, name).await?;
        Ok(store::list(self.db.pool(), tenant, name, before, limit).await?)
    }

    /// The version that a person means by `name@3`, `name@champion`, or `name` for the latest.
    pub(crate) async fn resolve(&self, tenant: TenantId, reference: &str) -> Result<ModelVersion, RegistryError> {
        let reference: ModelRef = reference.parse().map_err(|error: aidos_protocol::api::models::RefError| {
            RegistryError::Invalid { field: "model", message: error.to_string() }
        })?;
        let name = &reference.name;
        let version = match &reference.which {
            Which::Version(version) => *version,
            Which::Latest => match self.get(tenant, name).await?.last_version {
                0 => return Err(RegistryError::no_version(name, "latest")),
                latest => latest,
            },
            Which::Alias(alias) => {
                let version = model_store::alias(self.db.pool(), tenant, name, alias).await?;
                version.ok_or_else(|| RegistryError::no_version(name, alias.as_str()))?
            }
        };
        self.version(tenant, name, version).await
    }
}

/// The manifest as JSON, as devices read it.
pub(super) fn manifest_text(manifest: &Manifest) -> String {
    serde_json::to_string(manifest).expect("a manifest has only text keys")
}

fn check_lengths(request: &CreateVersion) -> Result<(), RegistryError> {
    let card = request.card.as_ref().map_or(0, String::len);
    let source = request.source.as_ref().map_or(0, String::len);
    for (field, is, limit) in [("card", card, MAX_CARD_BYTES), ("source", source, MAX_SOURCE_BYTES)] {
        if is > limit {
            return Err(RegistryError::Invalid { field, message: format!("{field} has {is} bytes, the limit is {limit}") });
        }
    }
    Ok(())
}
