//! Who is in a rollout, and in which wave. Pure: ranks follow from the ids alone, so that the same rollout and device always
//! come to the same place, and nobody can be picked.

use aidos_protocol::rollout::{Share, Waves};
use aidos_protocol::{DeploymentId, DeviceId};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// A device's place in the order of a rollout: even, and another one in each rollout, so that no device is always the first.
pub(super) fn rank(rollout: DeploymentId, device: DeviceId) -> u64 {
    let hash = Sha256::digest(format!("{rollout}/{device}"));
    u64::from_be_bytes(hash[..8].try_into().expect("eight of thirty-two bytes"))
}

/// Which wave each device is in, in the order of the waves and ranks; and the highest rank that each wave took by its share, for those
/// who come later. `labelled` tells of a wave by label whether it takes the device.
pub(super) fn assign(
    rollout: DeploymentId,
    waves: &Waves,
    devices: impl IntoIterator<Item = DeviceId>,
    labelled: impl Fn(&Share, DeviceId) -> bool,
) -> (Vec<(DeviceId, usize)>, Vec<u64>) {
    let mut left: BTreeSet<(u64, DeviceId)> = devices.into_iter().map(|device| (rank(rollout, device), device)).collect();
    let total = left.len() as u64;
    let mut assigned = Vec::with_capacity(left.len());
    let mut bounds = Vec::with_capacity(waves.shares().len());
    let mut bound = 0;
    for (wave, share) in waves.shares().iter().enumerate() {
        match share.devices(total) {
            None => {
                let taken: Vec<_> = left.iter().copied().filter(|(_, device)| labelled(share, *device)).collect();
                for member in taken {
                    left.remove(&member);
                    assigned.push((member.1, wave));
                }
            }
            Some(share) => {
                while (assigned.len() as u64) < share {
                    let Some((rank, device)) = left.pop_first() else { break };
                    bound = rank;
                    assigned.push((device, wave));
                }
            }
        }
        bounds.push(bound);
    }
    (assigned, bounds)
}

/// The wave of a device that came after the waves were filled: that of those with ranks like its own.
pub(super) fn late(rank: u64, bounds: &[u64]) -> usize {
    bounds.iter().position(|bound| rank <= *bound).unwrap_or(bounds.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes(assigned: &[(DeviceId, usize)], waves: usize) -> Vec<usize> {
        (0..waves).map(|wave| assigned.iter().filter(|(_, of)| *of == wave).count()).collect()
    }

    #[test]
    fn shares_are_of_all_devices_and_grow() {
        let waves: Waves = "1%,10%,50%,100%".parse().unwrap();
        let devices = (0..1_000).map(DeviceId::new);
        let (assigned, bounds) = assign(DeploymentId::new(7), &waves, devices, |_, _| false);
        assert_eq!(sizes(&assigned, 4), [10, 90, 400, 500]);
        assert!(bounds.is_sorted() && bounds.len() == 4);
        let (few, _) = assign(DeploymentId::new(7), &waves, (0..3).map(DeviceId::new), |_, _| false);
        assert_eq!(sizes(&few, 4), [1, 0, 0, 2]);
    }

    #[test]
    fn a_label_takes_whatever_carries_it() {
        let waves: Waves = "canary=yes,50%,100%".parse().unwrap();
        let devices: Vec<_> = (0..10).map(DeviceId::new).collect();
        let canary = devices[3];
        let (assigned, _) = assign(DeploymentId::new(7), &waves, devices, |_, device| device == canary);
        assert_eq!(assigned[0], (canary, 0));
        assert_eq!(sizes(&assigned, 3), [1, 4, 5]);
    }

    #[test]
    fn late_ones_are_spread_like_the_others() {
        let waves: Waves = "10%,100%".parse().unwrap();
        let rollout = DeploymentId::new(7);
        let (_, bounds) = assign(rollout, &waves, (0..1_000).map(DeviceId::new), |_, _| false);
        let first = (5_000..10_000).filter(|id| late(rank(rollout, DeviceId::new(*id)), &bounds) == 0).count();
        assert!((300..800).contains(&first), "{first} of 5000 are in the first 10 %");
    }

    proptest! {
        #[test]
        fn everyone_is_in_exactly_one_wave(devices in 0u64..300, seed: u64, first in 1u32..50, then in 1u32..50) {
            let waves: Waves = format!("{first},{},a=b,70%,100%", first + then).parse().unwrap();
            let ids = (0..devices).map(|id| DeviceId::new(seed.wrapping_add(id)));
            let (assigned, bounds) = assign(DeploymentId::new(seed), &waves, ids, |_, device| device.to_string().ends_with('a'));
            let distinct: BTreeSet<_> = assigned.iter().map(|(device, _)| *device).collect();
            prop_assert_eq!(distinct.len() as u64, devices);
            prop_assert_eq!(bounds.len(), 5);
            prop_assert!(sizes(&assigned, 5)[0] as u64 <= u64::from(first));
        }
    }
}
