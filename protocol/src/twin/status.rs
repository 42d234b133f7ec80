//! Status: what one device reports, a map with one writer. The device holds [`Status`], the plane a [`StatusMirror`].
//!
//! Every change takes the next `seq` of the present start (`boot_id`) of the agent. A delta holds everything that changed after
//! its `base_seq`, so a lost delta is made good by the next one and a repeated one changes nothing. The map itself is never
//! kept over a restart: the device fills it anew under a new `boot_id`, and the mirror replaces its own.

use crate::frame::{MAX_STATUS_ENTRIES, MAX_STATUS_VALUE_BYTES, StatusAck, StatusDelta, StatusEntry};
use serde::Serialize;
use std::collections::BTreeMap;

/// Bytes of all paths and values together: a full map has to fit one frame, with room for its keys.
pub const MAX_STATUS_BYTES: usize = 512 * 1024;
/// Bytes of a path.
pub const MAX_PATH_BYTES: usize = 160;

/// A status that cannot be held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// A path outside its alphabet.
    #[error("`{0}` is not a status path: use segments of A-Z a-z 0-9 . _ - joined by `/`, at most {MAX_PATH_BYTES} bytes")]
    Path(String),
    /// A value that is not JSON, or too long.
    #[error("the status at {path} is not valid: {reason}")]
    Value {
        /// Where.
        path: String,
        /// Why.
        reason: String,
    },
    /// Too much of it.
    #[error("the status would hold {is} {what}, the limit is {limit}")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        is: usize,
        /// The most.
        limit: usize,
    },
    /// A delta that contradicts itself.
    #[error("the status delta is not valid: {0}")]
    Delta(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    value: Box<[u8]>,
    seq: u64,
}

/// The writer's side.
#[derive(Debug, Clone)]
pub struct Status {
    boot_id: u64,
    seq: u64,
    entries: BTreeMap<String, Entry>,
    /// Removed paths and when; bounded like the entries.
    removed: BTreeMap<String, u64>,
    /// Removals up to here are forgotten: a delta from before it has to be full.
    floor: u64,
    bytes: usize,
}

impl Status {
    /// The empty status of the agent's start number `boot_id`, which is above every earlier one.
    pub fn new(boot_id: u64) -> Self {
        Self { boot_id, seq: 0, entries: BTreeMap::new(), removed: BTreeMap::new(), floor: 0, bytes: 0 }
    }

    /// `(boot_id, seq)` of the newest change.
    pub fn position(&self) -> (u64, u64) {
        (self.boot_id, self.seq)
    }

    /// Sets `path` to `value` as JSON. Says whether anything changed: an equal value is no change.
    pub fn set(&mut self, path: &str, value: &impl Serialize) -> Result<bool, StatusError> {
        let value = serde_json::to_vec(value).map_err(|e| StatusError::Value { path: path.into(), reason: e.to_string() })?;
        if self.entries.get(path).is_some_and(|entry| *entry.value == *value) {
            return Ok(false);
        }
        check_entry(path, &value)?;
        let before = self.entries.get(path).map(|entry| path.len() + entry.value.len());
        let bytes = self.bytes - before.unwrap_or(0) + path.len() + value.len();
        check_size(self.entries.len() + usize::from(before.is_none()), bytes)?;
        self.bytes = bytes;
        self.seq += 1;
        self.removed.remove(path);
        self.entries.insert(path.to_owned(), Entry { value: value.into(), seq: self.seq });
        Ok(true)
    }

    /// Removes `path`. Says whether it was there.
    pub fn remove(&mut self, path: &str) -> bool {
        let Some(entry) = self.entries.remove(path) else { return false };
        self.bytes -= path.len() + entry.value.len();
        self.seq += 1;
        self.removed.insert(path.to_owned(), self.seq);
        if self.removed.len() > MAX_STATUS_ENTRIES / 2
            && let Some((oldest, seq)) = self.removed.iter().min_by_key(|(_, seq)| **seq).map(|(p, s)| (p.clone(), *s))
        {
            self.removed.remove(&oldest);
            self.floor = seq;
        }
        true
    }

