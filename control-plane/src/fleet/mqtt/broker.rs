//! An external MQTT broker in place of the embedded listener.
//!
//! The plane is one more client of the broker, with a certificate of its own. The broker checks the devices' certificates
//! and lets each publish and subscribe under its own id only; whether it really does is tested before it is used
//! ([`super::deny`]), since a broker that lets devices speak for each other would break the border between tenants.
//! A broker says nothing of who connects: a session begins with Hello and ends with Goodbye or silence.

use super::{MAX_PACKET_BYTES, deny, topics};
use crate::fleet::devices::Devices;
use crate::fleet::ports::{Peer, Transport};
use crate::fleet::refusal;
use crate::fleet::sessions::{Incoming, Sessions};
use crate::platform::clock::Clock;
use crate::platform::pki::{Pki, provider};
use aidos_protocol::DeviceId;
use aidos_protocol::frame::{self, Body};
use bytes::Bytes;
use rumqttc::{
    AsyncClient, Event, EventLoop, IncomingPacketSizeLimit, MqttOptions, Packet, Publish, PublishOptions, QoS, TlsConfiguration,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The plane's name on the broker: the common name of its certificate.
pub(super) const PLANE: &str = "control-plane";
/// Noticing a dead broker within a minute and a half is enough: devices come back by QUIC meanwhile.
const KEEPALIVE_S: u16 = 60;
/// Frames that wait for a session. A session that is slower than its device by more ends, and continues from what is stored.
const READ_AHEAD: usize = 32;
/// Frames the session may be ahead of the broker.
const WRITE_AHEAD: usize = 16;
/// Requests that wait for the broker, over all sessions.
const REQUESTS: usize = 256;
/// Between attempts to reach a broker that is away.
const RECONNECT: Duration = Duration::from_secs(2);
/// How long the last frames may take to reach the broker.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How soon a device without a session says Hello again, at most.
const HELLO_AGAIN_MS: u64 = 5_000;

/// Where a broker is: `mqtts://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerAddress {
    /// Host name or IP address, as its certificate names it.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl FromStr for BrokerAddress {
    type Err = BrokerError;
    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let address = || BrokerError::Address(text.to_owned());
        let rest = text.strip_prefix("mqtts://").ok_or_else(address)?.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().map_err(|_| address())?),
            _ => (rest, 8883),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@', '?']) {
            return Err(address());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Which broker, and how to trust it.
#[derive(Debug, Clone)]
pub(crate) struct BrokerSettings {
    /// Where it is.
    pub(crate) address: BrokerAddress,
    /// PEM of the CA of the broker's certificate, where it is not the deployment's own.
    pub(crate) ca_pem: Option<String>,
}

/// Why a broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    /// Not an address.
    #[error("`{0}` is not a broker's address: write mqtts://host:port (plain mqtt:// carries no device certificates)")]
    Address(String),
    /// The certificates do not make a TLS configuration.
    #[error("no TLS configuration for the MQTT broker: {0}")]
    Tls(String),
    /// It could not be reached, or does not take our certificate.
    #[error(
        "cannot connect to the MQTT broker as {who}: {why}. See that it runs, that it trusts this deployment's CA, and that it \
         has `require_certificate true` and `use_identity_as_username true`; see docs/guides/mqtt-broker.md"
    )]
    Connect {
        /// The plane or the test's device.
        who: &'static str,
        /// What went wrong.
        why: String,
    },
    /// It denies what has to work.
    #[error("the MQTT broker denies {what}: add the rule `{rule}`; see docs/guides/mqtt-broker.md")]
    Denies {
        /// What.
        what: &'static str,
        /// The rule that is missing, as Mosquitto writes it.
        rule: &'static str,
    },
    /// It allows what must not be.
    #[error(
        "the MQTT broker is unsafe and was not used: {what}. Set `{rule}`; with Mosquitto 2.1 check that the ACL is loaded \
         through its plugin; see docs/guides/mqtt-broker.md"
    )]
    Allows {
        /// What a device could do.
        what: String,
        /// The rule that is missing, as Mosquitto writes it.
        rule: &'static str,
    },
}

/// A broker that passed the test.
pub(crate) struct Broker {
    client: AsyncClient,
    events: EventLoop,
    devices: Devices,
    sessions: Sessions,
    routes: HashMap<DeviceId, mpsc::Sender<Incoming>>,
    tasks: TaskTracker,
}

/// The TLS configuration of a client of the broker; without a certificate when `identity` is `None`.
pub(super) fn client_tls(
    pki: &Pki,
    settings: &BrokerSettings,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Arc<ClientConfig>, BrokerError> {
    let tls = |e: &dyn std::fmt::Display| BrokerError::Tls(e.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone()).map_err(|e| tls(&e))?;
    if let Some(pem) = &settings.ca_pem {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(|e| tls(&e))?).map_err(|e| tls(&e))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| tls(&e))?
        .with_root_certificates(roots);
    Ok(Arc::new(match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|e| tls(&e))?,
        None => builder.with_no_client_auth(),
    }))
}

/// A client of the broker that is not connected yet.
pub(super) fn client(settings: &BrokerSettings, tls: Arc<ClientConfig>, id: String) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, (settings.address.host.as_str(), settings.address.port));
    options
        .set_transport(rumqttc::Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
        .set_keep_alive(KEEPALIVE_S)
        .set_max_packet_size(Some(MAX_PACKET_BYTES))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_PACKET_BYTES));
    AsyncClient::builder(options).capacity(REQUESTS).build()
}

