//! What came from neighbours, from afar, and went to neighbours.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) near: AtomicU64,
    pub(super) afar: AtomicU64,
    pub(super) given: AtomicU64,
    pub(super) wrong: AtomicU64,
}

/// Bytes and events since the agent started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of artifacts that neighbours gave.
    pub near: u64,
    /// Bytes of artifacts that came over the site's line.
    pub afar: u64,
    /// Bytes given to neighbours.
    pub given: u64,
    /// Times that what neighbours gave was not what it should be.
    pub wrong: u64,
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals { near: read(&self.near), afar: read(&self.afar), given: read(&self.given), wrong: read(&self.wrong) }
    }
}
