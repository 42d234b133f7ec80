use super::{Registry, open};
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use crate::registry::uploads::Begun;
use crate::registry::{Held, RegistryError};
use aidos_protocol::api::artifacts::MAX_CHUNK_BYTES;
use aidos_protocol::artifact::{Digest, MAX_ARTIFACT_BYTES};
use bytes::Bytes;
use futures::TryStreamExt as _;
use std::time::Duration;

both_stores!(
    an_upload_goes_on_where_it_stopped_also_after_a_restart,
    a_chunk_at_another_offset_is_told_the_right_one,
    bytes_with_another_digest_are_refused_and_discarded,
    what_was_lost_of_the_staging_file_is_asked_for_again,
    an_upload_expires_and_its_file_goes,
    limits_hold_per_tenant,
    an_artifact_of_another_tenant_is_as_if_it_were_not,
    a_grant_opens_one_artifact_of_one_tenant_for_a_while,
);

async fn content(registry: &Registry, digest: &Digest, range: std::ops::Range<u64>) -> Vec<u8> {
    let pieces = registry.artifacts.bytes(registry.alice.tenant, digest, range).await.unwrap();
    pieces.try_collect::<Vec<Bytes>>().await.unwrap().concat()
}

async fn begin(registry: &Registry, bytes: &[u8]) -> crate::registry::store::artifacts::UploadRow {
    match registry.artifacts.uploads().begin(&registry.alice, Digest::of(bytes), bytes.len() as u64).await.unwrap() {
        Begun::New(row) | Begun::Resumed(row) => row,
        Begun::Done(row) => panic!("{row:?} is done"),
    }
}

async fn an_upload_goes_on_where_it_stopped_also_after_a_restart(db: Db) {
    let registry = Registry::on(db.clone()).await;
    let (caller, bytes) = (&registry.alice, b"0123456789".as_slice());
    let row = begin(&registry, bytes).await;
    registry.artifacts.uploads().append(caller.tenant, row.id, 0, Bytes::from_static(b"0123")).await.unwrap();

    let restarted = open(&db, &registry.clock, registry.folder.path()).await;
    let again = restarted.uploads().begin(caller, Digest::of(bytes), 10).await.unwrap();
    let Begun::Resumed(again) = again else { panic!("{again:?}") };
    assert_eq!((again.id, again.stored), (row.id, 4));
    assert!(matches!(restarted.uploads().complete(caller, row.id).await, Err(RegistryError::Offset { stored: 4 })));
    restarted.uploads().append(caller.tenant, row.id, 4, Bytes::from_static(b"456789")).await.unwrap();
    let artifact = restarted.uploads().complete(caller, row.id).await.unwrap();
    assert_eq!((artifact.digest, artifact.size), (Digest::of(bytes), 10));
    assert_eq!(content(&registry, &artifact.digest, 0..10).await, bytes);
    assert_eq!(content(&registry, &artifact.digest, 3..5).await, b"34");
    let again = restarted.uploads().begin(caller, Digest::of(bytes), 10).await.unwrap();
    assert_eq!(again, Begun::Done(artifact));
    assert_eq!(std::fs::read_dir(registry.folder.path().join("staging")).unwrap().count(), 0);
}

async fn a_chunk_at_another_offset_is_told_the_right_one(db: Db) {
    let registry = Registry::on(db).await;
    let (tenant, uploads) = (registry.alice.tenant, registry.artifacts.uploads());
    let row = begin(&registry, b"0123456789").await;
    let chunk = Bytes::from_static(b"0123");
    uploads.append(tenant, row.id, 0, chunk.clone()).await.unwrap();
    for wrong in [0, 3, 5, u64::MAX] {
        let refused = uploads.append(tenant, row.id, wrong, chunk.clone()).await;
        assert!(matches!(refused, Err(RegistryError::Offset { stored: 4 })), "{wrong}");
    }
    let beyond = uploads.append(tenant, row.id, 4, Bytes::from_static(b"4567890")).await;
    assert!(matches!(beyond, Err(RegistryError::TooLarge { is: 11, limit: 10, .. })));
    let large = uploads.append(tenant, row.id, 4, vec![0; MAX_CHUNK_BYTES + 1].into()).await;
    assert!(matches!(large, Err(RegistryError::TooLarge { .. })));
    assert_eq!(uploads.get(tenant, row.id).await.unwrap().stored, 4);
}

async fn bytes_with_another_digest_are_refused_and_discarded(db: Db) {
    let registry = Registry::on(db).await;
    let (tenant, uploads) = (registry.alice.tenant, registry.artifacts.uploads());
    let row = begin(&registry, b"promised").await;
    uploads.append(tenant, row.id, 0, Bytes::from_static(b"somethin")).await.unwrap();
    let refused = uploads.complete(&registry.alice, row.id).await;
    assert!(matches!(refused, Err(RegistryError::Mismatch { promised, is }) if promised == Digest::of(b"promised")
        && is == Digest::of(b"somethin")));
    assert!(matches!(uploads.get(tenant, row.id).await, Err(RegistryError::NotFound(_))));
    assert!(matches!(registry.artifacts.get(tenant, &Digest::of(b"promised")).await, Err(RegistryError::NotFound(_))));
    assert_eq!(registry.upload(&registry.alice, b"promised").await, Digest::of(b"promised"));
}

