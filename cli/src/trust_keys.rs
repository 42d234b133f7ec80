//! The folder of the people's trust keys: private keys encrypted with a passphrase (PKCS#8 with scrypt and AES-256), and the
//! newest root that this machine has verified.
//!
//! No private key is written unencrypted, and no file is removed: an old key may be needed to prove a later root.

use crate::error::CliError;
use aidos_protocol::trust::{Role, Root, SigningKey, Trusted};
use pkcs8::der::pem::LineEnding;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The PEM label of an encrypted private key.
const LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// The newest root that this machine has verified.
const ROOT: &str = "root.json";
/// A first root that this machine made and has not yet heard to be the repository's.
const PENDING_ROOT: &str = "root.pending.json";
/// Holds the passphrase of keys that are for development only.
const PASSPHRASE: &str = "passphrase";
/// Hexadecimal digits of a key's id in its file's name: enough that two keys do not meet.
const NAME_DIGITS: usize = 16;
/// scrypt's cost, as a power of two, and its block size: 128 MiB and about half a second for each guess. The library's own
/// choice is an eighth of it.
const SCRYPT: (u8, u32) = (17, 8);
/// The shortest passphrase that is taken for a new key: below it scrypt only delays who has the file.
const MIN_PASSPHRASE: usize = 10;

/// The folder.
pub(crate) struct TrustKeys {
    folder: PathBuf,
    passphrase_file: Option<PathBuf>,
}

fn unusable(path: &Path, what: impl std::fmt::Display) -> CliError {
    CliError::failed(format!("{}: {what}", path.display()), "restore it from a backup, or name another folder with --keys")
}

impl TrustKeys {
    /// The keys in `folder`; the passphrase is in `passphrase_file`, the environment, the folder, or a person's head.
    pub(crate) fn new(folder: PathBuf, passphrase_file: Option<PathBuf>) -> Self {
        Self { folder, passphrase_file }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The passphrase; asked twice for a `new` key.
    pub(crate) fn passphrase(&self, new: bool) -> Result<String, CliError> {
        let beside = self.folder.join(PASSPHRASE);
        let file = self.passphrase_file.clone().or_else(|| beside.exists().then_some(beside));
        let given = match (file, std::env::var("AIDOS_TRUST_PASSPHRASE")) {
            (Some(path), _) => std::fs::read_to_string(&path).map_err(|e| unusable(&path, e))?.trim_end_matches('\n').to_owned(),
            (None, Ok(text)) => text,
            (None, Err(_)) if std::io::stdin().is_terminal() => {
                let ask = |what: &str| {
                    rpassword::prompt_password(what).map_err(|e| {
                        CliError::failed(
                            format!("the passphrase cannot be read: {e}"),
                            "give --passphrase-file or AIDOS_TRUST_PASSPHRASE",
                        )
                    })
                };
                let typed = ask("Passphrase of the trust keys: ")?;
                if new && ask("Once more: ")? != typed {
                    return Err(CliError::Usage("the two passphrases differ; type the same one twice".into()));
                }
                typed
            }
            (None, Err(_)) => {
                return Err(CliError::Usage(
                    "the trust keys need a passphrase: give --passphrase-file or AIDOS_TRUST_PASSPHRASE, or run it in a terminal"
                        .into(),
                ));
            }
        };
        if new && given.chars().count() < MIN_PASSPHRASE {
            return Err(CliError::Usage(format!(
                "the passphrase is too short: {MIN_PASSPHRASE} characters or more, best five words"
            )));
        }
        Ok(given)
    }

    /// Makes the folder one of development keys: its passphrase lies beside them.
    pub(crate) fn make_development(&self) -> Result<(), CliError> {
        self.create_folder()?;
        let path = self.folder.join(PASSPHRASE);
        // No key is ever encrypted with nothing: an empty file is what a write that was cut off has left.
        if std::fs::read_to_string(&path).is_ok_and(|text| !text.trim().is_empty()) {
            return Ok(());
        }
        let id = SigningKey::from_pkcs8(&SigningKey::generate().map_err(anyhow::Error::from)?).map_err(anyhow::Error::from)?.id();
        write(&path, id.0.as_bytes())
    }

    fn create_folder(&self) -> Result<(), CliError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(|e| unusable(&self.folder, e))
    }

