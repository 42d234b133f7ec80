//! Settings for agents, version by version. What was made never changes, so going back is sending an earlier version again.

use super::send::{Agents, SendError};
use super::store;
pub(super) use super::store::SettingsRow;
use crate::platform::db::StoreError;
use crate::tenants::Caller;
use aidos_protocol::TenantId;
use aidos_protocol::settings::Settings;
use serde_json::{Value, json};

/// What came of making settings.
#[derive(Debug, PartialEq)]
pub(crate) enum Kept {
    /// They are a new version.
    New(SettingsRow),
    /// They are what the newest version says already.
    Existing(SettingsRow),
}

impl Agents {
    /// Makes the next version of the settings.
    pub(crate) async fn keep(&self, caller: &Caller, value: &Value) -> Result<Kept, SendError> {
        let settings = Settings::strict(value)?;
        let mut tx = self.db.begin().await?;
        let newest = store::newest(&mut tx, caller.tenant).await?;
        if let Some(newest) = newest.as_ref().filter(|newest| newest.settings == settings) {
            return Ok(Kept::Existing(newest.clone()));
        }
        let version = newest.map_or(1, |newest| newest.version + 1);
        let row = SettingsRow { version, settings, created: self.clock.now(), created_by: caller.actor.clone() };
        store::insert(&mut tx, caller.tenant, &row).await.map_err(|error| match error {
            StoreError::Conflict(_) => SendError::Invalid {
                field: "settings",
                message: "other settings were made at the same moment: repeat these".into(),
            },
            error => error.into(),
        })?;
        let detail = json!({ "settings": row.settings });
        self.activity.record(&mut tx, caller, "agent_settings.create", &version.to_string(), detail).await?;
        tx.commit().await?;
        Ok(Kept::New(row))
    }

    /// One version.
    pub(crate) async fn settings(&self, tenant: TenantId, version: u64) -> Result<SettingsRow, SendError> {
        store::version(self.db.pool(), tenant, version).await?.ok_or(SendError::NoSettings(version))
    }

    /// Versions below `before`, newest first.
    pub(crate) async fn all_settings(&self, tenant: TenantId, before: u64, limit: u32) -> Result<Vec<SettingsRow>, SendError> {
        Ok(store::list(self.db.pool(), tenant, before, limit).await?)
    }
}
