//! Publishers: people of the tenant, or of another company, who may sign some of its targets and no others.
//!
//! A publisher makes a key pair and gives the public half away, with a first empty list signed by the private one; the tenant's
//! people sign what it may sign. Delegations end the search: nobody after a publisher speaks for its paths.

use super::all;
use super::repository::{failed, from_now, newest_root, put, verified};
use crate::client::Client;
use crate::error::CliError;
use crate::progress::say;
use crate::trust_keys::TrustKeys;
use aidos_protocol::ModelName;
use aidos_protocol::trust::{DelegatedRole, Delegations, Key, KeyId, ModelTarget, ReleaseTarget, Role, Targets, Trusted, sign};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Characters of a publisher's name: it stands in files' names and addresses.
const MAX_NAME: usize = 40;
/// The largest file of a public key that is read.
const MAX_PUBLIC_BYTES: u64 = 64 << 10;

/// What a publisher gives to the tenant's people.
#[derive(Debug, Serialize, Deserialize)]
struct PublicKey {
    /// The publisher's name.
    name: String,
    /// The public key.
    key: Key,
    /// An empty list that the key signed: it proves that somebody has the private half, and is the publisher's first.
    first: String,
}

fn check_name(name: &str) -> Result<(), CliError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let reserved = ["root", "snapshot", "targets", "timestamp"].contains(&name);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) || reserved {
        return Err(CliError::Usage(format!(
            "`{name}` cannot be a publisher's name: use 1 to {MAX_NAME} of a-z 0-9 -, and none of TUF's own roles"
        )));
    }
    Ok(())
}

/// Makes a publisher's key pair.
pub(super) async fn make_key(client: &Client, keys: &TrustKeys, name: &str, expires_s: u64) -> Result<(), CliError> {
    check_name(name)?;
    let key = keys.generate(name, &keys.passphrase(true)?)?;
    let first = sign(&Targets::new(1, from_now(expires_s)), &[&key]).map_err(failed)?;
    let first = String::from_utf8(first).map_err(failed)?;
    let public = PublicKey { name: name.to_owned(), key: key.public(), first };
    let path = keys.folder().join(format!("{name}.pub.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(&public).map_err(failed)?).map_err(|e| {
        CliError::failed(format!("{}: {e}", path.display()), "make the folder writable, or name another with --keys")
    })?;
    if !keys.has_root() {
        let root = newest_root(client).await?;
        let trusted = Trusted::begin(&root).map_err(failed)?;
        let ids: Vec<&str> = trusted.root().roles.root.keyids.iter().map(|id| id.0.as_str()).collect();
        keys.keep_root(&root)?;
        say(&format!(
            "this machine now trusts the root by key {}: compare it with what the tenant's people have",
            ids.join(", ")
        ));
    }
    say(&format!("give {} to the tenant's people; the rest of {} stays here", path.display(), keys.folder().display()));
    say(&format!("they run `aidos trust delegate {name} --key {name}.pub.json --models 'PATTERN'`"));
    Ok(())
}

fn read_public(path: &Path) -> Result<PublicKey, CliError> {
    let bad = |why: String| CliError::Usage(format!("{}: {why}; it is made by `aidos trust key NAME`", path.display()));
    let length = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if length > MAX_PUBLIC_BYTES {
        return Err(bad(format!("{length} bytes are no public key")));
    }
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}

/// What a publisher may sign, checked: a pattern that no target of ours can match would let nothing through, silently.
pub(super) fn patterns(models: &[String], paths: &[String]) -> Result<Vec<String>, CliError> {
    let all: Vec<String> = models.iter().map(|name| format!("models/{name}/*/*")).chain(paths.iter().cloned()).collect();
    if all.is_empty() {
        return Err(CliError::Usage("say what the publisher may sign: --models 'team-a-*', or --paths".into()));
    }
    let model: ModelName = "a".parse().map_err(failed)?;
    let release = ReleaseTarget { version: String::new(), arch: String::new(), counter: 0 };
    let shapes = [ModelTarget::original(model, 1).path(), release.path()];
    for pattern in &all {
        let shape = shapes.iter().find(|shape| shape.split('/').next() == pattern.split('/').next());
        let parts = pattern.split('/').count();
        if shape.is_none_or(|shape| shape.split('/').count() != parts) {
            return Err(CliError::Usage(format!(
                "`{pattern}` matches no target: models are at models/NAME/VERSION/FILE, releases at agent/VERSION/ARCH, and a * \
                 stays within its part"
            )));
        }
    }
    Ok(all)
}

