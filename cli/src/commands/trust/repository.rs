//! The update repository as this machine reads and writes it.
//!
//! What is signed next is made from what was verified, never from what the control plane merely says: each command first walks
//! from the root that this machine knows to the newest files, as a device does.

use crate::client::Client;
use crate::error::CliError;
use crate::trust_keys::TrustKeys;
use aidos_protocol::api::trust::{PutTrust, SignedFile, TrustView};
use aidos_protocol::time::Micros;
use aidos_protocol::trust::{
    Answer, DelegatedRole, Envelope, Expires, MAX_NEW_ROOTS, MAX_ROOT_BYTES, MAX_TARGETS_BYTES, Refresh, Search, Snapshot, Step,
    Targets, Timestamp, TrustError, Trusted, Want, Wanted, quote,
};
use reqwest::Method;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// Files are read here to be renewed, so that one that has expired must not be refused: at the beginning of time nothing has.
const BEFORE_ANY_EXPIRY: Micros = Micros(0);

pub(super) fn from_now(seconds: u64) -> Expires {
    let now = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    Expires::at(Micros(now).plus_seconds(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

pub(super) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::from(anyhow::Error::from(error))
}

fn refused(error: &TrustError) -> CliError {
    CliError::failed(format!("the update repository is not believed: {error}"), "see docs/guides/trust.md")
}

pub(super) async fn put(client: &Client, files: Vec<(String, Vec<u8>)>) -> Result<TrustView, CliError> {
    let file = |(role, body): (String, Vec<u8>)| {
        let body = String::from_utf8(body).map_err(|e| CliError::failed(e.to_string(), "this is a defect: please report it"))?;
        Ok(SignedFile { role, body })
    };
    let files = files.into_iter().map(file).collect::<Result<Vec<_>, CliError>>()?;
    client.json(client.request(Method::PUT, "trust").json(&PutTrust { files })).await
}

/// Walks from the root that is known here to the newest files.
pub(super) async fn verified(client: &Client, keys: &TrustKeys) -> Result<Trusted, CliError> {
    let mut trusted = keys.root()?;
    let view: TrustView = client.get("trust").await?;
    let mut refresh = Refresh::default();
    while let Some(want) = refresh.want(&trusted, BEFORE_ANY_EXPIRY).map_err(|e| refused(&e))? {
        let bytes = fetch(client, &view, &want).await?;
        let answer = bytes.as_deref().map_or(Answer::Missing, Answer::Bytes);
        refresh.take(&mut trusted, answer, BEFORE_ANY_EXPIRY).map_err(|e| refused(&e))?;
    }
    if let Some((_, root)) = trusted.files().find(|(role, _)| *role == "root") {
        keys.keep_root(root)?;
    }
    Ok(trusted)
}

async fn fetch(client: &Client, view: &TrustView, want: &Want) -> Result<Option<Vec<u8>>, CliError> {
    // The control plane names the address by which devices reach it; this command has its own way there.
    let path = view.metadata_url.split_once("/api/v1/").map_or("", |(_, path)| path);
    let request = client.request(Method::GET, &format!("{path}{}", want.address));
    let mut response = request.send().await.map_err(failed)?;
    match response.status().as_u16() {
        404 => return Ok(None),
        200 => {}
        _ => return Err(crate::client::refusal(response).await),
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > want.max_bytes {
            break;
        }
    }
    Ok(Some(bytes))
}

/// The publisher `role` as it is known and verified, and how it is listed; one who has signed nothing yet has version 0.
pub(super) async fn publisher(client: &Client, trusted: &mut Trusted, name: &str) -> Result<(DelegatedRole, Targets), CliError> {
    let none = || {
        CliError::failed(
            format!("nothing is delegated to `{name}`"),
            "see `aidos trust status`; the tenant's people delegate with `aidos trust delegate`",
        )
    };
    let top = trusted.targets().cloned().ok_or_else(none)?;
    let roles = top.delegations.iter().flat_map(|delegations| &delegations.roles);
    let role = roles.clone().find(|role| role.name == name).cloned().ok_or_else(none)?;
    let mut targets = Targets::new(0, Expires::at(BEFORE_ANY_EXPIRY));
    let listed = trusted.snapshot().and_then(|snapshot| snapshot.meta.get(&format!("{name}.json"))).map(|meta| meta.version);
    let Some(version) = listed else { return Ok((role, targets)) };
    targets.version = version;
    let want = Want { address: format!("{version}.{}.json", quote(name)), max_bytes: MAX_TARGETS_BYTES };
    let view: TrustView = client.get("trust").await?;
    if let Some(bytes) = fetch(client, &view, &want).await?
        && let Ok(known) = trusted.update_delegated(name, &top, &bytes, BEFORE_ANY_EXPIRY)
    {
        targets = known;
    }
    // What somebody with another key signed under this name is not gone on from, but for its number.
    Ok((role, targets))
}

/// The newest root, unverified: where a machine begins to know a repository.
pub(super) async fn newest_root(client: &Client) -> Result<Vec<u8>, CliError> {
    let view: TrustView = client.get("trust").await?;
    let none = || CliError::failed("this tenant has no root yet", "its people make one with `aidos trust init`");
    let version = view.roles.iter().find(|role| role.role == "root").ok_or_else(none)?.version;
    root(client, &view, version).await?.ok_or_else(none)
}

/// A version of the root as the control plane has it, unverified.
pub(super) async fn root(client: &Client, view: &TrustView, version: u64) -> Result<Option<Vec<u8>>, CliError> {
    let want = Want { address: format!("{version}.root.json"), max_bytes: MAX_ROOT_BYTES };
    fetch(client, view, &want).await
}

/// All files that a device needs to believe `wanted`, by name in the order in which it asks for them; none where the tenant has
/// no root. They are verified from the oldest of these roots on; the device does so from the one that it knows.
pub(crate) async fn chain(client: &Client, wanted: &[Wanted]) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let view: TrustView = client.get("trust").await?;
    let Some(last) = view.roles.iter().find(|role| role.role == "root").map(|role| role.version) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    let first = last.saturating_sub(u64::from(MAX_NEW_ROOTS) - 1).max(1);
    for version in first..=last {
        files.push(file(client, &view, format!("{version}.root.json")).await?);
    }
    let bad = |error: TrustError| refused(&error);
    let (name, bytes) = file(client, &view, "timestamp.json".to_owned()).await?;
    let timestamp = Envelope::<Timestamp>::read(&name, &bytes, MAX_TARGETS_BYTES).map_err(bad)?.signed;
    files.push((name, bytes));
    let version = timestamp.snapshot().map_or(1, |meta| meta.version);
    let (name, bytes) = file(client, &view, format!("{version}.snapshot.json")).await?;
    let snapshot = Envelope::<Snapshot>::read(&name, &bytes, MAX_TARGETS_BYTES).map_err(bad)?.signed;
    files.push((name, bytes));
    for (listed, meta) in &snapshot.meta {
        let role = listed.strip_suffix(".json").unwrap_or(listed);
        files.push(file(client, &view, format!("{}.{}.json", meta.version, quote(role))).await?);
    }
    // Of the publishers only those that a device will ask.
    let asked = vouched(&files, wanted)?;
    files.retain(|(name, _)| name.ends_with(".root.json") || asked.contains(name));
    Ok(files)
}

async fn file(client: &Client, view: &TrustView, address: String) -> Result<(String, Vec<u8>), CliError> {
    let want = Want { address: address.clone(), max_bytes: MAX_TARGETS_BYTES };
    let bytes = fetch(client, view, &want).await?;
    let bytes = bytes.ok_or_else(|| {
        CliError::failed(format!("the update repository has no {address}"), "somebody may be signing right now; run it again")
    })?;
    Ok((address, bytes))
}

/// Whether these files vouch for all of `wanted`; the names of those that it took.
fn vouched(files: &[(String, Vec<u8>)], wanted: &[Wanted]) -> Result<BTreeSet<String>, CliError> {
    let by_name: BTreeMap<&str, &[u8]> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let answer = |want: &Want| by_name.get(want.address.as_str()).map_or(Answer::Missing, |bytes| Answer::Bytes(bytes));
    let bad = |error: TrustError| refused(&error);
    let mut trusted = Trusted::begin(files.first().map_or(&[], |(_, root)| root)).map_err(bad)?;
    let mut refresh = Refresh::default();
    let mut asked = BTreeSet::new();
    while let Some(want) = refresh.want(&trusted, BEFORE_ANY_EXPIRY).map_err(bad)? {
        asked.insert(want.address.clone());
        refresh.take(&mut trusted, answer(&want), BEFORE_ANY_EXPIRY).map_err(bad)?;
    }
    for wanted in wanted {
        let mut search = Search::new(&wanted.path());
        let found = loop {
            match search.step(&trusted, BEFORE_ANY_EXPIRY).map_err(bad)? {
                Step::Done(found) => break found,
                Step::Fetch(want) => {
                    asked.insert(want.address.clone());
                    search.take(&mut trusted, answer(&want), BEFORE_ANY_EXPIRY).map_err(bad)?;
                }
            }
        };
        wanted.judge(found.as_ref()).map_err(|refusal| {
            CliError::failed(refusal.to_string(), "a device that trusts this tenant's root would not take it")
        })?;
    }
    Ok(asked)
}