async fn what_was_lost_of_the_staging_file_is_asked_for_again(db: Db) {
    let registry = Registry::on(db).await;
    let (tenant, uploads) = (registry.alice.tenant, registry.artifacts.uploads());
    let row = begin(&registry, b"0123456789").await;
    uploads.append(tenant, row.id, 0, Bytes::from_static(b"01234567")).await.unwrap();
    let part = registry.folder.path().join("staging").join(format!("{tenant}.{}.part", row.id));
    std::fs::write(&part, b"012").unwrap();
    assert_eq!(uploads.get(tenant, row.id).await.unwrap().stored, 3);
    uploads.append(tenant, row.id, 3, Bytes::from_static(b"34")).await.unwrap();
    // Bytes that were written and never acknowledged are cut.
    std::fs::write(&part, b"01234garbage").unwrap();
    uploads.append(tenant, row.id, 5, Bytes::from_static(b"56789")).await.unwrap();
    assert!(matches!(uploads.complete(&registry.alice, row.id).await, Ok(row) if row.digest == Digest::of(b"0123456789")));
}

async fn an_upload_expires_and_its_file_goes(db: Db) {
    let registry = Registry::on(db).await;
    let (tenant, uploads) = (registry.alice.tenant, registry.artifacts.uploads());
    let row = begin(&registry, b"0123456789").await;
    uploads.append(tenant, row.id, 0, Bytes::from_static(b"0123")).await.unwrap();
    uploads.sweep().await.unwrap();
    assert_eq!(uploads.get(tenant, row.id).await.unwrap().stored, 4);
    registry.clock.advance(Duration::from_secs(24 * 60 * 60));
    let late = uploads.append(tenant, row.id, 4, Bytes::from_static(b"4")).await;
    assert!(matches!(late, Err(RegistryError::NotFound(_))));
    uploads.sweep().await.unwrap();
    assert_eq!(std::fs::read_dir(registry.folder.path().join("staging")).unwrap().count(), 0);
    assert_eq!(begin(&registry, b"0123456789").await.stored, 0);
}

async fn limits_hold_per_tenant(db: Db) {
    let registry = Registry::on(db).await;
    let uploads = registry.artifacts.uploads();
    let begin = |caller, n: u32, size| uploads.begin(caller, Digest::of(&n.to_le_bytes()), size);
    assert!(matches!(begin(&registry.alice, 0, 0).await, Err(RegistryError::Invalid { field: "size", .. })));
    assert!(matches!(begin(&registry.alice, 0, MAX_ARTIFACT_BYTES + 1).await, Err(RegistryError::TooLarge { .. })));
    for n in 0..4 {
        begin(&registry.alice, n, MAX_ARTIFACT_BYTES).await.unwrap();
    }
    assert!(matches!(begin(&registry.alice, 9, 1).await, Err(RegistryError::Quota(_))));
    for n in 0..32 {
        begin(&registry.mallory, n, 1).await.unwrap();
    }
    assert!(matches!(begin(&registry.mallory, 32, 1).await, Err(RegistryError::Quota(_))));
    let Ok(Begun::Resumed(row)) = begin(&registry.mallory, 0, 1).await else { panic!("an open upload is no new one") };
    uploads.cancel(registry.mallory.tenant, row.id).await.unwrap();
    assert!(matches!(begin(&registry.mallory, 32, 1).await, Ok(Begun::New(_))));
}

async fn an_artifact_of_another_tenant_is_as_if_it_were_not(db: Db) {
    let registry = Registry::on(db).await;
    let (mallory, uploads) = (&registry.mallory, registry.artifacts.uploads());
    let row = begin(&registry, b"secret").await;
    assert!(matches!(uploads.get(mallory.tenant, row.id).await, Err(RegistryError::NotFound(_))));
    assert!(matches!(uploads.complete(mallory, row.id).await, Err(RegistryError::NotFound(_))));
    assert!(matches!(uploads.cancel(mallory.tenant, row.id).await, Err(RegistryError::NotFound(_))));
    let digest = registry.upload(&registry.mallory, b"other").await;
    assert!(matches!(registry.artifacts.get(registry.alice.tenant, &digest).await, Err(RegistryError::NotFound(_))));
    // Knowing the digest saves no byte: the upload is as of something new.
    assert!(matches!(uploads.begin(&registry.alice, digest, 5).await, Ok(Begun::New(_))));
    assert!(!registry.artifacts.grant(registry.alice.tenant, digest, &Held::default()).await.error.is_empty());
}

async fn a_grant_opens_one_artifact_of_one_tenant_for_a_while(db: Db) {
    let registry = Registry::on(db.clone()).await;
    let digest = registry.upload(&registry.alice, b"bytes").await;
    let grant = registry.artifacts.grant(registry.alice.tenant, digest, &Held::default()).await;
    assert_eq!((grant.size, grant.error.as_str()), (5, ""));
    let rest = grant.url.strip_prefix(&format!("http://plane/api/v1/blobs/{}/{digest}?", registry.alice.tenant)).unwrap();
    let (expires, signature) = rest.strip_prefix("expires=").unwrap().split_once("&signature=").unwrap();
    let expires = aidos_protocol::time::Micros(expires.parse().unwrap());
    assert_eq!(expires.0, grant.expires_us);
    let check = |artifacts: &crate::registry::Artifacts, tenant| artifacts.check_grant(tenant, &digest, expires, signature);
    // The key is the database's, so a restarted control plane still honours it.
    let restarted = open(&db, &registry.clock, registry.folder.path()).await;
    assert!(check(&restarted, registry.alice.tenant).is_ok());
    assert!(matches!(check(&restarted, registry.mallory.tenant), Err(RegistryError::Denied(_))));
    registry.clock.advance(Duration::from_secs(901));
    assert!(matches!(check(&restarted, registry.alice.tenant), Err(RegistryError::Denied(_))));
}
