//! TLS between two devices of one tenant: each shows its device certificate, and takes the other only if the deployment's CA
//! signed it, it is in force, and it names a device of the same tenant that is not on the list of those to refuse.
//!
//! A device's certificate is one for clients, on either end; there is no name of a host to compare, since neighbours are met at
//! bare addresses. Nothing is resumed: each connection is judged anew.

use super::{Identity, IdentityError, certificate, tls};
use aidos_protocol::{DeviceId, TenantId};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Tells which devices of the own tenant are refused although their certificates are in force.
pub type Refused = Arc<dyn Fn(DeviceId) -> bool + Send + Sync>;

/// TLS settings of both ends.
#[derive(Debug)]
pub struct MemberTls {
    /// For the end that listens.
    pub server: ServerConfig,
    /// For the end that dials.
    pub client: ClientConfig,
}

impl Identity {
    /// TLS with other devices of this tenant, as this certificate stands now; ask again when [`Identity::generation`] changes.
    pub fn member_tls(&self, refused: Refused, alpn: &[u8]) -> Result<MemberTls, IdentityError> {
        let current = self.current();
        let time = Arc::new(self.0.time.clone());
        let roots = Arc::new(tls::roots(&current.ca)?);
        let inner = WebPkiClientVerifier::builder_with_provider(roots, tls::provider()).build();
        let inner = inner.map_err(|error| IdentityError::Crypto(error.to_string()))?;
        let members = Arc::new(Members { inner, tenant: current.record.tenant_id, refused: List(refused) });
        let versions = &[&rustls::version::TLS13];
        let server = ServerConfig::builder_with_details(tls::provider(), time.clone())
            .with_protocol_versions(versions)
            .map_err(tls::crypto)?
            .with_client_cert_verifier(members.clone());
        let mut server = server.with_single_cert(current.chain.clone(), self.0.key.to_tls()).map_err(tls::crypto)?;
        server.alpn_protocols = vec![alpn.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let client = ClientConfig::builder_with_details(tls::provider(), time)
            .with_protocol_versions(versions)
            .map_err(tls::crypto)?
            .dangerous()
            .with_custom_certificate_verifier(members);
        let mut client = client.with_client_auth_cert(current.chain.clone(), self.0.key.to_tls()).map_err(tls::crypto)?;
        client.alpn_protocols = vec![alpn.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(MemberTls { server, client })
    }

    /// The device that a certificate names, which the handshake has verified.
    pub fn member(certificate: &[u8]) -> Result<DeviceId, IdentityError> {
        certificate::spiffe(&CertificateDer::from(certificate)).map(|(_, device)| device)
    }
}

#[derive(Debug)]
struct Members {
    inner: Arc<dyn ClientCertVerifier>,
    tenant: TenantId,
    refused: List,
}

/// Printable, which a closure is not.
struct List(Refused);

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refused")
    }
}

impl Members {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, tls::at(end_entity, now))?;
        match certificate::spiffe(end_entity) {
            Ok((tenant, device)) if tenant == self.tenant && !(self.refused.0)(device) => Ok(verified),
            Ok((tenant, _)) if tenant == self.tenant => Err(CertificateError::Revoked.into()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }
}

impl ClientCertVerifier for Members {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, now).map(|_| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