    fn key_path(&self, role: &str, id: &str) -> PathBuf {
        self.folder.join(format!("{role}-{}.pem", id.get(..NAME_DIGITS).unwrap_or(id)))
    }

    /// Makes a key for `role` and writes it before anything is signed with it.
    pub(crate) fn generate(&self, role: &str, passphrase: &str) -> Result<SigningKey, CliError> {
        self.create_folder()?;
        let pkcs8 = SigningKey::generate().map_err(anyhow::Error::from)?;
        let key = SigningKey::from_pkcs8(&pkcs8).map_err(anyhow::Error::from)?;
        let path = self.key_path(role, &key.id().0);
        write(&path, encrypt(&pkcs8, passphrase)?.as_bytes())?;
        Ok(key)
    }

    /// The keys of `role` that are in this folder, decrypted.
    pub(crate) fn open(&self, name: &str, role: &Role, passphrase: &str) -> Result<Vec<SigningKey>, CliError> {
        let mut keys = Vec::new();
        for id in &role.keyids {
            let path = self.key_path(name, &id.0);
            match std::fs::read_to_string(&path) {
                Ok(pem) => keys.push(decrypt(&pem, passphrase).map_err(|what| unusable(&path, what))?),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(unusable(&path, e)),
            }
        }
        if keys.is_empty() {
            let wanted = role.keyids.iter().map(|id| self.key_path(name, &id.0).display().to_string()).collect::<Vec<_>>();
            return Err(CliError::failed(
                format!("there is no key for {name}: looked for {}", wanted.join(", ")),
                "bring the key's file here, or name its folder with --keys",
            ));
        }
        Ok(keys)
    }

    /// The newest root that this machine has verified.
    pub(crate) fn root(&self) -> Result<Trusted, CliError> {
        let path = self.folder.join(ROOT);
        let bytes = std::fs::read(&path).map_err(|e| {
            CliError::failed(
                format!("{}: {e}", path.display()),
                "name the folder of the trust keys with --keys, or `aidos trust init`",
            )
        })?;
        Trusted::begin(&bytes).map_err(|e| unusable(&path, e))
    }

    /// Whether there is one.
    pub(crate) fn has_root(&self) -> bool {
        self.folder.join(ROOT).exists()
    }

    /// Keeps a root that was verified; written whole or not at all.
    pub(crate) fn keep_root(&self, bytes: &[u8]) -> Result<(), CliError> {
        write(&self.folder.join(ROOT), bytes)
    }

    /// The first root that this machine has made and may not have brought to the repository.
    pub(crate) fn pending_root(&self) -> Result<Option<Vec<u8>>, CliError> {
        let path = self.folder.join(PENDING_ROOT);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(unusable(&path, e)),
        }
    }

    /// Keeps a first root before it is brought to the repository.
    pub(crate) fn keep_pending_root(&self, bytes: &[u8]) -> Result<(), CliError> {
        write(&self.folder.join(PENDING_ROOT), bytes)
    }

    /// The pending root is the repository's.
    pub(crate) fn settle_root(&self) -> Result<(), CliError> {
        let (pending, path) = (self.folder.join(PENDING_ROOT), self.folder.join(ROOT));
        std::fs::rename(&pending, &path).and_then(|()| sync(&self.folder)).map_err(|e| unusable(&path, e))
    }
}

/// Whether the root was made by `aidos up`.
pub(crate) fn is_development(root: &Root) -> bool {
    root.extra.contains_key(DEVELOPMENT)
}

/// The field of a root that is for development only.
pub(crate) const DEVELOPMENT: &str = "x-aidos-development";

/// Writes a file that only its owner reads, whole or not at all: temporary file, fsync, rename, fsync of the folder.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let temporary = path.with_extension("new");
    let written = (|| {
        // What a kill left behind may have other permissions.
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync(path.parent().unwrap_or(Path::new(".")))
    })();
    written.map_err(|e| unusable(path, e))
}

