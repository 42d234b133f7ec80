use super::Registry;
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use crate::registry::RegistryError;
use crate::registry::releases::{Released, Releases};
use crate::tenants::Caller;
use aidos_protocol::api::releases::CreateRelease;
use aidos_protocol::artifact::Digest;

both_stores!(
    the_counter_grows_with_each_version_and_is_shared_by_its_binaries,
    what_is_released_never_changes,
    a_binary_for_another_machine_is_refused,
    the_floor_is_the_highest_that_was_raised_up_to_a_version,
    a_released_binary_is_not_cleared_away,
    tenants_see_only_their_own_releases,
);

/// The first bytes of a binary for `machine`, and something that makes it another one.
fn elf(machine: u8, rest: &str) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = machine;
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

struct Shop {
    registry: Registry,
    releases: Releases,
}

async fn shop(db: Db) -> Shop {
    let registry = Registry::on(db).await;
    Shop { releases: registry.releases.clone(), registry }
}

impl Shop {
    async fn push(&self, caller: &Caller, version: &str, machine: u8, raise_floor: bool) -> Result<Released, RegistryError> {
        let digest = self.registry.upload(caller, &elf(machine, version)).await;
        let arch = if machine == 62 { "x86_64" } else { "aarch64" }.to_owned();
        self.releases.create(caller, CreateRelease { version: version.into(), arch, digest, raise_floor }).await
    }

    async fn counter(&self, version: &str, machine: u8, raise_floor: bool) -> u64 {
        match self.push(&self.registry.alice, version, machine, raise_floor).await.unwrap() {
            Released::New(row) | Released::Existing(row) => row.counter,
        }
    }
}

async fn the_counter_grows_with_each_version_and_is_shared_by_its_binaries(db: Db) {
    let shop = shop(db).await;
    assert_eq!(shop.counter("1.4.0", 62, false).await, 1);
    assert_eq!(shop.counter("1.5.0", 62, false).await, 2);
    assert_eq!(shop.counter("1.4.0", 183, false).await, 1);
    assert_eq!(shop.counter("1.3.9", 62, false).await, 3, "what is released later counts higher, whatever it is called");
    let tenant = shop.registry.alice.tenant;
    let first = shop.releases.list(tenant, (u64::MAX, ""), 3).await.unwrap();
    let names: Vec<_> = first.iter().map(|row| (row.version.as_str(), row.arch.as_str())).collect();
    assert_eq!(names, [("1.3.9", "x86_64"), ("1.5.0", "x86_64"), ("1.4.0", "aarch64")]);
    let rest = shop.releases.list(tenant, (first[2].counter, &first[2].arch), 3).await.unwrap();
    assert_eq!((rest.len(), rest[0].arch.as_str()), (1, "x86_64"));
}

async fn what_is_released_never_changes(db: Db) {
    let shop = shop(db).await;
    let alice = &shop.registry.alice;
    shop.counter("1.4.0", 62, false).await;
    assert!(matches!(shop.push(alice, "1.4.0", 62, false).await, Ok(Released::Existing(_))));
    let digest = shop.registry.upload(alice, &elf(62, "another")).await;
    let again = CreateRelease { version: "1.4.0".into(), arch: "x86_64".into(), digest, raise_floor: false };
    assert!(matches!(shop.releases.create(alice, again).await, Err(RegistryError::Conflict(_))));
    assert!(matches!(shop.push(alice, "1.4.0", 183, true).await, Err(RegistryError::Conflict(_))));
    assert_eq!(shop.releases.version(alice.tenant, "1.4.0").await.unwrap().binaries.len(), 1, "a refusal leaves nothing");
}

async fn a_binary_for_another_machine_is_refused(db: Db) {
    let shop = shop(db).await;
    let alice = &shop.registry.alice;
    let create = async |bytes: &[u8], version: &str, arch: &str| {
        let digest = shop.registry.upload(alice, bytes).await;
        let request = CreateRelease { version: version.into(), arch: arch.into(), digest, raise_floor: false };
        shop.releases.create(alice, request).await.map(drop).map_err(|error| error.to_string())
    };
    assert!(create(&elf(183, ""), "1.0.0", "x86_64").await.unwrap_err().contains("is for aarch64"));
    assert!(create(&elf(99, ""), "1.0.0", "x86_64").await.unwrap_err().contains("do not run on"));
    assert!(create(&elf(62, ""), "v1", "x86_64").await.unwrap_err().contains("begins with a digit"));
    assert!(create(&elf(62, ""), "1.0.0", "X 86").await.unwrap_err().contains("uname"));
    create(b"#!/bin/sh", "1.0.0", "x86_64").await.unwrap();
    let request =
        CreateRelease { version: "2".into(), arch: "x86_64".into(), digest: Digest::of(b"never sent"), raise_floor: false };
    assert!(matches!(shop.releases.create(alice, request).await, Err(RegistryError::NotFound(_))));
}

async fn the_floor_is_the_highest_that_was_raised_up_to_a_version(db: Db) {
    let shop = shop(db).await;
    for (version, raises) in [("1.0.0", false), ("1.1.0", true), ("1.2.0", false)] {
        shop.counter(version, 62, raises).await;
    }
    let tenant = shop.registry.alice.tenant;
    let floor = async |version: &str| shop.releases.version(tenant, version).await.unwrap().floor;
    assert_eq!((floor("1.0.0").await, floor("1.1.0").await, floor("1.2.0").await), (0, 2, 2));
}

async fn a_released_binary_is_not_cleared_away(db: Db) {
    let shop = shop(db).await;
    let alice = &shop.registry.alice;
    shop.counter("1.0.0", 62, false).await;
    let digest = Digest::of(&elf(62, "1.0.0"));
    shop.registry.artifacts.discard_unreferenced(alice.tenant, &[digest]).await.unwrap();
    assert!(shop.registry.artifacts.get(alice.tenant, &digest).await.is_ok());
}

async fn tenants_see_only_their_own_releases(db: Db) {
    let shop = shop(db).await;
    let mallory = &shop.registry.mallory;
    shop.counter("1.0.0", 62, false).await;
    assert!(shop.releases.version(mallory.tenant, "1.0.0").await.is_err());
    assert!(shop.releases.list(mallory.tenant, (u64::MAX, ""), 10).await.unwrap().is_empty());
    // Another tenant's counter is its own.
    let Released::New(row) = shop.push(mallory, "7.0.0", 62, false).await.unwrap() else { panic!("it is new") };
    assert_eq!(row.counter, 1);
}
