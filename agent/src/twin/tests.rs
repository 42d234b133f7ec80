//! The replica against a plane that is a bare document.

use super::*;
use crate::link::{IntentPort as _, StatusPort as _};
use crate::state::Ledger;
use aidos_protocol::frame::{IntentChanges, IntentDocument, SiteAck, StatusAck, site_ack::Rejected};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{Author, Authority, Edit, FIRST_EPOCH, Intent, IntentStatus, path};
use aidos_protocol::{DeviceId, TenantId};
use std::path::Path;
use std::sync::Arc;

const NOW: Micros = Micros(1_700_000_000_000_000);

fn label(key: &str, value: &str) -> Edit {
    Edit::SetLabel { key: key.into(), value: value.into() }
}

fn device() -> DeviceId {
    DeviceId::from_bytes([7; 16])
}

fn open(dir: &Path) -> (Replica, StatusMap) {
    let status = StatusMap::new(1);
    let signer: Signer = Arc::new(|message: &[u8]| Ok((vec![1; 32], message.to_vec())));
    let ledger = Ledger::open(dir).unwrap();
    (Replica::open(ledger, TenantId::from_bytes([1; 16]), device(), signer, status.clone()).unwrap(), status)
}

fn shown(replica: &Replica) -> Vec<(String, String)> {
    replica.view().borrow().labels.clone().into_iter().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Merges what the replica would send, as the plane does, and answers.
async fn merge(replica: &Replica, plane: &mut Intent) -> SiteAck {
    let sent = replica.pending_site_changes().await.unwrap().unwrap();
    let mut ack = SiteAck { epoch: plane.epoch(), ..Default::default() };
    for change in sent.changes {
        let (hash, _) = Intent::identify(&change.change).unwrap();
        if !plane.has(&hash) {
            let site = plane.authorise(&change.change, &Authority::Site(device())).unwrap();
            plane.apply_site(site).unwrap();
        }
        ack.merged.push(hash.0.to_vec().into());
    }
    ack.heads = plane.wire_heads();
    ack
}

#[tokio::test]
async fn an_edit_made_offline_survives_a_restart_and_waits_until_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = open(dir.path());
    assert!(replica.edit("alice", &[label("site", "lab")], NOW).await.unwrap());
    assert!(!replica.edit("alice", &[label("site", "lab")], NOW).await.unwrap());
    drop(replica);

    let (replica, status) = open(dir.path());
    assert_eq!(shown(&replica), pairs(&[("site", "lab")]));
    let reported: IntentStatus = serde_json::from_value(status.get(path::INTENT).unwrap()).unwrap();
    assert_eq!((reported.epoch, reported.pending), (FIRST_EPOCH, 1));

    let mut plane = Intent::genesis(FIRST_EPOCH);
    plane.edit(&Author::System, &[label("tier", "gold")], NOW).unwrap();
    let ack = merge(&replica, &mut plane).await;
    replica.site_ack(ack.clone()).await.unwrap();
    replica.site_ack(ack).await.unwrap();
    assert_eq!(replica.pending_site_changes().await.unwrap(), None);

    // The plane sends what the device lacks; what it holds already does no harm.
    let changes = plane.changes_since(Intent::genesis(FIRST_EPOCH).heads().as_slice()).unwrap();
    let frame = IntentChanges { epoch: FIRST_EPOCH, changes: changes.into() };
    let ack = replica.apply_changes(frame.clone()).await.unwrap();
    assert_eq!((ack.heads, ack.resync), (plane.wire_heads(), false));
    assert!(!replica.apply_changes(frame).await.unwrap().resync);
    drop(replica);
    let (replica, _) = open(dir.path());
    assert_eq!(shown(&replica), pairs(&[("site", "lab"), ("tier", "gold")]));
    assert!(replica.pending().await.is_empty());
}

#[tokio::test]
async fn changes_that_do_not_fit_ask_for_the_document() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = open(dir.path());
    let mut plane = Intent::genesis(FIRST_EPOCH);
    plane.edit(&Author::System, &[label("a", "1")], NOW).unwrap();
    let before = plane.heads();
    plane.edit(&Author::System, &[label("a", "2")], NOW).unwrap();
    let changes = plane.changes_since(&before).unwrap();
    assert!(replica.apply_changes(IntentChanges { epoch: 9, changes: changes.clone().into() }).await.unwrap().resync);
    assert!(replica.apply_changes(IntentChanges { epoch: 1, changes: changes.into() }).await.unwrap().resync);
    assert!(replica.apply_changes(IntentChanges { epoch: 1, changes: b"junk"[..].into() }).await.unwrap().resync);
    let document = IntentDocument { epoch: 1, document: plane.save().into() };
    assert_eq!(replica.apply_document(document).await.unwrap().heads, plane.wire_heads());
    assert_eq!(shown(&replica), pairs(&[("a", "2")]));
    assert!(replica.apply_document(IntentDocument { epoch: 1, document: b"junk"[..].into() }).await.is_err());
    assert!(replica.apply_document(IntentDocument { epoch: 3, document: plane.save().into() }).await.is_err());
}

