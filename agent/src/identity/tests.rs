use super::testing::{TestCa, TestHttp};
use super::*;
use aidos_protocol::enrol::{EnrolRequest, EnrolResponse, RenewalRequest, RenewalResponse, TrustAnchor, renewal_message};
use base64::Engine as _;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn options(url: String, token: String, dir: &Path) -> JoinOptions {
    let (name, labels) = ("box".to_owned(), BTreeMap::new());
    JoinOptions { url, token, name, labels, dir: dir.to_owned(), insecure_http: false, force: false }
}

fn csr_der(pem: &str) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// A control plane that enrols everybody; each enrolment makes a new device.
async fn plane(ca: &Arc<TestCa>, https: bool) -> (TestHttp, String) {
    let http = TestHttp::start(https.then(|| ca.server_tls(false, b"http/1.1"))).await;
    let url = format!("{}://127.0.0.1:{}", if https { "https" } else { "http" }, http.address.port());
    let pem = ca.pem.clone();
    http.answer("GET /api/v1/ca.pem", move |_| (200, pem.clone()));
    let ca = Arc::clone(ca);
    http.answer("POST /api/v1/enrol", move |body| {
        let request: EnrolRequest = serde_json::from_slice(body).unwrap();
        let (tenant_id, device_id) = (TenantId::new(7), DeviceId::new(8));
        let chain_pem = ca.issue(&csr_der(&request.csr_pem), tenant_id, device_id, DAY, 30 * DAY);
        let endpoints = EndpointsView { quic: "localhost:7070".into(), ..EndpointsView::default() };
        let answer = EnrolResponse { device_id, tenant_id, chain_pem, ca_pem: ca.pem.clone(), endpoints, trust: None };
        (201, serde_json::to_string(&answer).unwrap())
    });
    (http, url)
}

#[tokio::test]
async fn a_device_joins_over_https_that_only_the_token_vouches_for() {
    let (ca, dir) = (Arc::new(TestCa::new()), tempfile::tempdir().unwrap());
    let (_http, url) = plane(&ca, true).await;
    let identity = join(&options(url.clone(), ca.token().to_string(), dir.path())).await.unwrap();
    assert_eq!(
        identity.endpoints(),
        EndpointsView { api_url: url.clone(), quic: "localhost:7070".into(), mqtt: String::new(), ..EndpointsView::default() }
    );

    let again = Identity::load(dir.path()).unwrap().unwrap();
    assert_eq!((again.device_id(), again.key_id()), (identity.device_id(), identity.key_id()));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "join.lock" {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }

    let repeated = join(&options(url.clone(), ca.token().to_string(), dir.path())).await.unwrap_err();
    assert!(repeated.to_string().contains(&identity.device_id().to_string()), "{repeated}");
    let forced = join(&JoinOptions { force: true, ..options(url, ca.token().to_string(), dir.path()) }).await.unwrap();
    assert_ne!(forced.key_id(), identity.key_id());
    assert_eq!(DeviceKey::list(dir.path()).unwrap().len(), 1, "the old key is gone");
}

