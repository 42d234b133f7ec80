//! Files that are there whole or not at all, and that nobody but the owner reads.

use super::IdentityError;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Makes `dir` (0700) if it is not there.
pub(super) fn private_dir(dir: &Path) -> Result<(), IdentityError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| IdentityError::io(dir, e))
}

/// Puts `bytes` into `dir/name` (0600): temp → fsync → rename → fsync of the folder. Killed anywhere, either the old
/// file is there or the new one.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
    let temp = dir.join(format!("{name}.tmp"));
    let path = dir.join(name);
    // What an earlier kill left; O_EXCL below then proves that nobody else holds the file or put a link there.
    match std::fs::remove_file(&temp) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(IdentityError::io(&temp, e)),
        _ => {}
    }
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| IdentityError::io(&path, e))
}

/// The text of `path`, at most `limit` bytes; `None` when there is no such file.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<String>, IdentityError> {
    let text = match std::fs::metadata(path) {
        Ok(meta) if meta.len() > limit => return Err(IdentityError::damaged(path, "it is far too long")),
        Ok(_) => std::fs::read_to_string(path),
        Err(e) => Err(e),
    };
    match text {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(IdentityError::io(path, e)),
    }
}
