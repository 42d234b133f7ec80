//! How large hostile automerge bytes may become, judged before automerge sees them.
//!
//! Automerge inflates deflate-compressed chunks and columns without a limit, and a run-length column says "a billion times
//! this" in six bytes. So every chunk is walked here first: its lists are counted, each compressed part is inflated into a
//! buffer that ends at the budget, and the rows, the strings and the groups that its columns stand for are added up. What
//! passes costs automerge at most [`Limits`]; memory here is bounded by the same budget. Nothing is interpreted beyond that.
//!
//! Format: <https://automerge.org/automerge-binary-format-spec/>; bundles as in automerge 0.12.

use flate2::bufread::DeflateDecoder;
use std::borrow::Cow;
use std::io::Read as _;
use std::ops::Range;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// Columns of one kind in a chunk; version 0.12 of the format knows 17.
const MAX_COLUMNS: u64 = 64;
/// Actors in one chunk: authors of a document that is compacted every few hundred changes.
const MAX_ACTORS: u64 = 2_048;
/// Heads or dependencies in one chunk.
const MAX_HASHES: u64 = 256;
/// Bytes of an actor.
const MAX_ACTOR_BYTES: u64 = 256;

/// The most that bytes may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes after inflation, all chunks together, strings counted as often as they are repeated.
    pub inflated: usize,
    /// Rows of any column: operations, predecessors, changes.
    pub rows: u64,
    /// Chunks.
    pub chunks: usize,
}

impl Limits {
    /// A whole document: 64 models of 16 KiB and as much again in notes and history.
    pub const DOCUMENT: Self = Self { inflated: 4 << 20, rows: 65_536, chunks: 4_096 };
    /// One change made by a person at a site.
    pub const CHANGE: Self = Self { inflated: 256 << 10, rows: 1_024, chunks: 1 };
}

/// Why bytes are not given to automerge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// They stand for more bytes than allowed.
    #[error("the change would inflate to more than {limit} bytes")]
    Inflated {
        /// The budget.
        limit: usize,
    },
    /// They stand for more rows than allowed.
    #[error("the change holds more than {limit} operations")]
    Rows {
        /// The budget.
        limit: u64,
    },
    /// More chunks than allowed.
    #[error("{is} chunks at once, the limit is {limit}")]
    Chunks {
        /// How many.
        is: usize,
        /// The most.
        limit: usize,
    },
    /// Not automerge's format.
    #[error("not an automerge chunk: {0}")]
    Malformed(&'static str),
}

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole document.
    Document,
    /// One change, compressed or not.
    Change,
    /// Several changes in columns.
    Bundle,
}

/// One chunk within the bytes that were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What it holds.
    pub kind: Kind,
    /// Where it stands.
    pub range: Range<usize>,
}

/// Bytes that automerge may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The chunks in order.
    pub chunks: Vec<Chunk>,
    /// What they inflate to, all together.
    pub inflated: usize,
}

/// Walks all chunks of `bytes`; an error means that automerge must not see them.
pub fn check(bytes: &[u8], limits: Limits) -> Result<Checked, BoundError> {
    let mut chunks = Vec::new();
    let mut budget = Budget { limits, bytes: limits.inflated };
    let mut rest = Reader::new(bytes);
    while !rest.is_empty() {
        if chunks.len() >= limits.chunks {
            return Err(BoundError::Chunks { is: chunks.len() + 1, limit: limits.chunks });
        }
        let start = bytes.len() - rest.left();
        if rest.take(4)? != MAGIC {
            return Err(BoundError::Malformed("wrong magic bytes"));
        }
        rest.take(4)?;
        let kind = rest.take(1)?[0];
        let length = rest.uleb()?;
        let body = rest.take_u64(length)?;
        let kind = match kind {
            0 => {
                document(body, &mut budget)?;
                Kind::Document
            }
            1 => {
                budget.spend(body.len())?;
                change(body, &mut budget)?;
                Kind::Change
            }
            2 => {
                change(&budget.inflate(body)?, &mut budget)?;
                Kind::Change
            }
            3 => {
                bundle(body, &mut budget)?;
                Kind::Bundle
            }
            _ => return Err(BoundError::Malformed("unknown kind of chunk")),
        };
        chunks.push(Chunk { kind, range: start..bytes.len() - rest.left() });
    }
    Ok(Checked { chunks, inflated: limits.inflated - budget.bytes })
}

