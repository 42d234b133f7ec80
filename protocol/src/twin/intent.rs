//! The intent document: an automerge document that begins, for every device of the world, with the same bytes.
//!
//! Invariants. The root holds the four maps that genesis made and nobody writes to the root again, so the maps' object ids are
//! known without looking. Every value in them is one text scalar. Two documents of different epochs share no change. A document
//! that is in memory is sound: whatever came from outside was bounded ([`super::bound`]) and, where its author is not the plane,
//! authorised ([`super::authorise`]) before.

use super::bound::{self, BoundError, Kind, Limits};
use super::edit::{Edit, EditError, MAX_EDITS, Room};
use super::{Author, Authority, Conflict, IntentView, LosingValue, Refusal, authorise};
use crate::time::Micros;
use automerge::transaction::{CommitOptions, Transactable as _};
use automerge::{ActorId, Automerge, AutomergeError, Bundle, Change, ObjId, ObjType, ROOT, ReadDoc as _, ScalarValue, Value};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

pub use automerge::ChangeHash;

/// The epoch of a device that has never had another; 0 stands for "no document" in frames.
pub const FIRST_EPOCH: u32 = 1;
/// Bytes of all keys and values together, so that a document always fits one frame.
pub const MAX_CONTENT_BYTES: usize = 512 * 1024;
/// Stands in the change that carries the state of the epoch before.
pub(super) const EPOCH_MESSAGE: &str = "epoch";

