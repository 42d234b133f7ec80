//! A repository that can be made to lie, and every attack that the verifier must withstand.

mod attacks;
mod delegations;
mod keys;
mod repository;
mod rotation;
mod sequences;

use super::*;
use crate::time::Micros;
use repository::{Repository, refresh};

/// The time of all these tests.
const NOW: Micros = Micros(1_800_000_000_000_000);

fn days(n: i64) -> Micros {
    NOW.plus_seconds(n * 86_400)
}

/// Versions of root, timestamp, snapshot and targets that are trusted; 0 for none.
fn versions(trusted: &Trusted) -> [u64; 4] {
    [
        trusted.root().version,
        trusted.timestamp().map_or(0, |t| t.version),
        trusted.snapshot().map_or(0, |s| s.version),
        trusted.targets().map_or(0, |t| t.version),
    ]
}

/// A repository and a device that has refreshed from it.
fn refreshed() -> (Repository, Trusted) {
    let repository = Repository::new();
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    refresh(&repository, &mut trusted, NOW).unwrap();
    (repository, trusted)
}

#[test]
fn a_refresh_trusts_all_four_roles_and_asks_for_each_once() {
    let (repository, mut trusted) = refreshed();
    assert_eq!(versions(&trusted), [1, 1, 1, 1]);
    let asked = refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(asked, ["2.root.json", "timestamp.json"]);
}

#[test]
fn what_was_trusted_is_trusted_after_a_restart_byte_for_byte() {
    let (repository, trusted) = refreshed();
    let kept = trusted.files().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
    let mut again = Trusted::open(&kept).unwrap();
    assert!(again.files().eq(trusted.files()));
    assert_eq!(refresh(&repository, &mut again, NOW).unwrap(), ["2.root.json", "timestamp.json"]);
}

#[test]
fn a_damaged_kept_file_is_fetched_again_and_a_damaged_root_is_refused() {
    let (repository, trusted) = refreshed();
    let mut kept: std::collections::BTreeMap<_, _> = trusted.files().map(|(n, b)| (n.to_owned(), b.to_vec())).collect();
    kept.get_mut("snapshot").unwrap().truncate(50);
    let mut again = Trusted::open(&kept).unwrap();
    assert!(again.snapshot().is_none());
    refresh(&repository, &mut again, NOW).unwrap();
    assert_eq!(versions(&again), [1, 1, 1, 1]);
    kept.get_mut("root").unwrap()[20] ^= 1;
    assert!(Trusted::open(&kept).is_err());
}

#[test]
fn unknown_fields_are_signed_and_read_past() {
    let (mut repository, mut trusted) = refreshed();
    repository.root.extra.insert("x-note".into(), serde_json::json!({"a": [1, "é"]}));
    repository.targets.extra.insert("x-note".into(), serde_json::json!(true));
    repository.publish(&["root", "targets", "snapshot", "timestamp"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(versions(&trusted), [2, 2, 2, 2]);
}

#[test]
fn without_consistent_snapshots_names_carry_no_version() {
    let mut repository = Repository::new();
    repository.root.consistent_snapshot = false;
    repository.publish(&["root", "targets", "snapshot", "timestamp"]);
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    let asked = refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(asked, ["2.root.json", "3.root.json", "timestamp.json", "snapshot.json", "targets.json"]);
}

#[test]
fn a_target_is_checked_by_length_and_hash_as_its_bytes_come() {
    let target = Target::of(crate::artifact::Digest::of(b"model"), 5);
    assert_eq!(target.verify("m", b"model"), Ok(()));
    assert!(matches!(target.verify("m", b"mode"), Err(TrustError::Mismatch { what: "length", .. })));
    assert!(matches!(target.verify("m", b"modem"), Err(TrustError::Mismatch { what: "sha256", .. })));
    let mut check = target.check("m").unwrap();
    assert!(matches!(check.update(b"models"), Err(TrustError::TooLarge { max: 5, .. })));
    let unknown = Target { hashes: [("md5".to_owned(), "00".to_owned())].into(), ..target };
    assert!(matches!(unknown.verify("m", b"model"), Err(TrustError::NoHash { .. })));
}

#[test]
fn a_targets_address_carries_its_hash_and_is_encoded() {
    let target = Target { length: 0, hashes: [("sha256".to_owned(), "ab".to_owned())].into(), custom: None, extra: [].into() };
    assert_eq!(target.address("a/b c/d?", true), "a/b%20c/ab.d%3F");
    assert_eq!(target.address("d", false), "d");
}
