//! A deployment in miniature for tests: a CA that issues device and server certificates, and an HTTP(S) server with fixed answers.

use super::{DeviceKey, Identity, Record, certificate, files};
use aidos_protocol::enrol::{EndpointsView, JoinToken, TrustAnchor, anchor_message, spiffe_id};
use aidos_protocol::{DeviceId, TenantId, TokenId};
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, SigningKey as _,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
}

const DAY: Duration = Duration::from_secs(86_400);

impl TestCa {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.not_before = (SystemTime::now() - 1000 * DAY).into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn token(&self) -> JoinToken {
        JoinToken { id: TokenId::new(1), secret: "s".repeat(43), ca_pin: certificate::pin(&self.der) }
    }

    /// Vouches for a root of trust.
    pub(crate) fn anchor(&self, tenant: TenantId, root: &str) -> TrustAnchor {
        let signature = self.issuer.key().sign(&anchor_message(tenant, root.as_bytes())).unwrap();
        TrustAnchor { root: root.to_owned(), signature: base64::engine::general_purpose::STANDARD.encode(signature) }
    }

    /// The chain for the key that signed `csr`, valid from `age` ago for `life`.
    pub(crate) fn issue(&self, csr: &[u8], tenant: TenantId, device: DeviceId, age: Duration, life: Duration) -> String {
        let mut request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).unwrap();
        let begin = SystemTime::now() - age;
        request.params.not_before = begin.into();
        request.params.not_after = (begin + life).into();
        request.params.distinguished_name.push(DnType::CommonName, device.to_string());
        request.params.subject_alt_names = vec![SanType::URI(spiffe_id("test", tenant, device).try_into().unwrap())];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().pem() + &self.pem
    }

    /// A server's certificate for `localhost` and the loopback addresses, and its key.
    pub(crate) fn server(&self) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (vec![leaf.der().clone(), self.der.clone()], key)
    }

    /// TLS of a server that asks for device certificates when `mutual`.
    pub(crate) fn server_tls(&self, mutual: bool, alpn: &[u8]) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = self.server();
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    /// A device that has joined, without having asked anybody.
    pub(crate) fn joined(&self, dir: &Path, endpoints: EndpointsView) -> Identity {
        let (tenant, device) = (TenantId::new(1), DeviceId::new(2));
        self.joined_with(dir, endpoints, tenant, device, DAY, 30 * DAY)
    }

    pub(crate) fn joined_with(
        &self,
        dir: &Path,
        endpoints: EndpointsView,
        tenant_id: TenantId,
        device_id: DeviceId,
        age: Duration,
        life: Duration,
    ) -> Identity {
        files::private_dir(dir).unwrap();
        let key = DeviceKey::generate().unwrap();
        let key_file = key.write(dir).unwrap();
        let chain_pem = self.issue(key.csr().unwrap().der(), tenant_id, device_id, age, life);
        let ca_pem = self.pem.clone();
        Record { device_id, tenant_id, key_file, chain_pem, ca_pem, endpoints, trust: None }.write(dir).unwrap();
        Identity::load(dir).unwrap().unwrap()
    }
}

type Answer = Box<dyn Fn(&[u8]) -> (u16, String) + Send>;

/// Answers `METHOD /path` from a table, over TLS if it has settings for it.
pub(crate) struct TestHttp {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
}

impl TestHttp {
    pub(crate) async fn start(tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let table = Arc::clone(&answers);
        let tls = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => serve(stream, &table).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, &table).await;
                        }
                    }
                }
            }
        });
        Self { address, answers }
    }

    pub(crate) fn answer(&self, request: &str, answer: impl Fn(&[u8]) -> (u16, String) + Send + 'static) -> &Self {
        self.answers.lock().unwrap().insert(request.to_owned(), Box::new(answer));
        self
    }
}

/// One request per connection.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answers: &Mutex<HashMap<String, Answer>>) {
    let mut stream = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        if request.is_empty() {
            request = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let (status, text) = answers.lock().unwrap().get(&request).map_or((404, String::new()), |answer| answer(&body));
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    let _ = stream.write_all((head + &text).as_bytes()).await;
    let _ = stream.shutdown().await;
}
