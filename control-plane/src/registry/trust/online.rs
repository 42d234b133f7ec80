//! The control plane's own signing key, for snapshot and timestamp of all tenants' repositories.

use crate::platform::private_file;
use aidos_protocol::trust::SigningKey;
use std::io;
use std::path::Path;

/// The key's file within the folder of the deployment's keys.
const FILE: &str = "trust.key";

/// Opens the key in `folder`, or makes it on the first start (PKCS#8, mode 0600).
pub(super) fn open_or_create(folder: &Path) -> io::Result<SigningKey> {
    let path = folder.join(FILE);
    let unusable = |e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}; restore a backup", path.display()));
    let pkcs8 = match private_file::read(&path)? {
        Some(pkcs8) => pkcs8,
        None => {
            let pkcs8 = SigningKey::generate().map_err(io::Error::other)?;
            private_file::create_folder(folder)?;
            private_file::write(&path, &pkcs8)?;
            pkcs8
        }
    };
    SigningKey::from_pkcs8(&pkcs8).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_closed_to_others_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let first = open_or_create(folder.path()).unwrap().id();
        assert_eq!(open_or_create(folder.path()).unwrap().id(), first);
        let path = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, b"x").unwrap();
        assert!(open_or_create(folder.path()).unwrap_err().to_string().contains("trust.key"));
    }
}
