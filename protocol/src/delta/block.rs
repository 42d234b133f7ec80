//! A block of a mapped patch: operations, and the streams of bytes that they use up.
//!
//! Written as: bytes that it makes (u32), number of operations (u32), which streams follow (u16), and of each stream its
//! encoding (u8), its length and its stored length (u32 each), then the stored bytes in the same order.

use super::operation::{Kind, MAX_OPERATION_BYTES, MAX_OPERATIONS, Width};
use super::{DeltaError, sparse};
use std::io::{self, Read};

/// Operations, literal bytes, differences of bytes, two planes of half floats, four of floats.
pub(super) const STREAMS: usize = 9;
const OPERATIONS: usize = 0;

/// Which streams `kind` takes from, its lowest plane first.
pub(super) fn streams(kind: Kind) -> std::ops::Range<usize> {
    match (kind, kind.width()) {
        (_, None) => 0..0,
        (Kind::Literal(_), Some(Width::One)) => 1..2,
        (_, Some(Width::One)) => 2..3,
        (_, Some(Width::Two)) => 3..5,
        (_, Some(Width::Four)) => 5..9,
    }
}

/// How a stream is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Zstd,
    /// Sparse, then zstd.
    Sparse,
}

/// A block as it was read: all streams are as long as they said, none longer than the block may be.
pub(super) struct Block {
    pub(super) length: usize,
    pub(super) operations: usize,
    pub(super) streams: [Vec<u8>; STREAMS],
}

struct Announced {
    encoding: u8,
    length: usize,
    stored: usize,
}

impl Block {
    /// Reads the next block, which makes at most `window` bytes. What it announces is checked before memory is taken.
    pub(super) fn read(patch: &mut impl Read, window: usize) -> Result<Self, DeltaError> {
        let damaged = DeltaError::Malformed;
        let (length, operations) = (word(patch)?, word(patch)?);
        let mut mask = [0; 2];
        patch.read_exact(&mut mask).map_err(cut)?;
        let mask = u16::from_le_bytes(mask);
        if length == 0 || length > window || operations == 0 || operations > MAX_OPERATIONS || mask >> STREAMS != 0 {
            return Err(damaged("a block that is not allowed"));
        }
        let mut announced = [const { None }; STREAMS];
        let mut made = 0;
        for (n, stream) in announced.iter_mut().enumerate().filter(|(n, _)| mask & 1 << n != 0) {
            let mut encoding = [0];
            patch.read_exact(&mut encoding).map_err(cut)?;
            let (length_of, stored) = (word(patch)?, word(patch)?);
            // Each byte that the block makes takes one byte of one stream at most.
            let most = if n == OPERATIONS { operations * MAX_OPERATION_BYTES } else { length - made };
            if length_of > most || stored > length_of {
                return Err(damaged("a stream that is too long"));
            }
            made += if n == OPERATIONS { 0 } else { length_of };
            *stream = Some(Announced { encoding: encoding[0], length: length_of, stored });
        }
        let mut streams = [const { Vec::new() }; STREAMS];
        for (bytes, announced) in streams.iter_mut().zip(announced).filter_map(|(b, a)| Some((b, a?))) {
            *bytes = announced.read(patch)?;
        }
        Ok(Self { length, operations, streams })
    }
}

impl Announced {
    fn read(&self, patch: &mut impl Read) -> Result<Vec<u8>, DeltaError> {
        let damaged = DeltaError::Malformed;
        let mut stored = vec![0; self.stored];
        patch.read_exact(&mut stored).map_err(cut)?;
        let inflate = || zstd::bulk::decompress(&stored, self.length).map_err(|_| damaged("a stream does not decompress"));
        let bytes = match self.encoding {
            0 => stored,
            1 => inflate()?,
            2 => sparse::decode(&inflate()?, self.length).ok_or(damaged("a sparse stream that is none"))?,
            _ => return Err(damaged("an unknown encoding")),
        };
        if bytes.len() == self.length { Ok(bytes) } else { Err(damaged("a stream of another length")) }
    }
}

/// Writes what [`Block::read`] reads.
pub(super) fn write(patch: &mut Vec<u8>, length: usize, operations: usize, streams: &[(usize, Encoding, Vec<u8>); STREAMS]) {
    let mut put = |number: usize| patch.extend_from_slice(&u32::try_from(number).expect("below a window").to_le_bytes());
    put(length);
    put(operations);
    let present = |(_, (length, ..)): &(usize, &(usize, Encoding, Vec<u8>))| *length > 0;
    let mask = streams.iter().enumerate().filter(present).fold(0_u16, |mask, (n, _)| mask | 1 << n);
    patch.extend_from_slice(&mask.to_le_bytes());
    for (_, (length, encoding, stored)) in streams.iter().enumerate().filter(present) {
        patch.push(match encoding {
            Encoding::Raw => 0,
            Encoding::Zstd => 1,
            Encoding::Sparse => 2,
        });
        for number in [*length, stored.len()] {
            patch.extend_from_slice(&u32::try_from(number).expect("below a window").to_le_bytes());
        }
    }
    streams.iter().for_each(|(.., stored)| patch.extend_from_slice(stored));
}

/// The next number.
pub(super) fn word(patch: &mut impl Read) -> Result<usize, DeltaError> {
    let mut bytes = [0; 4];
    patch.read_exact(&mut bytes).map_err(cut)?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

/// An end where more was announced is damage, not a fault of the disk.
pub(super) fn cut(error: io::Error) -> DeltaError {
    if error.kind() == io::ErrorKind::UnexpectedEof { DeltaError::Malformed("it is cut short") } else { error.into() }
}
