//! What is made from artifacts in the background – chunks and deltas – one at a time, on a thread of its own.
//!
//! A build never holds a request up, and the end of the process never waits for one: a build that was cut off is found by its
//! row, which says since when it has been under way, and begun again; after [`GIVEN_UP_AFTER`] beginnings it is left alone, since
//! what ends the process each time must not do so for ever.

use super::artifacts::Artifacts;
use super::deltas::{Asked, BUDGET_BYTES};
use super::error::RegistryError;
use aidos_protocol::time::Micros;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// Who has stored what was made here.
pub(super) const MAKER: &str = "system";
/// Beginnings of one build.
pub(super) const GIVEN_UP_AFTER: u64 = 3;
/// A build that has been under way for longer was cut off: packing the largest artifact takes about twenty minutes.
const STALE_SECONDS: i64 = 60 * 60;
/// The pause after a build that failed, for want of room most likely.
const AGAIN_SECONDS: i64 = 10 * 60;
/// Between two looks without a question: what another control plane left in the middle, and what is to be tried again.
const LOOK: Duration = Duration::from_secs(60);
/// How long questions gather before they are written down: a wave asks within seconds, and each write is one transaction.
const GATHER: Duration = Duration::from_millis(500);

/// What builds share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Builds {
    pub(super) asked: Arc<Asked>,
    /// Bytes of patches that are kept of one tenant.
    pub(super) budget: u64,
    wake: Arc<Notify>,
    scratch: Arc<Path>,
}

impl Builds {
    /// Files under way lie in `scratch`, which is emptied: what an earlier process left there is worth nothing.
    pub(super) fn open(scratch: PathBuf) -> io::Result<Self> {
        match std::fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&scratch)?;
        Ok(Self { asked: Arc::default(), budget: BUDGET_BYTES, wake: Arc::default(), scratch: scratch.into() })
    }

    /// There is something to look at.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// A file that goes with its handle.
    pub(super) fn scratch(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.scratch)
    }
}

/// Builds begun before this were cut off.
pub(super) fn stale_before(now: Micros) -> Micros {
    now.plus_seconds(-STALE_SECONDS)
}

/// When a build that failed is tried again.
pub(super) fn again_after(now: Micros) -> Micros {
    now.plus_seconds(AGAIN_SECONDS)
}

/// Runs `work`, which may take minutes, on a thread that the end of the process does not wait for.
pub(super) async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    let (done, finished) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody waits any more once the control plane ends.
        let _ = done.send(work());
    })?;
    finished.await.map_err(|_| RegistryError::Build("it ended early, which is a defect".into()))?
}

impl Artifacts {
    /// Makes chunks and deltas until the stop.
    pub(crate) async fn run_builds(self, stop: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.build_all().await {
                    tracing::warn!(%error, "chunks and deltas are not made; trying again later");
                }
                // A question during the work is kept, and ends the wait at once.
                let _ = tokio::time::timeout(LOOK, self.builds.wake.notified()).await;
                tokio::time::sleep(GATHER).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Keeps no more than `bytes` of patches of one tenant.
    #[cfg(test)]
    pub(super) fn limit_patches(&mut self, bytes: u64) {
        self.builds.budget = bytes;
    }

    /// Makes everything that is due.
    pub(super) async fn build_all(&self) -> Result<(), RegistryError> {
        loop {
            self.write_down_questions().await?;
            // Chunks first: they serve every device, and say what a delta has to be smaller than.
            if !self.chunk_one().await? && !self.patch_one().await? {
                return Ok(());
            }
        }
    }
}
