//! The two places of a model: the version that answers, and one beside it (the next, or the one before).

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It answers requests that name no version.
    Active,
    /// It answers only requests that name it.
    Beside,
}

/// At most one version in each place. Both may have the same number, when one was published again with other bytes: then the
/// one that answers is meant by the number, but for [`Slots::beside`], [`Slots::activate`] and [`Slots::remove`].
#[derive(Debug)]
pub(super) struct Slots<T> {
    active: Option<(u64, T)>,
    beside: Option<(u64, T)>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { active: None, beside: None }
    }
}

impl<T> Slots<T> {
    /// Puts a version beside the active one and returns what had to leave for it.
    pub(super) fn put(&mut self, version: u64, content: T) -> Option<T> {
        self.beside.replace((version, content)).map(|(_, old)| old)
    }

    /// Makes a version answer; the one that answered goes beside it. `false` if it is not there.
    pub(super) fn activate(&mut self, version: u64) -> bool {
        if self.beside.as_ref().is_some_and(|(is, _)| *is == version) {
            std::mem::swap(&mut self.active, &mut self.beside);
        }
        self.active.as_ref().is_some_and(|(is, _)| *is == version)
    }

    /// Takes one version out, the one beside rather than the active one, or all of them.
    pub(super) fn remove(&mut self, version: Option<u64>) -> Vec<T> {
        let gone = |slot: &mut Option<(u64, T)>| slot.take_if(|(is, _)| version.is_none_or(|version| version == *is));
        let beside = gone(&mut self.beside);
        let active = if version.is_some() && beside.is_some() { None } else { gone(&mut self.active) };
        [active, beside].into_iter().flatten().map(|(_, content)| content).collect()
    }

    /// The version beside the one that answers, if it has this number; otherwise the active one, if that has.
    pub(super) fn beside(&self, version: u64) -> Option<&T> {
        let of = |slot: &'_ Option<(u64, T)>| slot.as_ref().is_some_and(|(is, _)| *is == version);
        let slot = if of(&self.beside) { &self.beside } else { &self.active };
        slot.as_ref().filter(|(is, _)| *is == version).map(|(_, content)| content)
    }

    /// The version that answers.
    pub(super) fn active(&self) -> Option<&T> {
        self.active.as_ref().map(|(_, content)| content)
    }

    /// One version, wherever it stands.
    pub(super) fn find(&self, version: u64) -> Option<(Place, &T)> {
        self.iter().find(|(is, ..)| *is == version).map(|(_, place, content)| (place, content))
    }

    /// All versions, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Place, &T)> {
        fn entry<T>(slot: &Option<(u64, T)>, place: Place) -> Option<(u64, Place, &T)> {
            slot.as_ref().map(|(version, content)| (*version, place, content))
        }
        let mut all = [entry(&self.active, Place::Active), entry(&self.beside, Place::Beside)];
        // Stable: of two with one number the active one comes first.
        all.sort_by_key(|entry| entry.as_ref().map(|(version, ..)| *version));
        all.into_iter().flatten()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_none() && self.beside.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_keeps_the_version_before_and_a_third_one_takes_its_place() {
        let mut slots = Slots::default();
        assert_eq!(slots.put(1, "one"), None);
        assert!(slots.active().is_none());
        assert!(slots.activate(1) && slots.activate(1));
        assert_eq!(slots.put(2, "two"), None);
        assert_eq!(slots.active(), Some(&"one"));
        assert!(slots.activate(2));
        assert_eq!(slots.find(1), Some((Place::Beside, &"one")));
        assert_eq!(slots.put(3, "three"), Some("one"));
        assert_eq!(
            slots.iter().map(|(version, place, _)| (version, place)).collect::<Vec<_>>(),
            [(2, Place::Active), (3, Place::Beside)]
        );
    }

    #[test]
    fn going_back_is_one_swap() {
        let mut slots = Slots::default();
        for version in [1, 2] {
            slots.put(version, version);
            assert!(slots.activate(version));
        }
        assert!(slots.activate(1));
        assert_eq!(slots.active(), Some(&1));
        assert!(!slots.activate(9));
        assert_eq!(slots.active(), Some(&1));
    }

    #[test]
    fn the_same_number_again_stands_beside_until_it_is_activated_and_leaves_first() {
        let mut slots = Slots::default();
        slots.put(1, "old");
        slots.activate(1);
        assert_eq!(slots.put(1, "new"), None);
        assert_eq!((slots.active(), slots.find(1), slots.beside(1)), (Some(&"old"), Some((Place::Active, &"old")), Some(&"new")));
        assert!(slots.activate(1));
        assert_eq!(slots.active(), Some(&"new"));
        assert_eq!((slots.remove(Some(1)), slots.remove(Some(1))), (vec!["old"], vec!["new"]));
        assert!(slots.is_empty());
    }
}