fn change(body: &[u8], budget: &mut Budget) -> Result<(), BoundError> {
    let mut reader = Reader::new(body);
    reader.hashes()?;
    reader.bytes(MAX_ACTOR_BYTES)?;
    reader.uleb()?; // seq
    reader.uleb()?; // start op
    reader.sleb()?; // time
    reader.bytes(u64::MAX)?; // message
    let actors = 1 + reader.actors()?;
    let columns = reader.columns()?;
    if columns.iter().any(|c| c.deflated) {
        return Err(BoundError::Malformed("a change with compressed columns"));
    }
    data(&mut reader, &columns, actors, budget)
}

fn document(body: &[u8], budget: &mut Budget) -> Result<(), BoundError> {
    let mut reader = Reader::new(body);
    let actors = reader.actors()?;
    reader.hashes()?;
    let changes = reader.columns()?;
    let operations = reader.columns()?;
    data(&mut reader, &changes, actors, budget)?;
    data(&mut reader, &operations, actors, budget)
}

fn bundle(body: &[u8], budget: &mut Budget) -> Result<(), BoundError> {
    let mut reader = Reader::new(body);
    reader.hashes()?;
    let actors = reader.actors()?;
    let changes = reader.columns()?;
    data(&mut reader, &changes, actors, budget)?;
    let operations = reader.columns()?;
    data(&mut reader, &operations, actors, budget)
}

fn data(reader: &mut Reader<'_>, columns: &[Column], actors: u64, budget: &mut Budget) -> Result<(), BoundError> {
    for column in columns {
        let raw = reader.take_u64(column.length)?;
        let bytes = if column.deflated {
            budget.inflate(raw)?
        } else {
            budget.spend(raw.len())?;
            Cow::Borrowed(raw)
        };
        column.walk(&bytes, actors, budget)?;
    }
    Ok(())
}

struct Budget {
    limits: Limits,
    bytes: usize,
}

impl Budget {
    fn spend(&mut self, bytes: usize) -> Result<(), BoundError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(BoundError::Inflated { limit: self.limits.inflated })?;
        Ok(())
    }

    /// Inflates into a buffer that never grows past what is left of the budget.
    fn inflate(&mut self, raw: &[u8]) -> Result<Cow<'static, [u8]>, BoundError> {
        let mut bytes = Vec::new();
        let mut decoder = DeflateDecoder::new(raw).take(self.bytes as u64 + 1);
        decoder.read_to_end(&mut bytes).map_err(|_| BoundError::Malformed("broken deflate stream"))?;
        self.spend(bytes.len())?;
        Ok(Cow::Owned(bytes))
    }

    /// Adds `count` rows to `rows`, of which one column may hold [`Limits::rows`].
    fn rows(&self, rows: &mut u64, count: u64) -> Result<(), BoundError> {
        *rows = rows.saturating_add(count);
        if *rows > self.limits.rows { Err(BoundError::Rows { limit: self.limits.rows }) } else { Ok(()) }
    }
}

/// What one row of a column is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Group,
    Actor,
    Unsigned,
    Delta,
    Boolean,
    Text,
    Raw,
}

struct Column {
    form: Form,
    deflated: bool,
    length: u64,
}

