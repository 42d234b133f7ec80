//! What a reference means now: a version of a model, of the agent, or of its settings, as devices would be told.

use super::DeploymentError;
use super::desired::Desired;
use crate::registry::{AgentSettings, Models, Releases};
use aidos_protocol::rollout::PlanError;
use aidos_protocol::settings::SettingsDocument;
use aidos_protocol::twin::{AGENT_CONFIG, AGENT_RELEASE, DesiredModel, DesiredRelease, ReleaseBinary};
use aidos_protocol::{Subject, TenantId};
use serde_json::json;

/// The parts of the registry that can be put on devices.
#[derive(Clone)]
pub(crate) struct Offers {
    pub(crate) models: Models,
    pub(crate) releases: Releases,
    pub(crate) settings: AgentSettings,
}

/// What a reference means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) subject: Subject,
    pub(crate) desired: Desired,
}

impl Candidate {
    /// With the version, as people name it.
    pub(super) fn named(&self) -> String {
        format!("{}@{}", self.subject, self.desired.version())
    }
}

impl Offers {
    /// Finds what `reference` means: `digits@2`, `digits@champion`, `digits`, `agent.release@1.4.0`, `agent.config@3`.
    pub(super) async fn resolve(&self, tenant: TenantId, reference: &str) -> Result<Candidate, DeploymentError> {
        let (subject, version) = reference.split_once('@').unwrap_or((reference, ""));
        match subject {
            AGENT_RELEASE => self.release(tenant, version).await,
            AGENT_CONFIG => self.settings(tenant, version).await,
            _ => self.model(tenant, reference).await,
        }
    }

    async fn model(&self, tenant: TenantId, reference: &str) -> Result<Candidate, DeploymentError> {
        let version = self.models.resolve(tenant, reference).await?;
        let inline = if version.manifest_digest.is_none() { version.manifest.clone() } else { None };
        let desired = DesiredModel {
            manifest: inline,
            manifest_digest: version.manifest_digest,
            golden_digest: version.golden_digest,
            ..DesiredModel::new(version.version, version.digest, version.size)
        };
        Ok(Candidate { subject: Subject::Model(version.name), desired: Desired::Model(Box::new(desired)) })
    }

    async fn release(&self, tenant: TenantId, version: &str) -> Result<Candidate, DeploymentError> {
        if version.is_empty() {
            return unnamed("name the release, as `agent.release@1.4.0`; `aidos agent release list` shows those there are");
        }
        let release = self.releases.version(tenant, version).await?;
        let binaries: Vec<_> = release
            .binaries
            .iter()
            .map(|row| ReleaseBinary { arch: row.arch.clone(), digest: row.digest, size: row.size })
            .collect();
        let desired = DesiredRelease {
            version: version.to_owned(),
            binaries,
            counter: release.binaries.first().map_or(0, |row| row.counter),
            floor: release.floor,
            deployment: None,
            update: Default::default(),
        };
        let wrong = |error: aidos_protocol::twin::ReleaseError| PlanError { field: "subject", message: error.to_string() };
        desired.check().map_err(|error| DeploymentError::Plan(wrong(error)))?;
        Ok(Candidate { subject: Subject::Release, desired: Desired::Release(desired) })
    }

    async fn settings(&self, tenant: TenantId, version: &str) -> Result<Candidate, DeploymentError> {
        let Ok(version) = version.parse() else {
            return unnamed("name the version of the settings, as `agent.config@3`; `aidos config list` shows those there are");
        };
        let row = self.settings.version(tenant, version).await?;
        let document = SettingsDocument { version, deployment: None, settings: json!(row.settings) };
        Ok(Candidate { subject: Subject::Settings, desired: Desired::Settings(document) })
    }
}

fn unnamed(text: &str) -> Result<Candidate, DeploymentError> {
    Err(DeploymentError::Plan(PlanError { field: "subject", message: text.into() }))
}
