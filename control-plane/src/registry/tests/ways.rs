//! Chunks and deltas: when they are made, what they are, when they are offered and when they go.

use super::{Registry, open};
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use crate::registry::{Held, RegistryError};
use aidos_protocol::artifact::{Digest, Recipe, unpack};
use aidos_protocol::delta;
use aidos_protocol::frame::{ArtifactDelta, ArtifactGrant};
use aidos_protocol::time::Micros;
use std::io::Cursor;
use std::time::Duration;

both_stores!(
    an_artifact_of_some_size_can_be_fetched_in_chunks_once_they_are_made,
    a_pair_that_devices_ask_for_gets_a_delta_and_a_pair_that_one_asked_for_does_not,
    a_delta_that_saves_nothing_is_never_offered_nor_made_again,
    a_small_device_gets_a_delta_of_its_own_window,
    patches_beyond_the_budget_give_way_to_those_asked_for_last,
    what_was_made_goes_with_the_artifact_it_was_made_from,
    a_build_that_was_cut_off_begins_again_and_is_given_up_after_the_third_time,
    a_base_of_another_tenant_is_no_base,
);

/// Bytes without long repetitions.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

/// Two versions: a byte in every 4 KiB differs, so that no chunk is shared.
fn versions(length: usize) -> (Vec<u8>, Vec<u8>) {
    let old = noise(5, length);
    let mut new = old.clone();
    new.iter_mut().step_by(4 << 10).for_each(|byte| *byte ^= 1);
    (old, new)
}

impl Registry {
    async fn asked(&self, target: Digest, base: Digest) -> ArtifactGrant {
        let held = Held { bases: vec![base], window_log: 23 };
        self.artifacts.grant(self.alice.tenant, target, &held).await
    }
    /// The delta that is offered after `times` devices asked.
    async fn delta(&self, target: Digest, base: Digest, times: u32) -> Option<ArtifactDelta> {
        for _ in 0..times {
            self.asked(target, base).await;
        }
        self.artifacts.build_all().await.unwrap();
        self.asked(target, base).await.delta.map(|delta| *delta)
    }
    /// The bytes behind a signed address.
    async fn read(&self, url: &str) -> Result<Vec<u8>, RegistryError> {
        let digest: Digest = url.split('/').next_back().unwrap().split('?').next().unwrap().parse().unwrap();
        let size = self.artifacts.get(self.alice.tenant, &digest).await?.size;
        self.artifacts.whole(self.alice.tenant, &digest, size).await
    }
}

fn applied(base: &[u8], patch: &[u8]) -> Vec<u8> {
    let mut made = Vec::new();
    delta::apply(Cursor::new(base), patch, &mut made, delta::MAX_WINDOW_LOG).unwrap();
    made
}

async fn an_artifact_of_some_size_can_be_fetched_in_chunks_once_they_are_made(db: Db) {
    let registry = Registry::on(db).await;
    let bytes = [noise(1, 1 << 20), vec![7; 1 << 20]].concat();
    let digest = registry.upload(&registry.alice, &bytes).await;
    let tenant = registry.alice.tenant;
    let grant = registry.artifacts.grant(tenant, digest, &Held::default()).await;
    assert_eq!((grant.chunks, grant.error.as_str()), (None, ""), "nothing waits for them");
    registry.artifacts.build_all().await.unwrap();

    let chunks = registry.artifacts.grant(tenant, digest, &Held::default()).await.chunks.unwrap();
    let list = registry.read(&chunks.recipe_url).await.unwrap();
    assert_eq!((Digest::of(&list).as_bytes().as_slice(), list.len() as u64), (&chunks.recipe[..], chunks.recipe_size));
    let recipe = Recipe::decode(&list).unwrap().expect(&digest, bytes.len() as u64).unwrap();
    let packed = registry.read(&chunks.packed_url).await.unwrap();
    assert!(packed.len() < bytes.len() * 6 / 10, "{} of {}", packed.len(), bytes.len());
    let piece = |at: std::ops::Range<u64>| &packed[at.start as usize..at.end as usize];
    let whole: Vec<u8> = recipe.places().flat_map(|(chunk, _, at)| unpack(&chunk, piece(at)).unwrap()).collect();
    assert!(whole == bytes);

    let small = registry.upload(&registry.alice, &noise(2, 1_000)).await;
    registry.artifacts.build_all().await.unwrap();
    assert_eq!(registry.artifacts.grant(tenant, small, &Held::default()).await.chunks, None);
}

