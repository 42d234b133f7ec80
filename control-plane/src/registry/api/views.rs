//! Rows as views.

use crate::registry::models::ModelRow;
use crate::registry::releases::ReleaseRow;
use crate::registry::store::artifacts::{ArtifactRow, UploadRow};
use crate::registry::versions::ModelVersion;
use aidos_protocol::api::artifacts::{ArtifactView, UploadView};
use aidos_protocol::api::models::{ModelVersionView, ModelView};
use aidos_protocol::api::releases::ReleaseView;
use std::collections::BTreeMap;

pub(super) fn artifact(row: ArtifactRow) -> ArtifactView {
    ArtifactView { digest: row.digest, size: row.size, created_at: row.created, created_by: row.created_by }
}

pub(super) fn upload(row: &UploadRow) -> UploadView {
    UploadView {
        id: Some(row.id),
        digest: row.digest,
        size: row.size,
        offset: row.stored,
        done: false,
        expires_at: Some(row.expires),
    }
}

pub(super) fn done(row: &ArtifactRow) -> UploadView {
    UploadView { id: None, digest: row.digest, size: row.size, offset: row.size, done: true, expires_at: None }
}

pub(super) fn model(row: ModelRow, aliases: BTreeMap<String, u64>) -> ModelView {
    ModelView {
        name: row.name,
        description: row.description,
        labels: row.labels,
        card: row.card,
        latest_version: (row.last_version > 0).then_some(row.last_version),
        aliases,
        revision: row.revision,
        created_at: row.created,
        updated_at: row.updated,
    }
}

pub(super) fn release(row: ReleaseRow) -> ReleaseView {
    ReleaseView {
        version: row.version,
        arch: row.arch,
        digest: row.digest,
        size: row.size,
        counter: row.counter,
        raises_floor: row.raises_floor,
        created_at: row.created,
        created_by: row.created_by,
    }
}

/// `aliases`: those of the model; the version lists its own.
pub(super) fn version(row: ModelVersion, aliases: &BTreeMap<String, u64>) -> ModelVersionView {
    ModelVersionView {
        model: row.name,
        version: row.version,
        digest: row.digest,
        size: row.size,
        facts: row.facts,
        manifest: row.manifest,
        golden: row.golden_digest,
        card: row.card,
        source: row.source,
        aliases: aliases.iter().filter(|(_, v)| **v == row.version).map(|(alias, _)| alias.clone()).collect(),
        created_at: row.created,
        created_by: row.created_by,
    }
}
