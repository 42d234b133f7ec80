//! Settings for agents, version by version. What was made never changes, so going back is deploying an earlier version again.

use super::error::RegistryError;
use super::store::settings as store;
pub(crate) use super::store::settings::SettingsRow;
use crate::platform::{
    clock::Clock,
    db::{Db, StoreError},
};
use crate::tenants::{Activity, Caller};
use aidos_protocol::TenantId;
use aidos_protocol::settings::Settings;
use serde_json::{Value, json};

/// A cheap handle to the settings.
#[derive(Clone)]
pub(crate) struct AgentSettings {
    db: Db,
    clock: Clock,
    activity: Activity,
}

/// What came of making settings.
#[derive(Debug, PartialEq)]
pub(crate) enum Kept {
    /// They are a new version.
    New(SettingsRow),
    /// They are what the newest version says already.
    Existing(SettingsRow),
}

impl AgentSettings {
    /// The settings in `db`.
    pub(crate) fn new(db: Db, clock: Clock, activity: Activity) -> Self {
        Self { db, clock, activity }
    }

    /// Makes the next version of the settings.
    pub(crate) async fn create(&self, caller: &Caller, value: &Value) -> Result<Kept, RegistryError> {
        let invalid = |message: String| RegistryError::Invalid { field: "settings", message };
        let settings = Settings::strict(value).map_err(|error| invalid(error.to_string()))?;
        let mut tx = self.db.begin().await?;
        let newest = store::newest(&mut tx, caller.tenant).await?;
        if let Some(newest) = newest.as_ref().filter(|newest| newest.settings == settings) {
            return Ok(Kept::Existing(newest.clone()));
        }
        let version = newest.map_or(1, |newest| newest.version + 1);
        let row = SettingsRow { version, settings, created: self.clock.now(), created_by: caller.actor.clone() };
        store::insert(&mut tx, caller.tenant, &row).await.map_err(|error| match error {
            StoreError::Conflict(_) => invalid("other settings were made at the same moment: repeat these".into()),
            error => error.into(),
        })?;
        let detail = json!({ "settings": row.settings });
        self.activity.record(&mut tx, caller, "agent_settings.create", &version.to_string(), detail).await?;
        tx.commit().await?;
        Ok(Kept::New(row))
    }

    /// One version.
    pub(crate) async fn version(&self, tenant: TenantId, version: u64) -> Result<SettingsRow, RegistryError> {
        let none = || RegistryError::NotFound(format!("version {version} of the settings: see `aidos config list`"));
        store::version(self.db.pool(), tenant, version).await?.ok_or_else(none)
    }

    /// Versions below `before`, newest first.
    pub(crate) async fn list(&self, tenant: TenantId, before: u64, limit: u32) -> Result<Vec<SettingsRow>, RegistryError> {
        Ok(store::list(self.db.pool(), tenant, before, limit).await?)
    }
}
