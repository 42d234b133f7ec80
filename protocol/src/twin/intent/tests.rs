//! Behaviour of the intent document: what merges, what is refused, what it weighs.

use super::super::{Author, Authority, Edit};
use super::*;
use crate::{ApiKeyId, DeviceId};
use automerge::ExpandedChange;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

const NOW: Micros = Micros(1_700_000_000_000_000);

fn label(key: &str, value: &str) -> Edit {
    Edit::SetLabel { key: key.into(), value: value.into() }
}

fn device() -> DeviceId {
    DeviceId::from_bytes([7; 16])
}

fn site(user: &str) -> Author {
    Author::Site { device: device(), run: 0, user: user.into() }
}

fn key(n: u8) -> Author {
    Author::Key(ApiKeyId::from_bytes([n; 16]))
}

fn authority() -> Authority {
    Authority::Site(device())
}

/// A site's edit as the bytes that travel, and the site's document with it.
fn site_edit(plane: &Intent, author: &Author, edits: &[Edit]) -> (Vec<u8>, Intent) {
    let mut replica = plane.clone();
    let hash = replica.edit(author, edits, NOW).unwrap().unwrap();
    (replica.change(&hash).unwrap(), replica)
}

/// What a hostile site makes of an honest change.
fn forged(plane: &Intent, edits: &[Edit], forge: impl FnOnce(&mut ExpandedChange)) -> Vec<u8> {
    let (bytes, _) = site_edit(plane, &site("mallory"), edits);
    let mut change = Change::try_from(bytes.as_slice()).unwrap().decode();
    forge(&mut change);
    Change::from(change).bytes().into_owned()
}

fn refusal(plane: &Intent, bytes: &[u8]) -> String {
    plane.authorise(bytes, &authority()).unwrap_err().to_string()
}

#[test]
fn genesis_is_the_same_bytes_everywhere_and_for_ever() {
    let saved = Intent::genesis(FIRST_EPOCH).save();
    assert_eq!(hex::encode(Sha256::digest(&saved)), "8d123b1e7eaef68f4546aaa65fb484c924b8fe446470d911e4b566bd3f480c3a");
    let read = Intent::load(&saved).unwrap();
    assert_eq!((read.epoch(), read.heads(), read.len()), (FIRST_EPOCH, Intent::genesis(FIRST_EPOCH).heads(), 1));
    assert_ne!(Intent::genesis(2).heads(), read.heads());
}

#[test]
fn edits_show_and_an_equal_one_is_no_change() {
    let mut intent = Intent::genesis(1);
    let edits = [label("site", "lab"), Edit::SetNote { key: "n".into(), value: "hello".into() }];
    assert!(intent.edit(&key(1), &edits, NOW).unwrap().is_some());
    assert!(intent.edit(&key(2), &edits, NOW).unwrap().is_none());
    let view = Intent::load(&intent.save()).unwrap().view();
    assert_eq!((view.labels["site"].as_str(), view.notes["n"].as_str()), ("lab", "hello"));
    intent.edit(&key(1), &[Edit::RemoveLabel { key: "site".into() }, Edit::RemoveLabel { key: "never".into() }], NOW).unwrap();
    assert!(intent.view().labels.is_empty());
}

#[test]
fn both_values_of_a_conflict_are_shown_with_their_authors_until_someone_writes_again() {
    let mut plane = Intent::genesis(1);
    let (bytes, _) = site_edit(&plane, &site("alice"), &[label("site", "cellar")]);
    plane.edit(&key(1), &[label("site", "lab")], NOW).unwrap();
    let change = plane.authorise(&bytes, &authority()).unwrap();
    assert_eq!((change.user(), change.edits()), ("alice", &[label("site", "cellar")][..]));
    plane.apply_site(change).unwrap();

    let view = plane.view();
    let conflict = &view.conflicts[0];
    assert_eq!((conflict.path.as_str(), conflict.losing.len()), ("labels/site", 1));
    let mut both = vec![(view.labels["site"].clone(), conflict.winner.clone())];
    both.push((conflict.losing[0].value.clone(), conflict.losing[0].author.clone()));
    both.sort();
    assert_eq!(both, [("cellar".into(), "site:alice".into()), ("lab".to_owned(), key(1).to_string())]);

    plane.edit(&key(1), &[label("site", "attic")], NOW).unwrap();
    assert!(plane.view().conflicts.is_empty());
}