    /// The JSON text at `path`.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.entries.get(path).map(|entry| &*entry.value)
    }

    /// All paths and their JSON texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), &*entry.value))
    }

    /// What changed after `acked` `(boot_id, seq)`; the full map when that is `None`, of another start, or too long ago. `None`: nothing.
    pub fn delta_since(&self, acked: Option<(u64, u64)>) -> Option<StatusDelta> {
        let base = match acked {
            Some((boot_id, seq)) if boot_id == self.boot_id && seq >= self.floor && seq <= self.seq => seq,
            _ => return Some(self.full()),
        };
        if base == self.seq {
            return None;
        }
        let delta = StatusDelta {
            boot_id: self.boot_id,
            base_seq: base,
            seq: self.seq,
            full: false,
            set: self.frames(base),
            removed: self.removed.iter().filter(|(_, seq)| **seq > base).map(|(path, _)| path.clone()).collect(),
        };
        let fits = delta.set.len() + delta.removed.len() <= MAX_STATUS_ENTRIES;
        Some(if fits { delta } else { self.full() })
    }

    /// The whole map.
    pub fn full(&self) -> StatusDelta {
        StatusDelta { boot_id: self.boot_id, base_seq: 0, seq: self.seq, full: true, set: self.frames(0), removed: Vec::new() }
    }

    /// Counts on from `boot_id` on: the plane knows of a later start than this device does, whose count was lost with its disk.
    pub fn rebase(&mut self, boot_id: u64) {
        self.boot_id = self.boot_id.max(boot_id);
    }

    fn frames(&self, after: u64) -> Vec<StatusEntry> {
        let newer = self.entries.iter().filter(|(_, entry)| entry.seq > after);
        newer
            .map(|(path, entry)| StatusEntry {
                path: path.clone(),
                value: bytes::Bytes::copy_from_slice(&entry.value),
                seq: entry.seq,
            })
            .collect()
    }
}

/// What a delta means to a holder of the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Known already, or of an earlier start: nothing to do but to acknowledge what is held.
    Stale,
    /// Set and remove what it says.
    Apply,
    /// Put its entries in the place of all that is held.
    Replace,
    /// Something before it is missing: ask for the full map.
    Resync,
}

/// Judges `delta` by what is `held`, `(boot_id, seq)`; `(0, 0)` for nothing.
pub fn judge(held: (u64, u64), delta: &StatusDelta) -> Verdict {
    let (boot_id, seq) = held;
    if delta.boot_id < boot_id || (delta.boot_id == boot_id && delta.seq <= seq && held != (0, 0)) {
        Verdict::Stale
    } else if delta.full {
        Verdict::Replace
    } else if delta.boot_id == boot_id && delta.base_seq <= seq {
        Verdict::Apply
    } else {
        Verdict::Resync
    }
}

/// Checks everything of a delta that does not depend on what is held.
pub fn check_delta(delta: &StatusDelta) -> Result<(), StatusError> {
    if delta.boot_id == 0 {
        return Err(StatusError::Delta("boot ids count from 1"));
    }
    if !delta.full && delta.base_seq > delta.seq {
        return Err(StatusError::Delta("its base lies after it"));
    }
    if delta.full && !delta.removed.is_empty() {
        return Err(StatusError::Delta("a full map removes nothing"));
    }
    for entry in &delta.set {
        check_entry(&entry.path, &entry.value)?;
        if entry.seq > delta.seq {
            return Err(StatusError::Delta("an entry lies after it"));
        }
    }
    delta.removed.iter().try_for_each(|path| check_path(path))
}

/// The reader's side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusMirror {
    boot_id: u64,
    seq: u64,
    entries: BTreeMap<String, Box<[u8]>>,
}

impl StatusMirror {
    /// What is held, from a store: the position and all entries.
    pub fn restore(position: (u64, u64), entries: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let entries = entries.into_iter().map(|(path, value)| (path, value.into_boxed_slice())).collect();
        Self { boot_id: position.0, seq: position.1, entries }
    }

    /// `(boot_id, seq)` of the newest change held; `(0, 0)` for none.
    pub fn position(&self) -> (u64, u64) {
        (self.boot_id, self.seq)
    }

