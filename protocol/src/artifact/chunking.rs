//! Cuts bytes where their content says so (FastCDC), so that an insertion moves chunks instead of changing all that follow.
//!
//! The cut points are part of the contract: two versions of one artifact share chunks only while all planes cut alike.

use fastcdc::v2020::{Error, StreamCDC};
use std::io::{self, Read};

/// The shortest chunk, but for an artifact's last: shorter ones make longer recipes than they save bytes.
pub const MIN_CHUNK_BYTES: u32 = 32 << 10;
/// The longest chunk: what a broken connection costs at most.
pub const MAX_CHUNK_BYTES: u32 = 64 << 10;
/// From here on the cutter takes a boundary more readily: late enough that chunks are not all of the least length, early enough
/// that four of five end at a boundary and not at the greatest length.
const USUAL_CHUNK_BYTES: u32 = 40 << 10;

/// The chunks of a source, one after another; holds a few of them in memory at a time.
pub struct Chunker<R: Read> {
    cutter: StreamCDC<R>,
}

impl<R: Read> Chunker<R> {
    /// Cuts what `source` yields.
    pub fn new(source: R) -> Self {
        let size = |bytes: u32| bytes as usize;
        let cutter = StreamCDC::new(source, size(MIN_CHUNK_BYTES), size(USUAL_CHUNK_BYTES), size(MAX_CHUNK_BYTES));
        Self { cutter }
    }
}

impl<R: Read> Iterator for Chunker<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.cutter.next()?.map(|chunk| chunk.data).map_err(|error| match error {
            Error::IoError(error) => error,
            error => io::Error::other(error.to_string()),
        }))
    }
}
