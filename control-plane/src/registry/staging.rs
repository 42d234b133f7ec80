//! The staging files of uploads: bytes on their way in. A file is named by its tenant and upload id, both typed, so no name
//! from outside is ever a path. This module blocks; callers run it off the async threads.

use super::error::RegistryError;
use aidos_protocol::{ArtifactUploadId, TenantId};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The folder of staging files.
#[derive(Clone)]
pub(super) struct Staging {
    folder: PathBuf,
}

impl Staging {
    /// Opens the folder, making it if needed.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub(super) fn path(&self, tenant: TenantId, id: ArtifactUploadId) -> PathBuf {
        self.folder.join(format!("{tenant}.{id}.part"))
    }

    /// Bytes in the file; 0 when there is none.
    pub(super) fn length(&self, tenant: TenantId, id: ArtifactUploadId) -> io::Result<u64> {
        match fs::metadata(self.path(tenant, id)) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Writes `chunk` at `offset`, cutting what an interrupted write left behind it, and syncs. When this fails the file is
    /// cut back to `offset`, so that a full disk gets its space back.
    pub(super) fn write(&self, tenant: TenantId, id: ArtifactUploadId, offset: u64, chunk: &[u8]) -> io::Result<()> {
        let path = self.path(tenant, id);
        let new = !path.exists();
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(&path)?;
        if new {
            // The name itself must survive a power loss.
            File::open(&self.folder)?.sync_all()?;
        }
        file.set_len(offset)?;
        file.seek(SeekFrom::Start(offset))?;
        let written = file.write_all(chunk).and_then(|()| file.sync_data());
        if written.is_err() {
            // The first error is the one to tell.
            let _ = file.set_len(offset);
        }
        written
    }

    /// Removes the file; absent already is fine.
    pub(super) fn remove(&self, tenant: TenantId, id: ArtifactUploadId) -> io::Result<()> {
        match fs::remove_file(self.path(tenant, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The uploads that have a file; anything else in the folder is left alone.
    pub(super) fn present(&self) -> io::Result<Vec<(TenantId, ArtifactUploadId)>> {
        let mut present = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let parts = name.to_str().and_then(|name| name.strip_suffix(".part")).and_then(|name| name.split_once('.'));
            if let Some((tenant, id)) = parts
                && let (Ok(tenant), Ok(id)) = (tenant.parse(), id.parse())
            {
                present.push((tenant, id));
            }
        }
        Ok(present)
    }
}

/// Runs `work` where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RegistryError> {
    Ok(tokio::task::spawn_blocking(work).await??)
}
