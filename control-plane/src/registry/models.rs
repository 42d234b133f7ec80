//! Models: names that versions, aliases, labels and a card belong to. What stands in a version never changes; what stands
//! here people edit.

use super::artifacts::Artifacts;
use super::error::RegistryError;
use super::inspect::Inspector;
use super::store::models as store;
pub(crate) use super::store::models::ModelRow;
use super::store::versions;
use crate::platform::{
    clock::Clock,
    db::{Db, StoreError, Tx},
    http::Events,
};
use crate::tenants::{Activity, Caller};
use aidos_protocol::{
    ModelName, TenantId,
    api::models::{Alias, CreateModel, MAX_CARD_BYTES, MAX_DESCRIPTION_BYTES, PatchModel},
    label,
};
use serde_json::json;
use std::collections::BTreeMap;

/// Aliases of one model: people read all of them.
const MAX_ALIASES: u64 = 64;
/// Holders that a refusal lists.
const SHOWN_HOLDERS: u32 = 5;

/// A cheap handle to the models.
#[derive(Clone)]
pub(crate) struct Models {
    pub(super) db: Db,
    pub(super) artifacts: Artifacts,
    pub(super) inspector: Inspector,
    pub(super) activity: Activity,
    pub(super) events: Events,
    pub(super) clock: Clock,
}

impl Models {
    /// The models in `db`, made of `artifacts`.
    pub(crate) fn new(db: Db, artifacts: Artifacts, activity: Activity, events: Events, clock: Clock) -> Self {
        Self { db, artifacts, inspector: Inspector::new(), activity, events, clock }
    }

    /// Makes a model without versions.
    pub(crate) async fn create(&self, caller: &Caller, request: CreateModel) -> Result<ModelRow, RegistryError> {
        let now = self.clock.now();
        let row = ModelRow {
            name: request.name,
            description: request.description,
            labels: request.labels,
            card: request.card,
            last_version: 0,
            revision: 1,
            created: now,
            updated: now,
        };
        check(&row)?;
        let mut tx = self.db.begin().await?;
        store::insert(&mut tx, caller.tenant, &row).await.map_err(|error| match error {
            StoreError::Conflict(_) => RegistryError::Conflict(format!("the model `{}` exists already", row.name)),
            error => error.into(),
        })?;
        self.activity.record(&mut tx, caller, "model.create", row.name.as_str(), json!({})).await?;
        tx.commit().await?;
        self.events.publish(caller.tenant, "model.created", row.name.as_str(), json!({}));
        Ok(row)
    }

    /// One model.
    pub(crate) async fn get(&self, tenant: TenantId, name: &ModelName) -> Result<ModelRow, RegistryError> {
        store::model(self.db.pool(), tenant, name).await?.ok_or_else(|| RegistryError::no_model(name))
    }

    /// How many there are.
    pub(crate) async fn count(&self, tenant: TenantId) -> Result<u64, RegistryError> {
        Ok(store::count(self.db.pool(), tenant).await?)
    }

    /// Models by name after `after`, at most `limit`; `search` is part of the name or description, in any case.
    pub(crate) async fn list(
        &self,
        tenant: TenantId,
        search: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ModelRow>, RegistryError> {
        Ok(store::list(self.db.pool(), tenant, search, after, limit).await?)
    }

    /// The aliases of `models`, which are sorted by name.
    pub(crate) async fn aliases(
        &self,
        tenant: TenantId,
        models: &[ModelRow],
    ) -> Result<BTreeMap<ModelName, BTreeMap<String, u64>>, RegistryError> {
        let (Some(first), Some(last)) = (models.first(), models.last()) else { return Ok(BTreeMap::new()) };
        Ok(store::aliases(self.db.pool(), tenant, &first.name, &last.name).await?)
    }

    /// Edits description, labels and card; `seen` is the revision the editor saw, or whatever there is.
    pub(crate) async fn edit(
        &self,
        caller: &Caller,
        name: &ModelName,
        patch: PatchModel,
        seen: impl FnOnce(&ModelRow) -> bool,
    ) -> Result<ModelRow, RegistryError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let mut row = store::model_in(&mut tx, caller.tenant, name).await?.ok_or_else(|| RegistryError::no_model(name))?;
        if !seen(&row) {
            return Err(RegistryError::Stale { present: row.revision });
        }
        row.description = patch.description.unwrap_or(row.description);
        row.card = patch.card.unwrap_or(row.card);
        for (key, value) in patch.labels {
            match value {
                Some(value) => row.labels.insert(key, value),
                None => row.labels.remove(&key),
            };
        }
        check(&row)?;
        if !store::update(&mut tx, caller.tenant, &row, now).await? {
            // On Postgres another edit may have come between the two statements.
            return Err(RegistryError::Stale { present: row.revision + 1 });
        }
        self.activity.record(&mut tx, caller, "model.edit", name.as_str(), json!({})).await?;
        tx.commit().await?;
        self.events.publish(caller.tenant, "model.changed", name.as_str(), json!({}));
        Ok(ModelRow { revision: row.revision + 1, updated: now, ..row })
    }