async fn a_pair_that_devices_ask_for_gets_a_delta_and_a_pair_that_one_asked_for_does_not(db: Db) {
    let registry = Registry::on(db).await;
    let (old, new) = versions(200_000);
    let (base, target) = (registry.upload(&registry.alice, &old).await, registry.upload(&registry.alice, &new).await);
    assert_eq!(registry.delta(target, base, 1).await, None, "one device has fetched otherwise by then");
    // That look was the second question.
    let offered = registry.delta(target, base, 0).await.unwrap();
    assert_eq!(&offered.base[..], base.as_bytes());
    let patch = registry.read(&offered.url).await.unwrap();
    assert_eq!((patch.len() as u64, Digest::of(&patch).as_bytes().as_slice()), (offered.size, &offered.digest[..]));
    assert!(patch.len() < new.len() / 20, "{}", patch.len());
    assert!(applied(&old, &patch) == new);

    // Who does not hold the base, or takes no deltas, is offered none; nor is there one the other way.
    let none = [Held::default(), Held { bases: vec![base], window_log: 0 }, Held { bases: vec![target], window_log: 23 }];
    for held in none {
        assert_eq!(registry.artifacts.grant(registry.alice.tenant, target, &held).await.delta, None, "{held:?}");
    }
    assert_eq!(registry.asked(base, target).await.delta, None);
}

async fn a_delta_that_saves_nothing_is_never_offered_nor_made_again(db: Db) {
    let registry = Registry::on(db).await;
    // Nothing in common, and not compressible.
    let (one, other) = (noise(1, 100_000), noise(2, 100_000));
    let (base, target) = (registry.upload(&registry.alice, &one).await, registry.upload(&registry.alice, &other).await);
    assert_eq!(registry.delta(target, base, 5).await, None);
    assert!(!registry.artifacts.patch_one().await.unwrap(), "it is not due again");
    assert_eq!(registry.delta(target, base, 5).await, None);

    // Here a patch would save something, but the chunks that are new are fewer bytes: a device with the base fetches those.
    let old = noise(3, 2 << 20);
    let mut new = old.clone();
    new.extend_from_slice(&[1; 70]);
    let (base, target) = (registry.upload(&registry.alice, &old).await, registry.upload(&registry.alice, &new).await);
    let offered = registry.delta(target, base, 2).await;
    let list = Recipe::decode(&registry.read(&registry.asked(target, base).await.chunks.unwrap().recipe_url).await.unwrap());
    let (patch, list) = (offered.map_or(u64::MAX, |delta| delta.size), list.unwrap().encode().len() as u64);
    assert!(patch == u64::MAX || patch < list + (64 << 10), "{patch}");
}

async fn a_small_device_gets_a_delta_of_its_own_window(db: Db) {
    let registry = Registry::on(db).await;
    let (old, new) = versions(3 << 20);
    let (base, target) = (registry.upload(&registry.alice, &old).await, registry.upload(&registry.alice, &new).await);
    registry.delta(target, base, 2).await.unwrap();
    let small = Held { bases: vec![base], window_log: 21 };
    let ask = async || registry.artifacts.grant(registry.alice.tenant, target, &small).await.delta;
    assert_eq!(ask().await, None, "what takes 64 MiB to apply is nothing for it");
    ask().await;
    registry.artifacts.build_all().await.unwrap();
    let patch = registry.read(&ask().await.unwrap().url).await.unwrap();
    let header = delta::Header::decode(patch[..delta::HEADER_BYTES].try_into().unwrap()).unwrap();
    assert!(header.window_log <= 20, "{header:?}");
    let tiny = Held { bases: vec![base], window_log: 16 };
    assert_eq!(registry.artifacts.grant(registry.alice.tenant, target, &tiny).await.delta, None);
}

