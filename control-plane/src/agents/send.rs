//! Sends a release or settings to the devices of a selector.

use super::settings::SettingsRow;
use crate::fleet::{DeviceRow, Devices, TwinError, Twins};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError};
use crate::registry::{RegistryError, Releases};
use crate::tenants::{Activity, Caller};
use aidos_protocol::api::releases::{DeployRelease, LeftOut, MAX_LEFT_OUT, SentView};
use aidos_protocol::inventory::Inventory;
use aidos_protocol::selector::{Selector, SelectorError};
use aidos_protocol::settings::{SettingsDocument, SettingsError};
use aidos_protocol::twin::{AGENT_CONFIG, AGENT_RELEASE, DesiredRelease, Edit, path};
use aidos_protocol::{DeploymentId, TenantId};
use serde_json::{Value, json};

/// Devices of one call: at a few milliseconds each they fit a request's patience. More is a rollout's work.
pub(super) const MAX_DEVICES: usize = 1_000;
/// Devices read at a time.
const PAGE: usize = 200;

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The selector cannot be read.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// Too many devices.
    #[error("more than {MAX_DEVICES} devices match: narrow the selector, and send to one part after another")]
    Many,
    /// There are no such settings.
    #[error("there is no version {0} of the settings: see `aidos config list`")]
    NoSettings(u64),
    /// Settings that cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A field that cannot be so.
    #[error("{message}")]
    Invalid { field: &'static str, message: String },
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The twins.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A cheap handle to what agents should be.
#[derive(Clone)]
pub(crate) struct Agents {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) activity: Activity,
    pub(super) devices: Devices,
    pub(super) twins: Twins,
    pub(super) releases: Releases,
}

impl Agents {
    /// What agents of `devices` should be.
    pub(crate) fn new(db: Db, clock: Clock, activity: Activity, devices: Devices, twins: Twins, releases: Releases) -> Self {
        Self { db, clock, activity, devices, twins, releases }
    }

    /// Asks the devices that match for `version`, each for its own architecture.
    pub(crate) async fn deploy(&self, caller: &Caller, version: &str, wish: DeployRelease) -> Result<SentView, SendError> {
        let release = self.releases.version(caller.tenant, version).await?;
        let selector: Selector = wish.selector.parse()?;
        wish.update.check().map_err(|error| SendError::Invalid { field: "update", message: error.to_string() })?;
        let deployment = DeploymentId::new(self.clock.now().as_millis());
        let mut sent = Sent::new(version.to_owned(), Some(deployment), selector);
        for device in self.matching(caller.tenant, &sent.0.selector).await? {
            let Some(arch) = self.arch(caller.tenant, &device).await? else {
                sent.leave_out(&device, "it has not been connected yet, so what it runs on is not known".into());
                continue;
            };
            let Some(binary) = release.binaries.iter().find(|binary| binary.arch == arch) else {
                sent.leave_out(&device, format!("there is no binary of {version} for {arch}"));
                continue;
            };
            let desired = DesiredRelease {
                version: binary.version.clone(),
                digest: binary.digest,
                size: binary.size,
                counter: binary.counter,
                floor: release.floor,
                arch,
                deployment: Some(deployment),
                update: wish.update.clone(),
            };
            self.set(caller, &device, AGENT_RELEASE, json!(desired), &mut sent).await?;
        }
        self.record(caller, "agent_release.deploy", &sent.0).await?;
        Ok(sent.0)
    }

    /// Sends a version of the settings to the devices that match.
    pub(crate) async fn apply(&self, caller: &Caller, version: u64, selector: &str) -> Result<SentView, SendError> {
        let SettingsRow { settings, .. } = self.settings(caller.tenant, version).await?;
        let document = json!(SettingsDocument { version, settings: json!(settings) });
        let mut sent = Sent::new(version.to_string(), None, selector.parse()?);
        for device in self.matching(caller.tenant, &sent.0.selector).await? {
            self.set(caller, &device, AGENT_CONFIG, document.clone(), &mut sent).await?;
        }
        self.record(caller, "agent_settings.apply", &sent.0).await?;
        Ok(sent.0)
    }

    /// All devices that match, or none when there are too many: half a fleet is worse than a refusal.
    async fn matching(&self, tenant: TenantId, selector: &Selector) -> Result<Vec<DeviceRow>, SendError> {
        let mut all: Vec<DeviceRow> = Vec::new();
        loop {
            let page = self.devices.matching(tenant, selector, all.last().map(|row| row.id), PAGE).await?;
            let last = page.len() < PAGE;
            all.extend(page);
            if all.len() > MAX_DEVICES {
                return Err(SendError::Many);
            }
            if last {
                return Ok(all);
            }
        }
    }

    async fn arch(&self, tenant: TenantId, device: &DeviceRow) -> Result<Option<String>, SendError> {
        let mut status = self.twins.status(tenant, device.id).await?;
        let inventory = status.values.remove(path::INVENTORY).and_then(|value| serde_json::from_value::<Inventory>(value).ok());
        Ok(inventory.map(|inventory| inventory.arch))
    }

    async fn set(&self, caller: &Caller, device: &DeviceRow, key: &str, value: Value, sent: &mut Sent) -> Result<(), SendError> {
        let edit = Edit::SetConfig { key: key.to_owned(), value };
        // Boxed: an edit holds a document, and the loops around this hold it for long.
        match Box::pin(self.twins.edit(caller, device.id, &[edit], None)).await {
            Ok(_) => sent.0.sent += 1,
            // One full or removed device holds up no other.
            Err(error @ (TwinError::Edit(_) | TwinError::Store(StoreError::NotFound))) => {
                sent.leave_out(device, error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn record(&self, caller: &Caller, action: &str, sent: &SentView) -> Result<(), SendError> {
        let detail = json!({
            "selector": sent.selector, "deployment": sent.deployment, "sent": sent.sent, "left_out": sent.left_out,
        });
        let mut tx = self.db.begin().await?;
        self.activity.record(&mut tx, caller, action, &sent.version, detail).await?;
        Ok(tx.commit().await?)
    }
}

/// The answer as it grows.
struct Sent(SentView);

impl Sent {
    fn new(version: String, deployment: Option<DeploymentId>, selector: Selector) -> Self {
        Self(SentView { version, deployment, selector, sent: 0, left_out: 0, devices_left_out: Vec::new() })
    }

    fn leave_out(&mut self, device: &DeviceRow, why: String) {
        self.0.left_out += 1;
        if self.0.devices_left_out.len() < MAX_LEFT_OUT {
            self.0.devices_left_out.push(LeftOut { device: device.id, name: device.name.clone(), why });
        }
    }
}
