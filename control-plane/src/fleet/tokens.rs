//! Join tokens: what lets a machine become a device.
//!
//! A token is a tenant's, lets in a set number of devices for a set time, and is stored as a hash: its text exists in the
//! answer to its creation and on the devices it is typed on. Its last use is never given twice. Nothing here tells a
//! stranger more about a token than the stranger proved to know.

use super::tokens_store::{self as store, TokenRow};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError, Tx};
use crate::tenants::{Activity, Caller};
use aidos_protocol::api::tokens::{CreateToken, CreatedToken, MAX_TTL_S, MAX_USES, MIN_TTL_S, TokenState, TokenView};
use aidos_protocol::enrol::{EndpointsView, JoinToken, TokenFormatError};
use aidos_protocol::{TokenId, label, time::Micros};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// Labels a token may carry; a device holds more of its own.
const MAX_LABELS: usize = 32;

/// Why a token cannot be made, or does not let a device in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// Not a token at all.
    #[error(transparent)]
    Malformed(#[from] TokenFormatError),
    /// Made by another deployment.
    #[error("this token belongs to another control plane: check the address, or make one here with `aidos token create`")]
    Foreign,
    /// No such token, or a wrong secret: a stranger learns no difference.
    #[error("this control plane does not know this token: it may have been deleted; make one with `aidos token create`")]
    Unknown,
    /// All uses are spent.
    #[error("this token is used up: all its {uses} uses are spent; make one with `aidos token create --uses N`")]
    UsedUp {
        /// How many it had.
        uses: u32,
    },
    /// Its time is over.
    #[error("this token has expired; make one with `aidos token create --ttl 1h`")]
    Expired,
    /// What was asked for cannot be made.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong and what is taken.
        problem: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The handle to join tokens.
#[derive(Clone)]
pub(crate) struct Tokens {
    db: Db,
    clock: Clock,
    activity: Activity,
    ca_pin: String,
    api_url: String,
}

impl Tokens {
    /// `ca_pin` is what devices check the control plane's certificate with, `endpoints` where they find it.
    pub(crate) fn new(db: Db, clock: Clock, activity: Activity, ca_pin: String, endpoints: &EndpointsView) -> Self {
        Self { db, clock, activity, ca_pin, api_url: endpoints.api_url.clone() }
    }

    /// Makes a token. Its text stands in the answer and nowhere else.
    pub(crate) async fn create(&self, caller: &Caller, new: CreateToken) -> Result<CreatedToken, TokenError> {
        check(&new)?;
        let now = self.clock.now();
        let secret: [u8; 32] = rand::random();
        let token =
            JoinToken { id: TokenId::new(now.as_millis()), secret: URL_SAFE_NO_PAD.encode(secret), ca_pin: self.ca_pin.clone() };
        let row = TokenRow {
            tenant: caller.tenant,
            id: token.id,
            secret_hash: hash(&token.secret),
            labels: new.labels,
            uses: new.uses,
            used: 0,
            created: now,
            created_by: caller.actor.clone(),
            expires: now.plus_seconds(i64::try_from(new.ttl_s).unwrap_or(i64::MAX)),
            last_used: None,
        };
        let mut tx = self.db.begin().await?;
        store::insert_token(&mut tx, &row).await?;
        let detail = serde_json::json!({ "uses": row.uses, "expires_at": row.expires, "labels": row.labels });
        self.activity.record(&mut tx, caller, "token.create", &row.id.to_string(), detail).await?;
        tx.commit().await?;
        let text = token.to_string();
        let command = format!("aidos-agent join {} --token {text}", self.api_url);
        Ok(CreatedToken { token: text, command, view: view(&row, now) })
    }

    /// Tokens of the caller's tenant, newest first, at most `limit`, those after `before` in that order.
    pub(crate) async fn list(
        &self,
        caller: &Caller,
        before: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<TokenView>, TokenError> {
        let now = self.clock.now();
        let rows = store::tokens(self.db.pool(), caller.tenant, before, limit).await?;
        Ok(rows.iter().map(|row| view(row, now)).collect())
    }

    /// Deletes a token. Devices that joined with it stay.
    pub(crate) async fn delete(&self, caller: &Caller, id: TokenId) -> Result<(), TokenError> {
        let mut tx = self.db.begin().await?;
        if !store::delete_token(&mut tx, caller.tenant, id).await? {
            return Err(StoreError::NotFound.into());
        }
        self.activity.record(&mut tx, caller, "token.delete", &id.to_string(), serde_json::Value::Null).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Spends one use of the token that `text` is; within `tx`, so that a failed enrolment spends none.
    pub(crate) async fn consume(&self, tx: &mut Tx, text: &str) -> Result<TokenRow, TokenError> {
        let token: JoinToken = text.parse()?;
        if token.ca_pin != self.ca_pin {
            return Err(TokenError::Foreign);
        }
        let tenant = store::tenant_of_token(tx, token.id).await?.ok_or(TokenError::Unknown)?;
        let known = store::token(tx, tenant, token.id).await?.ok_or(TokenError::Unknown)?;
        // Hashes are compared, so that the time it takes says nothing about the secret.
        if known.secret_hash != hash(&token.secret) {
            return Err(TokenError::Unknown);
        }
        let now = self.clock.now();
        match store::spend_token(tx, tenant, token.id, now).await? {
            Some(row) => Ok(row),
            None if known.expires <= now => Err(TokenError::Expired),
            None => Err(TokenError::UsedUp { uses: known.uses }),
        }
    }
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

fn check(new: &CreateToken) -> Result<(), TokenError> {
    let invalid = |field, problem: String| Err(TokenError::Invalid { field, problem });
    if !(1..=MAX_USES).contains(&new.uses) {
        return invalid("uses", format!("{}: take 1 to {MAX_USES}", new.uses));
    }
    if !(MIN_TTL_S..=MAX_TTL_S).contains(&new.ttl_s) {
        return invalid("ttl_s", format!("{} seconds: take {MIN_TTL_S} seconds to {} days", new.ttl_s, MAX_TTL_S / 86_400));
    }
    if new.labels.len() > MAX_LABELS {
        return invalid("labels", format!("{} labels: a token carries at most {MAX_LABELS}", new.labels.len()));
    }
    // A device that joins with one that none may have would be refused, long after.
    if let Err(error) = label::check_labels(&new.labels) {
        return invalid("labels", error.to_string());
    }
    Ok(())
}

fn view(row: &TokenRow, now: Micros) -> TokenView {
    TokenView {
        id: row.id,
        state: match row {
            row if row.used >= row.uses => TokenState::UsedUp,
            row if row.expires <= now => TokenState::Expired,
            _ => TokenState::Active,
        },
        uses: row.uses,
        used: row.used,
        labels: row.labels.clone(),
        created_by: row.created_by.clone(),
        created_at: row.created,
        expires_at: row.expires,
        last_used_at: row.last_used,
    }
}
