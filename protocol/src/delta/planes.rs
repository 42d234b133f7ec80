//! Numbers as planes: all lowest bytes, then all next ones, since sign and exponent repeat where the lowest bits are noise.
//! And the choice, piece by piece, of what to write of corresponding numbers.

use super::operation::{Kind, Operation, Width};
use super::{DeltaError, create};

/// Bytes for which one way is chosen: small enough that a change within a tensor shows, large enough to be told from noise.
const PIECE: usize = 64 << 10;
/// Fast; it stands in for the final compressor when ways are compared.
const TRIAL_LEVEL: i32 = 1;

/// Bytes of the target that correspond to as many of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where they begin in the base.
    pub base: u64,
    /// Where they begin in the target.
    pub target: u64,
    /// How many.
    pub length: u64,
    /// Bytes of one number; `None`: not known.
    pub width: Option<Width>,
}

/// Chooses how to write each piece of the target: where nothing corresponds as it is, elsewhere the smallest of copy, xor,
/// difference and the bytes themselves. `regions` stand in the target's order and do not overlap there.
pub fn plan(base: &[u8], target: &[u8], regions: &[Region]) -> Result<Vec<Operation>, DeltaError> {
    let mut operations = Vec::new();
    let mut at = 0;
    for region in regions {
        let slice = |bytes: &[u8], from: u64| {
            let from = usize::try_from(from).ok()?;
            let to = from.checked_add(usize::try_from(region.length).ok()?)?;
            (to <= bytes.len()).then_some(from..to)
        };
        let from = slice(base, region.base).ok_or(DeltaError::Plan("a region outside the base"))?;
        let to = slice(target, region.target).ok_or(DeltaError::Plan("a region outside the target"))?;
        if to.start < at {
            return Err(DeltaError::Plan("regions overlap or are out of order"));
        }
        push(&mut operations, Kind::Literal(Width::One), 0, to.start - at);
        at = to.end;
        let widths = region.width.map_or(vec![Width::Four, Width::Two, Width::One], |width| vec![width]);
        let mut begin = from.start;
        for (old, new) in base[from].chunks(PIECE).zip(target[to].chunks(PIECE)) {
            // What is left over beyond whole numbers goes byte by byte.
            let whole = new.len() & !3;
            for (old, new) in [(&old[..whole], &new[..whole]), (&old[whole..], &new[whole..])] {
                if !new.is_empty() {
                    let widths = if new.len() < 4 { &[Width::One] } else { &widths[..] };
                    push(&mut operations, smallest(old, new, widths)?, begin as u64, new.len());
                    begin += new.len();
                }
            }
        }
    }
    push(&mut operations, Kind::Literal(Width::One), 0, target.len() - at);
    Ok(operations)
}

/// Adds an operation, or makes the last one longer.
fn push(operations: &mut Vec<Operation>, kind: Kind, base: u64, length: usize) {
    if length == 0 {
        return;
    }
    let length = length as u64;
    match operations.last_mut() {
        Some(last) if last.kind == kind && (!kind.reads_base() || last.base + last.length == base) => last.length += length,
        _ => operations.push(Operation { kind, base, length }),
    }
}

fn smallest(old: &[u8], new: &[u8], widths: &[Width]) -> Result<Kind, DeltaError> {
    if old == new {
        return Ok(Kind::Copy);
    }
    let mut best = (usize::MAX, Kind::Literal(Width::One));
    let plain = (!widths.contains(&Width::One)).then_some(Kind::Literal(Width::One));
    let ways = widths.iter().flat_map(|width| [Kind::Add(*width), Kind::Xor(*width), Kind::Literal(*width)]);
    for kind in ways.chain(plain) {
        let mut size = 0;
        for row in split(kind, old, new) {
            size += create::rows(&row, TRIAL_LEVEL)?.1.len();
        }
        if size < best.0 {
            best = (size, kind);
        }
    }
    Ok(best.1)
}

/// The planes that make `new` from `old`; empty for a copy.
pub(super) fn split(kind: Kind, old: &[u8], new: &[u8]) -> Vec<Vec<u8>> {
    let Some(width) = kind.width() else { return Vec::new() };
    let width = width.bytes();
    let mut planes = vec![Vec::with_capacity(new.len() / width); width];
    for (at, number) in new.chunks_exact(width).enumerate() {
        let old = if kind.reads_base() { read(&old[at * width..][..width]) } else { 0 };
        let bytes = difference(kind, old, read(number)).to_le_bytes();
        planes.iter_mut().zip(bytes).for_each(|(plane, byte)| plane.push(byte));
    }
    planes
}

/// Makes numbers from planes in place: `bytes` holds the base's and then the target's. Each plane has one byte a number.
pub(super) fn join(kind: Kind, planes: &[&[u8]], bytes: &mut [u8]) {
    let Some(width) = kind.width() else { return };
    // The common ways get loops without a decision in them: a device's core has seconds for 100 MB, not minutes.
    match (kind, width) {
        (Kind::Literal(_), Width::One) => bytes.copy_from_slice(planes[0]),
        (Kind::Add(_), Width::One) => {
            bytes.iter_mut().zip(planes[0]).for_each(|(byte, more)| *byte = byte.wrapping_add(*more));
        }
        (Kind::Xor(_), Width::One) => bytes.iter_mut().zip(planes[0]).for_each(|(byte, other)| *byte ^= other),
        (_, Width::One) => {}
        (_, Width::Two) => {
            for ((number, low), high) in bytes.chunks_exact_mut(2).zip(planes[0]).zip(planes[1]) {
                let old = u16::from_le_bytes([number[0], number[1]]);
                let given = u16::from_le_bytes([*low, *high]);
                let new = match kind {
                    Kind::Add(_) => old.wrapping_add((given >> 1) ^ (given & 1).wrapping_neg()),
                    Kind::Xor(_) => old ^ given,
                    Kind::Literal(_) | Kind::Copy => given,
                };
                number.copy_from_slice(&new.to_le_bytes());
            }
        }
        (_, Width::Four) => {
            let rest = planes[1].iter().zip(planes[2]).zip(planes[3]);
            for ((number, first), ((second, third), fourth)) in bytes.chunks_exact_mut(4).zip(planes[0]).zip(rest) {
                let old = u32::from_le_bytes([number[0], number[1], number[2], number[3]]);
                let given = u32::from_le_bytes([*first, *second, *third, *fourth]);
                let new = match kind {
                    Kind::Add(_) => old.wrapping_add((given >> 1) ^ (given & 1).wrapping_neg()),
                    Kind::Xor(_) => old ^ given,
                    Kind::Literal(_) | Kind::Copy => given,
                };
                number.copy_from_slice(&new.to_le_bytes());
            }
        }
    }
}

fn read(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Differences of wider numbers are written zigzag, so that small ones of either sign have empty upper planes.
fn difference(kind: Kind, old: u32, new: u32) -> u32 {
    match kind {
        Kind::Copy => 0,
        Kind::Literal(_) => new,
        Kind::Xor(_) => old ^ new,
        Kind::Add(Width::One) => new.wrapping_sub(old),
        Kind::Add(Width::Two) => {
            let distance = (new as u16).wrapping_sub(old as u16).cast_signed();
            u32::from(((distance << 1) ^ (distance >> 15)).cast_unsigned())
        }
        Kind::Add(Width::Four) => {
            let distance = new.wrapping_sub(old).cast_signed();
            ((distance << 1) ^ (distance >> 31)).cast_unsigned()
        }
    }
}
