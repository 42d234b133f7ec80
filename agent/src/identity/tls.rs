//! TLS settings on ring with an explicit provider: nothing here depends on, or sets, the process's default.

use super::time::{Time, unix};
use super::{DeviceKey, IdentityError, certificate};
use aidos_protocol::time::Micros;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, OnceLock};

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder(time: Time) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, IdentityError> {
    ClientConfig::builder_with_details(provider(), Arc::new(time)).with_safe_default_protocol_versions().map_err(crypto)
}

pub(super) fn roots(ca: &CertificateDer<'static>) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(crypto)?;
    Ok(roots)
}

/// With the device's certificate, trusting `ca` only.
pub(super) fn device_client(
    ca: &CertificateDer<'static>,
    chain: &[CertificateDer<'static>],
    key: &DeviceKey,
    time: Time,
    alpn: &[&[u8]],
) -> Result<ClientConfig, IdentityError> {
    let verifier = Arc::new(ApiServer { own: own(ca)?, system: OnceLock::from(None) });
    let mut config = builder(time)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain.to_vec(), key.to_tls())
        .map_err(crypto)?;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    // One server: the default cache of 256 sessions would only take memory. No early data: commands must not be replayable.
    config.resumption = Resumption::in_memory_sessions(4);
    config.enable_early_data = false;
    Ok(config)
}

/// Without a client certificate: trusts `ca`, and the system's roots where the API has a certificate from elsewhere (`--tls-cert`).
///
/// A device believes of such a server only what `ca` has signed or a digest names. Links trust `ca` alone.
pub(super) fn api_client(ca: &CertificateDer<'static>, time: Time) -> Result<ClientConfig, IdentityError> {
    let verifier = ApiServer { own: own(ca)?, system: OnceLock::new() };
    Ok(builder(time)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

fn own(ca: &CertificateDer<'static>) -> Result<Arc<WebPkiServerVerifier>, IdentityError> {
    let own = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)?), provider());
    own.build().map_err(|e| IdentityError::Crypto(e.to_string()))
}

/// The time to judge a certificate at: a signature over a later begin says that it is later. One that nobody trusted has signed
/// is refused at any time.
pub(super) fn at(end_entity: &CertificateDer<'_>, now: UnixTime) -> UnixTime {
    let begins = certificate::not_before(end_entity).map_or(Micros(0), |begins| begins);
    now.max(unix(begins))
}

/// The deployment's CA first; the system's roots are read when that is not the issuer, since most devices never need their memory.
#[derive(Debug)]
struct ApiServer {
    own: Arc<WebPkiServerVerifier>,
    /// Filled with none: they are never asked.
    system: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
}

impl ApiServer {
    fn system(&self) -> Option<&Arc<WebPkiServerVerifier>> {
        let load = || {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
        };
        self.system.get_or_init(load).as_ref()
    }
}

impl ServerCertVerifier for ApiServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let now = at(end_entity, now);
        let verdict = self.own.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if !matches!(verdict, Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))) {
            return verdict;
        }
        match self.system() {
            Some(system) => system.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => verdict,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.own.supported_verify_schemes()
    }
}

/// Accepts any server. Only for the one request that fetches the CA certificate, whose digest is then compared with the
/// join token's: nothing secret is sent, and nothing received is believed but by that digest.
pub(super) fn unverified_client() -> Result<ClientConfig, IdentityError> {
    let algorithms = provider().signature_verification_algorithms;
    Ok(builder(Time::new(Micros(0)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(algorithms)))
        .with_no_client_auth())
}

#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

pub(super) fn crypto(error: rustls::Error) -> IdentityError {
    IdentityError::Crypto(error.to_string())
}
