//! The model's file, kept open: it stays readable when its name is gone, and is read again for each new plan.

use super::super::{LoadError, RunError};
use aidos_protocol::artifact::Digest;
use bytes::Bytes;
use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// An open file whose content must stay what was checked.
pub(super) struct Source {
    file: Mutex<File>,
    bytes: u64,
    digest: Digest,
}

impl Source {
    /// Opens and reads a file of at most `limit` bytes.
    pub(super) fn open(path: &Path, limit: u64) -> Result<(Self, Bytes), LoadError> {
        let mut file = File::open(path)?;
        let is = file.metadata()?.len();
        if is > limit {
            return Err(LoadError::TooLarge { is, limit });
        }
        let bytes = read(&mut file, is)?;
        let source = Self { file: Mutex::new(file), bytes: bytes.len() as u64, digest: Digest::of(&bytes) };
        Ok((source, bytes))
    }

    /// The size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the file again. Other bytes than those that were checked never leave here.
    pub(super) fn read(&self) -> Result<Bytes, RunError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes =
            read(&mut file, self.bytes).map_err(|error| RunError::Engine(format!("cannot read the model's file: {error}")))?;
        if Digest::of(&bytes) == self.digest { Ok(bytes) } else { Err(RunError::FileChanged) }
    }
}

/// At most `size` bytes from the start, whatever the file has grown to meanwhile.
fn read(file: &mut File, size: u64) -> std::io::Result<Bytes> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}
