//! Who this device is: key, certificate, joining, renewal, signatures.
//!
//! One folder holds the identity: `key-….pem` (0600) and `identity.json`, which names the key that is in force. Replacing
//! `identity.json` is the one commit point, so a device killed at any moment has joined or has not, never half.
//! This module must never send the private key anywhere, and trusts no certificate authority but the deployment's.

mod certificate;
mod error;
mod files;
mod http;
mod join;
mod key;
mod member;
mod record;
mod renewal;
mod time;
mod tls;
mod trust;

pub use error::{IdentityError, JoinError, RenewError};
pub use http::{in_the_clear, is_loopback};
pub use join::{JoinOptions, join};
pub use key::{DeviceKey, KeyId};
pub use member::{MemberTls, Refused};
pub use renewal::renew_at;

use crate::clock;
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::time::Micros;
use aidos_protocol::{DeviceId, TenantId};
use certificate::Leaf;
use record::Record;
use rustls_pki_types::CertificateDer;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use time::Time;
use tokio::sync::watch;

/// The identity of a device that has joined. Cheap to clone; all clones see a renewed certificate at once.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    key: DeviceKey,
    time: Time,
    current: watch::Sender<Arc<Credentials>>,
    /// Held while `identity.json` is replaced, so that two writers cannot lose each other's change.
    writing: Mutex<()>,
    api_client: OnceLock<reqwest::Client>,
    public_client: OnceLock<reqwest::Client>,
}

/// What a renewal or new endpoints replace as a whole.
struct Credentials {
    record: Record,
    chain: Vec<CertificateDer<'static>>,
    ca: CertificateDer<'static>,
    leaf: Leaf,
    generation: u64,
}

