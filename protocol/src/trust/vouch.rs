//! Whether signed metadata vouch for what a device is about to install. Pure.

use super::{Found, ModelTarget, ReleaseTarget, Target};
use crate::ModelName;
use crate::artifact::Digest;
use crate::bundle::{BundledModel, manifest_file};
use crate::manifest::Manifest;
use crate::twin::{DesiredModel, DesiredRelease, ReleaseBinary};

/// What is to be installed, as the control plane asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    kind: Kind,
    digest: Digest,
    size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `manifest` is the digest of the file that holds it.
    Model {
        target: ModelTarget,
        manifest: Digest,
        golden: Option<Digest>,
    },
    Release(ReleaseTarget),
}

/// Why it may not be installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody who may has signed it yet. It can be signed at any time.
    #[error("{what} is not signed by this tenant's people; run `aidos trust sign {command}`")]
    Unsigned {
        /// What.
        what: String,
        /// How it is signed.
        command: String,
    },
    /// Something else was signed under its name. No signature to come changes that.
    #[error(
        "{what} is not what {role} signed: its {field} is {is}, signed is {signed}; \
         look for who changed it at the control plane, and push it as a new version"
    )]
    Differs {
        /// What.
        what: String,
        /// Who vouches for the other.
        role: String,
        /// In what they differ.
        field: &'static str,
        /// As it is asked for.
        is: String,
        /// As it was signed.
        signed: String,
    },
}

impl Wanted {
    /// A model version that intent asks for, with its manifest and golden cases.
    pub fn model(name: &ModelName, desired: &DesiredModel) -> Self {
        let inline = || Digest::of(&manifest_file(&desired.manifest.clone().unwrap_or_default()));
        let manifest = desired.manifest_digest.filter(|_| desired.manifest.is_none()).unwrap_or_else(inline);
        let target = ModelTarget::original(name.clone(), desired.version);
        let kind = Kind::Model { target, manifest, golden: desired.golden_digest };
        Self { kind, digest: desired.digest, size: desired.size }
    }

    /// A model version that came in a bundle, with a file of that size.
    pub fn bundled(model: &BundledModel, size: u64) -> Self {
        let manifest = model.manifest.unwrap_or_else(|| Digest::of(&manifest_file(&Manifest::default())));
        let target = ModelTarget::original(model.name.clone(), model.version);
        Self { kind: Kind::Model { target, manifest, golden: model.golden }, digest: model.digest, size }
    }

    /// A binary of the release that intent asks for.
    pub fn release(desired: &DesiredRelease, binary: &ReleaseBinary) -> Self {
        let target = ReleaseTarget { version: desired.version.clone(), arch: binary.arch.clone(), counter: desired.counter };
        Self { kind: Kind::Release(target), digest: binary.digest, size: binary.size }
    }

    /// The target path that must describe it.
    pub fn path(&self) -> String {
        match &self.kind {
            Kind::Model { target, .. } => target.path(),
            Kind::Release(target) => target.path(),
        }
    }

    /// Judges it by what a search for [`Wanted::path`] came to.
    pub fn judge(&self, found: Option<&Found>) -> Result<(), Refusal> {
        let Some(found) = found else { return Err(self.unsigned()) };
        self.compare(&found.target).map_err(|(field, is, signed)| Refusal::Differs {
            what: self.what(),
            role: found.role.clone(),
            field,
            is,
            signed,
        })
    }

    /// Nobody has signed it.
    pub fn unsigned(&self) -> Refusal {
        let command = match &self.kind {
            Kind::Model { target, .. } => format!("{}@{}", target.model, target.version),
            Kind::Release(target) => format!("--release {}", target.version),
        };
        Refusal::Unsigned { what: self.what(), command }
    }

    fn what(&self) -> String {
        match &self.kind {
            Kind::Model { target, .. } => format!("{}@{}", target.model, target.version),
            Kind::Release(target) => format!("release {} of the agent for {}", target.version, target.arch),
        }
    }