impl Broker {
    /// Tests the broker's rules and prepares to connect. Refuses a broker that lets a device do what it must not.
    pub(crate) async fn prepare(
        settings: &BrokerSettings,
        pki: &Pki,
        clock: &Clock,
        devices: Devices,
        sessions: Sessions,
    ) -> Result<Self, BrokerError> {
        deny::check(settings, pki, clock).await?;
        let identity = pki.issue_service_client(PLANE).map_err(|e| BrokerError::Tls(e.to_string()))?;
        let tls = client_tls(pki, settings, Some(identity))?;
        let (client, events) = client(settings, tls, format!("{PLANE}-{:08x}", rand::random::<u32>()));
        Ok(Self { client, events, devices, sessions, routes: HashMap::new(), tasks: TaskTracker::new() })
    }

    /// Serves until `shutdown`; sessions are ended by their owner, before or while.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => break,
                event = self.events.poll() => event,
            };
            self.event(event).await;
        }
        // What the sessions still say goes out, then the broker is told that it is over.
        self.tasks.close();
        let tasks = self.tasks.clone();
        let flush = async {
            loop {
                tokio::select! {
                    () = tasks.wait() => break,
                    event = self.events.poll() => self.event(event).await,
                }
            }
            let _ = self.client.disconnect().await;
            while self.events.poll().await.is_ok() {}
        };
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, flush).await;
    }

    async fn event(&mut self, event: Result<Event, rumqttc::ConnectionError>) {
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                tracing::info!("connected to the MQTT broker");
                // At each connection: the broker keeps nothing for us.
                if let Err(error) = self.client.try_subscribe(topics::ALL_UP, QoS::AtLeastOnce) {
                    tracing::error!(%error, "cannot subscribe at the MQTT broker");
                }
            }
            // Nothing is retained by us; whatever is was left by somebody else.
            Ok(Event::Incoming(Packet::Publish(publish))) if !publish.retain => self.route(publish),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection to the MQTT broker");
                // Frames may be lost from here: each session continues from what is stored, after a new Hello.
                self.routes.clear();
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }

    fn route(&mut self, publish: Publish) {
        let Some(device) = std::str::from_utf8(&publish.topic).ok().and_then(topics::device_of_up) else { return };
        let frame = publish.payload;
        if let Some(session) = self.routes.get(&device) {
            match session.try_send(Ok(frame.clone())) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::warn!(%device, "a device sends faster than its session takes; the session ends");
                    self.routes.remove(&device);
                    return;
                }
            }
        }
        self.routes.retain(|_, session| !session.is_closed());
        if matches!(frame::decode(frame.clone()), Ok((_, Body::Hello(_)))) {
            self.open(device, frame);
        } else {
            // The plane has restarted, or the session ended while the device did not notice.
            let goodbye = frame::Goodbye {
                reason: "the control plane has no session of this device".into(),
                retry_after_ms: rand::random_range(100..=HELLO_AGAIN_MS),
            };
            self.say(device, Body::Goodbye(goodbye));
        }
    }

    fn open(&mut self, device: DeviceId, hello: Bytes) {
        let (frames, incoming) = mpsc::channel(READ_AHEAD);
        let _ = frames.try_send(Ok(hello));
        self.routes.insert(device, frames);
        let (devices, sessions, client) = (self.devices.clone(), self.sessions.clone(), self.client.clone());
        self.tasks.spawn(async move {
            let (outgoing, written) = mpsc::channel(WRITE_AHEAD);
            let session = async {
                let refused = match devices.tenant_of(device).await {
                    Ok(Some(tenant)) => {
                        let (transport, address) = (Transport::Mqtt, "through the broker".to_owned());
                        let peer = Peer { tenant, device, transport, address, key_id: None };
                        return sessions.run(peer, incoming, outgoing).await;
                    }
                    Ok(None) => refusal::unknown_device(),
                    Err(error) => {
                        tracing::warn!(%device, %error, "a device's tenant could not be found");
                        refusal::internal()
                    }
                };
                if let Ok(frame) = frame::encode(frame::VERSION, Body::Refused(refused)) {
                    let _ = outgoing.send(frame).await;
                }
            };
            tokio::join!(session, forward(client, device, written));
        });
    }

    fn say(&self, device: DeviceId, body: Body) {
        if let Ok(frame) = frame::encode(frame::VERSION, body) {
            // Full: the device asks again.
            let _ = self.client.try_publish(topics::down(device), frame, PublishOptions::new(QoS::AtLeastOnce));
        }
    }
}

/// Frames of one session to the broker.
async fn forward(client: AsyncClient, device: DeviceId, mut written: mpsc::Receiver<Bytes>) {
    let topic = topics::down(device);
    while let Some(frame) = written.recv().await {
        if client.publish(topic.as_str(), frame, PublishOptions::new(QoS::AtLeastOnce)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_named_by_an_mqtts_address_only() {
        let address = |text: &str| text.parse::<BrokerAddress>().map(|a| (a.host, a.port)).ok();
        assert_eq!(address("mqtts://broker.example:1234"), Some(("broker.example".into(), 1234)));
        assert_eq!(address("mqtts://broker.example/"), Some(("broker.example".into(), 8883)));
        assert_eq!(address("mqtts://[::1]:1"), Some(("::1".into(), 1)));
        for bad in ["mqtt://x:1", "x:1", "mqtts://", "mqtts://x:99999", "mqtts://u@x:1"] {
            assert!(address(bad).is_none(), "{bad}");
        }
    }
}