impl Identity {
    /// The identity kept in `dir`; `None` when this device has not joined.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(record) = Record::read(dir)? else { return Ok(None) };
        let key = DeviceKey::read(&dir.join(&record.key_file))?;
        let credentials = Credentials::new(record, &key, 0)?;
        Ok(Some(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            key,
            time: Time::new(credentials.leaf.not_before),
            current: watch::Sender::new(Arc::new(credentials)),
            writing: Mutex::new(()),
            api_client: OnceLock::new(),
            public_client: OnceLock::new(),
        }))))
    }

    fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.0.current.borrow())
    }

    /// The device's id.
    pub fn device_id(&self) -> DeviceId {
        self.current().record.device_id
    }

    /// The tenant it belongs to.
    pub fn tenant_id(&self) -> TenantId {
        self.current().record.tenant_id
    }

    /// Where the control plane is reached, as last told by it.
    pub fn endpoints(&self) -> EndpointsView {
        self.current().record.endpoints.clone()
    }

    /// Beginning and end of the present certificate's life.
    pub fn validity(&self) -> (Micros, Micros) {
        let current = self.current();
        (current.leaf.not_before, current.leaf.not_after)
    }

    /// The present time as far as it is known: the clock, put right by what the control plane told, and never before the certificate
    /// was issued.
    pub fn now(&self) -> Micros {
        self.0.time.present(clock::now())
    }

    /// Whether this device cannot know how much time has passed: its clock reads less than what was signed, and nobody has told it better.
    pub fn is_time_lost(&self) -> bool {
        self.0.time.is_lost(clock::now())
    }

    /// The control plane says what time it is.
    pub fn time_told(&self, present: Micros) {
        self.0.time.told(present, clock::now());
    }

    /// Counts replacements of the certificate or endpoints; whoever caches what it derived from them compares this.
    pub fn generation(&self) -> u64 {
        self.current().generation
    }

    /// Wakes with each new [`Identity::generation`].
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut watch = self.0.current.subscribe();
        async move {
            // The sender lives in the handle that the caller holds; a closed watch means that nobody can renew any more.
            if watch.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo DER).
    pub fn key_id(&self) -> KeyId {
        self.0.key.id()
    }

    /// Signs with the device's key: its id, and an ECDSA P-256/SHA-256 signature (ASN.1 DER).
    pub fn sign(&self, message: &[u8]) -> Result<(KeyId, Vec<u8>), IdentityError> {
        Ok((self.0.key.id(), self.0.key.sign(message)?))
    }

    /// A certificate signing request for the device's key, DER.
    pub fn csr_der(&self) -> Result<Vec<u8>, IdentityError> {
        Ok(self.0.key.csr()?.der().to_vec())
    }

    /// TLS settings of a connection to the control plane: the device's certificate is shown, only the deployment's CA is
    /// trusted, and the server's certificate must name the host that was dialled.
    pub fn client_tls(&self, alpn: &[&[u8]]) -> Result<rustls::ClientConfig, IdentityError> {
        let current = self.current();
        tls::device_client(&current.ca, &current.chain, &self.0.key, self.0.time.clone(), alpn)
    }

    /// HTTP to the control plane: trusts the deployment's CA, or the system's roots where its certificate is from elsewhere.
    pub fn http_client(&self) -> Result<reqwest::Client, IdentityError> {
        if let Some(client) = self.0.api_client.get() {
            return Ok(client.clone());
        }
        let current = self.current();
        let client = http::api_client(&current.ca, self.0.time.clone(), &current.record.endpoints.api_url)?;
        Ok(self.0.api_client.get_or_init(|| client).clone())
    }

    /// The client to fetch `url` with: [`Identity::http_client`] for the control plane itself; for any other host (object
    /// storage, a CDN) one that trusts the system's roots as well. What such a host serves is only believed by its digest.
    pub fn http_client_for(&self, url: &str) -> Result<reqwest::Client, IdentityError> {
        let current = self.current();
        if http::same_origin(url, &current.record.endpoints.api_url) {
            return self.http_client();
        }
        if let Some(client) = self.0.public_client.get() {
            return Ok(client.clone());
        }
        let client = http::public_client(&current.ca)?;
        Ok(self.0.public_client.get_or_init(|| client).clone())
    }

    /// Takes a renewed certificate (if it is for this device and key) and new endpoints into use; empty ones keep the old.
    /// Returns once they are on disk; on an error everything stays as it was.
    pub async fn install(&self, chain_pem: Option<String>, endpoints: EndpointsView) -> Result<(), IdentityError> {
        let identity = self.clone();
        let change = move |record: &mut Record| {
            record.endpoints.update(endpoints);
            record.chain_pem = chain_pem.unwrap_or_else(|| std::mem::take(&mut record.chain_pem));
        };
        let installed = tokio::task::spawn_blocking(move || identity.replace(change)).await;
        installed.unwrap_or_else(|e| Err(IdentityError::Crypto(format!("the change was interrupted: {e}"))))
    }

    /// Checks the changed record as a whole, writes it, and only then shows it to others.
    fn replace(&self, change: impl FnOnce(&mut Record)) -> Result<(), IdentityError> {
        let _writing = self.0.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let old = self.current();
        let mut record = old.record.clone();
        change(&mut record);
        if record == old.record {
            return Ok(());
        }
        let credentials = Credentials::new(record, &self.0.key, old.generation + 1)?;
        credentials.record.write(&self.0.dir)?;
        if credentials.record.chain_pem != old.record.chain_pem {
            self.0.time.issued(credentials.leaf.not_before, clock::now());
        }
        self.0.current.send_replace(Arc::new(credentials));
        Ok(())
    }
}

impl Credentials {
    fn new(record: Record, key: &DeviceKey, generation: u64) -> Result<Self, IdentityError> {
        let ca = certificate::single(&record.ca_pem)?;
        let chain = certificate::chain(&record.chain_pem)?;
        let leaf = Leaf::check(&chain, &ca, key, record.tenant_id, record.device_id)?;
        Ok(Self { record, chain, ca, leaf, generation })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("device", &self.device_id()).field("tenant", &self.tenant_id()).finish_non_exhaustive()
    }
}

/// Empty fields of the news keep what is there.
trait Update {
    fn update(&mut self, news: Self);
}

impl Update for EndpointsView {
    fn update(&mut self, news: Self) {
        for (old, new) in [
            (&mut self.api_url, news.api_url),
            (&mut self.quic, news.quic),
            (&mut self.mqtt, news.mqtt),
            (&mut self.trust, news.trust),
        ] {
            if !new.is_empty() {
                *old = new;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
