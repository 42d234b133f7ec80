//! What a block of a mapped patch does, in order, and how that is written down.
//!
//! Columns lie one after another – all kinds, all lengths, all places – because each of them compresses better on its own.

use super::DeltaError;

/// Bytes of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// Bytes.
    One,
    /// Half floats.
    Two,
    /// Floats.
    Four,
}

impl Width {
    /// How many bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// How an operation makes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The base's bytes as they are.
    Copy,
    /// Bytes of the patch.
    Literal(Width),
    /// Numbers of the patch, xored into the base's.
    Xor(Width),
    /// Numbers of the patch, added to the base's without carry out.
    Add(Width),
}

/// Makes the next `length` bytes of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// How.
    pub kind: Kind,
    /// From where in the base; not used by literals.
    pub base: u64,
    /// How many bytes; whole numbers.
    pub length: u64,
}

const WIDTHS: [Width; 3] = [Width::One, Width::Two, Width::Four];

impl Kind {
    /// The numbers' width; `None` where the patch gives nothing.
    pub(super) fn width(self) -> Option<Width> {
        match self {
            Self::Copy => None,
            Self::Literal(width) | Self::Xor(width) | Self::Add(width) => Some(width),
        }
    }
    pub(super) fn reads_base(self) -> bool {
        !matches!(self, Self::Literal(_))
    }
    fn number(self) -> u8 {
        let (group, width) = match self {
            Self::Copy => return 0,
            Self::Literal(width) => (1, width),
            Self::Xor(width) => (2, width),
            Self::Add(width) => (3, width),
        };
        group << 2 | u8::try_from(width.bytes().trailing_zeros()).expect("at most 2")
    }
    fn from_number(number: u8) -> Option<Self> {
        if number == 0 {
            return Some(Self::Copy);
        }
        let width = *WIDTHS.get(usize::from(number & 3))?;
        match number >> 2 {
            1 => Some(Self::Literal(width)),
            2 => Some(Self::Xor(width)),
            3 => Some(Self::Add(width)),
            _ => None,
        }
    }
}

/// The most operations of a block: they take 24 bytes each in memory, so 1.5 MiB.
pub(super) const MAX_OPERATIONS: usize = 1 << 16;
/// A kind, a length below 2^28 and a place, at their longest.
pub(super) const MAX_OPERATION_BYTES: usize = 1 + 5 + 10;

/// Places are written relative to where the operation before it ended in the base.
pub(super) fn encode(operations: &[Operation]) -> Vec<u8> {
    let mut bytes: Vec<u8> = operations.iter().map(|operation| operation.kind.number()).collect();
    operations.iter().for_each(|operation| put(&mut bytes, operation.length));
    let mut expected = 0_u64;
    for operation in operations.iter().filter(|operation| operation.kind.reads_base()) {
        let distance = operation.base.wrapping_sub(expected).cast_signed();
        put(&mut bytes, ((distance << 1) ^ (distance >> 63)).cast_unsigned());
        expected = operation.base + operation.length;
    }
    bytes
}

/// Reads `count` operations that together make exactly `window` bytes from a base of `base_size`.
pub(super) fn decode(mut bytes: &[u8], count: usize, window: u64, base_size: u64) -> Result<Vec<Operation>, DeltaError> {
    let damaged = DeltaError::Malformed;
    let (kinds, rest) = bytes.split_at_checked(count).ok_or(damaged("operations are missing"))?;
    bytes = rest;
    let (mut operations, mut made) = (Vec::with_capacity(count), 0_u64);
    for kind in kinds {
        let kind = Kind::from_number(*kind).ok_or(damaged("an unknown operation"))?;
        let length = take(&mut bytes).ok_or(damaged("a length is missing"))?;
        let whole = kind.width().is_none_or(|width| length.is_multiple_of(width.bytes() as u64));
        made = made.saturating_add(length);
        if length == 0 || made > window || !whole {
            return Err(damaged("a length that does not fit"));
        }
        operations.push(Operation { kind, base: 0, length });
    }
    let mut expected = 0_u64;
    for operation in operations.iter_mut().filter(|operation| operation.kind.reads_base()) {
        let zigzag = take(&mut bytes).ok_or(damaged("a place is missing"))?;
        let distance = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        let base = expected.wrapping_add(distance.cast_unsigned());
        expected =
            base.checked_add(operation.length).filter(|end| *end <= base_size).ok_or(damaged("a place outside the base"))?;
        operation.base = base;
    }
    if made == window && bytes.is_empty() { Ok(operations) } else { Err(damaged("the operations do not fit the block")) }
}

/// LEB128.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