fn sync(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

fn encrypt(pkcs8: &[u8], passphrase: &str) -> Result<String, CliError> {
    let failed =
        |e: pkcs8::Error| CliError::failed(format!("the key cannot be encrypted: {e}"), "this is a defect: please report it");
    let key = PrivateKeyInfoRef::try_from(pkcs8).map_err(failed)?;
    let cost = scrypt::Params::new(SCRYPT.0, SCRYPT.1, 1).expect("the parameters are constants");
    let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &rand::random::<[u8; 16]>(), rand::random());
    let scheme = scheme.map_err(|e| failed(e.into()))?;
    let pem = key
        .encrypt_with_params(scheme, passphrase)
        .map_err(failed)?
        .to_pem(LABEL, LineEnding::LF)
        .map_err(|e| failed(e.into()))?;
    Ok(pem.to_string())
}

fn decrypt(pem: &str, passphrase: &str) -> Result<SigningKey, String> {
    let (label, document) = SecretDocument::from_pem(pem).map_err(|e| format!("not PEM ({e})"))?;
    if label != LABEL {
        return Err(format!("a PEM file of `{label}`, not of `{LABEL}`"));
    }
    let encrypted =
        EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|e| format!("not an encrypted key ({e})"))?;
    let key = encrypted.decrypt(passphrase).map_err(|_| "the passphrase does not open this key".to_owned())?;
    SigningKey::from_pkcs8(key.as_bytes()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: &CliError) -> String {
        error.to_string()
    }

    #[test]
    fn a_key_opens_with_its_passphrase_only_and_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let keys = TrustKeys::new(folder.path().join("keys"), None);
        let key = keys.generate("root", "five words make it long").unwrap();
        let role = Role::of(vec![key.id()], 1);
        assert_eq!(keys.open("root", &role, "five words make it long").unwrap()[0].id(), key.id());
        let wrong = keys.open("root", &role, "five words make it wrong").unwrap_err();
        assert!(text(&wrong).contains("the passphrase does not open"), "{wrong}");
        let missing = keys.open("targets", &role, "five words make it long").unwrap_err();
        assert!(text(&missing).contains("there is no key for targets"), "{missing}");
        let file = std::fs::read_dir(keys.folder()).unwrap().next().unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let pem = std::fs::read_to_string(file.path()).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{pem}");
    }

    #[test]
    fn a_passphrase_comes_from_a_file_and_a_short_one_is_refused_for_a_new_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p");
        std::fs::write(&file, "short\n").unwrap();
        let keys = TrustKeys::new(folder.path().to_owned(), Some(file.clone()));
        assert_eq!(keys.passphrase(false).unwrap(), "short");
        assert!(text(&keys.passphrase(true).unwrap_err()).contains("too short"));
    }

    #[test]
    fn development_keys_carry_their_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let keys = TrustKeys::new(folder.path().join("trust"), None);
        keys.make_development().unwrap();
        let first = keys.passphrase(true).unwrap();
        keys.make_development().unwrap();
        assert_eq!(keys.passphrase(true).unwrap(), first);
        // A power cut may leave an empty one.
        std::fs::write(keys.folder().join(PASSPHRASE), "").unwrap();
        keys.make_development().unwrap();
        assert_ne!(keys.passphrase(true).unwrap(), first);
    }

    #[test]
    fn a_first_root_is_kept_before_it_is_the_repositorys() {
        let folder = tempfile::tempdir().unwrap();
        let keys = TrustKeys::new(folder.path().to_owned(), None);
        assert_eq!(keys.pending_root().unwrap(), None);
        keys.keep_pending_root(b"root").unwrap();
        assert!(!keys.has_root());
        assert_eq!(keys.pending_root().unwrap().as_deref(), Some(&b"root"[..]));
        keys.settle_root().unwrap();
        assert!(keys.has_root() && keys.pending_root().unwrap().is_none());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
