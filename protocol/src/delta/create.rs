//! Writes patches. Takes both files in memory; who calls bounds them.

use super::block::{self, Encoding, STREAMS, streams};
use super::operation::{MAX_OPERATIONS, Operation};
use super::{Algorithm, DeltaError, Header, MAX_WINDOW_LOG, MIN_WINDOW_LOG, operation, planes, sparse};
use crate::artifact::{Digest, MAX_ARTIFACT_BYTES};
use std::io::Write as _;
use zstd::zstd_safe::CParameter;

/// A patch is made once and applied by a fleet.
const LEVEL: i32 = 19;

fn header(algorithm: Algorithm, base: &[u8], target: &[u8], window_log: u8) -> Result<Header, DeltaError> {
    let most = base.len().max(target.len()) as u64;
    if most > MAX_ARTIFACT_BYTES {
        return Err(DeltaError::TooLarge(most));
    }
    Ok(Header {
        algorithm,
        window_log: window_log.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG),
        base: Digest::of(base),
        target: Digest::of(target),
        base_size: base.len() as u64,
        target_size: target.len() as u64,
    })
}

/// The target as it is.
pub fn stored(base: &[u8], target: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let mut patch = header(Algorithm::Stored, base, target, MIN_WINDOW_LOG)?.encode().to_vec();
    patch.extend_from_slice(target);
    Ok(patch)
}

/// The target, compressed by zstd-19.
pub fn full(base: &[u8], target: &[u8], window_log: u8) -> Result<Vec<u8>, DeltaError> {
    let header = header(Algorithm::Full, base, target, window_log)?;
    let mut encoder = zstd::Encoder::new(header.encode().to_vec(), LEVEL)?;
    encoder.set_parameter(CParameter::WindowLog(u32::from(header.window_log)))?;
    encoder.write_all(target)?;
    Ok(encoder.finish()?)
}

/// The target in blocks of one window, each compressed with the two windows of the base around the same place as dictionary.
pub fn patch_from(base: &[u8], target: &[u8], window_log: u8) -> Result<Vec<u8>, DeltaError> {
    let header = header(Algorithm::PatchFrom, base, target, window_log)?;
    let window = header.window();
    let mut patch = header.encode().to_vec();
    for (n, piece) in target.chunks(window).enumerate() {
        // Half a window before and after: what was inserted or removed so far has moved the rest by less, or it is not found.
        let length = base.len().min(2 * window);
        let begin = (n * window).saturating_sub(window / 2).min(base.len() - length);
        let mut encoder = zstd::Encoder::with_ref_prefix(Vec::new(), LEVEL, &base[begin..begin + length])?;
        encoder.set_parameter(CParameter::WindowLog(u32::from(header.window_log)))?;
        encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
        encoder.write_all(piece)?;
        let frame = encoder.finish()?;
        patch.extend_from_slice(&(begin as u64).to_le_bytes());
        for number in [length, piece.len(), frame.len()] {
            patch.extend_from_slice(&u32::try_from(number).expect("below two windows").to_le_bytes());
        }
        patch.extend_from_slice(&frame);
    }
    Ok(patch)
}

/// What `operations` make, which must be the whole target in its order. `algorithm` is `Tensors` or `Bsdiff`: how they were found.
pub fn mapped(
    algorithm: Algorithm,
    base: &[u8],
    target: &[u8],
    operations: &[Operation],
    window_log: u8,
) -> Result<Vec<u8>, DeltaError> {
    let header = header(algorithm, base, target, window_log)?;
    let mut patch = header.encode().to_vec();
    let (mut made, mut batch, mut length) = (0, Vec::new(), 0);
    let mut waiting = operations.iter().copied();
    let mut rest: Option<Operation> = None;
    while let Some(mut step) = rest.take().or_else(|| waiting.next()) {
        let room = (header.window() - length) as u64;
        if step.length > room {
            // Windows are whole multiples of every width, but what came before in this block need not be.
            let width = step.kind.width().map_or(1, |width| width.bytes() as u64);
            let cut = room - room % width;
            let behind = if step.kind.reads_base() { step.base + cut } else { 0 };
            rest = Some(Operation { base: behind, length: step.length - cut, ..step });
            step.length = cut;
        }
        if step.length > 0 {
            length += usize::try_from(step.length).expect("within a window");
            batch.push(step);
        }
        if rest.is_some() || batch.len() == MAX_OPERATIONS {
            made = write_block(&mut patch, base, target, made, &batch)?;
            batch.clear();
            length = 0;
        }
    }
    if !batch.is_empty() {
        made = write_block(&mut patch, base, target, made, &batch)?;
    }
    if made == target.len() { Ok(patch) } else { Err(DeltaError::Plan("it does not make the whole target")) }
}

/// Adds one block; returns where the next begins in the target.
fn write_block(
    patch: &mut Vec<u8>,
    base: &[u8],
    target: &[u8],
    begin: usize,
    operations: &[Operation],
) -> Result<usize, DeltaError> {
    let mut rows = [const { Vec::new() }; STREAMS];
    rows[0] = operation::encode(operations);
    let mut at = begin;
    for step in operations {
        let length = usize::try_from(step.length).map_err(|_| DeltaError::Plan("an operation is too long"))?;
        let new = target.get(at..at + length).ok_or(DeltaError::Plan("it makes more than the target"))?;
        let from = usize::try_from(step.base).map_err(|_| DeltaError::Plan("an operation outside the base"))?;
        let old = if step.kind.reads_base() { base.get(from..from + length) } else { Some(&[][..]) };
        let old = old.ok_or(DeltaError::Plan("an operation outside the base"))?;
        for (n, mut plane) in streams(step.kind).zip(planes::split(step.kind, old, new)) {
            rows[n].append(&mut plane);
        }
        at += length;
    }
    let mut streams = [const { (0, Encoding::Raw, Vec::new()) }; STREAMS];
    for (stream, row) in streams.iter_mut().zip(&rows) {
        let (encoding, stored) = self::rows(row, LEVEL)?;
        *stream = (row.len(), encoding, stored);
    }
    block::write(patch, at - begin, operations.len(), &streams);
    Ok(at)
}

/// The smallest way to store a stream.
pub(super) fn rows(row: &[u8], level: i32) -> Result<(Encoding, Vec<u8>), DeltaError> {
    let (mut encoding, mut stored) = (Encoding::Raw, row.to_vec());
    let plain = zstd::bulk::compress(row, level)?;
    if plain.len() < stored.len() {
        (encoding, stored) = (Encoding::Zstd, plain);
    }
    if let Some(sparse) = sparse::encode(row) {
        let sparse = zstd::bulk::compress(&sparse, level)?;
        if sparse.len() < stored.len() {
            (encoding, stored) = (Encoding::Sparse, sparse);
        }
    }
    Ok((encoding, stored))
}