#[test]
fn a_replica_catches_up_from_its_heads_and_bundles_many_changes() {
    let mut plane = Intent::genesis(1);
    let mut device = plane.clone();
    for n in 0..200 {
        plane.edit(&key(1), &[label(&format!("k{}", n % 20), &n.to_string())], NOW).unwrap();
    }
    let bytes = plane.changes_since(&device.heads()).unwrap();
    assert!(bytes.len() < 4_000, "{} bytes", bytes.len());
    device.apply(&bytes).unwrap();
    device.apply(&bytes).unwrap();
    assert_eq!((device.heads(), device.view(), device.len()), (plane.heads(), plane.view(), 201));
    assert_eq!(plane.changes_since(&device.heads()), Some(vec![]));
    assert_eq!(plane.changes_since(&[ChangeHash([9; 32])]), None);
    assert_eq!(plane.changes_since(&[]), None);
    // The replica writes on as the same authors would.
    device.edit(&key(1), &[label("k1", "mine")], NOW).unwrap();
    plane.apply(&device.changes_since(&plane.heads()).unwrap()).unwrap();
    assert_eq!(plane.view().labels["k1"], "mine");
}

#[test]
fn changes_without_what_they_follow_are_named_and_not_kept() {
    let mut plane = Intent::genesis(1);
    let mut device = plane.clone();
    let first = plane.edit(&key(1), &[label("a", "1")], NOW).unwrap().unwrap();
    let before = plane.heads();
    plane.edit(&key(1), &[label("a", "2")], NOW).unwrap();
    let later = plane.changes_since(&before).unwrap();
    assert!(matches!(device.apply(&later), Err(ApplyError::Missing(hash)) if hash == first));
    assert_eq!(device.heads(), Intent::genesis(1).heads());
    let (later, _) = site_edit(&plane, &site("alice"), &[label("a", "3")]);
    assert!(matches!(device.authorise(&later, &authority()), Err(ApplyError::Missing(_))));
}

#[test]
fn a_site_may_not_write_models_nor_anything_but_texts_in_its_maps() {
    let plane = Intent::genesis(1);
    let model = super::super::DesiredModel::new(1, crate::artifact::Digest::of(b"x"), 1);
    let (bytes, _) = site_edit(&plane, &site("mallory"), &[Edit::SetModel { name: "digits".parse().unwrap(), model }]);
    assert!(refusal(&plane, &bytes).contains("a site may not write models"));

    use automerge::legacy::{Key, ObjectId, OpType};
    type Forge = fn(&mut ExpandedChange);
    let cases: [(&str, Forge); 9] = [
        ("outside the maps", |c| c.operations[0].obj = ObjectId::Root),
        ("outside the maps", |c| {
            c.operations[0].obj = ObjectId::Id(automerge::legacy::OpId(5, Author::Genesis { epoch: 1 }.actor()))
        }),
        ("would not be a text", |c| c.operations[0].action = OpType::Put(ScalarValue::Int(1))),
        ("would not be a text", |c| c.operations[0].action = OpType::Make(ObjType::Map)),
        ("would not be a text", |c| c.operations[0].action = OpType::Increment(1)),
        ("cannot be a key", |c| c.operations[0].key = Key::Map("a b".into())),
        ("256", |c| c.operations[0].action = OpType::Put(ScalarValue::Str("x".repeat(300).into()))),
        ("time is out of range", |c| c.time = i64::MAX),
        ("message", |c| c.message = Some("epoch".into())),
    ];
    for (expected, forge) in cases {
        let reason = refusal(&plane, &forged(&plane, &[label("a", "1")], forge));
        assert!(reason.contains(expected), "{expected}: {reason}");
    }
}

