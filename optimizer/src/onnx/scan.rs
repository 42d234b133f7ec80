//! Walks the wire format of an ONNX file and counts its messages without keeping any, so that a small hostile file cannot make
//! the parser allocate without bound (an empty node takes 2 bytes in the file and about 200 once parsed).

use super::{Limits, OnnxError};

/// A message type, as far as nesting matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Value,
    Type,
    TensorType,
    Shape,
    Function,
    /// Counted, but nothing in it is walked.
    Leaf,
}

impl Kind {
    /// What field `number` of this message holds, where that is a message or a string list.
    fn child(self, number: u64) -> Option<Kind> {
        use Kind::*;
        Some(match (self, number) {
            (Model, 7) => Graph,
            (Model, 25) => Function,
            (Model, 8 | 14) => Leaf,
            (Function, 7) | (Graph, 1) => Node,
            (Graph, 5) => Tensor,
            (Graph, 11..=13) => Value,
            (Graph, 15) | (Attribute, 22) => Sparse,
            (Node, 5) => Attribute,
            (Node, 1 | 2) => Leaf,
            (Attribute, 5 | 10) | (Sparse, 1 | 2) => Tensor,
            (Attribute, 6 | 11) => Graph,
            (Tensor, 13) => Leaf,
            (Value, 2) => Type,
            (Type, 1) => TensorType,
            (TensorType, 2) => Shape,
            (Shape, 1) => Leaf,
            _ => return None,
        })
    }
}

/// Counts all messages of `file`, or says why it is not to be parsed.
pub(super) fn scan(file: &[u8], limits: &Limits) -> Result<usize, OnnxError> {
    let mut scan = Scan { file, limits, messages: 0, seen_graph: false };
    scan.message(Kind::Model, 0, file.len(), 0)?;
    if !scan.seen_graph {
        return Err(OnnxError::NotOnnx("it holds no graph".into()));
    }
    Ok(scan.messages)
}

struct Scan<'a> {
    file: &'a [u8],
    limits: &'a Limits,
    messages: usize,
    seen_graph: bool,
}

impl Scan<'_> {
    fn message(&mut self, kind: Kind, start: usize, end: usize, depth: usize) -> Result<(), OnnxError> {
        let mut at = start;
        while at < end {
            let field_at = at;
            let tag = self.varint(&mut at, end)?;
            let (number, wire) = (tag >> 3, tag & 7);
            if number == 0 {
                return Err(OnnxError::NotOnnx(format!("no field at byte {field_at}")));
            }
            match wire {
                0 => {
                    self.varint(&mut at, end)?;
                    // A dimension as its own varint is a list entry: 2 bytes in the file, 8 in memory.
                    if kind == Kind::Tensor && number == 1 {
                        self.count()?;
                    }
                }
                1 => at = self.skip(at, 8, end)?,
                5 => at = self.skip(at, 4, end)?,
                2 => {
                    let length = usize::try_from(self.varint(&mut at, end)?).unwrap_or(usize::MAX);
                    let stop = self.skip(at, length, end)?;
                    if let Some(child) = kind.child(number) {
                        self.count()?;
                        self.seen_graph |= child == Kind::Graph;
                        let depth = depth + usize::from(child == Kind::Graph);
                        if depth > self.limits.depth {
                            return Err(OnnxError::Excess { what: "graphs within graphs", limit: self.limits.depth });
                        }
                        if child != Kind::Leaf {
                            self.message(child, at, stop, depth)?;
                        }
                    } else if matches!((kind, number), (Kind::Tensor | Kind::Sparse, 1 | 3)) && length > 10 * 64 {
                        return Err(OnnxError::Excess { what: "dimensions of one tensor", limit: 64 });
                    }
                    at = stop;
                }
                _ => return Err(OnnxError::NotOnnx(format!("byte {field_at} is not protobuf"))),
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), OnnxError> {
        self.messages += 1;
        if self.messages > self.limits.messages {
            return Err(OnnxError::Excess { what: "nodes, tensors and attributes", limit: self.limits.messages });
        }
        Ok(())
    }

    fn skip(&self, at: usize, length: usize, end: usize) -> Result<usize, OnnxError> {
        match at.checked_add(length) {
            Some(stop) if stop <= end => Ok(stop),
            // Inside a message that itself fits, a field that does not is garbage; at the file's end it is a short file.
            _ if end == self.file.len() => Err(OnnxError::Truncated { what: "a field", at, end }),
            _ => Err(OnnxError::NotOnnx(format!("a field at byte {at} is longer than its message"))),
        }
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, OnnxError> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.file[..end].get(*at) else {
                return Err(OnnxError::Truncated { what: "a number", at: start, end: self.file.len() });
            };
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(OnnxError::NotOnnx(format!("byte {start} is not protobuf")))
    }
}
