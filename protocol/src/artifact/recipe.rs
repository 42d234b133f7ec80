//! The list of an artifact's chunks, in order, with their places in the packed object.
//!
//! Invariant: a [`Recipe`] that exists is consistent – its lengths add up to an artifact that may exist, and every chunk has a
//! legal length. Whether the chunks make up the artifact is known only when its digest was computed from them.

use super::{Digest, MAX_ARTIFACT_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
use std::ops::Range;

/// Chunks of the largest artifact, were all of them of the least length.
pub const MAX_CHUNKS: usize = (MAX_ARTIFACT_BYTES / MIN_CHUNK_BYTES as u64) as usize + 1;
/// Bytes of the longest recipe; more is refused before it is read.
pub const MAX_RECIPE_BYTES: usize = HEADER + MAX_CHUNKS * ENTRY;

const MAGIC: &[u8; 4] = b"ADRC";
const VERSION: u16 = 1;
/// Magic, version, two bytes that are 0, the artifact's digest, the packed object's digest, the number of chunks.
const HEADER: usize = 4 + 2 + 2 + 32 + 32 + 4;
/// Digest, length, packed length.
const ENTRY: usize = 32 + 4 + 4;

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Of its bytes.
    pub digest: Digest,
    /// Of its bytes.
    pub length: u32,
    /// Bytes in the packed object; as many as `length`: not compressed.
    pub packed: u32,
}

/// The chunks of one artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    artifact: Digest,
    object: Digest,
    size: u64,
    chunks: Vec<Chunk>,
}

/// Why a recipe is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// Not a recipe, cut short or too long.
    #[error("not a list of chunks: {0}")]
    Malformed(&'static str),
    /// Made by a newer control plane.
    #[error("a list of chunks of version {0}; this agent reads version {VERSION}: update the agent")]
    Version(u16),
    /// A chunk that no artifact has.
    #[error("chunk {index} has {length} bytes, packed {packed}: not a legal length")]
    Chunk {
        /// Which one.
        index: usize,
        /// Its length.
        length: u32,
        /// Its packed length.
        packed: u32,
    },
    /// The lengths do not add up.
    #[error("a list of chunks for {size} bytes; an artifact has 1 to {MAX_ARTIFACT_BYTES}")]
    Size {
        /// Their sum.
        size: u64,
    },
    /// Of another artifact.
    #[error("the list of chunks is of {is} with {size} bytes, not of the artifact that was asked for")]
    Other {
        /// Whose it is.
        is: Digest,
        /// Its size.
        size: u64,
    },
}

impl Recipe {
    /// The list of `artifact`'s chunks, packed in `object`. Refuses what no artifact can be.
    pub fn new(artifact: Digest, object: Digest, chunks: Vec<Chunk>) -> Result<Self, RecipeError> {
        if chunks.len() > MAX_CHUNKS {
            return Err(RecipeError::Malformed("more chunks than an artifact has"));
        }
        let mut size = 0;
        for (index, chunk) in chunks.iter().enumerate() {
            let least = if index + 1 == chunks.len() { 1 } else { MIN_CHUNK_BYTES };
            let legal = (least..=MAX_CHUNK_BYTES).contains(&chunk.length) && (1..=chunk.length).contains(&chunk.packed);
            if !legal {
                return Err(RecipeError::Chunk { index, length: chunk.length, packed: chunk.packed });
            }
            size += u64::from(chunk.length);
        }
        if size == 0 || size > MAX_ARTIFACT_BYTES {
            return Err(RecipeError::Size { size });
        }
        Ok(Self { artifact, object, size, chunks })
    }

    /// As it is stored and sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.chunks.len() * ENTRY);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(self.artifact.as_bytes());
        bytes.extend_from_slice(self.object.as_bytes());
        bytes.extend_from_slice(&u32::try_from(self.chunks.len()).expect("at most MAX_CHUNKS").to_le_bytes());
        for chunk in &self.chunks {
            bytes.extend_from_slice(chunk.digest.as_bytes());
            bytes.extend_from_slice(&chunk.length.to_le_bytes());
            bytes.extend_from_slice(&chunk.packed.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote. Nothing is allocated for chunks whose bytes are not there.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecipeError> {
        let (header, entries) = bytes.split_at_checked(HEADER).ok_or(RecipeError::Malformed("it is cut short"))?;
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        if &header[..4] != MAGIC {
            return Err(RecipeError::Malformed("it begins otherwise"));
        }
        let version = u16::from_le_bytes([header[4], header[5]]);
        if version != VERSION {
            return Err(RecipeError::Version(version));
        }
        if header[6..8] != [0; 2] {
            return Err(RecipeError::Malformed("unknown flags"));
        }
        let count = word(&header[72..76]) as usize;
        if count > MAX_CHUNKS || entries.len() != count * ENTRY {
            return Err(RecipeError::Malformed("its length does not fit its number of chunks"));
        }
        let digest = |bytes: &[u8]| Digest::from_bytes(bytes).expect("32 bytes");
        let chunk =
            |entry: &[u8]| Chunk { digest: digest(&entry[..32]), length: word(&entry[32..36]), packed: word(&entry[36..40]) };
        let chunks = entries.chunks_exact(ENTRY).map(chunk).collect();
        Self::new(digest(&header[8..40]), digest(&header[40..72]), chunks)
    }

    /// Refuses the recipe of another artifact than the one wanted.
    pub fn expect(self, artifact: &Digest, size: u64) -> Result<Self, RecipeError> {
        if self.artifact == *artifact && self.size == size {
            Ok(self)
        } else {
            Err(RecipeError::Other { is: self.artifact, size: self.size })
        }
    }

    /// What the chunks make up.
    pub fn artifact(&self) -> &Digest {
        &self.artifact
    }
    /// The object that holds the packed chunks one after another.
    pub fn object(&self) -> &Digest {
        &self.object
    }
    /// Bytes of the artifact.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// Bytes of the packed object.
    pub fn packed_size(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.packed)).sum()
    }
    /// In the artifact's order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Each chunk with its place in the artifact and in the packed object.
    pub fn places(&self) -> impl Iterator<Item = (Chunk, Range<u64>, Range<u64>)> + '_ {
        let (mut at, mut packed_at) = (0, 0);
        self.chunks.iter().map(move |chunk| {
            let (from, packed_from) = (at, packed_at);
            at += u64::from(chunk.length);
            packed_at += u64::from(chunk.packed);
            (*chunk, from..at, packed_from..packed_at)
        })
    }
}
