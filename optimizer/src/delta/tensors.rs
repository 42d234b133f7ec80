//! Where the weights of an ONNX file lie, and which of two files' weights have one name and one length.
//!
//! Walks the wire format only and keeps places, not values. A file that is not ONNX has no tensors, which is no error here.

use aidos_protocol::delta::{Region, Width};
use std::collections::HashMap;
use std::ops::Range;

/// Tensors that are kept of one file: real models have thousands; a hostile one costs 100 MB at most and then a worse patch.
const MAX_TENSORS: usize = 1 << 20;
/// As for the models that are served.
const MAX_DEPTH: usize = 16;
/// Shorter tensors are not worth an operation of their own.
const MIN_BYTES: usize = 64;

/// A tensor's bytes within its file, and the width of its elements where planes help.
struct Place {
    bytes: Range<usize>,
    width: Option<Width>,
}

/// The regions of the tensors that both files have, in the target's order.
pub(super) fn common(base: &[u8], target: &[u8]) -> Vec<Region> {
    let (Some(old), Some(new)) = (places(base), places(target)) else { return Vec::new() };
    let old: HashMap<_, _> = old.into_iter().collect();
    let region = |(name, place): (Name, Place)| {
        let from = old.get(&name).filter(|from| from.bytes.len() == place.bytes.len())?;
        let length = place.bytes.len() as u64;
        Some(Region { base: from.bytes.start as u64, target: place.bytes.start as u64, length, width: place.width })
    };
    let mut regions: Vec<_> = new.into_iter().filter_map(region).collect();
    regions.sort_unstable_by_key(|region| region.target);
    regions
}

/// A tensor's name and how many of that name came before: names repeat between the branches of an `If`.
type Name = (Vec<u8>, usize);

fn places(file: &[u8]) -> Option<Vec<(Name, Place)>> {
    let mut walk = Walk { file, found: Vec::new(), seen: HashMap::new() };
    walk.model()?;
    Some(walk.found)
}

struct Walk<'a> {
    file: &'a [u8],
    found: Vec<(Name, Place)>,
    seen: HashMap<Vec<u8>, usize>,
}

impl Walk<'_> {
    fn model(&mut self) -> Option<()> {
        for (number, bytes) in fields(self.file, 0..self.file.len())? {
            if number == 7 {
                self.graph(bytes, 0)?;
            }
        }
        Some(())
    }

    fn graph(&mut self, within: Range<usize>, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        for (number, bytes) in fields(self.file, within)? {
            match number {
                1 => self.node(bytes, depth)?,
                5 => self.tensor(bytes, None)?,
                _ => {}
            }
        }
        Some(())
    }

    fn node(&mut self, within: Range<usize>, depth: usize) -> Option<()> {
        let all = fields(self.file, within)?;
        let output = all.iter().find(|(number, _)| *number == 2).map(|(_, bytes)| bytes.clone());
        for (_, attribute) in all.into_iter().filter(|(number, _)| *number == 5) {
            for (number, bytes) in fields(self.file, attribute)? {
                match number {
                    5 => self.tensor(bytes, output.clone())?,
                    6 => self.graph(bytes, depth + 1)?,
                    _ => {}
                }
            }
        }
        Some(())
    }

    /// A constant has no name of its own; the node's output stands in.
    fn tensor(&mut self, within: Range<usize>, output: Option<Range<usize>>) -> Option<()> {
        let all = fields(self.file, within.clone())?;
        let last = |wanted| all.iter().rev().find(|(number, _)| *number == wanted).map(|(_, bytes)| bytes.clone());
        // `raw_data`, or the packed list of floats.
        let (Some(bytes), Some(name)) = (last(9).or_else(|| last(4)), last(8).filter(|name| !name.is_empty()).or(output)) else {
            return Some(());
        };
        if bytes.len() < MIN_BYTES || self.found.len() == MAX_TENSORS {
            return Some(());
        }
        let name = self.file[name].to_vec();
        let nth = self.seen.entry(name.clone()).or_default();
        let width = match element(self.file, within) {
            Some(1 | 6 | 12) => Some(Width::Four),
            Some(10 | 16 | 4 | 5) => Some(Width::Two),
            Some(2 | 3 | 9) => Some(Width::One),
            _ => None,
        };
        self.found.push(((name, *nth), Place { bytes, width }));
        *nth += 1;
        Some(())
    }
}

/// The places of all fields of a message that have a length; `None` when it is no protobuf.
fn fields(file: &[u8], within: Range<usize>) -> Option<Vec<(u64, Range<usize>)>> {
    let mut found = Vec::new();
    each(file, within, |number, value| {
        if let Value::Bytes(bytes) = value {
            found.push((number, bytes));
        }
    })?;
    Some(found)
}

/// `TensorProto.data_type`.
fn element(file: &[u8], within: Range<usize>) -> Option<u64> {
    let mut code = None;
    each(file, within, |number, value| {
        if let (2, Value::Number(value)) = (number, value) {
            code = Some(value);
        }
    })?;
    code
}

enum Value {
    Number(u64),
    Bytes(Range<usize>),
}

fn each(file: &[u8], within: Range<usize>, mut visit: impl FnMut(u64, Value)) -> Option<()> {
    let (mut at, end) = (within.start, within.end);
    while at < end {
        let tag = varint(&file[..end], &mut at)?;
        let length = match tag & 7 {
            0 => {
                let number = varint(&file[..end], &mut at)?;
                visit(tag >> 3, Value::Number(number));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => usize::try_from(varint(&file[..end], &mut at)?).ok()?,
            _ => return None,
        };
        let stop = at.checked_add(length).filter(|stop| *stop <= end)?;
        if tag & 7 == 2 {
            visit(tag >> 3, Value::Bytes(at..stop));
        }
        at = stop;
    }
    Some(())
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