#[test]
fn a_change_with_an_honest_writers_numbers_only_is_taken() {
    let plane = Intent::genesis(1);
    type Forge = fn(&mut ExpandedChange);
    let cases: [(&str, Forge); 5] = [
        ("expected 1", |c| c.seq = 2),
        ("count from 4000000000", |c| c.start_op = 4_000_000_000.try_into().unwrap()),
        ("another device", |c| {
            c.actor_id = Author::Site { device: DeviceId::from_bytes([8; 16]), run: 0, user: "mallory".into() }.actor();
        }),
        ("claims to be by system", |c| c.actor_id = Author::System.actor()),
        ("not one of a site", |c| c.actor_id = ActorId::from(b"whatever".as_slice())),
    ];
    for (expected, forge) in cases {
        let reason = refusal(&plane, &forged(&plane, &[label("a", "1")], forge));
        assert!(reason.contains(expected), "{expected}: {reason}");
    }
}

#[test]
fn a_removal_hidden_behind_another_key_is_refused() {
    let mut plane = Intent::genesis(1);
    plane.edit(&key(1), &[label("site", "lab"), label("tier", "gold")], NOW).unwrap();
    let other = {
        let (_, id) = plane.doc.get(plane.object(Room::Labels), "tier").unwrap().unwrap();
        let ObjId::Id(counter, actor, _) = id else { panic!() };
        automerge::legacy::OpId(counter, actor)
    };
    let bytes = forged(&plane, &[label("site", "x")], |c| c.operations[0].pred = vec![other].into());
    assert!(refusal(&plane, &bytes).contains("would remove a value elsewhere"));
    // Two edits of the same key in one change name each other, which is fine.
    let (bytes, _) = site_edit(&plane, &site("alice"), &[label("site", "x"), label("site", "y")]);
    plane.apply_site(plane.authorise(&bytes, &authority()).unwrap()).unwrap();
    assert_eq!(plane.view().labels["site"], "y");
}

#[test]
fn a_write_hidden_as_a_losing_conflict_is_refused_too() {
    let mut plane = Intent::genesis(1);
    let model = |version| super::super::DesiredModel::new(version, crate::artifact::Digest::of(b"x"), 1);
    let name: crate::ModelName = "digits".parse().unwrap();
    let (bytes, replica) = site_edit(&plane, &site("mallory"), &[Edit::SetModel { name: name.clone(), model: model(666) }]);
    for version in 1..4 {
        plane.edit(&key(1), &[Edit::SetModel { name: name.clone(), model: model(version) }], NOW).unwrap();
    }
    // Merged, it would not show.
    let mut merged = plane.clone();
    merged.doc.merge(&mut replica.doc.clone()).unwrap();
    assert_eq!(merged.view().models[&name].version, 3);
    assert!(refusal(&plane, &bytes).contains("a site may not write models"));
}

#[test]
fn a_site_may_not_write_the_control_planes_own_settings_whether_the_write_shows_or_not() {
    use automerge::legacy::Key;
    let mut plane = Intent::genesis(1);
    let set = |key: &str, version: u64| Edit::SetConfig { key: key.into(), value: serde_json::json!({ "version": version }) };
    for key in [super::super::AGENT_RELEASE, super::super::AGENT_CONFIG, "agent.of-the-future"] {
        let (bytes, _) = site_edit(&plane, &site("mallory"), &[set(key, 666)]);
        assert!(refusal(&plane, &bytes).contains("set by the control plane"), "{key}");
    }
    // Hidden among honest edits, or behind an honest one's key.
    let (bytes, _) = site_edit(&plane, &site("mallory"), &[label("a", "1"), set("agent.release", 666)]);
    assert!(refusal(&plane, &bytes).contains("config/agent.release"));
    let bytes = forged(&plane, &[set("log.level", 1)], |c| c.operations[0].key = Key::Map("agent.config".into()));
    assert!(refusal(&plane, &bytes).contains("config/agent.config"));

    // As a conflict that loses: it would win when the plane removes its own.
    let (bytes, replica) = site_edit(&plane, &site("mallory"), &[set("agent.release", 666)]);
    for version in 1..4 {
        plane.edit(&key(1), &[set("agent.release", version)], NOW).unwrap();
    }
    let mut merged = plane.clone();
    merged.doc.merge(&mut replica.doc.clone()).unwrap();
    assert_eq!(merged.view().config["agent.release"]["version"], 3);
    assert!(refusal(&plane, &bytes).contains("set by the control plane"));

    // Removing it is writing it, by name or by naming its value as what another key's write supersedes.
    let (bytes, _) = site_edit(&plane, &site("mallory"), &[Edit::RemoveConfig { key: "agent.release".into() }]);
    assert!(refusal(&plane, &bytes).contains("set by the control plane"));
    let theirs = {
        let (_, id) = plane.doc.get(plane.object(Room::Config), "agent.release").unwrap().unwrap();
        let ObjId::Id(counter, actor, _) = id else { panic!() };
        automerge::legacy::OpId(counter, actor)
    };
    let bytes = forged(&plane, &[set("log.level", 1)], |c| c.operations[0].pred = vec![theirs].into());
    assert!(refusal(&plane, &bytes).contains("would remove a value elsewhere"));

    // Settings of other names stay the site's.
    let (bytes, _) = site_edit(&plane, &site("alice"), &[set("agentx", 1), set("telemetry.interval_s", 5)]);
    plane.apply_site(plane.authorise(&bytes, &authority()).unwrap()).unwrap();
}

