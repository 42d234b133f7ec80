//! Why a patch was not made or not applied.

use crate::artifact::Digest;
use std::io;

/// Why a patch was not made or not applied.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// Not a patch, or damaged.
    #[error("the patch is damaged: {0}")]
    Malformed(&'static str),
    /// Made by a newer control plane.
    #[error("a patch of version {0}, which this agent does not read: update the agent")]
    Version(u16),
    /// Needs more memory than this device gives.
    #[error("the patch needs a window of 2^{needed} bytes, this device allows 2^{allowed}: ask for the whole file")]
    Window {
        /// In the header.
        needed: u8,
        /// By the caller.
        allowed: u8,
    },
    /// Made for another file.
    #[error("the patch begins from {expected} bytes, but the file that is here has {is}")]
    Base {
        /// In the header.
        expected: u64,
        /// What is here.
        is: u64,
    },
    /// The result is not the target.
    #[error("the patched file is {is}, not {expected}; it must be thrown away")]
    Mismatch {
        /// In the header.
        expected: Digest,
        /// What came out.
        is: Digest,
    },
    /// Larger than any artifact, or than what is held in memory to make a patch.
    #[error("a patch for {0} bytes is not made")]
    TooLarge(u64),
    /// Regions or operations that do not fit the files.
    #[error("the plan of the patch does not fit the files: {0}")]
    Plan(&'static str),
    /// Reading or writing failed.
    #[error("patching: {0}")]
    Io(#[from] io::Error),
}
