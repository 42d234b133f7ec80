//! Tenants and their keys: making, finding, revoking, and telling who presents a key.
//!
//! Invariants: there is one root tenant, made with the first owner key in one transaction; a tenant always keeps one owner key
//! that is neither revoked nor going to expire, so that nobody locks themselves out.

use super::keys::KeyText;
use super::store::{self, KeyRow, TenantRow};
use super::{Activity, Caller, Sessions};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError, Tx};
use crate::platform::http::ApiError;
use crate::platform::private_file;
use aidos_protocol::api::keys::{CreateKey, MAX_KEY_NAME_BYTES, MAX_KEY_TTL_S, MIN_KEY_TTL_S, Role};
use aidos_protocol::api::tenants::TenantName;
use aidos_protocol::time::Micros;
use aidos_protocol::{ApiKeyId, TenantId};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use moka::sync::Cache;
use serde_json::json;
use std::net::IpAddr;
use std::path::Path;

/// The root tenant's name.
const ROOT: &str = "default";
/// The most keys of one tenant, revoked ones included: bounds the table against a script that runs wild.
const MAX_KEYS: i64 = 10_000;
/// The most tenants.
const MAX_TENANTS: i64 = 10_000;
/// How exactly the last use of a key is known, in seconds: a write per request would be a write per read.
const LAST_USED_STEP_S: i64 = 60;
/// For how many keys it is remembered in this process when their use was noted.
const KEYS_NOTED: u64 = 10_000;

/// All tenants; a clone shares them.
#[derive(Clone)]
pub(crate) struct Tenants {
    db: Db,
    clock: Clock,
    activity: Activity,
    sessions: Sessions,
    /// When the use of a key was noted last, so that a locked database delays one request of a key and not all.
    noted: Cache<ApiKeyId, Micros>,
}

impl Tenants {
    /// The tenants kept in `db`.
    pub(crate) fn new(db: Db, clock: Clock, activity: Activity) -> Self {
        let sessions = Sessions::new(db.clone(), clock.clone(), activity.clone());
        Self { db, clock, activity, sessions, noted: Cache::new(KEYS_NOTED) }
    }

    /// Makes the root tenant and its owner's key on the first start, and writes that key to `key_file` (mode 0600). Says
    /// whether this was the first start.
    pub(crate) async fn bootstrap(&self, key_file: &Path) -> Result<bool, ApiError> {
        let mut tx = self.db.begin().await?;
        if store::count_tenants(&mut tx).await? > 0 {
            return Ok(false);
        }
        let (tenant, key) = self.insert_tenant(&mut tx, ROOT.parse().map_err(ApiError::internal)?, true).await?;
        let caller = Caller::system(tenant.id);
        self.activity.record(&mut tx, &caller, "tenant.create", &tenant.id.to_string(), json!({ "name": ROOT })).await?;
        // Before the commit: a key in a file that was never committed opens nothing, the other way round nobody gets in.
        private_file::write(key_file, format!("{}\n", key.reveal()).as_bytes()).map_err(ApiError::internal)?;
        tx.commit().await?;
        Ok(true)
    }

    /// Whether there is no tenant yet.
    pub(crate) async fn is_empty(&self) -> Result<bool, ApiError> {
        let mut tx = self.db.begin().await?;
        Ok(store::count_tenants(&mut tx).await? == 0)
    }

