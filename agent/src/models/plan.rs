//! What to do about one model: the steps from what is there to what intent asks for. Pure; nothing here acts.
//!
//! Invariants: at most two versions are loaded at any time; the active version is unloaded only when another one answers
//! already or when intent asks for none.

use aidos_protocol::artifact::Digest;
use std::collections::BTreeSet;

/// One version of a model: its number and the digest of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The version in the registry.
    pub version: u64,
    /// Digest of the file.
    pub digest: Digest,
}

/// What there is of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// The version that answers.
    pub active: Option<Slot>,
    /// The versions in memory, `active` among them.
    pub loaded: BTreeSet<Slot>,
    /// Whether the file of the desired version is in the store.
    pub file: bool,
}

/// One step; each is taken only when the one before it succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Bring the desired version's file into the store.
    Fetch,
    /// Take a version out of memory.
    Unload(u64),
    /// Build the desired version beside the active one; one of the same number is replaced where it stands.
    Load,
    /// Run the desired version once.
    Check,
    /// Let the desired version answer.
    Activate,
    /// Forget the model.
    Forget,
}

/// The steps that lead from `present` to `desired`, in order; empty when nothing is to do.
pub fn plan(desired: Option<Slot>, present: &Present) -> Vec<Step> {
    let Some(desired) = desired else {
        let mut steps: Vec<Step> = present.loaded.iter().map(|slot| Step::Unload(slot.version)).collect();
        if present.active.is_some() || !present.loaded.is_empty() {
            steps.push(Step::Forget);
        }
        return steps;
    };
    let beyond = |keep: &[Slot]| {
        present.loaded.iter().filter(|slot| !keep.contains(slot)).map(|slot| Step::Unload(slot.version)).collect::<Vec<_>>()
    };
    if present.active == Some(desired) {
        // The newest other one stays for a quick way back.
        let previous = present.loaded.iter().rev().find(|slot| **slot != desired).copied();
        let keep: Vec<Slot> = [Some(desired), previous].into_iter().flatten().collect();
        return beyond(&keep);
    }
    if present.loaded.contains(&desired) {
        let keep: Vec<Slot> = [Some(desired), present.active].into_iter().flatten().collect();
        let mut steps = beyond(&keep);
        steps.push(Step::Activate);
        return steps;
    }
    let mut steps = if present.file { Vec::new() } else { vec![Step::Fetch] };
    // What stands beside goes before the load, not after it, so that a small device never holds three.
    steps.extend(beyond(&present.active.into_iter().collect::<Vec<_>>()));
    steps.extend([Step::Load, Step::Check, Step::Activate]);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(version: u64, bytes: u8) -> Slot {
        Slot { version, digest: Digest::of(&[bytes]) }
    }

    fn any_slot() -> impl Strategy<Value = Slot> {
        (1..4u64, 0..3u8).prop_map(|(version, bytes)| slot(version, bytes))
    }

    fn any_present() -> impl Strategy<Value = Present> {
        (proptest::collection::btree_map(1..4u64, 0..3u8, 0..3), any::<bool>(), any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(versions, has_active, which, file)| {
                let loaded: BTreeSet<Slot> = versions.into_iter().map(|(version, bytes)| slot(version, bytes)).collect();
                let list: Vec<Slot> = loaded.iter().copied().collect();
                let active = (has_active && !list.is_empty()).then(|| *which.get(&list));
                Present { active, loaded, file }
            })
    }

    /// Takes the steps and checks the invariants after each.
    fn take(desired: Option<Slot>, mut present: Present) -> Present {
        for step in plan(desired, &present) {
            match step {
                Step::Fetch => {
                    assert!(!present.file, "what is here is not fetched");
                    present.file = true;
                }
                Step::Unload(version) => {
                    if present.active.is_some_and(|active| active.version == version) {
                        assert!(desired.is_none(), "the active version went too early");
                        present.active = None;
                    }
                    present.loaded.retain(|slot| slot.version != version);
                }
                Step::Load => {
                    let desired = desired.expect("only a desired version is loaded");
                    assert!(present.file, "a version is loaded from its file");
                    present.loaded.retain(|slot| slot.version != desired.version);
                    present.loaded.insert(desired);
                    present.active =
                        present.active.map(|active| if active.version == desired.version { desired } else { active });
                }
                Step::Check => assert!(present.loaded.contains(&desired.expect("checked"))),
                Step::Activate => {
                    let desired = desired.expect("activated");
                    assert!(present.loaded.contains(&desired));
                    present.active = Some(desired);
                }
                Step::Forget => assert!(present.loaded.is_empty()),
            }
            assert!(present.loaded.len() <= 2, "two versions at most: {present:?}");
        }
        present
    }

    proptest! {
        #[test]
        fn every_plan_reaches_what_is_desired_and_then_has_nothing_to_do(
            desired in proptest::option::of(any_slot()), present in any_present()
        ) {
            let after = take(desired, present);
            prop_assert_eq!(after.active, desired);
            prop_assert!(plan(desired, &after).is_empty());
        }
    }

    #[test]
    fn the_active_version_answers_until_the_new_one_does() {
        let (old, new) = (slot(1, 1), slot(2, 2));
        let present = Present { active: Some(old), loaded: BTreeSet::from([old]), file: false };
        assert_eq!(plan(Some(new), &present), [Step::Fetch, Step::Load, Step::Check, Step::Activate]);
    }

    #[test]
    fn the_way_back_needs_no_load_while_the_previous_version_is_in_memory() {
        let (old, new) = (slot(1, 1), slot(2, 2));
        let present = Present { active: Some(new), loaded: BTreeSet::from([old, new]), file: true };
        assert_eq!(plan(Some(old), &present), [Step::Activate]);
    }
}
