//! Rows of bytes that are nearly all zero, as the distances between the others: where one weight of hundreds changed, this
//! takes half of what an LZ compressor needs.

/// Bytes for each byte that is not zero: the distance's two bytes and the byte.
const ENTRY: usize = 3;
/// Denser rows than one byte of this many are left to the compressor, which also sees what repeats.
const SPARSE: usize = 48;

/// `None` where the row is not sparse.
pub(super) fn encode(row: &[u8]) -> Option<Vec<u8>> {
    let others = row.iter().filter(|byte| **byte != 0).count();
    if others > row.len() / SPARSE {
        return None;
    }
    let (mut low, mut high, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut zeros = 0_u16;
    for byte in row {
        // A zero after the longest distance counts as a value, so that no distance is longer.
        if *byte == 0 && zeros < u16::MAX {
            zeros += 1;
            continue;
        }
        let [lower, higher] = zeros.to_le_bytes();
        low.push(lower);
        high.push(higher);
        values.push(*byte);
        zeros = 0;
    }
    low.append(&mut high);
    low.append(&mut values);
    Some(low)
}

/// The row of `length` bytes; `None` when `bytes` do not describe one.
pub(super) fn decode(bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let count = bytes.len() / ENTRY;
    if !bytes.len().is_multiple_of(ENTRY) || count > length {
        return None;
    }
    let mut row = vec![0; length];
    let mut at = 0;
    for n in 0..count {
        at += usize::from(u16::from_le_bytes([bytes[n], bytes[count + n]]));
        *row.get_mut(at)? = bytes[2 * count + n];
        at += 1;
    }
    Some(row)
}
