//! Gathers what `doctor` judges from the components of a running agent: for people at the device and, as a `probe`, from afar.
//!
//! It mends nothing but model files that have rotted, which it has fetched again.

use super::ports::Links;
use crate::admin::{Finding, Health, Inference, findings};
use crate::clock;
use crate::commands::Examine;
use crate::infer::Models;
use crate::link;
use crate::models::Reconciler;
use crate::neighbours::Neighbours;
use crate::serve::Traffic;
use crate::state::{Ledger, Spool, free_bytes};
use crate::trust::Guard;
use aidos_protocol::api::commands::Check;
use async_trait::async_trait;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What is looked at. Cheap to clone.
#[derive(Clone)]
pub(super) struct Checkup {
    pub(super) data_dir: PathBuf,
    pub(super) serve_addr: SocketAddr,
    pub(super) ledger: Ledger,
    pub(super) links: Links,
    pub(super) models: Models,
    pub(super) reconciler: Reconciler,
    pub(super) neighbours: Neighbours,
    pub(super) guard: Guard,
    pub(super) spool: Spool,
    pub(super) traffic: Traffic,
}

impl Checkup {
    /// Looks, and judges. Takes as long as reading all model files does.
    pub(super) async fn findings(&self) -> Vec<Finding> {
        let identity = self.links.identity();
        let link = self.links.handle().state().borrow().clone();
        let (ledger, dir) = (self.ledger.clone(), self.data_dir.clone());
        let disk = tokio::task::spawn_blocking(move || (ledger.check().err().map(|e| e.to_string()), write_error(&dir)));
        let (disk, rotten, reached) = tokio::join!(disk, self.reconciler.verify_files(), link::reach(&identity, link.transport));
        let (ledger_error, write_error) = disk.unwrap_or_else(|error| (Some(error.to_string()), None));
        let health = Health {
            now: clock::now(),
            certificate: Some(identity.validity()),
            identity_error: None,
            clock_offset_us: link.clock_offset_us,
            disk_free: free_bytes(&self.data_dir).ok(),
            write_error,
            reached,
            inference: Some(Inference { address: self.serve_addr, drained: self.traffic.closed(), stuck: self.models.stuck() }),
            transport: link.transport.map(str::to_owned),
            link_note: link.note,
            ledger_error,
            ledger_set_aside: self.ledger.set_aside().map(|aside| aside.path.display().to_string()),
            rotten: rotten.unwrap_or_default(),
            models: self.reconciler.statuses(),
            trust: Some(self.guard.told()),
            spool: Some(self.spool.stats().await),
            neighbours: Some(self.neighbours.view()),
            running: true,
        };
        if !health.rotten.is_empty() {
            self.reconciler.retry();
        }
        findings(&health)
    }
}

#[async_trait]
impl Examine for Checkup {
    async fn examine(&self) -> Vec<Check> {
        self.findings().await.into_iter().map(Check::from).collect()
    }
}

/// Why a file in `dir` cannot be written through to the disk, if it cannot. It has no name and is gone with this.
fn write_error(dir: &Path) -> Option<String> {
    let written = tempfile::tempfile_in(dir).and_then(|mut file| {
        file.write_all(b"written")?;
        file.sync_all()
    });
    written.err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_takes_no_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write_error(dir.path()), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(write_error(&dir.path().join("gone")).is_some());
    }
}