#[tokio::test]
async fn each_way_to_fail_says_what_to_do() {
    let (ca, dir) = (Arc::new(TestCa::new()), tempfile::tempdir().unwrap());
    let (http, url) = plane(&ca, false).await;
    let token = ca.token().to_string();
    let fails = async |url: &str, token: &str| join(&options(url.into(), token.into(), dir.path())).await.unwrap_err();

    assert!(matches!(fails(&url, "hello").await, JoinError::Malformed(_)));
    assert!(matches!(fails("http://192.0.2.1:7070", &token).await, JoinError::PlainHttp(_)));
    assert!(matches!(fails("ftp://x", &token).await, JoinError::Address { .. }));
    assert!(matches!(fails("http://127.0.0.1:1", &token).await, JoinError::Unreachable { .. }));
    let foreign = TestCa::new().token().to_string();
    assert!(matches!(fails(&url, &foreign).await, JoinError::WrongPin { .. }));
    for (code, expected) in [("token_used_up", "--uses"), ("token_expired", "--ttl"), ("token_unknown", "does not know")] {
        http.answer("POST /api/v1/enrol", move |_| (403, format!(r#"{{"code":"{code}","detail":"no","status":403}}"#)));
        let error = fails(&url, &token).await.to_string();
        assert!(error.contains(expected) && error.contains("aidos token create"), "{error}");
    }
    http.answer("POST /api/v1/enrol", |_| (200, "{}".into()));
    assert!(matches!(fails(&url, &token).await, JoinError::BadAnswer(_)));
    assert!(Identity::load(dir.path()).unwrap().is_none());
}

#[tokio::test]
async fn an_attempt_that_was_cut_off_is_repeated_with_the_same_key() {
    let (ca, dir) = (Arc::new(TestCa::new()), tempfile::tempdir().unwrap());
    let (http, url) = plane(&ca, false).await;
    http.answer("POST /api/v1/enrol", |_| (500, String::new()));
    join(&options(url, ca.token().to_string(), dir.path())).await.unwrap_err();
    let keys = DeviceKey::list(dir.path()).unwrap();
    // Half a file, as a kill in the middle of a write leaves it.
    std::fs::write(dir.path().join("identity.json.tmp"), "{\"devi").unwrap();
    let (_http, url) = plane(&ca, false).await;
    let identity = join(&options(url, ca.token().to_string(), dir.path())).await.unwrap();
    assert_eq!(keys, DeviceKey::list(dir.path()).unwrap());
    assert!(keys[0].contains(&hex::encode(identity.key_id())[..16]));
}

#[tokio::test]
async fn a_forced_join_that_fails_leaves_the_device_what_it_was() {
    let (ca, dir) = (Arc::new(TestCa::new()), tempfile::tempdir().unwrap());
    let (http, url) = plane(&ca, false).await;
    let identity = join(&options(url.clone(), ca.token().to_string(), dir.path())).await.unwrap();
    http.answer("POST /api/v1/enrol", |_| (500, String::new()));
    join(&JoinOptions { force: true, ..options(url, ca.token().to_string(), dir.path()) }).await.unwrap_err();
    let still = Identity::load(dir.path()).unwrap().unwrap();
    assert_eq!((still.device_id(), still.key_id()), (identity.device_id(), identity.key_id()));
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_with_proof_of_the_key() {
    let (ca, dir) = (Arc::new(TestCa::new()), tempfile::tempdir().unwrap());
    let http = TestHttp::start(None).await;
    let endpoints = EndpointsView { api_url: format!("http://{}", http.address), ..EndpointsView::default() };
    let (tenant, device) = (TenantId::new(1), DeviceId::new(2));
    let identity = ca.joined_with(dir.path(), endpoints, tenant, device, 40 * DAY, 30 * DAY);
    assert!(identity.validity().1 < identity.now());
    let (issuer, spki) =
        (Arc::clone(&ca), DeviceKey::read(&dir.path().join(&DeviceKey::list(dir.path()).unwrap()[0])).unwrap().spki_der());
    http.answer("POST /api/v1/enrol/renew", move |body| {
        let request: RenewalRequest = serde_json::from_slice(body).unwrap();
        let csr = csr_der(&request.csr_pem);
        let signature = base64::engine::general_purpose::STANDARD.decode(&request.signature).unwrap();
        let public = &spki[spki.len() - 65..];
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, public)
            .verify(&renewal_message(&csr), &signature)
            .unwrap();
        let chain_pem = issuer.issue(&csr, tenant, device, Duration::ZERO, 30 * DAY);
        (200, serde_json::to_string(&RenewalResponse { chain_pem, endpoints: EndpointsView::default() }).unwrap())
    });
    let (key, woken) = (identity.key_id(), identity.changed());
    identity.renew_over_http().await.unwrap();
    woken.await;
    assert!(identity.validity().1 > identity.now());
    assert_eq!(Identity::load(dir.path()).unwrap().unwrap().validity(), identity.validity());
    assert_eq!(key, identity.key_id());
}

#[tokio::test]
async fn a_certificate_for_another_device_key_or_ca_is_not_installed() {
    let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
    let identity = ca.joined(dir.path(), EndpointsView::default());
    let before = identity.validity();
    let (tenant, device, csr) = (identity.tenant_id(), identity.device_id(), identity.csr_der().unwrap());
    let other_key = DeviceKey::generate().unwrap().csr().unwrap().der().to_vec();
    for chain in [
        ca.issue(&csr, tenant, DeviceId::new(9), DAY, 60 * DAY),
        ca.issue(&csr, TenantId::new(9), device, DAY, 60 * DAY),
        ca.issue(&other_key, tenant, device, DAY, 60 * DAY),
        TestCa::new().issue(&csr, tenant, device, DAY, 60 * DAY),
        "not PEM".into(),
    ] {
        identity.install(Some(chain), EndpointsView::default()).await.unwrap_err();
    }
    assert_eq!(identity.validity(), before);
    assert_eq!(Identity::load(dir.path()).unwrap().unwrap().validity(), before);
}

#[tokio::test]
async fn storage_of_the_deployments_own_ca_is_trusted_and_any_other_private_one_is_not() {
    let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
    let endpoints = EndpointsView { api_url: "https://plane.example:7070".into(), ..EndpointsView::default() };
    let identity = ca.joined(dir.path(), endpoints);
    for (issuer, trusted) in [(&ca, true), (&TestCa::new(), false)] {
        let storage = TestHttp::start(Some(issuer.server_tls(false, b"http/1.1"))).await;
        storage.answer("GET /blob", |_| (200, "bytes".into()));
        let url = format!("https://127.0.0.1:{}/blob", storage.address.port());
        let fetched = identity.http_client_for(&url).unwrap().get(&url).send().await;
        assert_eq!(fetched.is_ok(), trusted, "{fetched:?}");
    }
}

proptest! {
    #[test]
    fn renewal_is_after_half_and_before_three_quarters_of_the_life(begin in 0i64..1 << 50, life in 0i64..1 << 50, jitter in 0.0..1.0) {
        let at = renew_at(Micros(begin), Micros(begin + life), jitter).0 - begin;
        prop_assert!(at >= life / 2 && at <= life * 3 / 4);
    }
}

#[tokio::test]
async fn a_root_of_trust_is_taken_once_and_only_when_the_deployments_ca_signed_it_for_this_tenant() {
    use aidos_protocol::trust::{Expires, Role, Root, RootRoles, SigningKey, sign};
    let tenant_id = TenantId::new(7);
    let key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    let role = || Role::of(vec![key.id()], 1);
    let expires = Expires::at(Micros(4_000_000_000_000_000));
    let root = |version| {
        let root = Root::new(version, expires, RootRoles::new(role(), role(), role()), [key.public()]);
        String::from_utf8(sign(&root, &[&key]).unwrap()).unwrap()
    };
    let (ca, dir) = (Arc::new(TestCa::new()), tempfile::tempdir().unwrap());
    let (http, url) = plane(&ca, false).await;
    let answering = |anchor: TrustAnchor| {
        let ca = Arc::clone(&ca);
        http.answer("POST /api/v1/enrol", move |body| {
            let request: EnrolRequest = serde_json::from_slice(body).unwrap();
            let device_id = DeviceId::new(8);
            let chain_pem = ca.issue(&csr_der(&request.csr_pem), tenant_id, device_id, DAY, 30 * DAY);
            let endpoints = EndpointsView { trust: "/tuf/x/".into(), ..EndpointsView::default() };
            let trust = Some(anchor.clone());
            let answer = EnrolResponse { device_id, tenant_id, chain_pem, ca_pem: ca.pem.clone(), endpoints, trust };
            (201, serde_json::to_string(&answer).unwrap())
        });
    };
    let good = ca.anchor(tenant_id, &root(1));
    let options = options(url.clone(), ca.token().to_string(), dir.path());
    let attempt = || join(&options);
    for bad in [
        TestCa::new().anchor(tenant_id, &root(1)),
        ca.anchor(TenantId::new(6), &root(1)),
        TrustAnchor { root: root(2), ..good.clone() },
        TrustAnchor { signature: "?".into(), ..good.clone() },
        // Signed by the CA, and no root by its own signatures.
        ca.anchor(tenant_id, "{}"),
    ] {
        answering(bad);
        assert!(matches!(attempt().await.unwrap_err(), JoinError::BadAnswer(_)));
        assert!(Identity::load(dir.path()).unwrap().is_none());
    }
    answering(good);
    let identity = attempt().await.unwrap();
    assert_eq!((identity.anchor(), identity.endpoints().trust), (Some(root(1)), "/tuf/x/".to_owned()));
    // A later one does not take its place; later roots prove themselves.
    identity.take_anchor(ca.anchor(tenant_id, &root(2))).await.unwrap();
    identity.take_anchor(TestCa::new().anchor(tenant_id, &root(3))).await.unwrap_err();
    assert_eq!(Identity::load(dir.path()).unwrap().unwrap().anchor(), Some(root(1)));
}