#[test]
fn a_site_cannot_fill_a_document_beyond_its_limits() {
    let mut plane = Intent::genesis(1);
    let full: Vec<_> = (0..64).map(|n| label(&format!("k{n}"), "v")).collect();
    plane.edit(&key(1), &full, NOW).unwrap();
    let error = plane.edit(&key(1), &[label("more", "v")], NOW).unwrap_err().to_string();
    assert_eq!(error, "the device would have 65 labels, the limit is 64: remove some first");
    let mut roomy = plane.clone();
    roomy.edit(&key(1), &[Edit::RemoveLabel { key: "k0".into() }], NOW).unwrap();
    let (bytes, _) = site_edit(&roomy, &site("alice"), &[label("more", "v")]);
    roomy.edit(&key(1), &[label("other", "v")], NOW).unwrap();
    let change = roomy.authorise(&bytes, &authority()).unwrap();
    assert!(matches!(roomy.apply_site(change), Err(ApplyError::Full(_))));
}

#[test]
fn a_bomb_is_refused_at_every_door() {
    let intent = Intent::genesis(1);
    let mut change = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 2];
    let bomb = super::super::bound::deflated_zeros(64 << 20);
    let mut length = bomb.len();
    while length >= 0x80 {
        change.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    change.push(length as u8);
    change.extend(bomb);
    assert!(matches!(intent.clone().apply(&change), Err(ApplyError::Bound(BoundError::Inflated { .. }))));
    assert!(matches!(intent.authorise(&change, &authority()), Err(ApplyError::Bound(BoundError::Inflated { .. }))));
    assert!(matches!(Intent::load(&change), Err(IntentError::Bound(BoundError::Inflated { .. }))));
}

#[test]
fn compaction_keeps_the_state_and_drops_the_history() {
    let mut intent = Intent::genesis(1);
    for n in 0..400 {
        intent.edit(&key((n % 3) as u8), &[label(&format!("k{}", n % 10), &n.to_string())], NOW).unwrap();
    }
    assert!(intent.needs_compaction(intent.save().len(), 400, true));
    let next = intent.compact(NOW).unwrap();
    assert_eq!((next.epoch(), next.len(), next.birth().to_vec()), (2, 2, next.heads()));
    assert_eq!(next.view().labels, intent.view().labels);
    assert!(next.save().len() < intent.save().len() / 2);
    assert!(!next.needs_compaction(next.save().len(), next.save().len(), true));
    // The epochs share no change.
    assert!(matches!(
        next.clone().apply(&intent.changes_since(&Intent::genesis(1).heads()).unwrap()),
        Err(ApplyError::Missing(_))
    ));
}

