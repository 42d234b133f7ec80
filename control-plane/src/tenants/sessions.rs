//! Sessions of browsers. A session stands for an API key: it reads the key's role at each request and ends with the key.
//!
//! What it is known by is a random secret in a `__Host-` cookie that no script reads and no other site's page sends along. Whatever
//! changes something has to carry a token beside it, which only our own pages can read; it is derived from the secret, so that there is
//! nothing more to keep.

use super::keys::Secret;
use super::session_store::{self as store, Kind, SessionRow};
use super::store::KeyRow;
use super::{Activity, Caller, Tenants};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError};
use crate::platform::http::ApiError;
use aidos_protocol::api::sessions::{IDLE_SESSION_S, LOGIN_LINK_S, MAX_SESSION_S};
use aidos_protocol::time::Micros;
use axum::http::{HeaderMap, Method, header};
use cookie::{Cookie, SameSite};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;

/// The cookie's name. The prefix binds it to this host, its whole path and a secure line; browsers count loopback as secure.
const COOKIE: &str = "__Host-aidos";
/// Sessions of one key; a newer one ends the oldest.
const SESSIONS: i64 = 50;
/// Unused login links of one key.
const LINKS: i64 = 20;
/// How exactly the last use of a session is known, in seconds: a write per request would be a write per read.
const USED_STEP_S: i64 = 300;

/// The sessions; a clone shares them.
#[derive(Clone)]
pub(crate) struct Sessions {
    db: Db,
    clock: Clock,
    activity: Activity,
}

/// A session that holds.
pub(super) struct Session {
    pub(super) key: KeyRow,
    pub(super) csrf: String,
    pub(super) expires: Micros,
}

impl Sessions {
    /// The sessions kept in `db`.
    pub(crate) fn new(db: Db, clock: Clock, activity: Activity) -> Self {
        Self { db, clock, activity }
    }

    /// Begins a session for the key that `caller` presented; the session and its cookie.
    pub(super) async fn begin(&self, key: KeyRow, from: Option<IpAddr>) -> Result<(Session, String), ApiError> {
        let (secret, now) = (Secret::generate(), self.clock.now());
        let expires = now.plus_seconds(MAX_SESSION_S);
        let expires = key.expires.map_or(expires, |end| end.min(expires));
        let caller = Caller::key(key.tenant, key.id, key.role, from);
        let mut tx = self.db.begin().await?;
        store::prune(&mut tx, Kind::Session, (key.tenant, key.id), SESSIONS - 1, now).await?;
        store::insert_session(&mut tx, &secret.hash(), (key.tenant, key.id), (now, expires)).await?;
        self.activity.record(&mut tx, &caller, "session.create", &key.id.to_string(), json!({ "name": key.name })).await?;
        tx.commit().await?;
        let cookie = cookie(secret.reveal().to_owned()).build().to_string();
        Ok((Session { key, csrf: csrf(secret.reveal()), expires }, cookie))
    }

    /// Begins a session by a one-time link.
    pub(super) async fn redeem(&self, code: &str, from: Option<IpAddr>) -> Result<(Session, String), ApiError> {
        let gone = || {
            let error = ApiError::unauthorized("this link was used already, or its ten minutes are over");
            error.hint("`aidos open` makes a new one")
        };
        let code: Secret = code.parse().map_err(|_| gone())?;
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let key = match store::take_link(&mut tx, &code.hash(), now).await {
            Ok(key) => key,
            Err(StoreError::NotFound) => return Err(gone()),
            Err(error) => return Err(error.into()),
        };
        // Taken before anything is given for it.
        tx.commit().await?;
        holds(&key, now)?;
        self.begin(key, from).await
    }

    /// A link by which the holder of `key` signs in once: its code, and when it ends.
    pub(super) async fn link(&self, caller: &Caller, key: &KeyRow) -> Result<(String, Micros), ApiError> {
        let (code, now) = (Secret::generate(), self.clock.now());
        let expires = now.plus_seconds(LOGIN_LINK_S);
        let mut tx = self.db.begin().await?;
        store::prune(&mut tx, Kind::Link, (key.tenant, key.id), LINKS - 1, now).await?;
        store::insert_link(&mut tx, &code.hash(), (key.tenant, key.id), (now, expires)).await?;
        self.activity.record(&mut tx, caller, "login_link.create", &key.id.to_string(), json!({})).await?;
        tx.commit().await?;
        Ok((code.reveal().to_owned(), expires))
    }

    /// The session of a request that carries our cookie; `None` for one without.
    pub(super) async fn of(&self, headers: &HeaderMap) -> Result<Option<Session>, ApiError> {
        let Some(secret) = presented(headers) else { return Ok(None) };
        let over = || ApiError::unauthorized("the session has ended").hint("sign in again");
        let secret: Secret = secret.parse().map_err(|_| over())?;
        let now = self.clock.now();
        let SessionRow { key, used, expires } = match store::session(self.db.pool(), &secret.hash()).await {
            Ok(row) => row,
            Err(StoreError::NotFound) => return Err(over()),
            Err(error) => return Err(error.into()),
        };
        holds(&key, now)?;
        if expires <= now || used.plus_seconds(IDLE_SESSION_S) <= now {
            return Err(over());
        }
        if used.plus_seconds(USED_STEP_S) <= now {
            let mut tx = self.db.begin().await?;
            store::use_session(&mut tx, key.tenant, &secret.hash(), now).await?;
            tx.commit().await?;
        }
        Ok(Some(Session { key, csrf: csrf(secret.reveal()), expires }))
    }

    /// Ends the session of a request, if it has one. The cookie that takes the old one's place.
    pub(super) async fn end(&self, headers: &HeaderMap) -> Result<String, ApiError> {
        if let Some(Ok(secret)) = presented(headers).map(|text| text.parse::<Secret>()) {
            let mut tx = self.db.begin().await?;
            store::delete_session(&mut tx, &secret.hash()).await?;
            tx.commit().await?;
        }
        let mut gone = cookie(String::new()).build();
        gone.make_removal();
        Ok(gone.to_string())
    }

    /// Who sends a request with a session; what changes something needs the session's token beside it.
    pub(super) async fn authenticate(
        &self,
        method: &Method,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<Option<Caller>, ApiError> {
        let Some(session) = self.of(headers).await? else { return Ok(None) };
        let given = headers.get(aidos_protocol::api::sessions::CSRF_HEADER).map(|token| token.as_bytes());
        if !method.is_safe() && given != Some(session.csrf.as_bytes()) {
            let error = ApiError::forbidden("a page's request that changes something carries its session's CSRF token");
            return Err(error.hint("reload the page"));
        }
        Ok(Some(Caller::key(session.key.tenant, session.key.id, session.key.role, from)))
    }
}

fn holds(key: &KeyRow, now: Micros) -> Result<(), ApiError> {
    Tenants::holds(key, now).map_err(|error| error.hint("sign in with another key"))
}

fn cookie(value: String) -> cookie::CookieBuilder<'static> {
    Cookie::build((COOKIE, value)).path("/").secure(true).http_only(true).same_site(SameSite::Strict)
}

/// What our cookie holds.
fn presented(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = all.flat_map(|text| Cookie::split_parse(text.to_owned())).filter_map(Result::ok);
    cookies.find(|cookie| cookie.name() == COOKIE).map(|cookie| cookie.value().to_owned())
}

/// Its own digest, which says nothing about the secret.
fn csrf(secret: &str) -> String {
    hex::encode(Sha256::digest(format!("csrf {secret}")))
}
