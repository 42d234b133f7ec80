//! What a twin weighs: bytes on the wire, on disk and in memory after a long life, and the time to authorise a change.
//!
//! `cargo xtask bench twin`; fails when a limit is passed.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use aidos_protocol::frame::{self, Body, IntentAck, IntentChanges, VERSION};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{Author, Authority, Edit, FIRST_EPOCH, Intent, Status, StatusMirror};
use aidos_protocol::{ApiKeyId, DeviceId};
use aidos_tests::Figures;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::Instant;

const NOW: Micros = Micros(1_767_225_600_000_000);
/// Each frame on QUIC is preceded by its length.
const PREFIX: usize = 4;
/// Leaves of the twin that the figures are of, as in a device with a dozen labels, notes, settings and models.
const LEAVES: usize = 46;
const EDITS: usize = 5_000;
const STATUS_UPDATES: usize = 100_000;
/// Documents held at once to see what one weighs in memory.
const COPIES: usize = 400;
/// Set to a document's file in the process that weighs it.
const WEIGH: &str = "AIDOS_BENCH_WEIGH";

fn label(key: usize, value: usize) -> Edit {
    Edit::SetLabel { key: format!("label-{key}"), value: format!("value-{value:05}") }
}

fn born() -> Intent {
    let mut intent = Intent::genesis(FIRST_EPOCH);
    let edits: Vec<_> = (0..LEAVES).map(|n| label(n, n)).collect();
    intent.edit(&Author::System, &edits, NOW).unwrap();
    intent.compact(NOW).unwrap()
}

fn wire(body: Body) -> usize {
    frame::encode(VERSION, body).unwrap().len() + PREFIX
}

/// Resident memory of this process in bytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1_024.0
}

