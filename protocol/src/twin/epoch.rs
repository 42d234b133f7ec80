//! Epochs: when history has outgrown the state, a new document begins with the state alone.
//!
//! Only the plane begins epochs. It keeps the old document for a while, since a device that was away still edits that one: such
//! an edit is merged into the old document first, where it meets what it was concurrent with, and what it changed there is then
//! written into the new document, as of that document's beginning, so that it is concurrent with everything written since.

use super::edit::{Edit, Room};
use super::intent::EPOCH_MESSAGE;
use super::{Author, ChangeHash, Intent, IntentError};
use crate::DeviceId;
use crate::time::Micros;

/// Changes after which the heap of a document is about twice that of a new one.
const SOFT_CHANGES: usize = 64;
/// Fewer changes than this are not worth an epoch, whatever they weigh: each costs the device a whole document.
const MIN_CHANGES: usize = 16;
/// Changes after which an epoch ends although the device has not seen all of it.
const HARD_CHANGES: usize = 500;
/// Inflated bytes after which it ends likewise: a quarter of what a reader takes.
const HARD_BYTES: usize = 1 << 20;

/// What became of a site's edits that were made on an old epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replay {
    /// Written into the present document.
    pub kept: Vec<Edit>,
    /// Lost already in the old document, against a write at the same time.
    pub lost: Vec<Edit>,
}

impl Intent {
    /// Whether a new epoch should begin, given the bytes of the document as saved now and as its epoch began, and whether the
    /// device has everything of it (a device that lacks some is spared the whole document until 500 changes).
    pub fn needs_compaction(&self, saved: usize, birth: usize, device_has_all: bool) -> bool {
        let changes = self.changes;
        // Before it is twice as large as it began.
        let outgrown = changes >= SOFT_CHANGES || (changes >= MIN_CHANGES && 4 * saved > 7 * birth);
        changes >= HARD_CHANGES || self.inflated > HARD_BYTES || (device_has_all && outgrown)
    }

    /// The document of the next epoch: the state as it is shown, without its history. Losing values of conflicts stay behind.
    pub fn compact(&self, now: Micros) -> Result<Self, IntentError> {
        let mut next = Self::genesis(self.epoch() + 1);
        next.write(&Author::System, &self.state(), now, Some(EPOCH_MESSAGE))?;
        // The birth of the new epoch is found by its message: read as any reader would.
        Self::load(&next.save())
    }

    /// Writes into this document what people at `device` changed on an earlier one: of their `edits` those that still show in
    /// `old`, the earlier document with the edits merged.
    pub fn replay(
        &mut self,
        old: &Self,
        device: DeviceId,
        user: &str,
        edits: &[Edit],
        now: Micros,
    ) -> Result<Replay, IntentError> {
        let mut replay = Replay::default();
        for edit in edits {
            let shown = old.text(edit.room(), edit.key()) == edit.text();
            if shown { &mut replay.kept } else { &mut replay.lost }.push(edit.clone());
        }
        let mut fork = Self { doc: self.doc.fork_at(&self.replay_heads())?, ..self.clone() };
        let author = Author::Replayed { device, user: user.to_owned() };
        let cells: Vec<(Room, String, Option<String>)> =
            replay.kept.iter().map(|edit| (edit.room(), edit.key().to_owned(), edit.text())).collect();
        if fork.write(&author, &cells, now, None)?.is_some() {
            self.doc.merge(&mut fork.doc)?;
            (self.seqs, self.changes, self.inflated) = (fork.seqs, fork.changes, fork.inflated);
        }
        Ok(replay)
    }

    /// The epoch's beginning and whatever was replayed onto it since, which the next replay has to follow.
    fn replay_heads(&self) -> Vec<ChangeHash> {
        let replayed = |meta: &automerge::ChangeMetadata<'_>| matches!(Author::of(&meta.actor), Some(Author::Replayed { .. }));
        let since = self.doc.get_changes_meta(self.birth());
        // Each follows the ones before it, so the last stands for all.
        since.iter().rfind(|meta| replayed(meta)).map_or_else(|| self.birth().to_vec(), |meta| vec![meta.hash])
    }
}
