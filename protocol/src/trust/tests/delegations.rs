//! Searches through delegations.

use super::repository::{Repository, refresh, search};
use super::*;
use crate::artifact::Digest;

fn target(bytes: &[u8]) -> Target {
    Target::of(Digest::of(bytes), bytes.len() as u64)
}

/// A repository with these delegations (from, to, paths, terminating), and a device that trusts it.
fn tree(delegations: &[(&str, &str, &str, bool)], targets: &[(&str, &str)]) -> (Repository, Trusted) {
    let mut repository = Repository::new();
    for (from, to, paths, terminating) in delegations {
        repository.delegate(from, to, &[paths], *terminating);
    }
    for (role, path) in targets {
        let list = if *role == "targets" { &mut repository.targets } else { repository.delegated.get_mut(*role).unwrap() };
        list.targets.insert((*path).into(), target(role.as_bytes()));
    }
    let roles: Vec<String> = repository.delegated.keys().cloned().collect();
    repository.publish(&roles.iter().map(String::as_str).collect::<Vec<_>>());
    repository.publish(&["targets", "snapshot", "timestamp"]);
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    refresh(&repository, &mut trusted, NOW).unwrap();
    (repository, trusted)
}

fn asked(delegations: &[(&str, &str, &str, bool)], path: &str) -> String {
    let (repository, mut trusted) = tree(delegations, &[]);
    let (asked, found) = search(&repository, &mut trusted, path, NOW).unwrap();
    assert_eq!(found, None);
    asked.iter().map(|address| address.trim_start_matches("1.").trim_end_matches(".json")).collect()
}

#[test]
fn roles_are_asked_depth_first_in_the_order_of_their_delegations() {
    assert_eq!(asked(&[("targets", "A", "*", false), ("targets", "B", "*", false), ("A", "C", "*", false)], "x"), "ACB");
    assert_eq!(asked(&[("targets", "A", "*.py", false), ("targets", "B", "*", false), ("A", "C", "*", false)], "x"), "B");
}

#[test]
fn nobody_is_asked_after_a_terminating_role() {
    let delegations = [("targets", "A", "*", false), ("targets", "B", "*", false), ("A", "C", "*", true), ("A", "D", "*", false)];
    assert_eq!(asked(&delegations, "x"), "AC");
}

#[test]
fn a_circle_ends() {
    let delegations = [("targets", "A", "*", false), ("A", "B", "*", false), ("B", "A", "*", false)];
    let (repository, mut trusted) = tree(&delegations[..2], &[]);
    search(&repository, &mut trusted, "x", NOW).unwrap();
    assert_eq!(asked(&delegations, "x"), "AB");
}

#[test]
fn a_publisher_speaks_for_its_paths_only() {
    let delegations = [("targets", "acme", "models/acme/*", true), ("targets", "evil", "models/evil/*", true)];
    let targets = [("acme", "models/acme/a"), ("evil", "models/acme/a"), ("evil", "models/evil/a")];
    let (repository, mut trusted) = tree(&delegations, &targets);
    let (_, found) = search(&repository, &mut trusted, "models/acme/a", NOW).unwrap();
    assert_eq!(found.unwrap(), Found { role: "acme".into(), target: target(b"acme") });
    let (_, found) = search(&repository, &mut trusted, "models/acme/b", NOW).unwrap();
    assert_eq!(found, None);
}

#[test]
fn the_top_role_wins_over_a_publisher_and_asks_nobody() {
    let (repository, mut trusted) = tree(&[("targets", "A", "*", false)], &[("targets", "x"), ("A", "x")]);
    let (asked, found) = search(&repository, &mut trusted, "x", NOW).unwrap();
    assert_eq!((asked, found.unwrap().role), (vec![], "targets".into()));
}