/// What one document read from `bytes` weighs in memory: measured in processes of their own, whose allocators have no gaps to
/// fill; the least of several, since some of them leave gaps as they load.
fn heap(bytes: &[u8]) -> f64 {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let own = std::env::current_exe().unwrap();
    let weigh = || {
        let output = Command::new(&own).env(WEIGH, file.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    (0..7).map(|_| weigh()).fold(f64::INFINITY, f64::min)
}

/// The other process's part.
fn weigh(bytes: &[u8]) -> f64 {
    let first = Intent::load(bytes).unwrap();
    let before = resident();
    let held: Vec<_> = (0..COPIES).map(|_| Intent::load(bytes).unwrap()).collect();
    let after = resident();
    assert!(held.iter().all(|copy| copy.epoch() == first.epoch()));
    (after - before) / COPIES as f64
}

fn life(figures: &mut Figures) {
    let birth = born();
    let birth_bytes = birth.save();
    let mut plane = birth.clone();
    let mut device = Intent::load(&birth_bytes).unwrap();
    let (mut epoch_birth, mut epochs, mut documents) = (birth_bytes.len(), 0, 0);
    let mut sent = Vec::with_capacity(EDITS);
    let (mut heaviest, mut largest) = (birth_bytes.clone(), 0);
    // Until the device has the new epoch, the control plane keeps the one before beside it.
    let mut turn = 0;
    for n in 0..EDITS {
        let author = Author::Key(ApiKeyId::from_bytes([(n % 3) as u8; 16]));
        plane.edit(&author, &[label(n % LEAVES, n)], NOW.plus_seconds(n as i64)).unwrap();
        let changes = plane.changes_since(&device.heads()).unwrap();
        device.apply(&changes).unwrap();
        let ack = IntentAck { epoch: device.epoch(), heads: device.wire_heads(), ..Default::default() };
        sent.push(
            wire(Body::IntentChanges(IntentChanges { epoch: plane.epoch(), changes: changes.into() }))
                + wire(Body::IntentAck(ack)),
        );
        let mut saved = plane.save();
        if plane.needs_compaction(saved.len(), epoch_birth, true) {
            let ended = saved.len();
            plane = plane.compact(NOW).unwrap();
            saved = plane.save();
            device = Intent::load(&saved).unwrap();
            epoch_birth = saved.len();
            epochs += 1;
            turn = turn.max(ended + saved.len());
            documents += saved.len();
        }
        largest = largest.max(saved.len());
        if plane.len() >= Intent::load(&heaviest).unwrap().len() {
            heaviest = saved;
        }
    }
    assert_eq!(device.view(), plane.view());
    sent.sort_unstable();
    figures.figure("twin_field_wire_max", sent[EDITS - 1] as f64, "bytes", Some(250.0));
    figures.figure("twin_field_wire_median", sent[EDITS / 2] as f64, "bytes", Some(250.0));
    figures.figure("twin_epochs", f64::from(epochs), "epochs", None);
    figures.figure("twin_epoch_document_per_edit", documents as f64 / EDITS as f64, "bytes", None);
    let born = birth_bytes.len() as f64;
    figures.figure("twin_disk_at_birth", born, "bytes", None);
    figures.figure("twin_disk_largest", largest as f64 / born, "times-birth", Some(2.0));
    figures.figure("twin_disk_while_an_epoch_turns", turn as f64 / born, "times-birth", None);
    let memory = heap(&birth_bytes);
    figures.figure("twin_memory_at_birth", memory, "bytes", None);
    figures.figure("twin_memory_longest_history", heap(&heaviest) / memory, "times-birth", Some(2.0));
    figures.figure("twin_memory_after_life", heap(&plane.save()) / memory, "times-birth", Some(2.0));
}

fn status(figures: &mut Figures) {
    let (mut status, mut mirror) = (Status::new(1), StatusMirror::default());
    for n in 0..LEAVES {
        status.set(&format!("components/c{n}"), &format!("{n:06}")).unwrap();
    }
    mirror.apply(&status.full()).unwrap();
    let birth = wire(Body::StatusDelta(status.full()));
    let begun = Instant::now();
    let mut most = 0;
    for n in 0..STATUS_UPDATES {
        status.set(&format!("components/c{}", n % LEAVES), &format!("{:06}", LEAVES + n)).unwrap();
        let delta = status.delta_since(Some(mirror.position())).unwrap();
        most = most.max(wire(Body::StatusDelta(delta.clone())));
        mirror.apply(&delta).unwrap();
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / STATUS_UPDATES as f64;
    let full = wire(Body::StatusDelta(status.full()));
    figures.figure("twin_status_update", each, "us", None);
    figures.figure("twin_status_delta_wire", most as f64, "bytes", None);
    figures.figure("twin_status_full_after_life", full as f64 / birth as f64, "times-birth", Some(2.0));
}

fn authorise(figures: &mut Figures) {
    let plane = born();
    let device = DeviceId::from_bytes([7; 16]);
    let author = Author::Site { device, run: 0, user: "alice".into() };
    let mut replica = plane.clone();
    let hash = replica.edit(&author, &[label(3, 999)], NOW).unwrap().unwrap();
    let change = replica.change(&hash).unwrap();
    let authority = Authority::Site(device);
    // The best of many batches: the machine does other things too.
    let batch = || {
        let begun = Instant::now();
        for _ in 0..1_000 {
            std::hint::black_box(plane.authorise(std::hint::black_box(&change), &authority).unwrap());
        }
        begun.elapsed().as_secs_f64() * 1e6 / 1_000.0
    };
    let best = (0..20).map(|_| batch()).fold(f64::INFINITY, f64::min);
    figures.figure("twin_authorise", best, "us", Some(10.0));
}

fn main() -> ExitCode {
    if let Some(path) = std::env::var_os(WEIGH) {
        println!("{}", weigh(&std::fs::read(path).unwrap()));
        return ExitCode::SUCCESS;
    }
    let mut figures = Figures::default();
    life(&mut figures);
    status(&mut figures);
    authorise(&mut figures);
    figures.verdict()
}