    /// Removes the model with all its versions and the files that nothing else needs. Refused while something holds it.
    pub(crate) async fn delete(&self, caller: &Caller, name: &ModelName) -> Result<(), RegistryError> {
        let tenant = caller.tenant;
        let mut tx = self.db.begin().await?;
        let holders = store::holders(&mut tx, tenant, name, SHOWN_HOLDERS).await?;
        if !holders.is_empty() {
            return Err(RegistryError::Conflict(format!(
                "the model `{name}` is in use by {}: stop that first, with removal from the devices",
                holders.join(", ")
            )));
        }
        let digests = versions::digests(&mut tx, tenant, name).await?;
        if !store::delete(&mut tx, tenant, name).await? {
            return Err(RegistryError::no_model(name));
        }
        self.activity.record(&mut tx, caller, "model.delete", name.as_str(), json!({})).await?;
        tx.commit().await?;
        self.events.publish(tenant, "model.deleted", name.as_str(), json!({}));
        self.artifacts.discard_unreferenced(tenant, &digests).await
    }

    /// Points `alias` at `version`, whatever it pointed at before.
    pub(crate) async fn put_alias(
        &self,
        caller: &Caller,
        name: &ModelName,
        alias: &Alias,
        version: u64,
    ) -> Result<(), RegistryError> {
        let tenant = caller.tenant;
        self.version(tenant, name, version).await?;
        let mut tx = self.db.begin().await?;
        let now = self.clock.now();
        store::put_alias(&mut tx, tenant, name, alias, version, now).await?;
        store::touch(&mut tx, tenant, name, now).await?;
        if store::count_aliases(&mut tx, tenant, name).await? > MAX_ALIASES {
            return Err(RegistryError::Quota(format!("a model has at most {MAX_ALIASES} aliases: remove one first")));
        }
        let detail = json!({ "alias": alias.as_str(), "version": version });
        self.activity.record(&mut tx, caller, "model.alias", name.as_str(), detail.clone()).await?;
        tx.commit().await?;
        self.events.publish(tenant, "model.alias", name.as_str(), detail);
        Ok(())
    }

    /// Removes an alias. The version stays.
    pub(crate) async fn delete_alias(&self, caller: &Caller, name: &ModelName, alias: &Alias) -> Result<(), RegistryError> {
        let mut tx = self.db.begin().await?;
        if !store::delete_alias(&mut tx, caller.tenant, name, alias).await? {
            return Err(RegistryError::NotFound(format!("alias `{alias}` of model `{name}`")));
        }
        store::touch(&mut tx, caller.tenant, name, self.clock.now()).await?;
        let detail = json!({ "alias": alias.as_str(), "version": null });
        self.activity.record(&mut tx, caller, "model.alias", name.as_str(), detail.clone()).await?;
        tx.commit().await?;
        self.events.publish(caller.tenant, "model.alias", name.as_str(), detail);
        Ok(())
    }

    /// Keeps `version` of a model from being deleted until [`Self::release`]. `holder` is what people are told: an id.
    pub(crate) async fn hold(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        name: &ModelName,
        version: u64,
        holder: &str,
    ) -> Result<(), StoreError> {
        store::insert_hold(tx, tenant, name, version, holder).await
    }

    /// Ends a hold; without one it does nothing.
    pub(crate) async fn release(&self, tx: &mut Tx, tenant: TenantId, name: &ModelName, holder: &str) -> Result<(), StoreError> {
        store::delete_hold(tx, tenant, name, holder).await
    }
}

fn check(row: &ModelRow) -> Result<(), RegistryError> {
    let invalid = |field, message: String| Err(RegistryError::Invalid { field, message });
    if let Err(error) = label::check_labels(&row.labels) {
        return invalid("labels", error.to_string());
    }
    for (field, is, limit) in
        [("description", row.description.len(), MAX_DESCRIPTION_BYTES), ("card", row.card.len(), MAX_CARD_BYTES)]
    {
        if is > limit {
            return invalid(field, format!("{field} has {is} bytes, the limit is {limit}"));
        }
    }
    if row.description.chars().any(char::is_control) {
        return invalid("description", "a description is one line; put more into the card".into());
    }
    Ok(())
}
