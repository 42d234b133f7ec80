//! Makes the target from the base and a patch, a block at a time.
//!
//! Memory, in windows of at most 8 MiB: what a block makes, its streams, the largest of them as stored or sparse (two), for
//! `patch-from` a part of the base of two windows, and the library's own buffers of about one.

use super::block::{Block, STREAMS, cut, streams, word};
use super::{Algorithm, DeltaError, HEADER_BYTES, Header, operation, planes};
use crate::artifact::Digester;
use std::io::{Read, Seek, SeekFrom, Write};

/// Bytes that are copied at a time where nothing needs more.
const PIECE: usize = 128 << 10;

/// Reads `patch` and writes what it makes of `base` to `target`. `window_log` is the largest window that this device allows.
/// `Ok` means that the target's digest is right; after an error what was written is worthless.
pub fn apply<B: Read + Seek, P: Read, T: Write>(
    mut base: B,
    mut patch: P,
    mut target: T,
    window_log: u8,
) -> Result<Header, DeltaError> {
    let mut head = [0; HEADER_BYTES];
    patch.read_exact(&mut head).map_err(cut)?;
    let header = Header::decode(&head)?;
    if header.window_log > window_log {
        return Err(DeltaError::Window { needed: header.window_log, allowed: window_log });
    }
    let is = base.seek(SeekFrom::End(0))?;
    if is != header.base_size && header.algorithm != Algorithm::Stored && header.algorithm != Algorithm::Full {
        return Err(DeltaError::Base { expected: header.base_size, is });
    }
    let mut sink = Sink { target: &mut target, digester: Digester::default(), left: header.target_size };
    match header.algorithm {
        Algorithm::Stored => copy(&mut patch, &mut sink)?,
        Algorithm::Full => {
            let mut decoder = zstd::Decoder::new(&mut patch)?.single_frame();
            decoder.window_log_max(u32::from(header.window_log))?;
            copy(&mut decoder, &mut sink)?;
        }
        Algorithm::PatchFrom => patch_from(&mut base, &mut patch, &mut sink, &header)?,
        Algorithm::Tensors | Algorithm::Bsdiff => mapped(&mut base, &mut patch, &mut sink, &header)?,
    }
    let is = sink.digester.finish();
    if is != header.target {
        return Err(DeltaError::Mismatch { expected: header.target, is });
    }
    target.flush()?;
    Ok(header)
}

/// What is written, with its digest and what is still to come.
struct Sink<'a, T> {
    target: &'a mut T,
    digester: Digester,
    left: u64,
}

impl<T: Write> Sink<'_, T> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(DeltaError::Malformed("it makes too many bytes"))?;
        self.digester.update(bytes);
        Ok(self.target.write_all(bytes)?)
    }
}

/// Exactly as many bytes as the target lacks; more are not read.
fn copy<T: Write>(from: &mut impl Read, sink: &mut Sink<'_, T>) -> Result<(), DeltaError> {
    let mut buffer = vec![0; PIECE];
    while sink.left > 0 {
        let most = usize::try_from(sink.left).unwrap_or(PIECE).min(PIECE);
        match from.read(&mut buffer[..most]) {
            Ok(0) => return Err(DeltaError::Malformed("it is cut short")),
            Ok(read) => sink.put(&buffer[..read])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(decompressed(error)),
        }
    }
    Ok(())
}

/// zstd's complaints are damage; what the system says about files keeps its kind.
fn decompressed(error: std::io::Error) -> DeltaError {
    match error.raw_os_error() {
        Some(_) => DeltaError::Io(error),
        None => DeltaError::Malformed("it does not decompress"),
    }
}

fn patch_from<B: Read + Seek, T: Write>(
    base: &mut B,
    patch: &mut impl Read,
    sink: &mut Sink<'_, T>,
    header: &Header,
) -> Result<(), DeltaError> {
    while sink.left > 0 {
        let mut place = [0; 8];
        patch.read_exact(&mut place).map_err(cut)?;
        let place = u64::from_le_bytes(place);
        let (length, makes, stored) = (word(patch)?, word(patch)?, word(patch)?);
        let within = place.checked_add(length as u64).is_some_and(|end| end <= header.base_size);
        if !within || length > 2 * header.window() || makes == 0 || makes > header.window() || stored > makes + PIECE {
            return Err(DeltaError::Malformed("a block that is not allowed"));
        }
        let mut part = vec![0; length];
        base.seek(SeekFrom::Start(place))?;
        base.read_exact(&mut part)?;
        let mut frame = patch.by_ref().take(stored as u64);
        let mut made = 0;
        {
            let reader = std::io::BufReader::with_capacity(PIECE, &mut frame);
            let mut decoder = zstd::Decoder::with_ref_prefix(reader, &part)?.single_frame();
            decoder.window_log_max(u32::from(header.window_log))?;
            let mut buffer = vec![0; PIECE];
            loop {
                let read = decoder.read(&mut buffer).map_err(decompressed)?;
                made += read;
                if made > makes {
                    return Err(DeltaError::Malformed("a block makes too many bytes"));
                }
                if read == 0 {
                    break;
                }
                sink.put(&buffer[..read])?;
            }
        }
        if made != makes || frame.limit() > 0 {
            return Err(DeltaError::Malformed("a block of another length"));
        }
    }
    Ok(())
}

fn mapped<B: Read + Seek, T: Write>(
    base: &mut B,
    patch: &mut impl Read,
    sink: &mut Sink<'_, T>,
    header: &Header,
) -> Result<(), DeltaError> {
    let missing = DeltaError::Malformed("a stream ends early");
    let mut made = Vec::new();
    while sink.left > 0 {
        let block = Block::read(patch, header.window())?;
        let operations = operation::decode(&block.streams[0], block.operations, block.length as u64, header.base_size)?;
        made.resize(block.length, 0);
        let (mut used, mut at) = ([0; STREAMS], 0);
        for step in operations {
            // The operations were checked to make exactly the block.
            let length = usize::try_from(step.length).expect("within a block");
            let bytes = &mut made[at..at + length];
            at += length;
            if step.kind.reads_base() {
                base.seek(SeekFrom::Start(step.base))?;
                base.read_exact(bytes)?;
            }
            let Some(width) = step.kind.width() else { continue };
            let (each, range) = (length / width.bytes(), streams(step.kind));
            let mut taken = [&[][..]; 4];
            for (plane, n) in taken.iter_mut().zip(range) {
                let Some(bytes) = block.streams[n].get(used[n]..used[n] + each) else { return Err(missing) };
                *plane = bytes;
                used[n] += each;
            }
            planes::join(step.kind, &taken[..width.bytes()], bytes);
        }
        if used.iter().zip(&block.streams).skip(1).any(|(used, stream)| *used != stream.len()) {
            return Err(DeltaError::Malformed("a stream goes on beyond the block"));
        }
        sink.put(&made)?;
    }
    Ok(())
}
