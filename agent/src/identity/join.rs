//! Joining a fleet, in order: read the token → fetch the CA and compare it with the token's pin → send a certificate signing
//! request to a server with a certificate of that CA, or of one that this machine's system trusts → check the answer against that
//! CA, the root of trust too → write it all in one rename.
//!
//! Killed anywhere before the rename, the device has not joined, and the next attempt goes on with the key that is there. The
//! use of the token that such an attempt spent stays spent.

use super::time::Time;
use super::{DeviceKey, Identity, JoinError, Record, Update as _, certificate, files, http, trust};
use crate::identity::certificate::Leaf;
use aidos_protocol::enrol::{EndpointsView, EnrolRequest, EnrolResponse, JoinToken};
use aidos_protocol::time::Micros;
use aidos_protocol::trust::Trusted;
use reqwest::{Client, Url};
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a control plane that says "come again in n seconds" is asked…
const ATTEMPTS: u32 = 10;
/// … and how long a person at a terminal is made to wait for each.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What `aidos-agent join` was told.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// Base address of the control plane.
    pub url: String,
    /// The join token's text.
    pub token: String,
    /// The device's name for people.
    pub name: String,
    /// Labels beside those of the token.
    pub labels: BTreeMap<String, String>,
    /// The folder that holds the identity.
    pub dir: PathBuf,
    /// Allow http to another machine.
    pub insecure_http: bool,
    /// Join anew although this device has joined.
    pub force: bool,
}

/// Joins, and returns once the identity is on disk.
pub async fn join(options: &JoinOptions) -> Result<Identity, JoinError> {
    let url = base_url(options)?;
    let token: JoinToken = options.token.parse()?;
    files::private_dir(&options.dir)?;
    let _lock = lock(&options.dir)?;
    // A damaged identity does not stand in the way of --force.
    let joined = match Identity::load(&options.dir) {
        Err(_) if options.force => None,
        loaded => loaded?,
    };
    if let Some(identity) = joined.filter(|_| !options.force) {
        return Err(JoinError::AlreadyJoined {
            device: identity.device_id(),
            tenant: identity.tenant_id(),
            url: identity.endpoints().api_url,
        });
    }
    let ca = fetch_ca(&url, &token).await?;
    let key_file = pending_key(&options.dir)?;
    let key = DeviceKey::read(&options.dir.join(&key_file))?;
    let answer = enrol(&url, &ca, &key, options).await?;
    let record = accept(&url, answer, &ca, &key, key_file)?;
    record.write(&options.dir)?;
    remove_other_keys(&options.dir, &record.key_file);
    Identity::load(&options.dir)?.ok_or_else(|| JoinError::BadAnswer("the identity just written is not there".into()))
}

fn base_url(options: &JoinOptions) -> Result<Url, JoinError> {
    let fail = |detail: &str| JoinError::Address { url: options.url.chars().take(200).collect(), detail: detail.to_owned() };
    let mut url = Url::parse(options.url.trim()).map_err(|e| fail(&e.to_string()))?;
    match url.scheme() {
        "https" => {}
        "http" if !http::in_the_clear(&url) || options.insecure_http => {}
        "http" => return Err(JoinError::PlainHttp(options.url.clone())),
        other => return Err(fail(&format!("`{other}` is neither https nor http"))),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(fail("it has no host"));
    }
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// Held until the join ends, by the process: a killed one lets go of it by itself.
fn lock(dir: &Path) -> Result<File, JoinError> {
    let path = dir.join("join.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| super::IdentityError::io(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JoinError::Busy(dir.to_owned())),
        Err(TryLockError::Error(e)) => Err(super::IdentityError::io(&path, e).into()),
    }
}

/// The key of an attempt that did not come to its end, or else a new one; on disk in either case, since the control plane
/// is about to certify it. The key in force is never taken: joining anew makes another device.
fn pending_key(dir: &Path) -> Result<String, JoinError> {
    let in_force = Record::read(dir).ok().flatten().map(|record| record.key_file);
    for name in DeviceKey::list(dir)? {
        if Some(&name) != in_force.as_ref() && DeviceKey::read(&dir.join(&name)).is_ok() {
            return Ok(name);
        }
    }
    Ok(DeviceKey::generate()?.write(dir)?)
}

/// Best effort: a key that stays behind is only reused by a later `--force`.
fn remove_other_keys(dir: &Path, keep: &str) {
    for name in DeviceKey::list(dir).unwrap_or_default() {
        if name != keep
            && let Err(error) = std::fs::remove_file(dir.join(&name))
        {
            tracing::warn!(%error, file = %name, "a key that is no longer used could not be removed");
        }
    }
}

fn unreachable(url: &Url, detail: String) -> JoinError {
    JoinError::Unreachable { url: url.to_string(), detail }
}

async fn fetch_ca(url: &Url, token: &JoinToken) -> Result<CertificateDer<'static>, JoinError> {
    let client = http::unverified_client(url.as_str())?;
    let at = url.join("api/v1/ca.pem").map_err(|e| unreachable(url, e.to_string()))?;
    let response = client.get(at).send().await.map_err(|e| unreachable(url, http::detail(&e)))?;
    let status = response.status();
    let body = http::body(response).await.map_err(|e| unreachable(url, e))?;
    if !status.is_success() {
        return Err(unreachable(url, format!("it answered HTTP {status} when asked for its CA; is it a control plane?")));
    }
    let ca = std::str::from_utf8(&body).ok().and_then(|pem| certificate::single(pem).ok());
    let ca = ca.ok_or_else(|| unreachable(url, "what it sent as its CA is not a certificate; is it a control plane?".into()))?;
    let found = certificate::pin(&ca);
    if !found.eq_ignore_ascii_case(&token.ca_pin) {
        return Err(JoinError::WrongPin { url: url.to_string(), found, expected: token.ca_pin.clone() });
    }
    Ok(ca)
}

