//! A fleet for tests: real database, CA, sessions and sockets; twins, commands, telemetry and artifacts that remember what
//! they were asked.

use super::ports::{
    ArtifactSource, CommandQueue, IntentPosition, TelemetrySink, TrustSource, TwinFault, TwinPosition, TwinSource, Wish,
};
use super::store::DeviceKey;
use super::twins::Twins;
use super::{Devices, Enrolment, Live, Renewal, SessionPorts, SessionSettings, Sessions, Tokens};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError, Tx};
use crate::platform::pki::{Pki, provider};
use crate::platform::testing::{events, sqlite};
use crate::tenants::{Activity, Caller, Tenants};
use aidos_protocol::api::tokens::CreateToken;
use aidos_protocol::enrol::{EndpointsView, EnrolRequest, TrustAnchor};
use aidos_protocol::frame::{self, Body};
use aidos_protocol::{CommandId, DeviceId, TenantId};
use async_trait::async_trait;
use axum::http::{HeaderMap, Method, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// What the ports were asked, and what they answer.
#[derive(Default)]
pub(super) struct Desk {
    /// Updates that wait for a device, taken by a pull.
    pub(super) updates: Mutex<Vec<frame::Body>>,
    pub(super) acks: Mutex<Vec<IntentPosition>>,
    pub(super) commands: Mutex<Vec<frame::Command>>,
    pub(super) results: Mutex<Vec<frame::CommandResult>>,
    pub(super) stored: Mutex<HashMap<DeviceId, u64>>,
    pub(super) labels: Mutex<HashMap<DeviceId, BTreeMap<String, String>>>,
}

#[async_trait]
impl TwinSource for Desk {
    async fn create(
        &self,
        _: &mut Tx,
        _: TenantId,
        device: DeviceId,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), TwinFault> {
        if labels.contains_key("bad key") {
            return Err(TwinFault::Refused("`bad key` is not a label".into()));
        }
        self.labels.lock().unwrap().insert(device, labels.clone());
        Ok(())
    }
    async fn position(&self, _: TenantId, _: DeviceId) -> Result<TwinPosition, TwinFault> {
        Ok(TwinPosition { status_boot_id: 3, status_seq: 4, ..Default::default() })
    }
    async fn pull(&self, _: TenantId, _: DeviceId, _: &IntentPosition) -> Result<Option<Body>, TwinFault> {
        Ok(self.updates.lock().unwrap().pop())
    }
    async fn ack(&self, _: TenantId, _: DeviceId, at: &IntentPosition, _: u32) -> Result<(), TwinFault> {
        self.acks.lock().unwrap().push(at.clone());
        Ok(())
    }
    async fn apply_status(&self, _: TenantId, _: DeviceId, delta: frame::StatusDelta) -> Result<frame::StatusAck, TwinFault> {
        Ok(frame::StatusAck { boot_id: delta.boot_id, seq: delta.seq, resync: false })
    }
    async fn merge_site(
        &self,
        _: TenantId,
        _: DeviceId,
        changes: frame::SiteChanges,
        keys: &[DeviceKey],
    ) -> Result<frame::SiteAck, TwinFault> {
        assert!(!keys.is_empty(), "the device's keys are known");
        Ok(frame::SiteAck { epoch: changes.epoch, ..Default::default() })
    }
}

#[async_trait]
impl CommandQueue for Desk {
    async fn pending(&self, _: TenantId, _: DeviceId, limit: usize) -> Result<Vec<frame::Command>, StoreError> {
        Ok(self.commands.lock().unwrap().iter().take(limit).cloned().collect())
    }
    async fn delivered(&self, _: TenantId, _: DeviceId, _: CommandId) -> Result<(), StoreError> {
        Ok(())
    }
    async fn result(&self, _: TenantId, _: DeviceId, result: frame::CommandResult) -> Result<(), StoreError> {
        self.commands.lock().unwrap().retain(|command| command.id != result.id);
        self.results.lock().unwrap().push(result);
        Ok(())
    }
}

#[async_trait]
impl TelemetrySink for Desk {
    async fn highest(&self, _: TenantId, device: DeviceId) -> Result<u64, StoreError> {
        Ok(self.stored.lock().unwrap().get(&device).copied().unwrap_or(0))
    }
    async fn store(&self, _: TenantId, device: DeviceId, batch: frame::Telemetry) -> Result<u64, StoreError> {
        let seq = batch.samples.iter().map(|sample| sample.seq).max().unwrap_or(0);
        let mut stored = self.stored.lock().unwrap();
        let highest = stored.entry(device).or_default();
        *highest = seq.max(*highest);
        Ok(*highest)
    }
}

#[async_trait]
impl ArtifactSource for Desk {
    async fn grant(&self, tenant: TenantId, Wish { digest, .. }: Wish) -> frame::ArtifactGrant {
        let url = format!("https://plane/{tenant}/{}", digest.hex());
        frame::ArtifactGrant { digest: digest.as_bytes().to_vec().into(), url, size: 1, ..Default::default() }
    }
}

#[async_trait]
impl TrustSource for Desk {
    fn repository(&self, tenant: TenantId) -> String {
        format!("/tuf/{tenant}/")
    }
    async fn anchor(&self, _: TenantId) -> Option<TrustAnchor> {
        None
    }
}

/// A control plane's fleet, without its API.
pub(super) struct Fleet {
    pub(super) caller: Caller,
    pub(super) clock: Clock,
    pub(super) desk: Arc<Desk>,
    pub(super) devices: Devices,
    pub(super) enrolment: Enrolment,
    pub(super) folder: tempfile::TempDir,
    pub(super) live: Live,
    pub(super) pki: Pki,
    pub(super) renewal: Renewal,
    pub(super) sessions: Sessions,
    pub(super) tokens: Tokens,
    pub(super) tenants: Tenants,
    /// An owner's key, as the header carries it.
    pub(super) bearer: String,
    _database: Option<tempfile::TempDir>,
}

impl Fleet {
    /// On a fresh SQLite database and with the machine's clock, which TLS goes by.
    pub(super) async fn new() -> Self {
        let (db, folder) = sqlite().await;
        let mut fleet = Self::on(db, Clock::system()).await;
        fleet._database = Some(folder);
        fleet
    }

    pub(super) async fn on(db: Db, clock: Clock) -> Self {
        Self::build(db, clock, None).await
    }

    /// As [`Self::new`], with real twins, which sessions follow.
    pub(super) async fn with_twins() -> (Self, Twins) {
        let ((db, folder), clock) = (sqlite().await, Clock::system());
        let twins = Twins::new(db.clone(), clock.clone(), Activity::new(db.clone(), clock.clone(), events(&clock)));
        let mut fleet = Self::build(db, clock, Some(twins.clone())).await;
        fleet._database = Some(folder);
        tokio::spawn(fleet.live.clone().follow_twins(twins.changes()));
        (fleet, twins)
    }

    async fn build(db: Db, clock: Clock, twins: Option<Twins>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open_or_create(&folder.path().join("pki"), "test", clock.clone()).unwrap();
        let (live, desk) = (Live::default(), Arc::new(Desk::default()));
        let twins: Arc<dyn TwinSource> = match twins {
            Some(twins) => Arc::new(twins),
            None => desk.clone(),
        };
        let events = events(&clock);
        let activity = Activity::new(db.clone(), clock.clone(), events.clone());
        let endpoints = EndpointsView { api_url: "https://plane:7070".into(), ..Default::default() };
        let devices = Devices::new(db.clone(), clock.clone(), activity.clone(), events, live.clone());
        let tenants = Tenants::new(db.clone(), clock.clone(), activity.clone());
        let tokens = Tokens::new(db, clock.clone(), activity, pki.ca_pin(), &endpoints);
        let renewal = Renewal::new(devices.clone(), pki.clone(), endpoints.clone());
        let enrolment = Enrolment::new(devices.clone(), tokens.clone(), twins.clone(), pki.clone(), desk.clone(), endpoints);
        let ports = SessionPorts {
            devices: devices.clone(),
            twins,
            commands: desk.clone(),
            telemetry: desk.clone(),
            artifacts: desk.clone(),
            trust: desk.clone(),
            renewal: renewal.clone(),
        };
        let sessions = Sessions::new(live.clone(), clock.clone(), ports, SessionSettings::default());
        let key_file = folder.path().join("owner.key");
        tenants.bootstrap(&key_file).await.unwrap();
        let bearer = format!("Bearer {}", std::fs::read_to_string(&key_file).unwrap().trim());
        let caller = tenants
            .authenticate(&Method::GET, &HeaderMap::from_iter([(header::AUTHORIZATION, bearer.parse().unwrap())]), None)
            .await
            .unwrap();
        Self {
            caller,
            clock,
            desk,
            devices,
            enrolment,
            folder,
            live,
            pki,
            renewal,
            sessions,
            tokens,
            tenants,
            bearer,
            _database: None,
        }
    }

    /// A token's text.
    pub(super) async fn token(&self, uses: u32) -> String {
        self.tokens.create(&self.caller, CreateToken { uses, ..Default::default() }).await.unwrap().token
    }

    /// A device that has joined.
    pub(super) async fn device(&self) -> TestDevice {
        let key = rcgen::KeyPair::generate().unwrap();
        let request =
            EnrolRequest { token: self.token(1).await, csr_pem: csr(&key), name: "device".into(), labels: BTreeMap::new() };
        let joined = self.enrolment.enrol(request, None).await.unwrap();
        TestDevice { id: joined.device_id, chain_pem: joined.chain_pem, key }
    }

    /// TLS of a client that trusts this deployment and shows `device`'s certificate, or none.
    pub(super) fn tls(&self, device: Option<&TestDevice>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.ca_der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match device {
            Some(device) => builder.with_client_auth_cert(device.chain(), device.key()).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}

pub(super) fn csr(key: &rcgen::KeyPair) -> String {
    rcgen::CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

/// What a device keeps.
pub(super) struct TestDevice {
    pub(super) id: DeviceId,
    pub(super) chain_pem: String,
    pub(super) key: rcgen::KeyPair,
}

impl TestDevice {
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain_pem.as_bytes()).map(Result::unwrap).collect()
    }
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}
