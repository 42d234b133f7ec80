//! The first bytes of every patch, which say all that has to be known before memory is taken.

use super::DeltaError;
use crate::artifact::{Digest, MAX_ARTIFACT_BYTES};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 4 + 2 + 1 + 1 + 32 + 32 + 8 + 8;
/// The largest window: blocks of 8 MiB, so that one with all that it takes to make it stays below 64 MiB.
pub const MAX_WINDOW_LOG: u8 = 23;
/// The smallest window: below 64 KiB the blocks' own headers show.
pub const MIN_WINDOW_LOG: u8 = 16;

const MAGIC: &[u8; 4] = b"ADPT";
const VERSION: u16 = 1;

/// How a patch makes the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// The target as it is.
    Stored,
    /// The target, compressed.
    Full,
    /// Compressed with a part of the base as dictionary.
    PatchFrom,
    /// Differences of numbers at known places, in byte planes.
    Tensors,
    /// Differences of bytes at places that were found by their content.
    Bsdiff,
}

impl Algorithm {
    /// All of them, the simplest first.
    pub const ALL: [Self; 5] = [Self::Stored, Self::Full, Self::PatchFrom, Self::Tensors, Self::Bsdiff];

    /// Its name in figures, logs and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Full => "full",
            Self::PatchFrom => "patch-from",
            Self::Tensors => "tensors",
            Self::Bsdiff => "bsdiff",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Full => 1,
            Self::PatchFrom => 2,
            Self::Tensors => 3,
            Self::Bsdiff => 4,
        }
    }
}

/// What a patch is for and what applying it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How it makes the target.
    pub algorithm: Algorithm,
    /// No block makes more than two to this power of bytes.
    pub window_log: u8,
    /// The file that it begins from.
    pub base: Digest,
    /// The file that it makes.
    pub target: Digest,
    /// Bytes of the base.
    pub base_size: u64,
    /// Bytes of the target.
    pub target_size: u64,
}

impl Header {
    /// As it stands at the head of a patch.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = self.algorithm.number();
        bytes[7] = self.window_log;
        bytes[8..40].copy_from_slice(self.base.as_bytes());
        bytes[40..72].copy_from_slice(self.target.as_bytes());
        bytes[72..80].copy_from_slice(&self.base_size.to_le_bytes());
        bytes[80..].copy_from_slice(&self.target_size.to_le_bytes());
        bytes
    }

    /// Reads it and refuses what no patch may say.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, DeltaError> {
        if &bytes[..4] != MAGIC {
            return Err(DeltaError::Malformed("it begins otherwise"));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(DeltaError::Version(version));
        }
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.number() == bytes[6]);
        let algorithm = algorithm.ok_or(DeltaError::Malformed("an unknown algorithm"))?;
        let window_log = bytes[7];
        if !(MIN_WINDOW_LOG..=MAX_WINDOW_LOG).contains(&window_log) {
            return Err(DeltaError::Malformed("a window that is not allowed"));
        }
        let digest = |bytes: &[u8]| Digest::from_bytes(bytes).expect("32 bytes");
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        let header = Self {
            algorithm,
            window_log,
            base: digest(&bytes[8..40]),
            target: digest(&bytes[40..72]),
            base_size: number(&bytes[72..80]),
            target_size: number(&bytes[80..]),
        };
        if header.base_size > MAX_ARTIFACT_BYTES || header.target_size > MAX_ARTIFACT_BYTES {
            return Err(DeltaError::TooLarge(header.base_size.max(header.target_size)));
        }
        Ok(header)
    }

    /// The most that one block makes.
    pub(super) fn window(&self) -> usize {
        1 << self.window_log
    }
}
