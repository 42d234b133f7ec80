//! Importing a bundle: files for later deployments, brought on a stick.
//!
//! A bundle only fills the store, which activates nothing: what runs is decided by intent, and intent names files by digest. A
//! bundle that lies therefore wastes a minute and some disk, within the limits checked here, and no more. It is read as a
//! stream; nothing in it is ever a path on this device.
//!
//! On a device that trusts a root, the metadata that comes first is verified as if it came from the repository, and nothing of a
//! bundle is kept that it does not vouch for.

#[cfg(test)]
mod tests;

use crate::state::{ChunkError, Chunks, LedgerError, Pins};
use crate::trust::Unvouched;
use aidos_protocol::artifact::Digest;
use aidos_protocol::bundle::{self, BundledFile, BundledModel, INDEX, Index, IndexError, MAX_INDEX_BYTES};
use aidos_protocol::time::Micros;
use aidos_protocol::trust::Wanted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

/// How long imported files wait for their deployment: an offline site is visited by a person every few weeks.
pub const KEPT_DAYS: i64 = 30;
const DAY: i64 = 86_400_000_000;
/// Bytes between the archive and the store.
const BUFFER: usize = 128 << 10;

/// Why a bundle was not imported. Files that came whole before that stay.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The archive breaks off or is none.
    #[error("the bundle cannot be read to its end: {0}; copy it again, and compare the sizes")]
    Archive(#[from] io::Error),
    /// Something in it that a bundle does not have.
    #[error("this is not a bundle: {0}; make one with `aidos bundle export`")]
    Shape(String),
    /// Its index cannot be used.
    #[error("the bundle cannot be imported: {0}")]
    Index(#[from] IndexError),
    /// A file is not what its name says, or has no room.
    #[error(transparent)]
    Store(#[from] ChunkError),
    /// Its models are not vouched for.
    #[error("the bundle is not taken: {0}")]
    Unvouched(#[from] Unvouched),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What an import brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// The model versions whose files are here now.
    pub models: Vec<BundledModel>,
    /// Files that came.
    pub stored: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Files that were here already.
    pub present: u64,
    /// Until when they wait for a deployment.
    pub kept_until: Micros,
}

/// Judges the models of a bundle by the metadata that came with it, by file name, before any of their files is kept.
pub type Judge<'a> = &'a dyn Fn(BTreeMap<String, Vec<u8>>, &[Wanted]) -> Result<(), Unvouched>;

/// Imports the bundle at `path`. Blocks for as long as reading it takes.
pub fn import_file(path: &Path, store: &Chunks, pins: &Pins, judge: Judge<'_>, now: Micros) -> Result<Imported, BundleError> {
    let failed = |source| BundleError::File { path: path.display().to_string(), source };
    // A pipe or a device would be waited for without end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a file")));
    }
    import(std::fs::File::open(path).map_err(failed)?, store, pins, judge, now)
}

/// Imports a bundle from a stream.
pub fn import(bytes: impl Read, store: &Chunks, pins: &Pins, judge: Judge<'_>, now: Micros) -> Result<Imported, BundleError> {
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(BUFFER, bytes));
    // Raw: long names and other extensions of the format are then entries like others, and refused, instead of being read into
    // memory at whatever length they claim.
    let mut entries = archive.entries()?.raw(true);
    let mut first = entries.next().ok_or_else(|| BundleError::Shape("it is empty".into()))??;
    let (name, size) = plain(&first)?;
    if name != INDEX {
        return Err(BundleError::Shape(format!("it begins with `{name}`, not with `{INDEX}`")));
    }
    if size > MAX_INDEX_BYTES {
        return Err(IndexError::Long(size).into());
    }
    let mut json = Vec::new();
    first.read_to_end(&mut json)?;
    let index = Index::from_json(&json)?;
    let mut metadata = BTreeMap::new();
    for listed in &index.metadata {
        let name = bundle::metadata_name(&listed.name);
        let missing = || BundleError::Shape(format!("`{name}` is not where its index says"));
        let mut entry = entries.next().ok_or_else(missing)??;
        if plain(&entry)? != (name.clone(), listed.size) {
            return Err(missing());
        }
        // All together are bounded by the index's check.
        let mut file = Vec::new();
        entry.read_to_end(&mut file)?;
        metadata.insert(listed.name.clone(), file);
    }
    let size = |digest: &Digest| index.files.iter().find(|file| file.digest == *digest).map_or(0, |file| file.size);
    let wanted: Vec<Wanted> = index.models.iter().map(|model| Wanted::bundled(model, size(&model.digest))).collect();
    judge(metadata, &wanted)?;
    let kept_until = Micros(now.0.saturating_add(KEPT_DAYS * DAY));
    // Pinned before they come, so that nothing collects them in between.
    pins.pin(&index.files.iter().map(|file| file.digest).collect::<Vec<_>>(), kept_until)?;

    let mut awaited: BTreeMap<String, BundledFile> = index.files.iter().map(|file| (bundle::name(&file.digest), *file)).collect();
    let mut imported = Imported { models: Vec::new(), stored: 0, stored_bytes: 0, present: 0, kept_until };
    for entry in entries {
        let mut entry = entry?;
        let (name, size) = plain(&entry)?;
        let file = awaited.remove(&name);
        let file = file.ok_or_else(|| BundleError::Shape(format!("its index does not list `{name}`, or only once")))?;
        if file.size != size {
            return Err(BundleError::Shape(format!("`{name}` has {size} bytes, and {} in the index", file.size)));
        }
        if store.path(&file.digest).is_some() {
            imported.present += 1;
            continue;
        }
        take(&mut entry, file, store)?;
        imported.stored += 1;
        imported.stored_bytes += size;
    }
    if let Some(missing) = awaited.keys().next() {
        return Err(BundleError::Shape(format!("it ends before `{missing}`; copy it again")));
    }
    imported.models = index.models;
    Ok(imported)
}

/// Name and size of an entry that is a regular file of a plain name.
fn plain<R: Read>(entry: &tar::Entry<'_, R>) -> Result<(String, u64), BundleError> {
    let name: String = String::from_utf8_lossy(&entry.path_bytes()).chars().take(120).map(printable).collect();
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Err(BundleError::Shape(format!("`{name}` in it is not a file")));
    }
    Ok((name, entry.header().size()?))
}

fn printable(c: char) -> char {
    if c.is_control() { '·' } else { c }
}

fn take(bytes: &mut impl Read, file: BundledFile, store: &Chunks) -> Result<(), BundleError> {
    let mut download = store.download(file.digest, file.size)?;
    // What an interrupted download left is of the same file, but the archive begins at its beginning.
    download.restart()?;
    let mut buffer = vec![0; BUFFER];
    let copied = loop {
        match bytes.read(&mut buffer) {
            Ok(0) if download.is_complete() => break Ok(()),
            Ok(0) => break Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(length) => {
                if let Err(error) = download.write(&buffer[..length]) {
                    break Err(BundleError::from(error));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error.into()),
        }
    };
    match copied {
        Ok(()) => Ok(download.finish().map(drop)?),
        Err(error) => {
            // Bytes of which nothing is known must not be gone on from.
            download.restart()?;
            Err(error)
        }
    }
}
