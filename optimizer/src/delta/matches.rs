//! Which bytes of machine code correspond, found by their content: bsdiff's matches, by `qbsdiff`.
//!
//! That library writes its own container with bzip2, which would have to be held whole in memory to be applied. Only the
//! matches are taken from it; the patch is this project's, which applies as a stream.

use aidos_protocol::delta::{DeltaError, Kind, Operation, Width};
use bzip2::read::BzDecoder;
use qbsdiff::Bsdiff;
use std::io::{Cursor, Read as _};

/// The largest file that is searched: the suffix array takes about five bytes for each of the base, 320 MiB here.
pub const MAX_MATCHED_BYTES: usize = 64 << 20;

/// Magic, then the compressed lengths of controls and differences, and the target's.
const HEADER: usize = 32;
/// Bytes to add, bytes to insert, and how far to go in the base; eight bytes each.
const CONTROL: usize = 24;

/// The operations that make the target; `None` for files that are too large to search, or empty.
pub(super) fn find(base: &[u8], target: &[u8]) -> Result<Option<Vec<Operation>>, DeltaError> {
    if base.is_empty() || target.is_empty() || base.len().max(target.len()) > MAX_MATCHED_BYTES {
        return Ok(None);
    }
    let mut container = Vec::new();
    // What it compresses is thrown away.
    Bsdiff::new(base, target).compression_level(1).compare(Cursor::new(&mut container))?;
    let odd = || DeltaError::Plan("the matches cannot be read");
    let length = container.get(8..16).and_then(number).ok_or_else(odd)?;
    let end = usize::try_from(length).ok().and_then(|length| HEADER.checked_add(length));
    let controls = end.and_then(|end| container.get(HEADER..end)).ok_or_else(odd)?;
    let mut bytes = Vec::new();
    BzDecoder::new(controls).read_to_end(&mut bytes)?;
    let (mut operations, mut from) = (Vec::new(), 0_i64);
    for control in bytes.chunks_exact(CONTROL) {
        let field = |n: usize| number(&control[8 * n..8 * n + 8]).ok_or_else(odd);
        let (add, insert, seek) = (field(0)?, field(1)?, field(2)?);
        let (base, add) = (u64::try_from(from).map_err(|_| odd())?, u64::try_from(add).map_err(|_| odd())?);
        if add > 0 {
            operations.push(Operation { kind: Kind::Add(Width::One), base, length: add });
        }
        let insert = u64::try_from(insert).map_err(|_| odd())?;
        if insert > 0 {
            operations.push(Operation { kind: Kind::Literal(Width::One), base: 0, length: insert });
        }
        from = from.checked_add_unsigned(add).and_then(|from| from.checked_add(seek)).ok_or_else(odd)?;
    }
    Ok(Some(operations))
}

/// Sign and magnitude.
fn number(bytes: &[u8]) -> Option<i64> {
    let raw = u64::from_le_bytes(bytes.try_into().ok()?);
    let magnitude = (raw & i64::MAX as u64).cast_signed();
    Some(if raw >> 63 == 0 { magnitude } else { -magnitude })
}
