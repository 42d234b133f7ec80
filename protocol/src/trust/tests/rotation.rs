//! Roots that follow one another.

use super::repository::{Repository, new_key, refresh};
use super::*;
use std::sync::Arc;

/// A root as (keys, threshold, signers) over numbered keys, and whether a device at the one before it takes it.
fn chain(steps: &[(&[usize], u64, &[usize], bool)]) {
    let keys: Vec<Arc<SigningKey>> = (0..10).map(|_| new_key()).collect();
    let pick = |list: &[usize]| list.iter().map(|i| keys[*i].clone()).collect::<Vec<_>>();
    let mut repository = Repository::new();
    repository.root.version = 0;
    let mut trusted = None;
    for (number, (names, threshold, signers, good)) in steps.iter().enumerate() {
        repository.set_keys("root", pick(names), *threshold);
        repository.keys.insert("root".into(), pick(signers));
        repository.publish(&["root"]);
        let bytes = &repository.files[&format!("{}.root.json", number + 1)];
        match &mut trusted {
            None => trusted = Some(Trusted::begin(bytes).unwrap()),
            Some(trusted) => assert_eq!(trusted.update_root(bytes).is_ok(), *good, "step {number} of {steps:?}"),
        }
    }
}

#[test]
fn a_new_root_needs_the_old_roots_keys_and_its_own() {
    chain(&[(&[1], 1, &[1], true), (&[2], 1, &[2, 1], true), (&[2], 1, &[2], true)]);
    chain(&[(&[1], 1, &[1], true), (&[2], 1, &[2, 3, 4], false)]);
    chain(&[(&[1], 1, &[1], true), (&[2], 1, &[1, 3, 4], false)]);
}

#[test]
fn thresholds_of_both_roots_hold() {
    let five: &[usize] = &[0, 1, 2, 3, 4];
    chain(&[(five, 3, &[0, 2, 4], true), (&[0, 1, 3, 4, 5], 3, &[0, 4, 1], true)]);
    chain(&[(five, 3, &[0, 2, 4], true), (&[0, 1, 3, 4, 5], 3, &[0, 2, 4], false)]);
    chain(&[(five, 3, &[0, 2, 4], true), (&[0, 1, 3, 4, 5], 3, &[0, 4, 5], false)]);
    chain(&[(&[1, 2, 3], 1, &[1], true), (&[1, 2, 3], 2, &[2], false)]);
    chain(&[(&[1, 2, 3], 2, &[1, 2], true), (&[1, 2, 3], 1, &[1], false)]);
    chain(&[(&[1, 2, 3], 2, &[1, 2], true), (&[1, 2, 3], 1, &[1, 3], true), (&[1, 2, 3], 1, &[3], true)]);
}

#[test]
fn a_gap_in_the_chain_stops_there_even_if_later_roots_are_signed_well() {
    let mut repository = Repository::new();
    repository.rotate("root");
    repository.publish(&["root"]);
    repository.rotate("root");
    repository.publish(&["root"]);
    repository.publish(&["timestamp"]);
    // Version 2 is gone: a device at 1 never looks at 3, and keeps working with 1 as long as that is valid.
    repository.files.remove("2.root.json");
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    let asked = refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!((asked[0].as_str(), trusted.root().version), ("2.root.json", 1));
    // Version 3 in the place of 2 is signed by keys that 1 does not know.
    let third = repository.files["3.root.json"].clone();
    repository.files.insert("2.root.json".into(), third);
    assert!(matches!(refresh(&repository, &mut trusted, NOW), Err(TrustError::Threshold { .. })));
}

#[test]
fn a_well_signed_root_of_a_later_version_does_not_skip_one() {
    let (mut repository, mut trusted) = refreshed();
    repository.root.version = 2;
    repository.publish(&["root"]);
    let third = repository.files["3.root.json"].clone();
    let error = trusted.update_root(&third).unwrap_err();
    assert_eq!(error, TrustError::WrongVersion { file: "2.root.json".into(), found: 3, wanted: 2 });
}

#[test]
fn a_replayed_old_root_is_refused() {
    let (mut repository, mut trusted) = refreshed();
    let first = repository.files["1.root.json"].clone();
    repository.publish(&["root"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert!(matches!(trusted.update_root(&first), Err(TrustError::WrongVersion { found: 1, wanted: 3, .. })));
}

#[test]
fn targets_signed_by_a_key_that_root_took_away_are_fetched_anew() {
    let (mut repository, mut trusted) = refreshed();
    repository.rotate("targets");
    repository.publish(&["root"]);
    let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
    assert!(matches!(&error, TrustError::Threshold { file, .. } if file == "targets.json"), "{error}");
    repository.publish(&["targets", "snapshot", "timestamp"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(versions(&trusted), [2, 2, 2, 2]);
}

#[test]
fn a_key_that_is_only_added_keeps_the_protection_against_rollback() {
    let (mut repository, mut trusted) = refreshed();
    let old = repository.files["timestamp.json"].clone();
    repository.publish(&["timestamp"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    let mut keys = repository.keys["timestamp"].clone();
    keys.push(new_key());
    repository.set_keys("timestamp", keys, 1);
    repository.publish(&["root"]);
    repository.files.insert("timestamp.json".into(), old);
    assert!(matches!(refresh(&repository, &mut trusted, NOW), Err(TrustError::Rollback { .. })));
}
