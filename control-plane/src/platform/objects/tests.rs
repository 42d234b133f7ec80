//! One suite for the local folder and for S3.

use super::*;
use crate::platform::testing::server;
use futures::TryStreamExt as _;

macro_rules! both_folders {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn local() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(super::Objects::local(&folder.path().join("objects")).unwrap()).await;
            }
            #[tokio::test]
            async fn s3() {
                super::$name(super::bucket(false).await).await;
            }
        }
    )+};
}
both_folders!(
    an_object_is_stored_once_read_in_ranges_and_deleted,
    a_large_object_goes_up_in_parts,
    bytes_that_are_not_what_their_name_says_are_refused,
    a_tenant_does_not_see_anothers_object,
);

/// A fresh bucket of the server in `AIDOS_TEST_S3_URL`.
async fn bucket(presign: bool) -> Objects {
    // Other tests of this process may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoint = server("AIDOS_TEST_S3_URL");
    let bucket = format!("aidos-{:016x}", rand::random::<u64>());
    let made = tokio::process::Command::new("curl")
        .args(["-fsS", "-X", "PUT", &format!("{}/{bucket}", endpoint.trim_end_matches('/'))])
        .status()
        .await
        .unwrap();
    assert!(made.success(), "the S3 server at {endpoint} makes no bucket");
    let config = S3Config {
        bucket,
        region: region(),
        endpoint: Some(endpoint),
        access_key_id: Some("test".into()),
        secret_access_key: Some("test".into()),
        allow_http: true,
        presign,
    };
    Objects::s3(&config).unwrap()
}

fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, Digest) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    (file, Digest::of(bytes))
}

async fn read(objects: &Objects, tenant: TenantId, digest: &Digest, range: Range<u64>) -> Vec<u8> {
    let pieces: Vec<Bytes> = objects.get_range(tenant, digest, range).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

async fn an_object_is_stored_once_read_in_ranges_and_deleted(objects: Objects) {
    let tenant = TenantId::new(1);
    let (source, digest) = file(b"hello objects");
    assert_eq!(objects.head(tenant, &digest).await.unwrap(), None);
    objects.put_file(tenant, &digest, source.path()).await.unwrap();
    objects.put_file(tenant, &digest, source.path()).await.unwrap();
    assert_eq!(objects.head(tenant, &digest).await.unwrap(), Some(13));
    assert_eq!(read(&objects, tenant, &digest, 0..13).await, b"hello objects");
    assert_eq!(read(&objects, tenant, &digest, 6..13).await, b"objects");
    assert_eq!(read(&objects, tenant, &digest, 5..5).await, b"");
    let beyond = objects.get_range(tenant, &digest, 0..14).await.err().unwrap();
    assert!(matches!(beyond, ObjectError::Range { size: 13, .. }), "{beyond}");
    objects.delete(tenant, &digest).await.unwrap();
    objects.delete(tenant, &digest).await.unwrap();
    let gone = objects.get_range(tenant, &digest, 0..1).await.err().unwrap();
    assert!(matches!(gone, ObjectError::NotFound(_)), "{gone}");
}

async fn a_large_object_goes_up_in_parts(objects: Objects) {
    let tenant = TenantId::new(1);
    let bytes: Vec<u8> = (0..(MULTIPART_FROM as u32 + 3_000_001)).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (source, digest) = file(&bytes);
    objects.put_file(tenant, &digest, source.path()).await.unwrap();
    assert_eq!(objects.head(tenant, &digest).await.unwrap(), Some(bytes.len() as u64));
    let middle = 8_388_000..8_389_000;
    assert_eq!(read(&objects, tenant, &digest, middle.clone()).await, bytes[8_388_000..8_389_000]);
}

async fn bytes_that_are_not_what_their_name_says_are_refused(objects: Objects) {
    let tenant = TenantId::new(1);
    for size in [5, MULTIPART_FROM as usize + 1] {
        let (source, _) = file(&vec![1; size]);
        let other = Digest::of(b"other");
        let refused = objects.put_file(tenant, &other, source.path()).await.unwrap_err();
        assert!(matches!(refused, ObjectError::Digest { .. }), "{refused}");
        assert_eq!(objects.head(tenant, &other).await.unwrap(), None);
    }
}

async fn a_tenant_does_not_see_anothers_object(objects: Objects) {
    let (source, digest) = file(b"mine");
    objects.put_file(TenantId::new(1), &digest, source.path()).await.unwrap();
    assert_eq!(objects.head(TenantId::new(2), &digest).await.unwrap(), None);
}

#[tokio::test]
async fn a_presigned_url_reads_without_credentials() {
    let objects = bucket(true).await;
    let (source, digest) = file(b"signed");
    let tenant = TenantId::new(1);
    objects.put_file(tenant, &digest, source.path()).await.unwrap();
    let url = objects.presign(tenant, &digest, Duration::from_secs(60)).await.unwrap().unwrap();
    let output = tokio::process::Command::new("curl").args(["-fsS", &url]).output().await.unwrap();
    assert_eq!(output.stdout, b"signed", "{} {url}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_says_what_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let refused = Objects::local(&folder.path().join("file")).err().unwrap();
    assert!(refused.to_string().contains("file"), "{refused}");
}