#[test]
fn an_edit_made_on_an_old_epoch_meets_what_it_was_concurrent_with_and_is_replayed() {
    let mut plane = Intent::genesis(1);
    plane.edit(&key(1), &[label("site", "lab"), label("row", "1"), label("old", "x")], NOW).unwrap();
    // The site goes offline here and edits three times.
    let alice = site("alice");
    let (first, replica) = site_edit(&plane, &alice, &[label("site", "cellar"), Edit::RemoveLabel { key: "old".into() }]);
    let (second, _) = site_edit(&replica, &alice, &[label("site", "attic"), label("row", "2")]);
    // Meanwhile: a later write of the same key that wins in the old document, then a new epoch, then one more write.
    for n in 0..5 {
        plane.edit(&key(1), &[label("row", &format!("plane{n}"))], NOW).unwrap();
    }
    let mut archived = plane.clone();
    let mut present = plane.compact(NOW).unwrap();
    present.edit(&key(1), &[label("tier", "gold")], NOW).unwrap();

    let mut edits = Vec::new();
    for bytes in [first, second] {
        let change = archived.authorise(&bytes, &authority()).unwrap();
        edits.extend(archived.apply_site(change).unwrap());
    }
    let replay = present.replay(&archived, device(), "alice", &edits, NOW).unwrap();
    assert_eq!(replay.kept, [Edit::RemoveLabel { key: "old".into() }, label("site", "attic")]);
    assert_eq!(replay.lost, [label("site", "cellar"), label("row", "2")]);
    let view = present.view();
    assert_eq!(
        view.labels.into_iter().collect::<Vec<_>>(),
        [("row".into(), "plane4".into()), ("site".into(), "attic".into()), ("tier".to_owned(), "gold".to_owned())]
    );
    // A second replay follows the first, and all of it survives a reload.
    present.replay(&archived, device(), "alice", &[label("site", "attic")], NOW).unwrap();
    let mut reread = Intent::load(&present.save()).unwrap();
    assert_eq!(reread.view(), present.view());
    reread.edit(&key(1), &[label("site", "lab")], NOW).unwrap();
}

#[test]
fn a_replayed_edit_is_concurrent_with_what_was_written_since_the_new_epoch_began() {
    let mut plane = Intent::genesis(1);
    plane.edit(&key(1), &[label("site", "lab")], NOW).unwrap();
    let mut archived = plane.clone();
    let (bytes, _) = site_edit(&plane, &site("alice"), &[label("site", "cellar")]);
    let mut present = plane.compact(NOW).unwrap();
    present.edit(&key(1), &[label("site", "roof")], NOW).unwrap();
    let change = archived.authorise(&bytes, &authority()).unwrap();
    let edits = archived.apply_site(change).unwrap();
    present.replay(&archived, device(), "alice", &edits, NOW).unwrap();
    let view = present.view();
    assert_eq!((view.conflicts.len(), view.conflicts[0].path.as_str()), (1, "labels/site"));
}

#[test]
fn a_change_in_another_encoding_is_refused_since_its_document_could_not_be_read_again() {
    let mut plane = Intent::genesis(1);
    plane.edit(&key(1), &[label("site", "lab")], NOW).unwrap();
    let (honest, _) = site_edit(&plane, &site("mallory"), &[label("site", "x"), label("b", "y")]);
    let refused = (10..honest.len()).flat_map(|place| (0..8).map(move |value| (place, value))).filter(|(place, value)| {
        let mut bytes = honest.clone();
        bytes[*place] = *value;
        let judged = plane.authorise(&with_checksum(bytes), &authority());
        judged.is_err_and(|e| e.to_string().contains("not encoded as automerge encodes it"))
    });
    assert!(refused.count() > 0);
}