    fn compare(&self, target: &Target) -> Result<(), (&'static str, String, String)> {
        let text = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        let same = |field, is: String, signed: String| if is == signed { Ok(()) } else { Err((field, is, signed)) };
        same("digest", self.digest.to_string(), text(target.digest()))?;
        same("length", self.size.to_string(), target.length.to_string())?;
        match &self.kind {
            Kind::Model { target: wanted, manifest, golden } => {
                let Some(signed) = ModelTarget::of(target) else {
                    // Signed by another tool, which says nothing more about the file than the path does.
                    return same("golden cases", text(*golden), text(None));
                };
                let named = |target: &ModelTarget| format!("{}@{}", target.model, target.version);
                same("name", named(wanted), named(&signed))?;
                if let Some(signed) = signed.manifest {
                    same("manifest", manifest.to_string(), signed.to_string())?;
                }
                // Fewer checks than signed are a plane's to choose; other ones are not.
                golden.map_or(Ok(()), |golden| same("golden cases", golden.to_string(), text(signed.golden)))
            }
            Kind::Release(wanted) => {
                let named =
                    |target: &ReleaseTarget| format!("{} for {} with counter {}", target.version, target.arch, target.counter);
                let signed = ReleaseTarget::of(target).as_ref().map_or_else(|| "nothing".to_owned(), named);
                same("name", named(wanted), signed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::UpdatePolicy;
    use proptest::prelude::*;

    fn name() -> ModelName {
        "digits".parse().unwrap()
    }

    fn desired() -> DesiredModel {
        let manifest = Manifest { labels: vec!["zero".into()], ..Manifest::default() };
        let golden_digest = Some(Digest::of(b"golden"));
        DesiredModel { manifest: Some(manifest), golden_digest, ..DesiredModel::new(2, Digest::of(b"model"), 5) }
    }

    fn signed(desired: &DesiredModel) -> Found {
        let manifest = Digest::of(&manifest_file(&desired.manifest.clone().unwrap_or_default()));
        let target = ModelTarget {
            manifest: Some(manifest),
            golden: desired.golden_digest,
            ..ModelTarget::original(name(), desired.version)
        };
        Found { role: "targets".into(), target: target.target(desired.digest, desired.size) }
    }

    fn release() -> DesiredRelease {
        DesiredRelease {
            version: "1.4.0".into(),
            binaries: vec![ReleaseBinary { arch: "x86_64".into(), digest: Digest::of(b"binary"), size: 6 }],
            counter: 3,
            floor: 0,
            deployment: None,
            update: UpdatePolicy::default(),
        }
    }

    fn wanted(release: &DesiredRelease) -> Wanted {
        Wanted::release(release, &release.binaries[0])
    }

    fn signed_release(release: &DesiredRelease) -> Found {
        let DesiredRelease { version, counter, .. } = release.clone();
        let ReleaseBinary { arch, digest, size } = release.binaries[0].clone();
        Found { role: "targets".into(), target: ReleaseTarget { version, arch, counter }.target(digest, size) }
    }

    #[test]
    fn what_was_signed_is_taken_and_what_was_not_names_the_command() {
        assert_eq!(Wanted::model(&name(), &desired()).judge(Some(&signed(&desired()))), Ok(()));
        assert_eq!(wanted(&release()).judge(Some(&signed_release(&release()))), Ok(()));
        let unsigned = Wanted::model(&name(), &desired()).judge(None).unwrap_err().to_string();
        assert!(unsigned.contains("run `aidos trust sign digits@2`"), "{unsigned}");
        let unsigned = wanted(&release()).judge(None).unwrap_err().to_string();
        assert!(unsigned.contains("run `aidos trust sign --release 1.4.0`"), "{unsigned}");
    }

    #[test]
    fn a_target_that_says_nothing_vouches_for_the_file_alone() {
        let bare = Found { role: "team".into(), target: Target::of(desired().digest, desired().size) };
        let plain = DesiredModel { golden_digest: None, ..desired() };
        assert_eq!(Wanted::model(&name(), &plain).judge(Some(&bare)), Ok(()));
        let refused = Wanted::model(&name(), &desired()).judge(Some(&bare)).unwrap_err().to_string();
        assert!(refused.contains("golden cases"), "{refused}");
        // Without its counter a binary could be as old as it likes.
        let bare = Found { role: "team".into(), target: Target::of(release().binaries[0].digest, 6) };
        assert!(wanted(&release()).judge(Some(&bare)).is_err());
    }

    #[test]
    fn a_manifest_as_an_artifact_is_held_against_the_same_signature() {
        let inline = desired();
        let digest = Digest::of(&manifest_file(inline.manifest.as_ref().unwrap()));
        let stored = DesiredModel { manifest: None, manifest_digest: Some(digest), ..inline.clone() };
        assert_eq!(Wanted::model(&name(), &stored).judge(Some(&signed(&inline))), Ok(()));
        let (name, golden) = (name(), inline.golden_digest);
        let bundled = BundledModel { name, version: 2, digest: inline.digest, manifest: Some(digest), golden };
        assert_eq!(Wanted::bundled(&bundled, inline.size).judge(Some(&signed(&inline))), Ok(()));
        let without = BundledModel { manifest: None, ..bundled };
        assert!(Wanted::bundled(&without, inline.size).judge(Some(&signed(&inline))).is_err());
    }

    proptest! {
        /// Whatever a control plane changes of what was signed, the device refuses it.
        #[test]
        fn nothing_of_a_signed_model_can_be_changed(field in 0usize..6, by in 1u64..1_000) {
            let other = Digest::of(&by.to_be_bytes());
            let mut changed = desired();
            match field {
                0 => changed.digest = other,
                1 => changed.size += by,
                2 => changed.version += by,
                3 => changed.golden_digest = Some(other),
                4 => changed.manifest = Some(Manifest { labels: vec![by.to_string()], ..Manifest::default() }),
                _ => (changed.manifest, changed.manifest_digest) = (None, Some(other)),
            }
            let wanted = Wanted::model(&name(), &changed);
            let is_differs = matches!(wanted.judge(Some(&signed(&desired()))), Err(Refusal::Differs { .. }));
            prop_assert!(is_differs);
            // Another version is looked for under another path, where nothing was signed.
            prop_assert_eq!(field == 2, wanted.path() != Wanted::model(&name(), &desired()).path());
        }

        #[test]
        fn nothing_of_a_signed_release_can_be_changed(field in 0usize..5, by in 1u64..1_000) {
            let mut changed = release();
            match field {
                0 => changed.binaries[0].digest = Digest::of(&by.to_be_bytes()),
                1 => changed.binaries[0].size += by,
                2 => changed.counter += by,
                3 => changed.version = format!("1.4.{by}"),
                _ => changed.binaries[0].arch = format!("arch{by}"),
            }
            prop_assert!(wanted(&changed).judge(Some(&signed_release(&release()))).is_err());
        }
    }
}
