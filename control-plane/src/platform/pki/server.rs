//! TLS for the listeners, with a server certificate that renews itself in memory.

use super::authority::SERVER_DAYS;
use super::{Pki, PkiError};
use aidos_protocol::time::Micros;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::sync::{Arc, Mutex};

/// The one cryptography that this process uses, whatever other crates would choose.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Pki {
    /// TLS 1.3 and 1.2 under `names` with `alpn`; with `client_auth` only devices and services that hold a certificate of
    /// this deployment get in.
    pub(crate) fn server_tls(&self, names: &[String], alpn: &[&[u8]], client_auth: bool) -> Result<ServerConfig, PkiError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = if client_auth {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.ca.clone())?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| PkiError::Setup(format!("client certificates cannot be checked: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let rolling = Rolling { pki: self.clone(), names: names.to_vec(), current: Mutex::new(None) };
        rolling.certificate()?;
        let mut config = builder.with_cert_resolver(Arc::new(rolling));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// A server certificate that is made anew at two thirds of its life, when the next client comes.
struct Rolling {
    pki: Pki,
    names: Vec<String>,
    current: Mutex<Option<(Arc<CertifiedKey>, Micros)>>,
}

impl Rolling {
    fn certificate(&self) -> Result<Arc<CertifiedKey>, PkiError> {
        let now = self.pki.0.clock.now();
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((key, until)) = &*current
            && now < *until
        {
            return Ok(key.clone());
        }
        let (chain, key) = self.pki.issue_server(&self.names)?;
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider())?);
        *current = Some((key.clone(), now.plus_seconds(SERVER_DAYS * 86_400 * 2 / 3)));
        Ok(key)
    }
}

impl ResolvesServerCert for Rolling {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate()
            .inspect_err(|error| tracing::error!(error = error as &dyn std::error::Error, "no server certificate"))
            .ok()
    }
}

impl fmt::Debug for Rolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rolling").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::testing::clock;
    use std::time::Duration;

    #[test]
    fn a_listener_gets_a_new_certificate_before_the_old_one_ends() {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let pki = Pki::open_or_create(folder.path(), "home", clock.clone()).unwrap();
        let rolling = Rolling { pki, names: vec!["localhost".into()], current: Mutex::new(None) };
        let first = rolling.certificate().unwrap().cert[0].clone();
        clock.advance(Duration::from_secs(59 * 86_400));
        assert_eq!(rolling.certificate().unwrap().cert[0], first);
        clock.advance(Duration::from_secs(2 * 86_400));
        assert_ne!(rolling.certificate().unwrap().cert[0], first);
    }
}
