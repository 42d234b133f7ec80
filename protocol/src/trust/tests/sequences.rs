//! Whatever an attacker who holds no key serves, in any order: what is trusted is always something that was published as a
//! whole, and never goes back.

use super::repository::{Repository, refresh, refresh_from};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What the repository does between two refreshes.
#[derive(Debug, Clone)]
enum Publish {
    Timestamp,
    Snapshot,
    Targets,
    Root,
}

/// What the attacker answers to one request.
#[derive(Debug, Clone)]
enum Serve {
    /// The right file.
    Right,
    /// Any file that was ever published, of whatever role.
    Any(prop::sample::Index),
    /// The right file with one byte changed.
    Flipped(prop::sample::Index),
    /// The right file cut off.
    Cut(prop::sample::Index),
    /// Nothing.
    Missing,
}

fn serve() -> impl Strategy<Value = Serve> {
    prop_oneof![
        6 => Just(Serve::Right),
        4 => any::<prop::sample::Index>().prop_map(Serve::Any),
        1 => any::<prop::sample::Index>().prop_map(Serve::Flipped),
        1 => any::<prop::sample::Index>().prop_map(Serve::Cut),
        1 => Just(Serve::Missing),
    ]
}

fn publish() -> impl Strategy<Value = Publish> {
    prop_oneof![
        3 => Just(Publish::Timestamp),
        2 => Just(Publish::Snapshot),
        3 => Just(Publish::Targets),
        1 => Just(Publish::Root),
    ]
}

fn answer(serve: Option<&Serve>, repository: &Repository, want: &Want) -> Option<Vec<u8>> {
    let right = repository.files.get(&want.address).cloned();
    match serve {
        None | Some(Serve::Right) => right,
        Some(Serve::Any(index)) => {
            let all: Vec<_> = repository.files.values().collect();
            Some(index.get(&all).to_vec())
        }
        Some(Serve::Flipped(index)) => right.map(|mut bytes| {
            let at = index.index(bytes.len());
            bytes[at] ^= 0x20;
            bytes
        }),
        Some(Serve::Cut(index)) => right.map(|mut bytes| {
            bytes.truncate(index.index(bytes.len()));
            bytes
        }),
        Some(Serve::Missing) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn nothing_unpublished_is_trusted_and_nothing_goes_back(
        rounds in prop::collection::vec((publish(), prop::collection::vec(serve(), 0..6), any::<bool>()), 1..8)
    ) {
        let mut repository = Repository::new();
        let mut trusted = Trusted::begin(&repository.files["1.root.json"]).unwrap();
        let generation = |r: &Repository| (r.timestamp.version, r.snapshot.version, r.targets.version);
        let mut generations = BTreeSet::from([generation(&repository)]);
        for (step, serves, restart) in rounds {
            match step {
                Publish::Timestamp => repository.publish(&["timestamp"]),
                Publish::Snapshot => repository.publish(&["snapshot", "timestamp"]),
                Publish::Targets => repository.publish(&["targets", "snapshot", "timestamp"]),
                Publish::Root => repository.publish(&["root"]),
            }
            generations.insert(generation(&repository));
            let before = versions(&trusted);
            let mut requests = serves.iter();
            let serves = std::cell::RefCell::new(&mut requests);
            let get = |want: &Want| answer(serves.borrow_mut().next(), &repository, want);
            let (_, result) = refresh_from(get, &mut trusted, NOW);
            let after = versions(&trusted);
            prop_assert!(before.iter().zip(after).all(|(b, a)| *b <= a), "{before:?} to {after:?}");
            if result.is_ok() {
                prop_assert!(generations.contains(&(after[1], after[2], after[3])), "{after:?} was never published");
            }
            let published: BTreeSet<_> = repository.files.values().map(Vec::as_slice).collect();
            for (_, bytes) in trusted.files() {
                prop_assert!(published.contains(bytes) || same_document(bytes, &published));
            }
            if restart {
                let kept = trusted.files().map(|(n, b)| (n.to_owned(), b.to_vec())).collect();
                trusted = Trusted::open(&kept).unwrap();
                prop_assert_eq!(versions(&trusted), after);
            }
        }
        // Once the attacker is gone the device is current.
        refresh(&repository, &mut trusted, NOW).unwrap();
        let current = [repository.root.version, repository.timestamp.version, repository.snapshot.version, repository.targets.version];
        prop_assert_eq!(versions(&trusted), current);
    }
}

/// A byte outside of what is signed may have changed: white space, a signature's spelling.
fn same_document(bytes: &[u8], published: &BTreeSet<&[u8]>) -> bool {
    let signed = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok().map(|v| v["signed"].clone());
    published.iter().any(|other| signed(other) == signed(bytes))
}
