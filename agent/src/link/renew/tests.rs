use super::*;
use crate::identity::testing::{TestCa, TestHttp};
use crate::link::ports::channel;
use aidos_protocol::enrol::{RenewalRequest, RenewalResponse};
use aidos_protocol::{DeviceId, TenantId};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use std::sync::Arc;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_certificate_that_expired_while_the_device_was_off_is_renewed_at_once_without_a_link() {
    let (ca, dir) = (Arc::new(TestCa::new()), tempfile::tempdir().unwrap());
    let http = TestHttp::start(None).await;
    let endpoints = EndpointsView { api_url: format!("http://{}", http.address), ..EndpointsView::default() };
    let (tenant, device) = (TenantId::new(1), DeviceId::new(2));
    let identity = ca.joined_with(dir.path(), endpoints, tenant, device, 100 * DAY, 30 * DAY);
    http.answer("POST /api/v1/enrol/renew", move |body| {
        let request: RenewalRequest = serde_json::from_slice(body).unwrap();
        let csr = CertificateSigningRequestDer::from_pem_slice(request.csr_pem.as_bytes()).unwrap();
        let chain_pem = ca.issue(&csr, tenant, device, Duration::ZERO, 30 * DAY);
        (200, serde_json::to_string(&RenewalResponse { chain_pem, endpoints: EndpointsView::default() }).unwrap())
    });
    let ((link, _control), shutdown) = (channel(), CancellationToken::new());
    let renewed = identity.changed();
    let task = tokio::spawn(keep_certificate_fresh(identity.clone(), link, shutdown.clone()));
    renewed.await;
    assert!(identity.validity().1 > identity.now());
    shutdown.cancel();
    task.await.unwrap();
}
