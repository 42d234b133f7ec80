//! Makes the smallest patch from one artifact to another: finds what corresponds, has every way tried, keeps the best.
//!
//! Takes both files in memory and seconds of a core per 10 MB; runs on the control plane, never on a device. Applying needs
//! nothing from here, only `aidos_protocol::delta`.

mod matches;
mod tensors;
#[cfg(test)]
mod tests;

use aidos_protocol::delta::{self, Algorithm, DeltaError, Region};

pub use matches::MAX_MATCHED_BYTES;

/// The largest file that a patch is made for: with both files, the suffix array of [`MAX_MATCHED_BYTES`] and a patch under way
/// this stays near half a GiB. Larger artifacts travel as chunks.
pub const MAX_DELTA_BYTES: usize = 128 << 20;

/// A finished patch, and what each way would have taken.
#[derive(Debug, Clone)]
pub struct Patch {
    /// As it travels.
    pub bytes: Vec<u8>,
    /// How it was made.
    pub algorithm: Algorithm,
    /// Every way that was tried, with the length that came of it.
    pub tried: Vec<(Algorithm, usize)>,
}

/// The smallest patch from `base` to `target`. No block of it makes more than two to the power of `window_log` bytes.
///
/// Never more than 100.5 % of the target compressed by zstd: that is among the ways, and so is the target as it is.
pub fn create(base: &[u8], target: &[u8], window_log: u8) -> Result<Patch, DeltaError> {
    let most = base.len().max(target.len());
    if most > MAX_DELTA_BYTES {
        return Err(DeltaError::TooLarge(most as u64));
    }
    let mut best: Option<(Algorithm, Vec<u8>)> = None;
    let mut tried = Vec::new();
    for algorithm in Algorithm::ALL {
        let Some(patch) = one(algorithm, base, target, window_log)? else { continue };
        tried.push((algorithm, patch.len()));
        if best.as_ref().is_none_or(|(_, best)| patch.len() < best.len()) {
            best = Some((algorithm, patch));
        }
    }
    let (algorithm, bytes) = best.expect("the target as it is can always be stored");
    Ok(Patch { bytes, algorithm, tried })
}

/// The patch of one algorithm; `None` where it has nothing to offer for these files.
pub fn one(algorithm: Algorithm, base: &[u8], target: &[u8], window_log: u8) -> Result<Option<Vec<u8>>, DeltaError> {
    Ok(Some(match algorithm {
        Algorithm::Stored => delta::stored(base, target)?,
        Algorithm::Full => delta::full(base, target, window_log)?,
        Algorithm::PatchFrom => delta::patch_from(base, target, window_log)?,
        Algorithm::Tensors => {
            let regions = regions(base, target);
            if regions.is_empty() {
                return Ok(None);
            }
            let operations = delta::plan(base, target, &regions)?;
            delta::mapped(algorithm, base, target, &operations, window_log)?
        }
        Algorithm::Bsdiff => {
            let Some(operations) = matches::find(base, target)? else { return Ok(None) };
            delta::mapped(algorithm, base, target, &operations, window_log)?
        }
    }))
}

/// Which numbers correspond: by name between two ONNX files of different layout, by place between files of one length.
fn regions(base: &[u8], target: &[u8]) -> Vec<Region> {
    if base.len() == target.len() && !target.is_empty() {
        return vec![Region { base: 0, target: 0, length: target.len() as u64, width: None }];
    }
    tensors::common(base, target)
}