async fn patches_beyond_the_budget_give_way_to_those_asked_for_last(db: Db) {
    let mut registry = Registry::on(db).await;
    let (old, first) = versions(200_000);
    let mut second = first.clone();
    second.iter_mut().skip(1).step_by(4 << 10).for_each(|byte| *byte ^= 1);
    let base = registry.upload(&registry.alice, &old).await;
    let (first, second) = (registry.upload(&registry.alice, &first).await, registry.upload(&registry.alice, &second).await);
    registry.artifacts.limit_patches(1);
    let gone = registry.delta(first, base, 2).await.expect("one patch is kept whatever the budget");
    registry.clock.advance(Duration::from_secs(1));
    let kept = registry.delta(second, base, 2).await.unwrap();
    assert_eq!(registry.asked(first, base).await.delta, None);
    assert!(matches!(registry.read(&gone.url).await, Err(RegistryError::NotFound(_))), "its bytes are gone, too");
    assert!(registry.read(&kept.url).await.is_ok());
}

async fn what_was_made_goes_with_the_artifact_it_was_made_from(db: Db) {
    let registry = Registry::on(db).await;
    let (old, new) = versions(2 << 20);
    let (base, target) = (registry.upload(&registry.alice, &old).await, registry.upload(&registry.alice, &new).await);
    let patch = registry.delta(target, base, 2).await.unwrap();
    let chunks = registry.asked(target, base).await.chunks.unwrap();
    // What was made cannot be taken from under the artifact.
    for made in [&patch.digest, &chunks.recipe] {
        let digest = Digest::from_bytes(made).unwrap();
        registry.artifacts.discard_unreferenced(registry.alice.tenant, &[digest]).await.unwrap();
    }
    assert!(registry.read(&patch.url).await.is_ok() && registry.read(&chunks.recipe_url).await.is_ok());

    registry.artifacts.discard_unreferenced(registry.alice.tenant, &[target]).await.unwrap();
    for url in [&patch.url, &chunks.recipe_url, &chunks.packed_url] {
        assert!(matches!(registry.read(url).await, Err(RegistryError::NotFound(_))), "{url}");
    }
    assert_eq!(registry.artifacts.whole(registry.alice.tenant, &base, old.len() as u64).await.unwrap().len(), old.len());
}

async fn a_build_that_was_cut_off_begins_again_and_is_given_up_after_the_third_time(db: Db) {
    let registry = Registry::on(db.clone()).await;
    let (old, new) = versions(200_000);
    let (base, target) = (registry.upload(&registry.alice, &old).await, registry.upload(&registry.alice, &new).await);
    let cut_off = async || {
        let (tenant, now) = (registry.alice.tenant, registry.clock.now());
        let stale = Micros(now.0 - 3_600_000_000);
        let mut tx = db.begin().await.unwrap();
        let claimed = crate::registry::store::deltas::claim(&mut tx, tenant, now, stale, 3).await.unwrap();
        tx.commit().await.unwrap();
        claimed
    };
    registry.asked(target, base).await;
    registry.asked(target, base).await;
    registry.artifacts.write_down_questions().await.unwrap();
    assert!(cut_off().await.is_some());
    assert!(cut_off().await.is_none(), "it is under way");
    registry.clock.advance(Duration::from_secs(3_601));

    // The next process finds it and makes it.
    let next = open(&db, &registry.clock, registry.folder.path()).await;
    assert!(next.patch_one().await.unwrap());
    assert!(registry.asked(target, base).await.delta.is_some());

    // Another pair ends the process each time.
    registry.asked(base, target).await;
    registry.asked(base, target).await;
    registry.artifacts.write_down_questions().await.unwrap();
    for _ in 0..3 {
        assert!(cut_off().await.is_some());
        registry.clock.advance(Duration::from_secs(3_601));
    }
    assert!(cut_off().await.is_none(), "enough");
    assert_eq!(registry.delta(base, target, 5).await, None);
}

async fn a_base_of_another_tenant_is_no_base(db: Db) {
    let registry = Registry::on(db).await;
    let (old, new) = versions(200_000);
    let (base, target) = (registry.upload(&registry.mallory, &old).await, registry.upload(&registry.alice, &new).await);
    assert_eq!(registry.delta(target, base, 3).await, None);
    assert!(!registry.artifacts.patch_one().await.unwrap(), "nothing was counted");
}
