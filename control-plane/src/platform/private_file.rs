//! Files that only the control plane's user may read: keys and other secrets. A file is written whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes `folder` and what leads to it, open to its owner only.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| named(folder, e))
}

/// Writes `bytes` to `path` with mode 0600: temporary file, fsync, rename, fsync of the folder.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension(format!("{:08x}.tmp", rand::random::<u32>()));
    let outcome = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if outcome.is_err() {
        // The write failed already; what stays behind is an unreadable temporary file at worst.
        let _ = fs::remove_file(&temporary);
    }
    outcome.map_err(|e| named(path, e))
}

/// Reads `path`, or `None` where there is none. A file that others may read is closed to them first.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(path, error)),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            tracing::warn!(path = %path.display(), "others could read this secret; its mode is now 0600");
            fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|e| named(path, e))?;
        }
        Ok(_) => {}
    }
    fs::read(path).map(Some).map_err(|e| named(path, e))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.key");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(b"second".as_slice()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let refused = write(Path::new("/nonexistent/x.key"), b"x").unwrap_err();
        assert!(refused.to_string().contains("/nonexistent/x.key"));
    }
}