    /// The JSON text at `path`.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.entries.get(path).map(|value| &**value)
    }

    /// All paths and their JSON texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(path, value)| (path.as_str(), &**value))
    }

    /// Takes a delta. Returns what to acknowledge and which paths changed; on an error nothing is changed.
    pub fn apply(&mut self, delta: &StatusDelta) -> Result<(StatusAck, Vec<String>), StatusError> {
        check_delta(delta)?;
        let mut changed = Vec::new();
        let verdict = judge(self.position(), delta);
        match verdict {
            Verdict::Stale | Verdict::Resync => {}
            Verdict::Apply | Verdict::Replace => {
                let mut next = self.entries.clone();
                if verdict == Verdict::Replace {
                    next.retain(|path, _| delta.set.iter().any(|entry| entry.path == *path));
                }
                delta.removed.iter().for_each(|path| drop(next.remove(path)));
                for entry in &delta.set {
                    next.insert(entry.path.clone(), (*entry.value).into());
                }
                check_size(next.len(), next.iter().map(|(path, value)| path.len() + value.len()).sum())?;
                changed.extend(self.entries.keys().filter(|path| !next.contains_key(*path)).cloned());
                changed
                    .extend(next.iter().filter(|(path, value)| self.entries.get(*path) != Some(value)).map(|(p, _)| p.clone()));
                (self.boot_id, self.seq, self.entries) = (delta.boot_id, delta.seq, next);
            }
        }
        let ack = StatusAck { boot_id: self.boot_id, seq: self.seq, resync: verdict == Verdict::Resync };
        Ok((ack, changed))
    }
}

fn check_path(path: &str) -> Result<(), StatusError> {
    let segment = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if path.len() <= MAX_PATH_BYTES && path.split('/').all(segment) {
        Ok(())
    } else {
        Err(StatusError::Path(path.chars().take(80).collect()))
    }
}

fn check_entry(path: &str, value: &[u8]) -> Result<(), StatusError> {
    check_path(path)?;
    let reason = if path.len() + value.len() > MAX_STATUS_VALUE_BYTES {
        format!("{} bytes, the limit is {MAX_STATUS_VALUE_BYTES}", path.len() + value.len())
    } else {
        match serde_json::from_slice::<serde::de::IgnoredAny>(value) {
            Ok(_) if std::str::from_utf8(value).is_ok() => return Ok(()),
            Ok(_) => "not UTF-8".into(),
            Err(e) => e.to_string(),
        }
    };
    Err(StatusError::Value { path: path.into(), reason })
}