impl Column {
    fn walk(&self, bytes: &[u8], actors: u64, budget: &mut Budget) -> Result<(), BoundError> {
        let mut reader = Reader::new(bytes);
        let mut rows = 0;
        match self.form {
            Form::Raw => return Ok(()),
            Form::Boolean => {
                while !reader.is_empty() {
                    budget.rows(&mut rows, reader.uleb()?)?;
                }
                return Ok(());
            }
            _ => {}
        }
        let mut sum = 0;
        while !reader.is_empty() {
            match reader.sleb()? {
                0 => budget.rows(&mut rows, reader.uleb()?)?,
                run @ 1.. => {
                    budget.rows(&mut rows, run.unsigned_abs())?;
                    self.value(&mut reader, run.unsigned_abs(), actors, &mut sum, budget)?;
                }
                literal => {
                    budget.rows(&mut rows, literal.unsigned_abs())?;
                    for _ in 0..literal.unsigned_abs() {
                        self.value(&mut reader, 1, actors, &mut sum, budget)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One value that stands `times` times. `sum` is the column's running total where it has one.
    fn value(
        &self,
        reader: &mut Reader<'_>,
        times: u64,
        actors: u64,
        sum: &mut i64,
        budget: &mut Budget,
    ) -> Result<(), BoundError> {
        match self.form {
            Form::Group => {
                let mut grouped = u64::try_from(*sum).unwrap_or(u64::MAX);
                budget.rows(&mut grouped, reader.uleb()?.saturating_mul(times))?;
                *sum = i64::try_from(grouped).unwrap_or(i64::MAX);
            }
            Form::Actor => {
                if reader.uleb()? >= actors {
                    return Err(BoundError::Malformed("an actor that is not listed"));
                }
            }
            Form::Unsigned => {
                reader.uleb()?;
            }
            Form::Delta => {
                // Automerge adds these up; an overflow would panic there.
                let step = i128::from(reader.sleb()?) * i128::from(times);
                *sum = i64::try_from(i128::from(*sum) + step).map_err(|_| BoundError::Malformed("a counter overflows"))?;
            }
            Form::Text => {
                let text = reader.bytes(u64::MAX)?;
                // The first copy is paid for with the column.
                budget.spend(text.len().saturating_mul(usize::try_from(times - 1).unwrap_or(usize::MAX)))?;
            }
            Form::Boolean | Form::Raw => unreachable!("walked by their own rules"),
        }
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    const ENDS: BoundError = BoundError::Malformed("it ends too early");

    fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn left(&self) -> usize {
        self.0.len()
    }
    fn take(&mut self, count: usize) -> Result<&'a [u8], BoundError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Self::ENDS)?;
        self.0 = rest;
        Ok(taken)
    }
    fn take_u64(&mut self, count: u64) -> Result<&'a [u8], BoundError> {
        self.take(usize::try_from(count).map_err(|_| Self::ENDS)?)
    }
    fn uleb(&mut self) -> Result<u64, BoundError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BoundError::Malformed("a number is too long"))
    }
    fn sleb(&mut self) -> Result<i64, BoundError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte != 0 && byte != 0x7f {
                break;
            }
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let used = shift + 7;
                return Ok(if used < 64 && byte & 0x40 != 0 { value | (-1 << used) } else { value });
            }
        }
        Err(BoundError::Malformed("a number is too long"))
    }
    fn bytes(&mut self, limit: u64) -> Result<&'a [u8], BoundError> {
        let length = self.uleb()?;
        if length > limit {
            return Err(BoundError::Malformed("a name is too long"));
        }
        self.take_u64(length)
    }
    fn hashes(&mut self) -> Result<(), BoundError> {
        let count = self.uleb()?;
        if count > MAX_HASHES {
            return Err(BoundError::Malformed("too many heads or dependencies"));
        }
        self.take_u64(count * 32).map(drop)
    }
    fn actors(&mut self) -> Result<u64, BoundError> {
        let count = self.uleb()?;
        if count > MAX_ACTORS {
            return Err(BoundError::Malformed("too many actors"));
        }
        for _ in 0..count {
            self.bytes(MAX_ACTOR_BYTES)?;
        }
        Ok(count)
    }
    fn columns(&mut self) -> Result<Vec<Column>, BoundError> {
        let count = self.uleb()?;
        if count > MAX_COLUMNS {
            return Err(BoundError::Malformed("too many columns"));
        }
        (0..count)
            .map(|_| {
                let specification = self.uleb()?;
                let form = match specification & 0b111 {
                    0 => Form::Group,
                    1 => Form::Actor,
                    2 | 6 => Form::Unsigned,
                    3 => Form::Delta,
                    4 => Form::Boolean,
                    5 => Form::Text,
                    _ => Form::Raw,
                };
                Ok(Column { form, deflated: specification & 0b1000 != 0, length: self.uleb()? })
            })
            .collect()
    }
}