#[test]
fn bytes_of_other_documents_are_refused() {
    let mut foreign = Automerge::new();
    let mut tx = foreign.transaction();
    tx.put(ROOT, "labels", "x").unwrap();
    tx.commit();
    assert!(matches!(Intent::load(&foreign.save()), Err(IntentError::Foreign(_))));
    assert!(Intent::load(b"").is_err());
    assert!(Intent::load(b"\x85\x6f\x4a\x83").is_err());
    let mut intent = Intent::genesis(1);
    assert!(intent.apply(&Intent::genesis(1).save()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Two replicas edit at once and exchange what the other lacks, at any time and more than once: they end equal.
    #[test]
    fn replicas_that_edit_at_once_converge(steps in proptest::collection::vec((0u8..4, 0u8..5, any::<u8>()), 1..40)) {
        let mut plane = Intent::genesis(1);
        let mut replica = Intent::genesis(1);
        let mut seen_by_replica = plane.heads();
        for (act, k, v) in steps {
            let edits = match v % 4 {
                0 => vec![Edit::RemoveLabel { key: format!("k{k}") }],
                _ => vec![label(&format!("k{k}"), &v.to_string())],
            };
            match act {
                0 => drop(plane.edit(&key(k % 2), &edits, NOW).unwrap()),
                1 => drop(replica.edit(&site("alice"), &edits, NOW).unwrap()),
                2 => {
                    let bytes = plane.changes_since(&seen_by_replica).unwrap();
                    replica.apply(&bytes).unwrap();
                    if v % 2 == 0 { seen_by_replica = plane.heads(); }
                }
                _ => push(&replica, &mut plane),
            }
        }
        push(&replica, &mut plane);
        replica.apply(&plane.changes_since(&seen_by_replica).unwrap()).unwrap();
        prop_assert_eq!(plane.heads(), replica.heads());
        prop_assert_eq!(plane.view(), replica.view());
        prop_assert_eq!(Intent::load(&plane.save()).unwrap().view(), plane.view());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    /// A change with any of its bytes changed, its checksum made right again: an answer, never a panic, and whatever was taken,
    /// the document can be read again.
    #[test]
    fn a_mangled_change_ends_in_an_answer(places in proptest::collection::vec((9usize..200, any::<u8>()), 1..4)) {
        let mut plane = Intent::genesis(1);
        plane.edit(&key(1), &[label("site", "lab")], NOW).unwrap();
        let (mut bytes, _) = site_edit(&plane, &site("alice"), &[label("site", "x"), label("b", "y")]);
        for (place, value) in places {
            let place = place % bytes.len();
            if place > 9 { bytes[place] = value; }
        }
        if let Ok(change) = plane.authorise(&with_checksum(bytes), &authority()) {
            let _ = plane.apply_site(change);
        }
        prop_assert_eq!(Intent::load(&plane.save()).unwrap().view(), plane.view());
    }
}

/// An attacker makes the checksum right again.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum: [u8; 32] = Sha256::digest(&bytes[8..]).into();
    bytes[4..8].copy_from_slice(&sum[..4]);
    bytes
}

/// The site's changes that the plane lacks, one by one as frames carry them.
fn push(replica: &Intent, plane: &mut Intent) {
    let changes = replica.doc.get_changes(&[]);
    for mut change in changes {
        if !plane.has(&change.hash()) && matches!(Author::of(change.actor_id()), Some(Author::Site { .. })) {
            let site = plane.authorise(&change.bytes(), &authority()).unwrap();
            plane.apply_site(site).unwrap();
        }
    }
}

#[test]
fn one_changed_field_costs_at_most_250_bytes_and_one_round_trip() {
    use crate::frame::{Body, IntentAck, IntentChanges, VERSION, encode};
    let mut plane = Intent::genesis(1);
    let all: Vec<_> = (0..46).map(|n| label(&format!("label-{n}"), &format!("value-{n}"))).collect();
    plane.edit(&Author::System, &all, NOW).unwrap();
    let mut replica = plane.clone();
    for n in 0..200u8 {
        let edit = label(&format!("label-{}", n % 46), &format!("changed-{n}"));
        plane.edit(&key(n % 3), &[edit], NOW.plus_seconds(n.into())).unwrap();
        let changes = plane.changes_since(&replica.heads()).unwrap();
        replica.apply(&changes).unwrap();
        let there = encode(VERSION, Body::IntentChanges(IntentChanges { epoch: 1, changes: changes.into() })).unwrap();
        let ack = IntentAck { epoch: 1, heads: replica.wire_heads(), ..Default::default() };
        let back = encode(VERSION, Body::IntentAck(ack)).unwrap();
        // Each frame is preceded by four bytes of length on QUIC.
        let wire = there.len() + back.len() + 8;
        assert!(wire <= 250, "{wire} bytes: {} there, {} back", there.len(), back.len());
        assert_eq!(replica.heads(), plane.heads());
    }
}