/// Why an intent document cannot be read or edited.
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// The bytes stand for too much.
    #[error("intent document: {0}")]
    Bound(#[from] BoundError),
    /// Automerge cannot read or write it.
    #[error("intent document: {0}")]
    Automerge(#[from] AutomergeError),
    /// A document, but not of an intent.
    #[error("not an intent document: {0}")]
    Foreign(&'static str),
    /// The edit cannot be made.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The document would hold too much.
    #[error("the device's intent would hold {is} bytes, the limit is {MAX_CONTENT_BYTES}: shorten or remove some of it first")]
    Content {
        /// Bytes with the edit.
        is: usize,
    },
}

/// Why changes were not applied. The document is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The bytes stand for too much, or are no chunks.
    #[error(transparent)]
    Bound(#[from] BoundError),
    /// Automerge cannot read them.
    #[error("the change cannot be read: {0}")]
    Malformed(String),
    /// They follow changes that this document does not have.
    #[error("the change follows {0}, which is not known here")]
    Missing(ChangeHash),
    /// The author may not write this.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The document would hold too much.
    #[error(transparent)]
    Full(#[from] IntentError),
}

/// A key with all its values and their authors.
type Cell = (String, Vec<(Option<String>, String)>);

/// One device's intent.
#[derive(Debug, Clone)]
pub struct Intent {
    pub(super) doc: Automerge,
    pub(super) epoch: u32,
    /// Heads when the epoch began.
    pub(super) birth: Vec<ChangeHash>,
    /// How many changes each actor has made: the next one's number is known without asking automerge.
    pub(super) seqs: BTreeMap<ActorId, u64>,
    pub(super) changes: usize,
    pub(super) inflated: usize,
}

impl Intent {
    /// The document that every device and the plane begin epoch `epoch` with, byte for byte the same everywhere.
    pub fn genesis(epoch: u32) -> Self {
        let actor = Author::Genesis { epoch }.actor();
        let mut doc = Automerge::new().with_actor(actor.clone());
        let mut tx = doc.transaction();
        for room in Room::ALL {
            tx.put_object(ROOT, room.name(), ObjType::Map).expect("a new document's root takes any key");
        }
        tx.commit_with(CommitOptions::default().with_time(0));
        let birth = doc.get_heads();
        Self { doc, epoch, birth, seqs: BTreeMap::from([(actor, 1)]), changes: 1, inflated: 256 }
    }

    /// Reads a saved document, whoever sent it.
    pub fn load(bytes: &[u8]) -> Result<Self, IntentError> {
        let checked = bound::check(bytes, Limits::DOCUMENT)?;
        if checked.chunks.len() != 1 || checked.chunks[0].kind != Kind::Document {
            return Err(IntentError::Foreign("it is not one document"));
        }
        let doc = Automerge::load(bytes)?;
        let Some((_, ObjId::Id(1, genesis, _))) = doc.get(ROOT, Room::ALL[0].name())? else {
            return Err(IntentError::Foreign("it has no labels"));
        };
        let Some(Author::Genesis { epoch }) = Author::of(&genesis) else {
            return Err(IntentError::Foreign("it does not begin with an epoch"));
        };
        for (room, counter) in Room::ALL.iter().zip(1..) {
            match doc.get(ROOT, room.name())? {
                Some((Value::Object(ObjType::Map), ObjId::Id(id, actor, _))) if id == counter && actor == genesis => {}
                _ => return Err(IntentError::Foreign("its maps are not those of its epoch")),
            }
        }
        let mut seqs = BTreeMap::new();
        let mut birth = Vec::new();
        let metas = doc.get_changes_meta(&[]);
        for meta in &metas {
            let seq = seqs.entry(meta.actor.clone().into_owned()).or_insert(0);
            *seq = meta.seq.max(*seq);
            if *meta.actor == genesis || meta.message.as_deref() == Some(EPOCH_MESSAGE) {
                birth = vec![meta.hash];
            }
        }
        let changes = metas.len();
        drop(metas);
        Ok(Self { doc, epoch, birth, seqs, changes, inflated: checked.inflated })
    }

    /// The whole document, for disks and frames.
    pub fn save(&self) -> Vec<u8> {
        self.doc.save()
    }

    /// Which document of the device this is; counts from [`FIRST_EPOCH`].
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The newest changes; together with the epoch they name the state.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.doc.get_heads()
    }

    /// The heads as they travel in frames.
    pub fn wire_heads(&self) -> Vec<Bytes> {
        self.heads().iter().map(|hash| Bytes::copy_from_slice(&hash.0)).collect()
    }

    /// Heads from a frame; `None` when one of them has not 32 bytes.
    pub fn read_heads<H: AsRef<[u8]>>(heads: &[H]) -> Option<Vec<ChangeHash>> {
        heads.iter().map(|hash| hash.as_ref().try_into().ok().map(ChangeHash)).collect()
    }

    /// Heads of the document as its epoch began.
    pub fn birth(&self) -> &[ChangeHash] {
        &self.birth
    }

    /// Changes in the document, genesis included.
    pub fn len(&self) -> usize {
        self.changes
    }

    /// Whether nobody has written anything yet.
    pub fn is_empty(&self) -> bool {
        self.changes <= 1
    }

    /// Whether the document holds the change.
    pub fn has(&self, change: &ChangeHash) -> bool {
        self.doc.get_change_meta_by_hash(change).is_some()
    }

    /// Makes `edits` one change by `author`. `None` when all of it was so already. On an error nothing is changed.
    pub fn edit(&mut self, author: &Author, edits: &[Edit], now: Micros) -> Result<Option<ChangeHash>, IntentError> {
        if edits.len() > MAX_EDITS {
            return Err(EditError::Many(edits.len()).into());
        }
        edits.iter().try_for_each(Edit::check)?;
        self.check_room_for(edits)?;
        let cells: Vec<_> = edits.iter().map(|edit| (edit.room(), edit.key().to_owned(), edit.text())).collect();
        self.write(author, &cells, now, None)
    }

    /// Writes cells as one change without asking whether they are within limits.
    pub(super) fn write(
        &mut self,
        author: &Author,
        cells: &[(Room, String, Option<String>)],
        now: Micros,
        message: Option<&str>,
    ) -> Result<Option<ChangeHash>, IntentError> {
        let actor = author.actor();
        self.doc.set_actor(actor.clone());
        let rooms = Room::ALL.map(|room| self.object(room));
        let mut tx = self.doc.transaction();
        for (room, key, text) in cells {
            let object = &rooms[*room as usize];
            match text {
                Some(text) => tx.put(object, key.as_str(), text.as_str())?,
                None if tx.get(object, key.as_str())?.is_some() => tx.delete(object, key.as_str())?,
                None => {}
            }
        }
        // Seconds, as automerge has it; before the epoch and far futures are a broken clock's.
        let mut options = CommitOptions::default().with_time((now.0 / 1_000_000).clamp(0, authorise::MAX_TIME_S));
        if let Some(message) = message {
            options.set_message(message);
        }
        let (hash, _) = tx.commit_with(options);
        if hash.is_some() {
            *self.seqs.entry(actor).or_insert(0) += 1;
            self.changes += 1;
            self.inflated +=
                128 + cells.iter().map(|(_, key, text)| key.len() + text.as_ref().map_or(0, String::len)).sum::<usize>();
        }
        Ok(hash)
    }

    /// What a holder of `heads` lacks, as bytes for [`Self::apply`]: empty when it lacks nothing, `None` when it has changes
    /// that this document has not, so that only the whole document helps.
    pub fn changes_since(&self, heads: &[ChangeHash]) -> Option<Vec<u8>> {
        if heads.is_empty() || heads.iter().any(|hash| !self.has(hash)) {
            return None;
        }
        let mut changes = self.doc.get_changes(heads);
        let plain = changes.iter_mut().fold(Vec::new(), |mut bytes, change| {
            bytes.extend_from_slice(&change.bytes());
            bytes
        });
        if changes.len() > 2
            && let Ok(bundle) = self.doc.bundle(changes.iter().map(Change::hash))
            && bundle.bytes().len() < plain.len()
        {
            return Some(bundle.bytes().to_vec());
        }
        Some(plain)
    }

    /// The bytes of one change that the document holds.
    pub fn change(&self, hash: &ChangeHash) -> Option<Vec<u8>> {
        self.doc.get_change_by_hash(hash).map(|mut change| change.bytes().into_owned())
    }

    /// Applies the plane's changes or bundles; known ones are passed over. All of them or none.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), ApplyError> {
        let checked = bound::check(bytes, Limits::DOCUMENT)?;
        let mut changes = Vec::new();
        for chunk in &checked.chunks {
            let bytes = &bytes[chunk.range.clone()];
            match chunk.kind {
                Kind::Change => changes.push(read_change(bytes)?),
                Kind::Bundle => {
                    let bundle = Bundle::try_from(bytes).map_err(|e| ApplyError::Malformed(e.to_string()))?;
                    changes.extend(bundle.to_changes().map_err(|e| ApplyError::Malformed(e.to_string()))?);
                }
                Kind::Document => return Err(BoundError::Malformed("a document where changes were expected").into()),
            }
        }
        changes.retain(|change| !self.has(&change.hash()));
        let mut known = BTreeSet::new();
        let mut seqs = self.seqs.clone();
        for change in &changes {
            if let Some(missing) = change.deps().iter().find(|hash| !known.contains(*hash) && !self.has(hash)) {
                return Err(ApplyError::Missing(*missing));
            }
            let seq = seqs.entry(change.actor_id().clone()).or_insert(0);
            *seq += 1;
            if change.seq() != *seq {
                return Err(ApplyError::Malformed(format!("change {} of its author, expected {seq}", change.seq())));
            }
            known.insert(change.hash());
        }
        let count = changes.len();
        let mut doc = self.doc.clone();
        doc.apply_changes(changes).map_err(|e| ApplyError::Malformed(e.to_string()))?;
        (self.doc, self.seqs) = (doc, seqs);
        self.changes += count;
        self.inflated += checked.inflated;
        Ok(())
    }

    /// Reads one change from a site and authorises it, without applying it.
    pub fn authorise(&self, bytes: &[u8], authority: &Authority) -> Result<SiteChange, ApplyError> {
        let checked = bound::check(bytes, Limits::CHANGE)?;
        if checked.chunks.len() != 1 || checked.chunks[0].kind != Kind::Change {
            return Err(BoundError::Malformed("not one change").into());
        }
        let change = read_change(bytes)?;
        if let Some(missing) = change.deps().iter().find(|hash| !self.has(hash)) {
            return Err(ApplyError::Missing(*missing));
        }
        let (user, edits) = authorise::authorise(self, &change, authority)?;
        Ok(SiteChange { change, user, edits, inflated: checked.inflated })
    }

    /// Hash and author of one change (hexadecimal), which name it before anything else about it is believed.
    pub fn identify(bytes: &[u8]) -> Result<(ChangeHash, String), ApplyError> {
        bound::check(bytes, Limits::CHANGE)?;
        let change = read_change(bytes)?;
        Ok((change.hash(), change.actor_id().to_hex_string()))
    }

    /// Applies a change that [`Self::authorise`] let through on this very document.
    pub fn apply_site(&mut self, site: SiteChange) -> Result<Vec<Edit>, ApplyError> {
        self.check_room_for(&site.edits)?;
        let actor = site.change.actor_id().clone();
        let mut doc = self.doc.clone();
        doc.apply_changes([site.change]).map_err(|e| ApplyError::Malformed(e.to_string()))?;
        self.doc = doc;
        *self.seqs.entry(actor).or_insert(0) += 1;
        self.changes += 1;
        self.inflated += site.inflated;
        Ok(site.edits)
    }

    /// What it says at present, conflicts included.
    pub fn view(&self) -> IntentView {
        let mut view = IntentView { epoch: self.epoch, ..Default::default() };
        for room in Room::ALL {
            for (key, mut values) in self.cells(room) {
                let Some((winner, author)) = values.pop() else { continue };
                let path = format!("{room}/{key}");
                match winner.as_deref().map(|text| Edit::from_text(room, &key, Some(text))) {
                    Some(Ok(edit)) => view.overlay(&edit),
                    _ => view.unreadable.push(path.clone()),
                }
                if !values.is_empty() {
                    let losing =
                        values.into_iter().rev().map(|(value, author)| LosingValue { value: value.unwrap_or_default(), author });
                    view.conflicts.push(Conflict { path, winner: author, losing: losing.collect() });
                }
            }
        }
        view
    }

    /// The text at a key, as it is shown.
    pub fn text(&self, room: Room, key: &str) -> Option<String> {
        match self.doc.get(self.object(room), key).ok()? {
            Some((Value::Scalar(value), _)) => value.as_str().map(str::to_owned),
            _ => None,
        }
    }

    /// The keys of a room, each with all its values and their authors, the winner last. `None`: a value that is no text.
    fn cells(&self, room: Room) -> Vec<Cell> {
        let object = self.object(room);
        let value = |(value, id): (Value<'_>, ObjId)| {
            let text = match value {
                Value::Scalar(value) => match &*value {
                    ScalarValue::Str(text) => Some(text.to_string()),
                    _ => None,
                },
                Value::Object(_) => None,
            };
            let author = match id {
                ObjId::Id(_, actor, _) => Author::of(&actor).map_or_else(|| "unknown".into(), |author| author.to_string()),
                ObjId::Root => String::new(),
            };
            (text, author)
        };
        let keys = self.doc.keys(&object);
        keys.map(|key| {
            let values = self.doc.get_all(&object, key.as_str()).unwrap_or_default();
            (key, values.into_iter().map(value).collect())
        })
        .collect()
    }

    /// All cells as they are shown, for the next epoch.
    pub(super) fn state(&self) -> Vec<(Room, String, Option<String>)> {
        let winner = |room, (key, mut values): Cell| values.pop().and_then(|(text, _)| text).map(|text| (room, key, Some(text)));
        Room::ALL.into_iter().flat_map(|room| self.cells(room).into_iter().filter_map(move |cell| winner(room, cell))).collect()
    }

    /// A room's map; its id follows from the epoch.
    pub(super) fn object(&self, room: Room) -> ObjId {
        ObjId::Id(room as u64 + 1, Author::Genesis { epoch: self.epoch }.actor(), 0)
    }

    fn check_room_for(&self, edits: &[Edit]) -> Result<(), IntentError> {
        let mut bytes: BTreeMap<(Room, String), usize> = BTreeMap::new();
        for (room, key, text) in self.state() {
            let length = key.len() + text.map_or(0, |text| text.len());
            bytes.insert((room, key), length);
        }
        for edit in edits {
            let cell = (edit.room(), edit.key().to_owned());
            match edit.text() {
                Some(text) => drop(bytes.insert(cell, edit.key().len() + text.len())),
                None => drop(bytes.remove(&cell)),
            }
        }
        for room in Room::ALL {
            let is = bytes.keys().filter(|(r, _)| *r == room).count();
            let limit = room.capacity();
            // What is over the limit already (two sites at once) may shrink.
            if is > limit && edits.iter().any(|edit| edit.room() == room && edit.text().is_some()) {
                return Err(EditError::Full { room, is, limit }.into());
            }
        }
        let is = bytes.values().sum();
        if is > MAX_CONTENT_BYTES { Err(IntentError::Content { is }) } else { Ok(()) }
    }
}

/// A change from a site that may be applied.
#[derive(Debug, Clone)]
pub struct SiteChange {
    pub(super) change: Change,
    user: String,
    edits: Vec<Edit>,
    inflated: usize,
}

impl SiteChange {
    /// Its hash.
    pub fn hash(&self) -> ChangeHash {
        self.change.hash()
    }
    /// Who made it.
    pub fn user(&self) -> &str {
        &self.user
    }
    /// What it does.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }
}

fn read_change(bytes: &[u8]) -> Result<Change, ApplyError> {
    Change::try_from(bytes).map_err(|e| ApplyError::Malformed(e.to_string()))
}

#[cfg(test)]
mod tests;