    /// Who sends a request: by `Authorization: Bearer …`, else by a browser's session.
    pub(crate) async fn authenticate(
        &self,
        method: &Method,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<Caller, ApiError> {
        if let Some(header) = headers.get(header::AUTHORIZATION) {
            let key = self.key_of(header).await?;
            return Ok(Caller::key(key.tenant, key.id, key.role, from));
        }
        let caller = self.sessions.authenticate(method, headers, from).await?;
        caller.ok_or_else(|| ApiError::unauthorized("the request carries no API key"))
    }

    /// The key in `Authorization: Bearer …`.
    async fn key_of(&self, header: &HeaderValue) -> Result<KeyRow, ApiError> {
        let text = header.to_str().ok().and_then(|text| text.split_once(' '));
        let text = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
        let text = text.ok_or_else(|| ApiError::unauthorized("the Authorization header is not `Bearer` and a key"))?;
        self.presented(text).await
    }

    /// The key of this text, if it holds.
    pub(super) async fn presented(&self, text: &str) -> Result<KeyRow, ApiError> {
        let key: KeyText = text.parse().map_err(|error| ApiError::unauthorized(format!("{error}")))?;
        let now = self.clock.now();
        let row = match store::find_key_by_hash(self.db.pool(), &key.hash()).await {
            Ok(row) => row,
            Err(StoreError::NotFound) => return Err(ApiError::unauthorized("this API key is not known here")),
            Err(error) => return Err(error.into()),
        };
        Self::holds(&row, now)?;
        let last = row.last_used.max(self.noted.get(&row.id));
        if last.is_none_or(|last| last.plus_seconds(LAST_USED_STEP_S) <= now) {
            self.noted.insert(row.id, now);
            // Only for people to read; the request must not fail for it.
            if let Err(error) = store::touch_key(&self.db, row.tenant, row.id, now).await {
                tracing::warn!(error = &error as &dyn std::error::Error, key = %row.id, "the last use of a key was not noted");
            }
        }
        Ok(row)
    }

    /// Whether a key opens anything at `now`.
    pub(super) fn holds(key: &KeyRow, now: Micros) -> Result<(), ApiError> {
        if key.revoked.is_some() {
            return Err(ApiError::unauthorized("this API key was revoked"));
        }
        if key.expires.is_some_and(|end| end <= now) {
            return Err(ApiError::unauthorized("this API key has expired"));
        }
        Ok(())
    }

    /// The sessions of browsers.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The caller's tenant and key.
    pub(crate) async fn whoami(&self, caller: &Caller) -> Result<(TenantRow, KeyRow), ApiError> {
        let id = caller.actor.strip_prefix("key:").and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| ApiError::forbidden("only a key has an identity here"))?;
        let key = store::get_key(self.db.pool(), caller.tenant, id).await?;
        Ok((store::get_tenant(self.db.pool(), caller.tenant).await?, key))
    }

    /// The tenant of a key.
    pub(super) async fn of_key(&self, key: &KeyRow) -> Result<TenantRow, ApiError> {
        Ok(store::get_tenant(self.db.pool(), key.tenant).await?)
    }

    /// Whether the caller is of the root tenant, and so may see what concerns all.
    pub(crate) async fn is_of_root(&self, caller: &Caller) -> Result<bool, ApiError> {
        Ok(store::get_tenant(self.db.pool(), caller.tenant).await?.root)
    }

    /// Whether the caller may see and make tenants.
    pub(crate) async fn is_root(&self, caller: &Caller) -> Result<bool, ApiError> {
        Ok(caller.role == Role::Owner && self.is_of_root(caller).await?)
    }

    /// Makes a tenant with its first owner key.
    pub(crate) async fn create(&self, caller: &Caller, name: TenantName) -> Result<(TenantRow, KeyText), ApiError> {
        if !self.is_root(caller).await? {
            return Err(ApiError::forbidden("only owners of the root tenant make tenants"));
        }
        let mut tx = self.db.begin().await?;
        if store::count_tenants(&mut tx).await? >= MAX_TENANTS {
            return Err(ApiError::conflict(format!("there are {MAX_TENANTS} tenants, the most that one deployment takes")));
        }
        let made = self.insert_tenant(&mut tx, name.clone(), false).await;
        let (tenant, key) = made.map_err(|error| match error {
            StoreError::Conflict(_) => ApiError::conflict(format!("there is a tenant `{name}` already")),
            other => other.into(),
        })?;
        let target = tenant.id.to_string();
        self.activity.record(&mut tx, caller, "tenant.create", &target, json!({ "name": name })).await?;
        // Its own owners see how it began, too, but not who made it.
        self.activity.record(&mut tx, &Caller::system(tenant.id), "tenant.create", &target, json!({ "name": name })).await?;
        tx.commit().await?;
        Ok((tenant, key))
    }

    /// One tenant: the caller's own, or any for root; others are not there.
    pub(crate) async fn get(&self, caller: &Caller, id: TenantId) -> Result<TenantRow, ApiError> {
        let missing = || ApiError::not_found(format!("tenant {id}"));
        if id != caller.tenant && !self.is_root(caller).await? {
            return Err(missing());
        }
        store::get_tenant(self.db.pool(), id).await.map_err(|error| match error {
            StoreError::NotFound => missing(),
            other => other.into(),
        })
    }

    /// Tenants by name, after the one named `after`: all for root, else the caller's own.
    pub(crate) async fn list(&self, caller: &Caller, after: Option<&str>, limit: usize) -> Result<Vec<TenantRow>, ApiError> {
        if self.is_root(caller).await? {
            return Ok(store::list_tenants(self.db.pool(), after, limit).await?);
        }
        let own = store::get_tenant(self.db.pool(), caller.tenant).await?;
        Ok(if after.is_none_or(|after| own.name.as_str() > after) { vec![own] } else { Vec::new() })
    }

