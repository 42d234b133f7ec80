//! What the CA signs, it accepts; what anyone else signs, it does not.

use super::*;
use crate::platform::clock::Clock;
use crate::platform::testing::{START, clock};
use aidos_protocol::{DeviceId, TenantId};
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const DAY: i64 = 86_400;

fn ids() -> (TenantId, DeviceId) {
    (TenantId::new(1), DeviceId::new(2))
}

fn request(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn pki(folder: &Path, clock: Clock) -> Pki {
    Pki::open_or_create(folder, "home", clock).unwrap()
}

#[test]
fn a_device_certificate_verifies_until_it_expires_and_within_the_grace_after() {
    let folder = tempfile::tempdir().unwrap();
    let pki = pki(folder.path(), clock());
    let (tenant, device) = ids();
    let key = KeyPair::generate().unwrap();
    let issued = pki.issue_device(tenant, device, &request(&key)).unwrap();
    let chain = chain(&issued.chain_pem);
    assert_eq!(chain.len(), 2);
    assert_eq!(issued.not_after, START.plus_seconds(30 * DAY));
    let cert = pki.verify_device_chain(&chain, START, 0).unwrap();
    assert_eq!((cert.tenant, cert.device), (tenant, device));
    assert_eq!((cert.serial, cert.spki_sha256), (issued.serial, issued.spki_sha256));
    assert_eq!(cert.spki_der, key.subject_public_key_info());
    assert_eq!(cert.not_after, issued.not_after);
    let late = START.plus_seconds(31 * DAY);
    assert!(matches!(pki.verify_device_chain(&chain, late, 0), Err(PkiError::Expired)));
    assert!(pki.verify_device_chain(&chain, late, 400).is_ok());
    assert!(matches!(pki.verify_device_chain(&chain, START.plus_seconds(431 * DAY), 400), Err(PkiError::Expired)));
    assert!(matches!(pki.verify_device_chain(&chain, START.plus_seconds(-DAY), 400), Err(PkiError::Refused(_))));
}

#[test]
fn certificates_of_others_servers_services_and_forgers_are_refused() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (pki, other) = (pki(here.path(), clock()), pki(there.path(), clock()));
    let (tenant, device) = ids();
    let foreign = other.issue_device(tenant, device, &request(&KeyPair::generate().unwrap())).unwrap();
    assert!(pki.verify_device_chain(&chain(&foreign.chain_pem), START, 400).is_err());
    let (server, _) = pki.issue_server(&["localhost".into(), "127.0.0.1".into()]).unwrap();
    assert!(pki.verify_device_chain(&server, START, 0).is_err());
    let (service, _) = pki.issue_service_client("mqtt").unwrap();
    assert!(pki.verify_device_chain(&service, START, 0).is_err());
    assert!(pki.verify_device_chain(&[pki.ca_der().clone()], START, 0).is_err());
    assert!(pki.verify_device_chain(&[], START, 0).is_err());
    assert!(pki.verify_device_chain(&[CertificateDer::from(vec![1, 2, 3])], START, 0).is_err());
    // A device's key cannot sign: the signature is right, the issuer is a leaf.
    let key = KeyPair::generate().unwrap();
    let leaf = pki.issue_device(tenant, device, &request(&key)).unwrap();
    let issuer = Issuer::from_ca_cert_der(&chain(&leaf.chain_pem)[0], key).unwrap();
    let forged = CertificateParams::default().signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    assert!(pki.verify_device_chain(&[forged.der().clone(), chain(&leaf.chain_pem)[0].clone()], START, 0).is_err());
    // One flipped bit anywhere in the part that is signed.
    let mut bytes = chain(&leaf.chain_pem)[0].to_vec();
    let signed = X509Certificate::from_der(&bytes).unwrap().1.tbs_certificate.as_ref().len();
    for at in (4..4 + signed).step_by(7) {
        bytes[at] ^= 1;
        assert!(pki.verify_device_chain(&[CertificateDer::from(bytes.clone())], START, 0).is_err(), "byte {at}");
        bytes[at] ^= 1;
    }
}

#[test]
fn a_request_gives_its_key_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let pki = pki(folder.path(), clock());
    let (tenant, device) = ids();
    let mut wish = CertificateParams::new(vec!["evil.example".into()]).unwrap();
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
    let issued = pki.issue_device(tenant, device, &csr).unwrap();
    let cert = pki.verify_device_chain(&chain(&issued.chain_pem), START, 0).unwrap();
    assert_eq!(cert.device, device);
}

#[test]
fn a_request_that_is_not_one_or_has_another_kind_of_key_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let pki = pki(folder.path(), clock());
    let (tenant, device) = ids();
    let p384 = request(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap());
    let ed25519 = request(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    for bad in ["", "hello", &p384, &ed25519, &"x".repeat(20_000)] {
        let refused = pki.issue_device(tenant, device, bad).unwrap_err();
        assert!(matches!(refused, PkiError::Request(_)), "{refused}");
    }
}

#[test]
fn the_ca_survives_a_restart_and_its_key_is_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let first = pki(folder.path(), clock());
    let again = pki(folder.path(), clock());
    assert_eq!(first.ca_pin(), again.ca_pin());
    assert_eq!(CertificateDer::from_pem_slice(first.ca_pem().as_bytes()).unwrap(), *first.ca_der());
    let mode = std::fs::metadata(folder.path().join("ca.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(folder.path().join("README")).unwrap().contains("0600"));
}

#[test]
fn a_folder_of_another_deployment_or_with_half_a_ca_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    pki(folder.path(), clock());
    let other = Pki::open_or_create(folder.path(), "work", clock()).err().unwrap();
    assert!(other.to_string().contains("deployment = \"home\""), "{other}");
    std::fs::remove_file(folder.path().join("ca.key")).unwrap();
    let half = Pki::open_or_create(folder.path(), "home", clock()).err().unwrap();
    assert!(half.to_string().contains("ca.key is missing"), "{half}");
    assert!(Pki::open_or_create(folder.path(), "Not A Name", clock()).is_err());
}

#[test]
fn a_listener_speaks_its_protocols_under_usable_names_only() {
    let folder = tempfile::tempdir().unwrap();
    let pki = pki(folder.path(), clock());
    let config = pki.server_tls(&["localhost".into(), "::1".into()], &[b"h2"], true).unwrap();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
    assert!(matches!(pki.server_tls(&["not a name".into()], &[], false), Err(PkiError::Name(_))));
}