#[test]
fn a_path_goes_to_the_role_of_its_hash_prefix() {
    let (mut repository, mut trusted) = tree(&[("targets", "A", "", false), ("targets", "B", "", false)], &[]);
    let delegations = repository.targets.delegations.as_mut().unwrap();
    // SHA-256 of `a` begins with ca97.
    for (role, prefix) in delegations.roles.iter_mut().zip(["0", "ca"]) {
        (role.paths, role.path_hash_prefixes) = (None, Some(vec![prefix.into()]));
    }
    repository.publish(&["targets", "snapshot", "timestamp"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(search(&repository, &mut trusted, "a", NOW).unwrap().0, ["1.B.json"]);
}

#[test]
fn a_role_at_hand_is_verified_again_for_another_delegator() {
    let delegations = [
        ("targets", "A", "a/*", false),
        ("targets", "B", "b/*", false),
        ("A", "release", "a/*", false),
        ("B", "release", "b/*", false),
    ];
    let mut repository = Repository::new();
    for (from, to, paths, terminating) in delegations {
        repository.delegate(from, to, &[paths], terminating);
    }
    // Signed with the key that A names only.
    repository.keys.get_mut("release").unwrap().truncate(1);
    for path in ["a/x", "b/x"] {
        repository.delegated.get_mut("release").unwrap().targets.insert(path.into(), target(b"x"));
    }
    repository.publish(&["release", "A", "B", "targets", "snapshot", "timestamp"]);
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(search(&repository, &mut trusted, "a/x", NOW).unwrap().1.unwrap().role, "release");
    let error = search(&repository, &mut trusted, "b/x", NOW).unwrap_err();
    assert!(matches!(error, TrustError::Threshold { valid: 0, .. }), "{error}");
}

#[test]
fn a_role_that_the_snapshot_does_not_list_is_not_even_fetched() {
    let (mut repository, _) = tree(&[("targets", "A", "*", false)], &[("A", "x")]);
    repository.snapshot.meta.remove("A.json");
    repository.publish(&["snapshot", "timestamp"]);
    let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert_eq!(search(&repository, &mut trusted, "x", NOW), Err(TrustError::NotListed { role: "A".into() }));
}

#[test]
fn an_expired_or_replaced_publisher_is_refused() {
    let (mut repository, mut trusted) = tree(&[("targets", "A", "*", false)], &[("A", "x")]);
    search(&repository, &mut trusted, "x", NOW).unwrap().1.unwrap();
    // At hand and valid: nobody is asked. Once over, it is asked for again and refused.
    assert_eq!(search(&repository, &mut trusted, "x", NOW).unwrap().0.len(), 0);
    repository.delegated.get_mut("A").unwrap().expires = Expires::at(days(-1));
    repository.publish(&["A", "snapshot", "timestamp"]);
    refresh(&repository, &mut trusted, NOW).unwrap();
    assert!(matches!(search(&repository, &mut trusted, "x", NOW), Err(TrustError::Expired { .. })));
    // An older version of the same publisher is not what the snapshot names.
    let old = repository.files["1.A.json"].clone();
    repository.files.insert("2.A.json".into(), old);
    assert!(matches!(search(&repository, &mut trusted, "x", NOW), Err(TrustError::Mismatch { .. })));
}

#[test]
fn a_deep_tree_ends_with_a_reason() {
    let names: Vec<String> = (0..MAX_DELEGATIONS + 1).map(|i| format!("r{i}")).collect();
    let mut delegations = vec![("targets", names[0].as_str(), "*", false)];
    delegations.extend(names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str(), "*", false)));
    let (repository, mut trusted) = tree(&delegations, &[]);
    let error = search(&repository, &mut trusted, "x", NOW).unwrap_err();
    assert!(matches!(error, TrustError::TooManyDelegations { max: MAX_DELEGATIONS, .. }), "{error}");
}

#[test]
fn delegations_that_make_no_sense_are_refused_by_name() {
    let (mut repository, mut trusted) = tree(&[("targets", "A", "*", false)], &[]);
    let good = repository.targets.clone();
    type Change = fn(&mut Delegations);
    let changes: [(&str, Change); 4] = [
        ("`root` cannot be delegated to", |d| d.roles[0].name = "root".into()),
        ("delegates to `A` twice", |d| d.roles.push(d.roles[0].clone())),
        ("either paths or path_hash_prefixes", |d| d.roles[0].paths = None),
        ("A has threshold 0", |d| d.roles[0].threshold = 0),
    ];
    for (text, change) in changes {
        let version = repository.targets.version;
        repository.targets = Targets { version, ..good.clone() };
        change(repository.targets.delegations.as_mut().unwrap());
        repository.publish(&["targets", "snapshot", "timestamp"]);
        let error = refresh(&repository, &mut trusted, NOW).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}
