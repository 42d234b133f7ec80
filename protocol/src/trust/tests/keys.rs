//! Which signatures count.

use super::repository::{new_key, refresh};
use super::*;
use serde_json::{Value, json};

fn edit(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(bytes).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn the_threshold_counts_distinct_keys_of_the_role_only() {
    let keys = [new_key(), new_key(), new_key()];
    let stranger = new_key();
    for (signers, good) in [
        (vec![&keys[0], &keys[1]], true),
        (vec![&keys[2], &stranger, &keys[0]], true),
        (vec![&keys[1], &stranger], false),
        (vec![&keys[1]], false),
        (vec![], false),
    ] {
        let mut repository = Repository::new();
        repository.set_keys("snapshot", keys.to_vec(), 2);
        repository.keys.insert("snapshot".into(), signers.into_iter().cloned().collect());
        repository.publish(&["root", "snapshot", "timestamp"]);
        let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
        match refresh(&repository, &mut trusted, NOW) {
            Ok(_) => assert!(good),
            Err(TrustError::Threshold { file, threshold: 2, .. }) => assert!(!good && file == "snapshot.json"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_threshold_beyond_the_number_of_keys_cannot_be_reached() {
    let mut repository = Repository::new();
    repository.set_keys("timestamp", vec![new_key(), new_key()], 3);
    repository.publish(&["root", "timestamp"]);
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
    assert!(error.to_string().contains("2 valid signatures") && error.to_string().contains("3 are needed"), "{error}");
}

#[test]
fn one_key_under_two_ids_counts_once() {
    let mut repository = Repository::new();
    let key = new_key();
    repository.set_keys("timestamp", vec![key.clone()], 2);
    let alias = KeyId("alias".into());
    repository.root.keys.insert(alias.clone(), key.public());
    repository.root.roles.timestamp.keyids.push(alias);
    repository.publish(&["root", "timestamp"]);
    let twice = edit(&repository.files["timestamp.json"], |file| {
        let mut second = file["signatures"][0].clone();
        second["keyid"] = json!("alias");
        file["signatures"].as_array_mut().unwrap().push(second);
    });
    repository.files.insert("timestamp.json".into(), twice);
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
    assert!(matches!(error, TrustError::Threshold { valid: 1, threshold: 2, .. }), "{error}");
}

#[test]
fn a_key_id_that_stands_twice_is_refused_in_signatures_and_in_roles() {
    let (mut repository, trusted) = refreshed();
    repository.publish(&["timestamp"]);
    let twice = edit(&repository.files["timestamp.json"], |file| {
        let first = file["signatures"][0].clone();
        file["signatures"].as_array_mut().unwrap().push(first);
    });
    let error = trusted.clone().update_timestamp(&twice, NOW).unwrap_err();
    assert!(error.to_string().contains("two signatures by key"), "{error}");

    let id = repository.root.roles.snapshot.keyids[0].clone();
    repository.root.roles.snapshot.keyids.push(id);
    repository.publish(&["root"]);
    let error = trusted.clone().update_root(&repository.files["2.root.json"]).unwrap_err();
    assert!(error.to_string().contains("snapshot names a key twice"), "{error}");
    repository.root.roles.snapshot = Role::of(vec![], 0);
    repository.put("root");
    let error = trusted.clone().update_root(&repository.files["2.root.json"]).unwrap_err();
    assert!(error.to_string().contains("threshold 0"), "{error}");
}

#[test]
fn an_invalid_signature_takes_nothing_from_valid_ones() {
    let (mut repository, mut trusted) = refreshed();
    repository.set_keys("timestamp", vec![new_key(), new_key()], 1);
    repository.publish(&["root", "timestamp"]);
    for bad in ["", "zz", &"00".repeat(64)] {
        let file = edit(&repository.files["timestamp.json"], |file| file["signatures"][0]["sig"] = json!(bad));
        repository.files.insert("timestamp.json".into(), file);
        refresh(&repository, &mut trusted, NOW).unwrap();
    }
}

#[test]
fn a_changed_byte_of_what_is_signed_is_noticed() {
    let (mut repository, trusted) = refreshed();
    repository.publish(&["timestamp"]);
    let changed = edit(&repository.files["timestamp.json"], |file| file["signed"]["version"] = json!(7));
    let error = trusted.clone().update_timestamp(&changed, NOW).unwrap_err();
    assert!(matches!(error, TrustError::Threshold { valid: 0, .. }), "{error}");
}

#[test]
fn another_spelling_of_a_targets_path_does_not_pass_under_the_same_signature() {
    // A canonical form that normalises Unicode would write both paths the same and keep one of them.
    let (mut repository, mut trusted) = refreshed();
    repository.hashes = false;
    repository.targets.targets.insert("\u{e9}".into(), Target::of(crate::artifact::Digest::of(b"good"), 4));
    repository.publish(&["targets", "snapshot", "timestamp"]);
    let forged = edit(&repository.files["2.targets.json"], |file| {
        let evil = json!(Target::of(crate::artifact::Digest::of(b"evil"), 4));
        file["signed"]["targets"].as_object_mut().unwrap().insert("e\u{301}".into(), evil);
    });
    repository.files.insert("2.targets.json".into(), forged);
    let error = refresh(&repository, &mut trusted, NOW).unwrap_err();
    assert!(matches!(error, TrustError::Threshold { valid: 0, .. }), "{error}");
}

#[test]
fn roots_that_python_tuf_signed_with_rsa_and_ecdsa_verify_and_altered_ones_do_not() {
    for file in
        [include_bytes!("fixtures/python_tuf_rsa_root.json").as_slice(), include_bytes!("fixtures/python_tuf_ecdsa_root.json")]
    {
        assert_eq!(Trusted::begin(file).unwrap().root().version, 1);
        let altered = edit(file, |root| root["signed"]["expires"] = json!("2041-01-01T00:00:00Z"));
        assert!(matches!(Trusted::begin(&altered), Err(TrustError::Threshold { valid: 0, .. })));
        // The same key announced under a scheme that is not known verifies nothing.
        let other = edit(file, |root| {
            for key in root["signed"]["keys"].as_object_mut().unwrap().values_mut() {
                key["scheme"] = json!("none");
            }
        });
        assert!(matches!(Trusted::begin(&other), Err(TrustError::Threshold { valid: 0, .. })));
    }
}

#[test]
fn a_key_has_the_id_that_python_tuf_gives_it() {
    let file: Value = serde_json::from_slice(include_bytes!("fixtures/python_tuf_ecdsa_root.json")).unwrap();
    for (id, key) in file["signed"]["keys"].as_object().unwrap() {
        assert_eq!(serde_json::from_value::<Key>(key.clone()).unwrap().id().0, *id);
    }
}

#[test]
fn a_second_person_adds_a_signature_to_a_file() {
    let (first, second) = (new_key(), new_key());
    let mut repository = Repository::new();
    repository.set_keys("root", vec![first.clone(), second.clone()], 2);
    repository.root.version = 1;
    let half = sign(&repository.root, &[&first]).unwrap();
    assert!(matches!(Trusted::begin(&half), Err(TrustError::Threshold { valid: 1, threshold: 2, .. })));
    let whole = add_signature(&add_signature(&half, &second).unwrap(), &second).unwrap();
    assert_eq!(Trusted::begin(&whole).unwrap().root(), &repository.root);
}