async fn enrol(
    url: &Url,
    ca: &CertificateDer<'static>,
    key: &DeviceKey,
    options: &JoinOptions,
) -> Result<EnrolResponse, JoinError> {
    // The CA's beginning is signed time as well: a device without a clock can check the server with it.
    let client: Client = http::api_client(ca, Time::new(certificate::not_before(ca).unwrap_or(Micros(0))), url.as_str())?;
    let at = url.join("api/v1/enrol").map_err(|e| unreachable(url, e.to_string()))?;
    let request = EnrolRequest {
        token: options.token.trim().to_owned(),
        csr_pem: key.csr()?.pem().map_err(super::key::crypto)?,
        name: options.name.clone(),
        labels: options.labels.clone(),
    };
    let mut attempts = 0;
    loop {
        let response = client.post(at.clone()).json(&request).send().await.map_err(|e| unreachable(url, http::detail(&e)))?;
        let (status, pause) = (response.status(), http::retry_after(&response));
        let body = http::body(response).await.map_err(|e| unreachable(url, e))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| JoinError::BadAnswer(e.to_string()));
        }
        attempts += 1;
        match pause.filter(|_| attempts < ATTEMPTS) {
            // A whole fleet may join at once; whoever is asked to wait spreads out.
            Some(pause) => tokio::time::sleep(pause.min(LONGEST_PAUSE).mul_f64(1.0 + rand::random::<f64>())).await,
            None => return Err(refusal(status.as_u16(), &http::Problem::read(&body))),
        }
    }
}

fn refusal(status: u16, problem: &http::Problem) -> JoinError {
    let detail = problem.text();
    match problem.code.as_str() {
        "token_used_up" => JoinError::UsedUp,
        "token_expired" => JoinError::Expired,
        "token_unknown" | "token_foreign" => JoinError::Foreign,
        "token_malformed" => JoinError::Malformed(aidos_protocol::enrol::TokenFormatError),
        _ => JoinError::Refused { status, detail },
    }
}

fn accept(
    url: &Url,
    answer: EnrolResponse,
    ca: &CertificateDer<'static>,
    key: &DeviceKey,
    key_file: String,
) -> Result<Record, JoinError> {
    let bad = |e: super::IdentityError| JoinError::BadAnswer(e.to_string());
    if &certificate::single(&answer.ca_pem).map_err(bad)? != ca {
        return Err(JoinError::BadAnswer("its CA is another one than the token's".into()));
    }
    let chain = certificate::chain(&answer.chain_pem).map_err(bad)?;
    Leaf::check(&chain, ca, key, answer.tenant_id, answer.device_id).map_err(bad)?;
    let mut endpoints = EndpointsView { api_url: url.as_str().trim_end_matches('/').to_owned(), ..EndpointsView::default() };
    endpoints.update(answer.endpoints);
    if let Some(anchor) = &answer.trust {
        trust::check(anchor, answer.tenant_id, ca).map_err(bad)?;
        Trusted::begin(anchor.root.as_bytes()).map_err(|e| JoinError::BadAnswer(format!("its root of trust: {e}")))?;
    }
    Ok(Record {
        device_id: answer.device_id,
        tenant_id: answer.tenant_id,
        key_file,
        chain_pem: answer.chain_pem,
        ca_pem: answer.ca_pem,
        endpoints,
        trust: answer.trust,
    })
}