/// A deflate stream of `count` zeros, for tests of bombs.
#[cfg(test)]
pub(super) fn deflated_zeros(count: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![0; 1 << 20];
    for _ in 0..count >> 20 {
        encoder.write_all(&block).unwrap();
    }
    encoder.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::{Automerge, ROOT, transaction::Transactable as _};
    use proptest::prelude::*;

    fn uleb(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let byte = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                out.push(byte);
                return out;
            }
            out.push(byte | 0x80);
        }
    }

    fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; 4]);
        bytes.push(kind);
        bytes.extend(uleb(body.len() as u64));
        bytes.extend(body);
        bytes
    }

    /// The body of a change with one column.
    fn change_with(specification: u64, column: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 1, 7, 1, 1, 0, 0, 0, 1];
        body.extend(uleb(specification));
        body.extend(uleb(column.len() as u64));
        body.extend(column);
        chunk(1, &body)
    }

    #[test]
    fn a_megabyte_that_inflates_to_a_gibibyte_is_refused_in_bounded_memory() {
        let bomb = deflated_zeros(1 << 30);
        assert!(bomb.len() < 2 << 20, "{}", bomb.len());
        let error = check(&chunk(2, &bomb), Limits::DOCUMENT).unwrap_err();
        assert_eq!(error, BoundError::Inflated { limit: 4 << 20 });
        assert!(error.to_string().contains("inflate to more than 4194304 bytes"));

        // The same in a column of a document, and of a bundle.
        let mut body = vec![0, 0, 0, 1];
        body.extend(uleb(0x5f));
        body.extend(uleb(bomb.len() as u64));
        body.extend(&bomb);
        assert_eq!(check(&chunk(0, &body), Limits::DOCUMENT).unwrap_err(), error);
        let mut body = vec![0, 0, 1];
        body.extend(uleb(0x5f));
        body.extend(uleb(bomb.len() as u64));
        body.extend(&bomb);
        assert_eq!(check(&chunk(3, &body), Limits::DOCUMENT).unwrap_err(), error);
    }

    #[test]
    fn a_run_of_a_billion_rows_is_refused() {
        let rows = BoundError::Rows { limit: 1_024 };
        for specification in [0x42, 0x01, 0x13, 0x15, 0x34, 0x70] {
            let mut run = vec![0x80, 0x80, 0x80, 0x80, 0x04];
            if specification != 0x34 {
                run.push(0);
            }
            assert_eq!(check(&change_with(specification, &run), Limits::CHANGE).unwrap_err(), rows, "{specification:#x}");
        }
        // One row that groups a billion.
        let group = [1, 0x80, 0x80, 0x80, 0x80, 0x04];
        assert_eq!(check(&change_with(0x70, &group), Limits::CHANGE).unwrap_err(), rows);
    }

    #[test]
    fn a_long_key_repeated_is_counted_each_time() {
        let mut run = vec![0x80, 0x04]; // 512 times
        run.extend(uleb(2_048));
        run.extend([b'x'; 2_048]);
        assert!(matches!(check(&change_with(0x15, &run), Limits::CHANGE), Err(BoundError::Inflated { .. })));
    }

    #[test]
    fn an_unlisted_actor_and_an_overflowing_counter_are_refused() {
        assert_eq!(
            check(&change_with(0x01, &[1, 1]), Limits::CHANGE).unwrap_err(),
            BoundError::Malformed("an actor that is not listed")
        );
        let mut deltas = vec![2];
        deltas.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]);
        assert_eq!(check(&change_with(0x13, &deltas), Limits::CHANGE).unwrap_err(), BoundError::Malformed("a counter overflows"));
    }

    #[test]
    fn what_automerge_writes_passes() {
        let mut doc = Automerge::new();
        for round in 0..200 {
            let mut tx = doc.transaction();
            tx.put(ROOT, format!("key{}", round % 40), "x".repeat(round)).unwrap();
            tx.commit();
        }
        let saved = doc.save();
        assert_eq!(check(&saved, Limits::DOCUMENT).unwrap().chunks, [Chunk { kind: Kind::Document, range: 0..saved.len() }]);
        let hashes: Vec<_> = doc.get_changes(&[]).iter().map(automerge::Change::hash).collect();
        let bundle = doc.bundle(hashes).unwrap();
        assert_eq!(check(bundle.bytes(), Limits::DOCUMENT).unwrap().chunks[0].kind, Kind::Bundle);
        let all: Vec<u8> = doc.get_changes(&[]).iter_mut().flat_map(|c| c.bytes().into_owned()).collect();
        assert_eq!(check(&all, Limits::DOCUMENT).unwrap().chunks.len(), 200);
        assert!(matches!(check(&all, Limits::CHANGE), Err(BoundError::Chunks { .. })));
    }

    proptest! {
        #[test]
        fn random_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..512), kind in 0u8..4) {
            let _ = check(&bytes, Limits::DOCUMENT);
            let _ = check(&chunk(kind, &bytes), Limits::DOCUMENT);
        }
    }
}
