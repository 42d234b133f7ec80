//! Who fetches a piece first: rendezvous hashing, which needs no election and no message. Pure.
//!
//! Every agent that knows the same neighbours comes to the same order, and a neighbour that comes or goes changes the order of
//! the others not at all. Different pieces have different first ones, so the work spreads.

use aidos_protocol::DeviceId;
use aidos_protocol::artifact::{Digest, Digester};

/// The weight of `device` for `piece`: the highest goes first.
pub(super) fn weight(piece: &Digest, device: DeviceId) -> [u8; 32] {
    let mut digester = Digester::default();
    digester.update(piece.as_bytes());
    digester.update(device.as_bytes());
    *digester.finish().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn order(piece: &Digest, devices: &[DeviceId]) -> Vec<DeviceId> {
        let mut order = devices.to_vec();
        order.sort_by_key(|device| std::cmp::Reverse(weight(piece, *device)));
        order
    }

    proptest! {
        #[test]
        fn one_that_leaves_changes_the_order_of_the_others_not_at_all(
            seeds in proptest::collection::btree_set(any::<[u8; 16]>(), 2..40), which in any::<prop::sample::Index>(), piece in any::<u64>()
        ) {
            let devices: Vec<DeviceId> = seeds.into_iter().map(DeviceId::from_bytes).collect();
            let piece = Digest::of(&piece.to_le_bytes());
            let gone = *which.get(&devices);
            let before: Vec<_> = order(&piece, &devices).into_iter().filter(|device| *device != gone).collect();
            let left: Vec<_> = devices.into_iter().rev().filter(|device| *device != gone).collect();
            prop_assert_eq!(before, order(&piece, &left));
        }
    }

    #[test]
    fn the_work_spreads_over_all() {
        let devices: Vec<DeviceId> = (0..10u8).map(|n| DeviceId::from_bytes([n; 16])).collect();
        let mut firsts: BTreeMap<DeviceId, u32> = BTreeMap::new();
        for piece in 0..1_000u32 {
            *firsts.entry(order(&Digest::of(&piece.to_le_bytes()), &devices)[0]).or_default() += 1;
        }
        assert!(firsts.len() == 10 && firsts.values().all(|count| (50..200).contains(count)), "{firsts:?}");
    }
}