fn check_size(entries: usize, bytes: usize) -> Result<(), StatusError> {
    if entries > MAX_STATUS_ENTRIES {
        return Err(StatusError::Full { what: "entries", is: entries, limit: MAX_STATUS_ENTRIES });
    }
    if bytes > MAX_STATUS_BYTES {
        return Err(StatusError::Full { what: "bytes", is: bytes, limit: MAX_STATUS_BYTES });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(status: &Status, mirror: &StatusMirror) -> bool {
        status.position() == mirror.position() && status.iter().eq(mirror.iter())
    }

    #[test]
    fn a_delta_holds_only_what_changed() {
        let (mut status, mut mirror) = (Status::new(1), StatusMirror::default());
        status.set("link", &"quic").unwrap();
        status.set("models/digits", &1).unwrap();
        let (ack, changed) = mirror.apply(&status.delta_since(None).unwrap()).unwrap();
        assert_eq!((ack.seq, changed.len()), (2, 2));
        assert!(!status.set("link", &"quic").unwrap());
        assert_eq!(status.delta_since(Some((1, 2))), None);

        status.set("link", &"mqtt").unwrap();
        status.remove("models/digits");
        let delta = status.delta_since(Some((1, 2))).unwrap();
        assert_eq!((delta.set.len(), delta.removed.len(), delta.full), (1, 1, false));
        let (ack, changed) = mirror.apply(&delta).unwrap();
        assert_eq!((ack.seq, ack.resync, changed), (4, false, vec!["models/digits".to_owned(), "link".to_owned()]));
        assert!(same(&status, &mirror));
        let (again, changed) = mirror.apply(&delta).unwrap();
        assert_eq!((again, changed), (ack, vec![]));
    }

    #[test]
    fn a_gap_asks_for_the_full_map_and_an_earlier_start_is_stale() {
        let (mut status, mut mirror) = (Status::new(2), StatusMirror::default());
        status.set("a", &1).unwrap();
        status.set("b", &2).unwrap();
        let (ack, _) = mirror.apply(&status.delta_since(Some((2, 1))).unwrap()).unwrap();
        assert!(ack.resync);
        mirror.apply(&status.full()).unwrap();
        assert!(same(&status, &mirror));

        let mut old = Status::new(1);
        old.set("a", &9).unwrap();
        let (ack, changed) = mirror.apply(&old.full()).unwrap();
        assert_eq!((ack.boot_id, ack.seq, changed.len()), (2, 2, 0));
        old.rebase(ack.boot_id + 1);
        mirror.apply(&old.full()).unwrap();
        assert!(same(&old, &mirror));
    }

    #[test]
    fn forgotten_removals_make_the_delta_full() {
        let (mut status, mut mirror) = (Status::new(1), StatusMirror::default());
        status.set("stays", &0).unwrap();
        mirror.apply(&status.full()).unwrap();
        for n in 0..MAX_STATUS_ENTRIES {
            status.set(&format!("n/{n}"), &n).unwrap();
            status.remove(&format!("n/{n}"));
        }
        let delta = status.delta_since(Some((1, 1))).unwrap();
        assert!(delta.full);
        mirror.apply(&delta).unwrap();
        assert!(same(&status, &mirror));
    }

    #[test]
    fn what_is_not_a_status_is_refused_and_changes_nothing() {
        let mut status = Status::new(1);
        assert!(status.set("a//b", &1).is_err());
        assert!(status.set("a", &"x".repeat(MAX_STATUS_VALUE_BYTES)).is_err());
        for n in 0..MAX_STATUS_ENTRIES {
            status.set(&format!("n/{n}"), &n).unwrap();
        }
        assert!(matches!(status.set("more", &1), Err(StatusError::Full { .. })));

        let mut mirror = StatusMirror::default();
        let entry = |value: &[u8]| StatusEntry { path: "a".into(), value: bytes::Bytes::copy_from_slice(value), seq: 1 };
        let delta = |set| StatusDelta { boot_id: 1, seq: 1, full: true, set, ..Default::default() };
        for value in [&b"{"[..], b"", b"\"\xff\""] {
            assert!(mirror.apply(&delta(vec![entry(value)])).is_err());
        }
        assert!(mirror.apply(&StatusDelta::default()).is_err());
        assert_eq!(mirror, StatusMirror::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Frames of the writer, in any order, lost or repeated; then the session's exchange until both agree.
        #[test]
        fn any_loss_and_repetition_of_deltas_converges(
            steps in proptest::collection::vec((0u8..8, 0u8..6, any::<u8>()), 1..80),
        ) {
            let (mut status, mut mirror) = (Status::new(1), StatusMirror::default());
            let mut flying: Vec<StatusDelta> = Vec::new();
            let mut acked = None;
            for (act, path, value) in steps {
                let path = format!("p/{path}");
                match act {
                    0..=2 => drop(status.set(&path, &value).unwrap()),
                    3 => drop(status.remove(&path)),
                    4 => flying.extend(status.delta_since(acked)),
                    5 if !flying.is_empty() => {
                        // Delivered, perhaps long after later ones, and kept to be delivered again.
                        let delta = &flying[usize::from(value) % flying.len()];
                        let (ack, _) = mirror.apply(delta).unwrap();
                        if ack.resync { acked = None } else if ack.boot_id == status.position().0 { acked = Some((ack.boot_id, ack.seq)) }
                    }
                    6 if !flying.is_empty() => drop(flying.remove(usize::from(value) % flying.len())),
                    7 if value < 40 => {
                        status = Status::new(status.position().0 + 1);
                        acked = None;
                    }
                    _ => {}
                }
            }
            for _ in 0..3 {
                let held = mirror.position();
                if let Some(delta) = status.delta_since(Some(held)) {
                    mirror.apply(&delta).unwrap();
                }
            }
            prop_assert!(same(&status, &mirror));
        }
    }
}
