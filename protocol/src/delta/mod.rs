//! Deltas: what turns one artifact that a device holds into another, smaller than the other itself.
//!
//! A patch is a [`Header`] and then blocks, each of which makes the next bytes of the target. [`apply`] reads it as a stream and
//! never takes more than [`MAX_APPLY_BYTES`] of memory, however large the files are; the result is right only when [`apply`]
//! said so, after it compared the digest of all it wrote. What to do with a wrong file is the caller's: throw it away.
//!
//! Creation takes whole files in memory and belongs where memory is: on the control plane. Finding out which bytes correspond
//! ([`Region`]s of tensors, matches of machine code) is not done here; see the optimizer.

mod apply;
mod block;
mod create;
mod error;
mod header;
mod operation;
mod planes;
mod sparse;
#[cfg(test)]
mod tests;

pub use apply::apply;
pub use create::{full, mapped, patch_from, stored};
pub use error::DeltaError;
pub use header::{Algorithm, HEADER_BYTES, Header, MAX_WINDOW_LOG, MIN_WINDOW_LOG};
pub use operation::{Kind, Operation, Width};
pub use planes::{Region, plan};

/// The most memory that applying takes: eight windows of the largest size, see `apply`.
pub const MAX_APPLY_BYTES: u64 = 64 << 20;