    /// Makes a key in the caller's tenant.
    pub(crate) async fn create_key(&self, caller: &Caller, wish: CreateKey) -> Result<(KeyRow, KeyText), ApiError> {
        let name = wish.name.trim();
        if name.is_empty() || name.len() > MAX_KEY_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(ApiError::invalid("name", format!("a key's name is 1 to {MAX_KEY_NAME_BYTES} bytes of plain text")));
        }
        if let Some(ttl) = wish.ttl_s
            && !(MIN_KEY_TTL_S..=MAX_KEY_TTL_S).contains(&ttl)
        {
            return Err(ApiError::invalid("ttl_s", format!("ttl_s is {ttl}, it must be {MIN_KEY_TTL_S} to {MAX_KEY_TTL_S}")));
        }
        let mut tx = self.db.begin().await?;
        if store::count_keys(&mut tx, caller.tenant).await? >= MAX_KEYS {
            return Err(ApiError::conflict(format!("the tenant has {MAX_KEYS} keys, the most that one takes")));
        }
        let (row, text) = self.new_key(caller.tenant, name, wish.role, wish.ttl_s, &caller.actor);
        store::insert_key(&mut tx, &row, &text.hash()).await?;
        let detail = json!({ "name": row.name, "role": row.role, "expires_at": row.expires });
        self.activity.record(&mut tx, caller, "key.create", &row.id.to_string(), detail).await?;
        tx.commit().await?;
        Ok((row, text))
    }

    /// The caller's tenant's keys, oldest first.
    pub(crate) async fn list_keys(
        &self,
        tenant: TenantId,
        after: Option<ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<KeyRow>, ApiError> {
        Ok(store::list_keys(self.db.pool(), tenant, after, limit).await?)
    }

    /// One key of the caller's tenant.
    pub(crate) async fn get_key(&self, tenant: TenantId, id: ApiKeyId) -> Result<KeyRow, ApiError> {
        store::get_key(self.db.pool(), tenant, id).await.map_err(|error| no_key(id, error))
    }

    /// Ends a key now. Ending it twice changes nothing.
    pub(crate) async fn revoke_key(&self, caller: &Caller, id: ApiKeyId) -> Result<(), ApiError> {
        let mut tx = self.db.begin().await?;
        let row = store::get_key(&mut *tx, caller.tenant, id).await.map_err(|error| no_key(id, error))?;
        if row.revoked.is_some() {
            return Ok(());
        }
        let lasting = row.role == Role::Owner && row.expires.is_none();
        if lasting && store::count_lasting_owner_keys(&mut tx, caller.tenant).await? <= 1 {
            let refused = ApiError::conflict("this is the tenant's last owner key that does not expire");
            return Err(refused.hint("make another with `aidos key create --role owner` first"));
        }
        store::revoke_key(&mut tx, caller.tenant, id, self.clock.now()).await?;
        self.activity.record(&mut tx, caller, "key.revoke", &id.to_string(), json!({ "name": row.name })).await?;
        tx.commit().await?;
        Ok(())
    }

    fn new_key(&self, tenant: TenantId, name: &str, role: Role, ttl_s: Option<u64>, by: &str) -> (KeyRow, KeyText) {
        let now = self.clock.now();
        let text = KeyText::generate();
        let row = KeyRow {
            tenant,
            id: ApiKeyId::new(now.as_millis()),
            name: name.to_owned(),
            role,
            hint: text.hint(),
            created: now,
            created_by: by.to_owned(),
            expires: ttl_s.map(|ttl| now.plus_seconds(i64::try_from(ttl).unwrap_or(i64::MAX))),
            revoked: None,
            last_used: None,
        };
        (row, text)
    }

    async fn insert_tenant(&self, tx: &mut Tx, name: TenantName, root: bool) -> Result<(TenantRow, KeyText), StoreError> {
        let now = self.clock.now();
        let tenant = TenantRow { id: TenantId::new(now.as_millis()), name, root, created: now };
        store::insert_tenant(tx, &tenant).await?;
        let (row, text) = self.new_key(tenant.id, "first owner", Role::Owner, None, "system");
        store::insert_key(tx, &row, &text.hash()).await?;
        Ok((tenant, text))
    }
}

fn no_key(id: ApiKeyId, error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::not_found(format!("key {id}")),
        other => other.into(),
    }
}
