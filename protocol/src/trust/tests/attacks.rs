//! Rollback, freeze, mix and match, arbitrary files, endless data.

use super::repository::{refresh, refresh_from};
use super::*;

#[test]
fn an_older_timestamp_is_a_rollback() {
    let (mut repository, mut trusted) = refreshed();
    let old = repository.files["timestamp.json"].clone();
    repository.publish(&["timestamp"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    repository.files.insert("timestamp.json".into(), old);
    let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
    assert_eq!(error, TrustError::Rollback { role: "timestamp".into(), offered: 1, trusted: 2 });
    assert_eq!(versions(&trusted)[1], 2);
}

#[test]
fn a_newer_timestamp_of_an_older_snapshot_is_a_rollback() {
    for hashes in [true, false] {
        let (mut repository, mut trusted) = refreshed();
        repository.hashes = hashes;
        repository.publish(&["snapshot", "timestamp"]);
        refresh(&repository, &mut trusted, NOW).unwrap();
        repository.snapshot.version = 1;
        repository.put("snapshot");
        repository.publish(&["timestamp"]);
        let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
        assert_eq!(error, TrustError::Rollback { role: "snapshot".into(), offered: 1, trusted: 2 });
        assert_eq!(versions(&trusted), [1, 2, 2, 1]);
    }
}

#[test]
fn a_newer_snapshot_of_older_targets_is_a_rollback() {
    for hashes in [true, false] {
        let (mut repository, mut trusted) = refreshed();
        repository.hashes = hashes;
        repository.publish(&["targets", "snapshot", "timestamp"]);
        refresh(&repository, &mut trusted, NOW).unwrap();
        repository.targets.version = 1;
        repository.put("targets");
        repository.publish(&["snapshot", "timestamp"]);
        let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
        assert_eq!(error, TrustError::Rollback { role: "targets".into(), offered: 1, trusted: 2 });
        assert_eq!(versions(&trusted), [1, 3, 2, 2]);
    }
}

#[test]
fn a_role_that_vanishes_from_the_snapshot_is_noticed() {
    let (mut repository, mut trusted) = refreshed();
    repository.delegate("targets", "lab", &["lab/*"], true);
    repository.publish(&["lab", "targets", "snapshot", "timestamp"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    repository.snapshot.meta.remove("lab.json");
    repository.publish(&["snapshot", "timestamp"]);
    assert_eq!(refresh(&repository, &mut trusted, NOW), Err(TrustError::RoleGone { role: "lab".into() }));
}

#[test]
fn a_frozen_repository_is_refused_once_its_files_expire_each_by_name() {
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let mut repository = Repository::new();
        let soon = Expires::at(days(1));
        match role {
            "root" => repository.root.expires = soon,
            "timestamp" => repository.timestamp.expires = soon,
            "snapshot" => repository.snapshot.expires = soon,
            _ => repository.targets.expires = soon,
        }
        repository.publish(&["root", "targets", "snapshot", "timestamp"]);
        let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
        refresh(&repository, &mut trusted, NOW).unwrap();
        // The same files are served two days later, to a device that has them and to one that has not.
        for mut trusted in [trusted, Trusted::begin(&repository.files["1.root.json"]).unwrap()] {
            let error = refresh(&repository, &mut trusted, days(2)).unwrap_err();
            assert!(matches!(&error, TrustError::Expired { role: named, .. } if named == role), "{role}: {error}");
        }
    }
}

#[test]
fn an_expired_newer_file_does_not_replace_a_valid_older_one() {
    let (mut repository, mut trusted) = refreshed();
    repository.timestamp.expires = Expires::at(days(-1));
    repository.publish(&["timestamp"]);
    assert!(matches!(refresh(&repository, &mut trusted, NOW), Err(TrustError::Expired { .. })));
    assert_eq!(versions(&trusted), [1, 1, 1, 1]);
}

#[test]
fn an_expired_root_on_the_way_to_a_valid_one_is_passed() {
    let mut repository = Repository::new();
    repository.root.expires = Expires::at(days(-10));
    repository.publish(&["root"]);
    repository.root.expires = Expires::at(days(10));
    repository.publish(&["root"]);
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(versions(&trusted), [3, 1, 1, 1]);
}

#[test]
fn a_last_root_that_has_expired_is_kept_and_nothing_below_it_taken() {
    let (mut repository, mut trusted) = refreshed();
    repository.root.expires = Expires::at(days(-1));
    repository.publish(&["root", "timestamp"]);
    assert!(matches!(refresh(&repository, &mut trusted, NOW), Err(TrustError::Expired { version: 2, .. })));
    assert_eq!(versions(&trusted), [2, 1, 1, 1]);
}

#[test]
fn the_same_timestamp_version_with_other_content_is_not_taken() {
    let (mut repository, mut trusted) = refreshed();
    repository.timestamp.meta.get_mut("snapshot.json").unwrap().version = 100;
    repository.put("timestamp");
    assert_eq!(refresh(&repository, &mut trusted, NOW).unwrap(), ["2.root.json", "timestamp.json"]);
    assert_eq!(trusted.timestamp().unwrap().snapshot().unwrap().version, 1);
}

#[test]
fn files_of_different_generations_do_not_mix() {
    // Versions without hashes already tell them apart; hashes also catch two files of one version.
    let (mut repository, mut trusted) = refreshed();
    repository.hashes = false;
    repository.publish(&["targets", "snapshot", "timestamp"]);
    let first = repository.files["1.snapshot.json"].clone();
    repository.files.insert("2.snapshot.json".into(), first);
    let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
    assert_eq!(error, TrustError::WrongVersion { file: "snapshot.json".into(), found: 1, wanted: 2 });

    let (mut repository, mut trusted) = refreshed();
    repository.publish(&["targets", "snapshot", "timestamp"]);
    repository.targets.expires = Expires::at(days(50));
    let genuine = repository.snapshot.meta["targets.json"].clone();
    repository.put("targets");
    assert_ne!(repository.snapshot.meta["targets.json"], genuine);
    let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
    assert!(matches!(error, TrustError::Mismatch { .. }), "{error}");
    assert_eq!(versions(&trusted), [1, 2, 2, 1]);
}

#[test]
fn a_file_of_another_role_is_refused_although_the_same_key_signs_both() {
    let (mut repository, mut trusted) = refreshed();
    let key = SigningKey::generate().unwrap();
    for role in ["snapshot", "timestamp"] {
        repository.set_keys(role, vec![SigningKey::from_pkcs8(&key).unwrap().into()], 1);
    }
    repository.publish(&["root", "snapshot"]);
    let snapshot = repository.files["2.snapshot.json"].clone();
    repository.files.insert("timestamp.json".into(), snapshot);
    let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
    assert!(error.to_string().contains("its type is snapshot, not timestamp"), "{error}");
}

#[test]
fn files_that_are_no_metadata_say_what_is_wrong_and_change_nothing() {
    let (repository, trusted) = refreshed();
    let fraction = br#"{"signatures":[],"signed":{"_type":"timestamp","version":1.5}}"#.to_vec();
    for bytes in [b"".to_vec(), b"{}".to_vec(), b"[1".to_vec(), vec![0xff; 100], b"[".repeat(10_000), fraction] {
        let mut trusted = trusted.clone();
        let get = |want: &Want| {
            (want.address != "2.root.json").then(|| match want.address.as_str() {
                "timestamp.json" => bytes.clone(),
                other => repository.files[other].clone(),
            })
        };
        let (_, result) = refresh_from(get, &mut trusted, NOW);
        assert!(matches!(result, Err(TrustError::Malformed { .. })), "{result:?}");
        assert_eq!(versions(&trusted), [1, 1, 1, 1]);
    }
}

#[test]
fn endless_data_is_refused_at_each_file_by_its_limit() {
    let (mut repository, trusted) = refreshed();
    repository.hashes = false;
    repository.publish(&["root", "targets", "snapshot", "timestamp"]);
    for endless in ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"] {
        let mut trusted = trusted.clone();
        let get = |want: &Want| {
            let mut bytes = repository.files.get(&want.address)?.clone();
            if want.address == endless {
                // Valid metadata with white space after it, one byte over the limit.
                bytes.resize(want.max_bytes as usize + 1, b' ');
            }
            Some(bytes)
        };
        let (_, result) = refresh_from(get, &mut trusted, NOW);
        assert!(matches!(result, Err(TrustError::TooLarge { .. })), "{endless}: {result:?}");
    }
}

#[test]
fn a_length_that_is_named_is_the_limit() {
    let (mut repository, mut trusted) = refreshed();
    repository.publish(&["snapshot", "timestamp"]);
    let wanted = repository.timestamp.snapshot().unwrap().length.unwrap();
    let get = |want: &Want| {
        if want.address == "2.snapshot.json" {
            assert_eq!(want.max_bytes, wanted);
        }
        repository.files.get(&want.address).cloned()
    };
    refresh_from(get, &mut trusted, NOW).1.unwrap();
}

#[test]
fn an_endless_chain_of_roots_is_cut_and_goes_on_at_the_next_refresh() {
    let mut repository = Repository::new();
    for _ in 0..MAX_NEW_ROOTS + 3 {
        repository.publish(&["root"]);
    }
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    assert_eq!(refresh(&repository, &mut trusted, NOW), Err(TrustError::TooManyRoots { max: MAX_NEW_ROOTS }));
    assert_eq!(trusted.root().version, u64::from(MAX_NEW_ROOTS) + 1);
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(trusted.root().version, u64::from(MAX_NEW_ROOTS) + 4);
}

#[test]
fn a_missing_file_is_named_and_what_came_before_it_is_kept() {
    let (mut repository, mut trusted) = refreshed();
    repository.publish(&["targets", "snapshot", "timestamp"]);
    repository.files.remove("2.targets.json");
    assert_eq!(refresh(&repository, &mut trusted, NOW), Err(TrustError::Missing { file: "2.targets.json".into() }));
    assert_eq!(versions(&trusted), [1, 2, 2, 1]);
    assert_eq!(Search::new("m").step(&trusted, NOW), Err(TrustError::TooEarly { lacks: "current targets" }));
}

#[test]
fn a_signing_time_after_the_expiry_cannot_push_the_devices_time() {
    let (mut repository, mut trusted) = refreshed();
    repository.timestamp.signed_at = Some(Expires::at(NOW));
    repository.publish(&["timestamp"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(trusted.signed_at(), Some(NOW));
    repository.timestamp.signed_at = Some(Expires::at(days(101)));
    repository.publish(&["timestamp"]);
    assert!(refresh(&repository, &mut trusted, NOW).unwrap_err().to_string().contains("after it expired"));
    assert_eq!(trusted.signed_at(), Some(NOW));
}

#[test]
fn a_fast_forwarded_version_binds_until_its_key_is_taken_away() {
    for role in ["timestamp", "snapshot", "targets"] {
        let (mut repository, mut trusted) = refreshed();
        match role {
            "timestamp" => repository.timestamp.version = u64::MAX - 2,
            "snapshot" => repository.snapshot.version = u64::MAX - 2,
            _ => repository.targets.version = u64::MAX - 2,
        }
        repository.publish(&["targets", "snapshot", "timestamp"]);
        refresh(&repository, &mut trusted, NOW).unwrap();
        let high = repository.timestamp.version;
        match role {
            "timestamp" => repository.timestamp.version = 2,
            "snapshot" => repository.snapshot.version = 2,
            _ => repository.targets.version = 2,
        }
        if role != "timestamp" {
            repository.timestamp.version = high;
        }
        repository.publish(&["targets", "snapshot", "timestamp"]);
        assert!(matches!(refresh(&repository, &mut trusted, NOW), Err(TrustError::Rollback { .. })), "{role}");
        // The specification's recovery: new keys for the online roles, then files with sane versions.
        repository.rotate("timestamp");
        repository.rotate("snapshot");
        repository.publish(&["root", "snapshot", "timestamp"]);
        refresh(&repository, &mut trusted, NOW).unwrap();
        assert!(versions(&trusted).iter().all(|v| *v < 10), "{role}: {:?}", versions(&trusted));
    }
}
