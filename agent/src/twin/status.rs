//! The status map that every component writes to, and the session's way to read it.
//!
//! It lives in memory: after a restart the components say anew what is so, under the next boot id.

use crate::link::{PortError, StatusPort, StatusPosition};
use aidos_protocol::frame::{StatusAck, StatusDelta};
use aidos_protocol::twin::Status;
use async_trait::async_trait;
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The device's status. Cheap to clone; all clones are one map.
#[derive(Debug, Clone)]
pub struct StatusMap {
    status: Arc<Mutex<Status>>,
    changed: Arc<watch::Sender<u64>>,
}

impl StatusMap {
    /// The empty status of the agent's start number `boot_id`.
    pub fn new(boot_id: u64) -> Self {
        Self { status: Arc::new(Mutex::new(Status::new(boot_id))), changed: Arc::new(watch::channel(0).0) }
    }

    /// Sets `path` to `value`. A value that the status cannot hold is logged and the old one stays: no component fails because
    /// it cannot report.
    pub fn set(&self, path: &str, value: &impl Serialize) {
        let outcome = self.lock().set(path, value);
        match outcome {
            Ok(true) => self.changed.send_modify(|count| *count += 1),
            Ok(false) => {}
            Err(error) => tracing::warn!(path, %error, "this status cannot be reported"),
        }
    }

    /// Removes `path`.
    pub fn remove(&self, path: &str) {
        if self.lock().remove(path) {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// The JSON value at `path`.
    pub fn get(&self, path: &str) -> Option<serde_json::Value> {
        self.lock().get(path).and_then(|text| serde_json::from_slice(text).ok())
    }

    /// All of it, for people at the device.
    pub fn all(&self) -> serde_json::Map<String, serde_json::Value> {
        let status = self.lock();
        let read = |(path, text): (&str, &[u8])| Some((path.to_owned(), serde_json::from_slice(text).ok()?));
        status.iter().filter_map(read).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // No operation of the map leaves it half done.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StatusPort for StatusMap {
    async fn position(&self) -> Result<StatusPosition, PortError> {
        let (boot_id, seq) = self.lock().position();
        Ok(StatusPosition { boot_id, seq })
    }

    async fn delta_since(&self, acked: Option<StatusPosition>) -> Result<Option<StatusDelta>, PortError> {
        Ok(self.lock().delta_since(acked.map(|at| (at.boot_id, at.seq))))
    }

    async fn ack(&self, ack: StatusAck) -> Result<(), PortError> {
        let (boot_id, _) = self.lock().position();
        if ack.boot_id > boot_id {
            // The plane knows a later start than this one: the count was lost with the ledger.
            self.lock().rebase(ack.boot_id + 1);
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
