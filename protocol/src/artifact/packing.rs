//! Chunks as they travel: each compressed on its own, so that a range request can ask for any of them.

use super::{Chunk, Chunker, Digest, Digester, MAX_ARTIFACT_BYTES, Recipe};
use std::io::{self, Read, Write};

/// Chunks are packed once and unpacked by a whole fleet, so the time goes where it is spent once.
const LEVEL: i32 = 19;

/// Why an artifact was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The artifact or the packed object could not be read or written.
    #[error("packing an artifact: {0}")]
    Io(#[from] io::Error),
    /// No bytes, or more than an artifact has.
    #[error("an artifact has 1 to {MAX_ARTIFACT_BYTES} bytes; this one has {0} or more")]
    Size(u64),
}

/// A packed chunk that is not what the recipe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes received are not chunk {expected}; they were thrown away")]
pub struct UnpackError {
    /// The chunk that was asked for.
    pub expected: Digest,
}

/// Cuts `artifact` into chunks, writes them packed one after another to `packed` and returns their list.
pub fn pack<R: Read, W: Write>(artifact: R, mut packed: W) -> Result<Recipe, PackError> {
    let (mut whole, mut packed_whole) = (Digester::default(), Digester::default());
    let (mut size, mut chunks) = (0_u64, Vec::new());
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    for bytes in Chunker::new(artifact) {
        let bytes = bytes?;
        size += bytes.len() as u64;
        if size > MAX_ARTIFACT_BYTES {
            return Err(PackError::Size(size));
        }
        whole.update(&bytes);
        let smaller = compressor.compress(&bytes)?;
        let stored = if smaller.len() < bytes.len() { &smaller } else { &bytes };
        packed.write_all(stored)?;
        packed_whole.update(stored);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a chunk is at most 64 KiB");
        chunks.push(Chunk { digest: Digest::of(&bytes), length: length(&bytes), packed: length(stored) });
    }
    let (artifact, object) = (whole.finish(), packed_whole.finish());
    Recipe::new(artifact, object, chunks).map_err(|_| PackError::Size(size))
}

/// The bytes of `chunk`, from what travelled for it. Never takes more memory than a chunk may have.
pub fn unpack(chunk: &Chunk, packed: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let refused = UnpackError { expected: chunk.digest };
    if packed.len() != chunk.packed as usize {
        return Err(refused);
    }
    let bytes = if chunk.packed == chunk.length {
        packed.to_vec()
    } else {
        zstd::bulk::decompress(packed, chunk.length as usize).map_err(|_| refused)?
    };
    if bytes.len() == chunk.length as usize && Digest::of(&bytes) == chunk.digest { Ok(bytes) } else { Err(refused) }
}
