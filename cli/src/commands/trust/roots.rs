//! Roots: the first one, its successors, and the one that `aidos up` makes.

use super::repository::{failed, from_now, put, root, verified};
use super::{What, all};
use crate::client::Client;
use crate::error::CliError;
use crate::progress::say;
use crate::trust_keys::{DEVELOPMENT, TrustKeys, is_development};
use aidos_protocol::api::trust::TrustView;
use aidos_protocol::trust::{Key, Role, Root, RootRoles, SigningKey, Targets, Trusted, sign};

/// How long what `aidos up` signs is valid: longer than a trial, so that nobody has to renew it.
pub(super) const DEVELOPMENT_SECONDS: u64 = 365 * 86_400;

/// Makes keys that are for development only, and the repository, unless there is one.
pub(in super::super) async fn development(client: &Client, folder: &std::path::Path) -> Result<(), CliError> {
    let view: TrustView = client.get("trust").await?;
    let keys = TrustKeys::new(folder.to_owned(), None);
    if !view.roles.is_empty() {
        return settle(client, &keys, &view).await.map(drop);
    }
    keys.make_development()?;
    init(client, &keys, DEVELOPMENT_SECONDS, DEVELOPMENT_SECONDS, true).await?;
    say(&format!(
        "made a DEVELOPMENT root of trust in {}: its passphrase lies beside it, so anyone with this folder can sign. \
         For real devices see docs/guides/trust.md.",
        folder.display()
    ));
    Ok(())
}

/// Makes the first root. Killed at any point, the next run goes on: keys → root kept as a pending one → put → no longer pending.
pub(super) async fn init(
    client: &Client,
    keys: &TrustKeys,
    root_s: u64,
    targets_s: u64,
    development: bool,
) -> Result<(), CliError> {
    let view: TrustView = client.get("trust").await?;
    if let Some(root) = view.roles.iter().find(|role| role.role == "root") {
        if settle(client, keys, &view).await? {
            return Ok(());
        }
        return Err(CliError::failed(
            format!("this tenant has root version {} already", root.version),
            "replace its keys with `aidos trust rotate root` and `aidos trust rotate targets`",
        ));
    }
    if keys.has_root() {
        return Err(CliError::failed(
            format!("{} holds the keys of another repository", keys.folder().display()),
            "name another folder with --keys",
        ));
    }
    let passphrase = keys.passphrase(true)?;
    let (root, signers) = match pending(keys, &view.online_key, development)? {
        Some((root, targets)) => (root, keys.open("targets", &targets, &passphrase)?),
        None => {
            let (root_key, targets_key) = (keys.generate("root", &passphrase)?, keys.generate("targets", &passphrase)?);
            let root = first(&root_key, targets_key.public(), view.online_key, root_s, development)?;
            keys.keep_pending_root(&root)?;
            (root, vec![targets_key])
        }
    };
    let targets = sign(&Targets::new(1, from_now(targets_s)), &all(&signers)).map_err(failed)?;
    put(client, vec![("root".to_owned(), root), ("targets".to_owned(), targets)]).await?;
    keys.settle_root()
}

fn first(root_key: &SigningKey, targets: Key, online: Key, root_s: u64, development: bool) -> Result<Vec<u8>, CliError> {
    let one = |key: &Key| Role::of(vec![key.id()], 1);
    let root_public = root_key.public();
    let roles = RootRoles::new(one(&root_public), one(&targets), one(&online));
    let mut root = Root::new(1, from_now(root_s), roles, [root_public, targets, online]);
    if development {
        root.extra.insert(DEVELOPMENT.into(), true.into());
    }
    sign(&root, &[root_key]).map_err(failed)
}

/// A root that an earlier run made for this control plane and did not bring there, and its targets role.
fn pending(keys: &TrustKeys, online: &Key, development: bool) -> Result<Option<(Vec<u8>, Role)>, CliError> {
    let Some(bytes) = keys.pending_root()? else { return Ok(None) };
    let Ok(trusted) = Trusted::begin(&bytes) else { return Ok(None) };
    let root = trusted.root();
    let ours = root.roles.timestamp.keyids == [online.id()] && is_development(root) == development;
    let targets = root.roles.targets.clone();
    Ok(ours.then_some((bytes, targets)))
}

/// Where the control plane has the root that is pending here: an earlier run ended before it knew. Whether it was so.
async fn settle(client: &Client, keys: &TrustKeys, view: &TrustView) -> Result<bool, CliError> {
    let Some(pending) = keys.pending_root()? else { return Ok(false) };
    if keys.has_root() || root(client, view, 1).await?.as_deref() != Some(&pending) {
        return Ok(false);
    }
    keys.settle_root()?;
    Ok(true)
}

pub(super) async fn rotate(
    client: &Client,
    keys: &TrustKeys,
    into: Option<&TrustKeys>,
    what: What,
    root_s: u64,
    targets_s: u64,
) -> Result<(), CliError> {
    let trusted = verified(client, keys).await?;
    let mut root = trusted.root().clone();
    let passphrase = keys.passphrase(false)?;
    let mut signers = keys.open("root", &root.roles.root, &passphrase)?;
    let mut targets_file = None;
    match what {
        What::Root => {
            let key = match into {
                Some(into) => into.generate("root", &into.passphrase(true)?)?,
                None => keys.generate("root", &passphrase)?,
            };
            root.keys.insert(key.id(), key.public());
            root.roles.root = Role::of(vec![key.id()], 1);
            // The old keys prove the new one to devices.
            signers.push(key);
            if into.is_some() {
                root.extra.remove(DEVELOPMENT);
            }
        }
        What::Targets => {
            let key = keys.generate("targets", &passphrase)?;
            root.keys.insert(key.id(), key.public());
            root.roles.targets = Role::of(vec![key.id()], 1);
            let mut targets = trusted.targets().cloned().unwrap_or_else(|| Targets::new(0, from_now(targets_s)));
            (targets.version, targets.expires) = (targets.version + 1, from_now(targets_s));
            targets_file = Some(sign(&targets, &[&key]).map_err(failed)?);
        }
        What::Online => {
            let view: TrustView = client.get("trust").await?;
            let online = Role::of(vec![view.online_key.id()], 1);
            root.keys.insert(view.online_key.id(), view.online_key);
            (root.roles.snapshot, root.roles.timestamp) = (online.clone(), online);
        }
        What::Date => {}
    }
    let roles = &root.roles;
    let used = [&roles.root, &roles.targets, &roles.snapshot, &roles.timestamp].map(|role| role.keyids.clone()).concat();
    root.keys.retain(|id, _| used.contains(id));
    (root.version, root.expires) = (root.version + 1, from_now(root_s));
    let root = sign(&root, &all(&signers)).map_err(failed)?;
    let files = [Some(("root".to_owned(), root.clone())), targets_file.map(|file| ("targets".to_owned(), file))]
        .into_iter()
        .flatten()
        .collect();
    put(client, files).await?;
    into.map_or(Ok(()), |into| into.keep_root(&root))?;
    keys.keep_root(&root)
}