/// Lets a publisher sign what `patterns` cover; one that is there already is changed.
pub(super) async fn delegate(
    client: &Client,
    keys: &TrustKeys,
    name: &str,
    key_files: &[PathBuf],
    patterns: Vec<String>,
    expires_s: u64,
) -> Result<(), CliError> {
    check_name(name)?;
    let public: Vec<PublicKey> = key_files.iter().map(|path| read_public(path)).collect::<Result<_, _>>()?;
    if let Some(other) = public.iter().find(|public| public.name != name) {
        return Err(CliError::Usage(format!("that is the key of `{}`, not of `{name}`", other.name)));
    }
    let trusted = verified(client, keys).await?;
    let mut targets = trusted.targets().cloned().unwrap_or_else(|| Targets::new(0, from_now(expires_s)));
    let delegations = targets.delegations.get_or_insert_with(none);
    let keyids: Vec<KeyId> = public.iter().map(|public| public.key.id()).collect();
    delegations.keys.extend(public.iter().map(|public| (public.key.id(), public.key.clone())));
    let role = DelegatedRole {
        name: name.to_owned(),
        keyids,
        threshold: 1,
        terminating: true,
        paths: Some(patterns),
        path_hash_prefixes: None,
        extra: BTreeMap::new(),
    };
    match delegations.roles.iter_mut().find(|role| role.name == name) {
        Some(known) => *known = role,
        None => delegations.roles.push(role),
    }
    forget_unused_keys(delegations);
    let mut files = vec![("targets".to_owned(), next(keys, &trusted, targets, expires_s)?)];
    let listed = trusted.snapshot().is_some_and(|snapshot| snapshot.meta.contains_key(&format!("{name}.json")));
    if !listed && let Some(first) = public.into_iter().next() {
        files.push((name.to_owned(), first.first.into_bytes()));
    }
    put(client, files).await.map(drop)
}

/// Takes a publisher's rights away: from the next refresh on no device takes anything that only it signed.
pub(super) async fn revoke(client: &Client, keys: &TrustKeys, name: &str, expires_s: u64) -> Result<(), CliError> {
    let trusted = verified(client, keys).await?;
    let unknown = || CliError::Usage(format!("nothing is delegated to `{name}`; see `aidos trust status`"));
    let mut targets = trusted.targets().cloned().ok_or_else(unknown)?;
    let delegations = targets.delegations.as_mut().ok_or_else(unknown)?;
    let before = delegations.roles.len();
    delegations.roles.retain(|role| role.name != name);
    if delegations.roles.len() == before {
        return Err(unknown());
    }
    forget_unused_keys(delegations);
    if delegations.roles.is_empty() {
        targets.delegations = None;
    }
    let file = next(keys, &trusted, targets, expires_s)?;
    put(client, vec![("targets".to_owned(), file)]).await.map(drop)
}

fn next(keys: &TrustKeys, trusted: &Trusted, mut targets: Targets, expires_s: u64) -> Result<Vec<u8>, CliError> {
    (targets.version, targets.expires) = (targets.version + 1, from_now(expires_s));
    let role: &Role = &trusted.root().roles.targets;
    let signers = keys.open("targets", role, &keys.passphrase(false)?)?;
    sign(&targets, &all(&signers)).map_err(failed)
}

fn none() -> Delegations {
    Delegations { keys: BTreeMap::new(), roles: Vec::new(), extra: BTreeMap::new() }
}

fn forget_unused_keys(delegations: &mut Delegations) {
    let used: Vec<KeyId> = delegations.roles.iter().flat_map(|role| role.keyids.clone()).collect();
    delegations.keys.retain(|id, _| used.contains(id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_covers_nothing_is_refused_and_models_are_named_shortly() {
        let text = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        assert_eq!(patterns(&text(&["team-a-*"]), &[]).unwrap(), ["models/team-a-*/*/*"]);
        assert!(patterns(&[], &text(&["models/digits/*/*", "agent/*/aarch64"])).is_ok());
        for bad in ["models/team-a/*", "agent/*", "other/*/*/*", "*", ""] {
            let error = patterns(&[], &text(&[bad])).unwrap_err().to_string();
            assert!(error.contains("matches no target"), "{error}");
        }
        assert!(patterns(&[], &[]).is_err());
    }

    #[test]
    fn a_publishers_name_is_a_plain_one() {
        assert!(check_name("team-a").is_ok());
        for bad in ["", "Team", "a/b", "targets", "root", &"a".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
