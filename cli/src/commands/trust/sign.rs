//! Signing which files devices may take, as the tenant's people or as one of their publishers.

use super::repository::{failed, from_now, publisher, put, verified};
use super::roots::DEVELOPMENT_SECONDS;
use super::{Keys, all};
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::progress::say;
use crate::trust_keys::{TrustKeys, is_development};
use aidos_protocol::api::models::ModelVersionView;
use aidos_protocol::api::releases::ReleaseView;
use aidos_protocol::api::trust::TrustView;
use aidos_protocol::artifact::Digest;
use aidos_protocol::bundle::manifest_file;
use aidos_protocol::trust::{ModelTarget, ReleaseTarget, Target, Targets, sign};
use std::path::Path;

/// What goes into targets and what out of them.
#[derive(Debug, Default)]
pub(in super::super) struct Change {
    add: Vec<Named>,
    remove: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    /// For people.
    name: String,
    path: String,
    target: Target,
}

impl Change {
    /// Takes in a model version, and golden cases that may be run with it.
    pub(in super::super) fn model(mut self, version: &ModelVersionView, golden: Option<Digest>) -> Self {
        self.add.push(model(version, golden));
        self
    }

    /// Takes in a release's binary.
    pub(in super::super) fn release(mut self, release: &ReleaseView) -> Self {
        self.add.push(binary(release));
        self
    }

    /// Takes a model version out.
    pub(super) fn without_model(mut self, version: &ModelVersionView) -> Self {
        self.remove.push(model(version, None));
        self
    }

    /// Takes a release's binary out.
    pub(super) fn without_release(mut self, release: &ReleaseView) -> Self {
        self.remove.push(binary(release));
        self
    }

    /// What is signed by it, for people.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.add.iter().map(|named| named.name.as_str())
    }

    /// Whether all that goes in is in `targets` as it is.
    fn is_in(&self, targets: &Targets) -> bool {
        self.remove.is_empty() && self.add.iter().all(|named| targets.targets.get(&named.path) == Some(&named.target))
    }

    fn apply(&self, targets: &mut Targets, allowed: impl Fn(&str) -> bool) -> Result<(), CliError> {
        for Named { name, path, target } in &self.add {
            if !allowed(path) {
                return Err(CliError::Usage(format!("{name} ({path}) is not among what this publisher may sign")));
            }
            targets.targets.insert(path.clone(), target.clone());
        }
        for Named { name, path, .. } in &self.remove {
            if targets.targets.remove(path).is_none() {
                return Err(CliError::Usage(format!("{name} is not signed here")));
            }
        }
        Ok(())
    }
}

fn model(version: &ModelVersionView, golden: Option<Digest>) -> Named {
    let manifest = Digest::of(&manifest_file(&version.manifest.clone().unwrap_or_default()));
    let original = ModelTarget::original(version.model.clone(), version.version);
    let model = ModelTarget { manifest: Some(manifest), golden: golden.or(version.golden), ..original };
    let name = format!("{}@{}", version.model, version.version);
    Named { name, path: model.path(), target: model.target(version.digest, version.size) }
}

fn binary(release: &ReleaseView) -> Named {
    let (version, arch, counter) = (release.version.clone(), release.arch.clone(), release.counter);
    let target = ReleaseTarget { version, arch, counter };
    let name = format!("release {} for {}", release.version, release.arch);
    Named { name, path: target.path(), target: target.target(release.digest, release.size) }
}

/// The binaries of a release, one per architecture.
pub(super) async fn release(client: &Client, version: &str) -> Result<Vec<ReleaseView>, CliError> {
    let mut all: Vec<ReleaseView> = client.list("agent-releases", &[]).await?;
    all.retain(|release| release.version == version);
    if all.is_empty() {
        return Err(CliError::Usage(format!("there is no release {version}; see `aidos agent release list`")));
    }
    Ok(all)
}

/// Signs the next targets with `change` in them; as the publisher `publisher_name`, where given.
pub(super) async fn sign_change(
    client: &Client,
    keys: &TrustKeys,
    change: &Change,
    publisher_name: Option<&str>,
    expires_s: u64,
) -> Result<(), CliError> {
    let mut trusted = verified(client, keys).await?;
    let (role_name, role, mut targets) = match publisher_name {
        None => {
            let mut targets = trusted.targets().cloned().unwrap_or_else(|| Targets::new(0, from_now(expires_s)));
            change.apply(&mut targets, |_| true)?;
            ("targets", trusted.root().roles.targets.clone(), targets)
        }
        Some(name) => {
            let (role, mut targets) = publisher(client, &mut trusted, name).await?;
            change.apply(&mut targets, |path| role.covers(path))?;
            (name, role.role(), targets)
        }
    };
    (targets.version, targets.expires) = (targets.version + 1, from_now(expires_s));
    let signers = keys.open(role_name, &role, &keys.passphrase(false)?)?;
    let file = sign(&targets, &all(&signers)).map_err(failed)?;
    put(client, vec![(role_name.to_owned(), file)]).await.map(drop)
}

/// Signs with the development keys in `folder` what is not signed yet; where people have put their own in place, they sign it
/// themselves. Whether it is signed.
pub(in super::super) async fn sign_in_development(client: &Client, folder: &Path, change: &Change) -> Result<bool, CliError> {
    let keys = TrustKeys::new(folder.to_owned(), None);
    if !keys.has_root() || !is_development(keys.root()?.root()) {
        return Ok(false);
    }
    let trusted = verified(client, &keys).await?;
    if trusted.targets().is_some_and(|targets| change.is_in(targets)) {
        return Ok(true);
    }
    if !is_development(trusted.root()) {
        return Ok(false);
    }
    sign_change(client, &keys, change, None, DEVELOPMENT_SECONDS).await?;
    Ok(true)
}

/// After something was registered: signs it where there are development keys, else tells how people sign it. A tenant without
/// a root needs neither.
pub(in super::super) async fn after_push(
    client: &Client,
    global: &Global,
    change: &Change,
    command: &str,
) -> Result<(), CliError> {
    let view: TrustView = client.get("trust").await?;
    if view.roles.is_empty() {
        return Ok(());
    }
    let keys = Keys::default().open(global)?;
    match sign_in_development(client, keys.folder(), change).await {
        Ok(true) => say(&format!("signed with the development keys in {}", keys.folder().display())),
        // Keys of another control plane's are none of this one's business.
        Ok(false) | Err(_) => say(&format!("it is not signed yet: devices take it after `aidos trust sign {command}`")),
    }
    Ok(())
}
