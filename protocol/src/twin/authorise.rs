//! What a site may write, judged operation by operation before a change is merged.
//!
//! The values that a merge would show are no measure: a write that loses stays in the document as a conflict and wins when the
//! other one is deleted, and an operation may name as its predecessor a value that it has no right to remove. So each operation
//! has to be the plain put or delete of one text at one key of a map that the site may write, superseding nothing but what its
//! author saw at that same key. The change's own numbers have to be those of an honest writer, since automerge takes them on trust.

use super::edit::{Edit, Room};
use super::{Author, Intent, release};
use crate::DeviceId;
use automerge::legacy::{Key, ObjectId, OpId, OpType};
use automerge::{Change, ChangeHash, ObjId, ReadDoc as _, ScalarValue};

/// 2106-02-07: later is a broken clock, and differences of such times would overflow automerge's columns.
pub(super) const MAX_TIME_S: i64 = u32::MAX as i64;
/// Operations in one change: an honest one has one per edit.
const MAX_OPERATIONS: usize = super::edit::MAX_EDITS;

/// On whose word changes come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// People at this device: they write its labels, notes and config.
    Site(DeviceId),
}

impl Authority {
    /// Whether it may make `edit`.
    pub fn may_make(&self, edit: &Edit) -> bool {
        self.may_write(edit.room()) && !edit.is_reserved()
    }

    /// Whether it may write to `room`, reserved keys apart.
    pub fn may_write(&self, room: Room) -> bool {
        match self {
            Self::Site(_) => matches!(room, Room::Labels | Room::Notes | Room::Config),
        }
    }
}

/// A change that is not merged, and why. Everything else of its author that follows it cannot be merged either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {hash} refused: {reason}")]
pub struct Refusal {
    /// The change.
    pub hash: ChangeHash,
    /// Why, for people.
    pub reason: String,
}

/// Judges `change`, whose dependencies `intent` has. Returns who made it and what it does.
pub(super) fn authorise(intent: &Intent, change: &Change, authority: &Authority) -> Result<(String, Vec<Edit>), Refusal> {
    judge(intent, change, authority).map_err(|reason| Refusal { hash: change.hash(), reason })
}

fn judge(intent: &Intent, change: &Change, authority: &Authority) -> Result<(String, Vec<Edit>), String> {
    let Authority::Site(own) = authority;
    let user = match Author::of(change.actor_id()) {
        Some(Author::Site { device, user, .. }) if device == *own => user,
        Some(Author::Site { device, .. }) => return Err(format!("it is by people at {device}, another device")),
        Some(author) => return Err(format!("it claims to be by {author}")),
        None => return Err("its author is not one of a site".into()),
    };
    numbers(intent, change)?;
    let decoded = change.decode();
    // Automerge keeps operations, not bytes: a change in any encoding but automerge's own would come back with another hash,
    // and the saved document could never be read again.
    if Change::from(decoded.clone()).raw_bytes() != change.raw_bytes() {
        return Err("it is not encoded as automerge encodes it".into());
    }
    let operations = decoded.operations;
    let genesis = Author::Genesis { epoch: intent.epoch() }.actor();
    let mut edits = Vec::with_capacity(operations.len());
    for (number, operation) in operations.iter().enumerate() {
        let room = match &operation.obj {
            ObjectId::Id(OpId(counter, actor)) if *actor == genesis => {
                usize::try_from(*counter).ok().and_then(|n| Room::ALL.get(n.wrapping_sub(1))).copied()
            }
            _ => None,
        };
        let room = room.ok_or("it writes outside the maps of the document")?;
        if !authority.may_write(room) {
            return Err(format!("a site may not write {room}"));
        }
        let Key::Map(key) = &operation.key else {
            return Err(format!("it treats {room} as a list"));
        };
        // Whether the write would show or lose as a conflict is no matter: a value that loses comes back when another goes.
        if release::is_reserved(room, key) {
            return Err(format!("{room}/{} is set by the control plane, never at a site", short(key)));
        }
        let text = match &operation.action {
            OpType::Put(ScalarValue::Str(text)) => Some(text.as_str()),
            OpType::Delete => None,
            _ => return Err(format!("{room}/{} would not be a text", short(key))),
        };
        if operation.insert {
            return Err(format!("it treats {room} as a list"));
        }
        let edit = Edit::from_text(room, key, text).map_err(|e| e.to_string())?;
        if !supersedes_own_key(intent, change, room, key, operation.pred.iter(), number) {
            return Err(format!("{room}/{} would remove a value elsewhere", short(key)));
        }
        edits.push(edit);
    }
    Ok((user, edits))
}

/// Sequence number, operation counter, time, authors and extras, as automerge itself writes them.
fn numbers(intent: &Intent, change: &Change) -> Result<(), String> {
    let next = intent.seqs.get(change.actor_id()).copied().unwrap_or(0) + 1;
    if change.seq() != next {
        return Err(format!("it is change {} of its author, expected {next}", change.seq()));
    }
    let newest = |hash| intent.doc.get_change_meta_by_hash(hash).map_or(0, |meta| meta.max_op);
    let start = change.deps().iter().map(newest).max().unwrap_or(0) + 1;
    if change.start_op().get() != start {
        return Err(format!("its operations count from {}, expected {start}", change.start_op()));
    }
    if change.is_empty() || change.len() > MAX_OPERATIONS {
        return Err(format!("it holds {} operations, a site's change has 1 to {MAX_OPERATIONS}", change.len()));
    }
    if !(0..=MAX_TIME_S).contains(&change.timestamp()) {
        return Err("its time is out of range".into());
    }
    if change.message().is_some() || !change.extra_bytes().is_empty() {
        return Err("it carries a message or extra bytes".into());
    }
    if change.other_actor_ids().iter().any(|actor| !intent.seqs.contains_key(actor)) {
        return Err("it names an author that this document does not know".into());
    }
    Ok(())
}

/// Whether every predecessor is a value at this key: one that shows now, one that showed when the change was made, or one that
/// an earlier operation of the same change put there.
fn supersedes_own_key<'a>(
    intent: &Intent,
    change: &Change,
    room: Room,
    key: &str,
    mut predecessors: impl Iterator<Item = &'a OpId> + Clone,
    number: usize,
) -> bool {
    if predecessors.clone().next().is_none() {
        return true;
    }
    let object = intent.object(room);
    let among = |values: &[ObjId], id: &OpId| {
        values.iter().any(|value| matches!(value, ObjId::Id(counter, actor, _) if *counter == id.0 && *actor == id.1))
    };
    let ids = |values: Vec<(automerge::Value<'_>, ObjId)>| values.into_iter().map(|(_, id)| id).collect::<Vec<_>>();
    let now = ids(intent.doc.get_all(&object, key).unwrap_or_default());
    if predecessors.clone().all(|id| among(&now, id)) {
        return true;
    }
    let then = ids(intent.doc.get_all_at(&object, key, change.deps()).unwrap_or_default());
    let own = change.start_op().get()..change.start_op().get() + number as u64;
    let operations = change.decode().operations;
    predecessors.all(|id| {
        among(&then, id)
            || (id.1 == *change.actor_id() && own.contains(&id.0) && {
                let earlier = &operations[usize::try_from(id.0 - own.start).unwrap_or(usize::MAX)];
                earlier.obj == operations[number].obj && earlier.key == operations[number].key
            })
    })
}

fn short(key: &str) -> String {
    key.chars().take(80).collect()
}
