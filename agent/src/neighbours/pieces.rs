//! What this agent can give: whole content that was verified when it was stored, by its digest.

use crate::state::Chunks;
use aidos_protocol::artifact::Digest;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;

/// A store of whole, verified content. Its methods block.
pub trait Pieces: Send + Sync + 'static {
    /// The length of `digest`'s content, when all of it is here.
    fn has(&self, digest: &Digest) -> Option<u64>;
    /// Some of its bytes. `range` lies within the length; content that has gone meanwhile is an error.
    fn read(&self, digest: &Digest, range: Range<u64>) -> io::Result<Bytes>;
}

impl Pieces for Chunks {
    fn has(&self, digest: &Digest) -> Option<u64> {
        self.path(digest)?.metadata().ok().map(|metadata| metadata.len())
    }

    fn read(&self, digest: &Digest, range: Range<u64>) -> io::Result<Bytes> {
        let path = self.path(digest).ok_or(io::ErrorKind::NotFound)?;
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}