#[tokio::test]
async fn an_edit_made_before_a_new_epoch_keeps_showing_and_is_sent_for_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = open(dir.path());
    let mut plane = Intent::genesis(FIRST_EPOCH);
    plane.edit(&Author::System, &[label("site", "lab")], NOW).unwrap();
    replica.apply_document(IntentDocument { epoch: 1, document: plane.save().into() }).await.unwrap();
    replica.edit("alice", &[label("site", "cellar")], NOW).await.unwrap();

    let mut archived = plane.clone();
    let next = plane.compact(NOW).unwrap();
    let document = || IntentDocument { epoch: 2, document: next.save().into() };
    // The control plane hears that there is something to come of the epoch that ended.
    assert_eq!(replica.apply_document(document()).await.unwrap().pending_epoch, 1);
    assert_eq!(shown(&replica), pairs(&[("site", "cellar")]));
    replica.edit("alice", &[label("row", "1")], NOW).await.unwrap();

    let sent = replica.pending_site_changes().await.unwrap().unwrap();
    assert_eq!((sent.epoch, sent.changes.len()), (1, 1));
    replica.site_ack(merge(&replica, &mut archived).await).await.unwrap();
    let sent = replica.pending_site_changes().await.unwrap().unwrap();
    assert_eq!((sent.epoch, sent.changes.len()), (2, 1));
    assert_eq!(replica.apply_document(document()).await.unwrap().pending_epoch, 2);
    replica.site_ack(merge(&replica, &mut Intent::load(&next.save()).unwrap()).await).await.unwrap();
    assert_eq!(replica.apply_document(document()).await.unwrap().pending_epoch, 0);
}

#[tokio::test]
async fn a_refused_edit_disappears_and_is_listed_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = open(dir.path());
    replica.edit("alice", &[label("a", "1")], NOW).await.unwrap();
    let (hash, _) = Intent::identify(&replica.pending_site_changes().await.unwrap().unwrap().changes[0].change).unwrap();
    let rejected = vec![Rejected { hash: hash.0.to_vec().into(), reason: "because".into() }];
    replica.site_ack(SiteAck { epoch: 1, rejected, ..Default::default() }).await.unwrap();
    assert_eq!(shown(&replica), []);
    assert_eq!(replica.refused().await.unwrap()[0].reason, "because");
    // The next edit is by a new author, which the plane takes.
    replica.edit("alice", &[label("a", "2")], NOW).await.unwrap();
    drop(replica);
    let (replica, _) = open(dir.path());
    merge(&replica, &mut Intent::genesis(FIRST_EPOCH)).await;
    assert_eq!(shown(&replica), pairs(&[("a", "2")]));
}

#[tokio::test]
async fn models_are_not_edited_here_and_bad_edits_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = open(dir.path());
    let remove = Edit::RemoveModel { name: "digits".parse().unwrap() };
    let error = replica.edit("alice", &[remove], NOW).await.unwrap_err().to_string();
    assert!(error.contains("models are set by the control plane"), "{error}");
    let release = Edit::RemoveConfig { key: "agent.release".into() };
    let error = replica.edit("alice", &[release], NOW).await.unwrap_err().to_string();
    assert!(error.contains("`agent.` settings are set by the control plane"), "{error}");
    assert!(replica.edit("a:b", &[label("a", "1")], NOW).await.is_err());
    assert!(replica.edit("alice", &[label("a b", "1")], NOW).await.is_err());
    assert!(replica.pending().await.is_empty());
}

#[tokio::test]
async fn a_status_whose_boot_id_was_lost_counts_on_from_what_the_plane_knows() {
    let status = StatusMap::new(3);
    status.set("link", &"quic");
    let mut changed = status.changed();
    status.ack(StatusAck { boot_id: 3, seq: 1, resync: false }).await.unwrap();
    assert!(!changed.has_changed().unwrap());
    status.ack(StatusAck { boot_id: 9, seq: 5, resync: false }).await.unwrap();
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert_eq!(status.position().await.unwrap().boot_id, 10);
    let delta = status.delta_since(None).await.unwrap().unwrap();
    assert!(delta.full && delta.boot_id == 10 && delta.set.len() == 1);
    // A value that cannot be reported changes nothing.
    status.set("bad path", &1);
    assert!(!changed.has_changed().unwrap());
}
