//! The deny self-test: proves, before a broker is used, that its rules hold devices apart.
//!
//! Two throw-away devices get certificates of the deployment's CA, and one of them tries what a malicious device would:
//! to connect without a certificate, to listen to others, to speak as others or as the plane, to throw others out. Each attempt is
//! followed by a message on a way that must work; when that has arrived and the forbidden one has not, the attempt failed.
//! Answers of the broker are not believed (Mosquitto grants subscriptions that it never serves): only what arrives counts.

use super::broker::{BrokerError, BrokerSettings, PLANE, client, client_tls};
use super::topics;
use crate::platform::clock::Clock;
use crate::platform::pki::Pki;
use aidos_protocol::{DeviceId, TenantId};
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, PublishOptions, QoS};
use rustls::ClientConfig;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// For a connection and for what must work.
const PATIENCE: Duration = Duration::from_secs(10);
/// For what follows a forbidden attempt: the broker may have thrown the device out, which is fine.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Messages a client of the test keeps: it sees a busy fleet when the broker lets it.
const KEPT: usize = 4_096;

const RULE_PLANE: &str = "user control-plane, topic read d/+/up, topic write d/+/down";
const RULE_UP: &str = "pattern write d/%u/up";
const RULE_DOWN: &str = "pattern read d/%u/down";
const RULE_CLIENT_ID: &str = "use_username_as_clientid true";
const RULE_CERTIFICATE: &str = "require_certificate true, use_identity_as_username true, allow_anonymous false";

/// A client of the broker, and what has come to it.
struct Probe {
    client: AsyncClient,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    payloads: Mutex<Vec<Bytes>>,
    more: Notify,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probe {
    async fn connect(
        settings: &BrokerSettings,
        tls: Arc<ClientConfig>,
        id: String,
        who: &'static str,
    ) -> Result<Self, BrokerError> {
        let (client, mut events) = client(settings, tls, id);
        let connected = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        let why = match timeout(PATIENCE, connected).await {
            Ok(Ok(())) => {
                let seen = Arc::new(Seen::default());
                let task = tokio::spawn(collect(events, seen.clone()));
                return Ok(Self { client, seen, task });
            }
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        Err(BrokerError::Connect { who, why })
    }

    /// Whether the broker granted it; a broker's word, to be used for what must work only.
    async fn subscribe(&self, filter: &str) -> bool {
        let Ok(notice) = self.client.subscribe_tracked(filter, QoS::AtLeastOnce).await else { return false };
        matches!(timeout(AFTERWARDS, notice.wait_completion_async()).await, Ok(Ok(())))
    }

    /// Publishes a message that is recognised anywhere, and returns it.
    async fn publish(&self, topic: &str) -> Bytes {
        let payload = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        let _ = self.client.publish(topic, payload.clone(), PublishOptions::new(QoS::AtLeastOnce)).await;
        payload
    }

    fn has(&self, payload: &Bytes) -> bool {
        self.seen.payloads.lock().unwrap_or_else(PoisonError::into_inner).contains(payload)
    }

    async fn receives(&self, payload: &Bytes, within: Duration) -> bool {
        let arrival = async {
            loop {
                let more = self.seen.more.notified();
                if self.has(payload) {
                    return;
                }
                more.await;
            }
        };
        timeout(within, arrival).await.is_ok()
    }
}

async fn collect(mut events: EventLoop, seen: Arc<Seen>) {
    // An error ends it: a client that was thrown out must not come back as if nothing had been.
    while let Ok(event) = events.poll().await {
        if let Event::Incoming(Packet::Publish(publish)) = event {
            let mut payloads = seen.payloads.lock().unwrap_or_else(PoisonError::into_inner);
            if payloads.len() < KEPT {
                payloads.push(publish.payload);
            }
            drop(payloads);
            seen.more.notify_waiters();
        }
    }
}

/// A device that exists only for this test.
struct Throwaway {
    device: DeviceId,
    tls: Arc<ClientConfig>,
}

struct Test<'a> {
    settings: &'a BrokerSettings,
    plane: Probe,
    victim: Throwaway,
    intruder: Throwaway,
}

/// Tests the broker. `Ok`: devices are held apart, and what the link needs works.
pub(super) async fn check(settings: &BrokerSettings, pki: &Pki, clock: &Clock) -> Result<(), BrokerError> {
    let identity = pki.issue_service_client(PLANE).map_err(|e| BrokerError::Tls(e.to_string()))?;
    let tls = client_tls(pki, settings, Some(identity))?;
    let plane = Probe::connect(settings, tls, format!("{PLANE}-test-{:08x}", rand::random::<u32>()), "the control plane").await?;
    if !plane.subscribe(topics::ALL_UP).await {
        return Err(BrokerError::Denies { what: "the control plane listening to devices", rule: RULE_PLANE });
    }
    let test = Test { settings, plane, victim: throwaway(settings, pki, clock)?, intruder: throwaway(settings, pki, clock)? };
    test.without_certificate(client_tls(pki, settings, None)?).await?;
    test.what_must_work().await?;
    for filter in ["#", "d/#", "d/+/down", "d/+/up", "+/+/+"] {
        test.listening_to(filter).await?;
    }
    test.listening_to(&topics::down(test.victim.device)).await?;
    test.listening_to(&topics::up(test.victim.device)).await?;
    test.speaking().await?;
    test.taking_over().await?;
    tracing::info!(host = %settings.address.host, "the MQTT broker holds devices apart");
    Ok(())
}

fn throwaway(settings: &BrokerSettings, pki: &Pki, clock: &Clock) -> Result<Throwaway, BrokerError> {
    let tls = |e: &dyn std::fmt::Display| BrokerError::Tls(e.to_string());
    let now = clock.now().as_millis();
    let (tenant, device) = (TenantId::new(now), DeviceId::new(now));
    let key = rcgen::KeyPair::generate().map_err(|e| tls(&e))?;
    let csr = rcgen::CertificateParams::default().serialize_request(&key).map_err(|e| tls(&e))?;
    let issued = pki.issue_device(tenant, device, &csr.pem().map_err(|e| tls(&e))?).map_err(|e| tls(&e))?;
    let identity = identity(&issued.chain_pem, &key.serialize_pem()).map_err(|e| tls(&e))?;
    Ok(Throwaway { device, tls: client_tls(pki, settings, Some(identity))? })
}

type Identity = (Vec<rustls_pki_types::CertificateDer<'static>>, rustls_pki_types::PrivateKeyDer<'static>);

/// A certificate chain and key from PEM.
pub(super) fn identity(chain_pem: &str, key_pem: &str) -> Result<Identity, rustls_pki_types::pem::Error> {
    use rustls_pki_types::pem::PemObject as _;
    let chain = rustls_pki_types::CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>()?;
    Ok((chain, rustls_pki_types::PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?))
}

impl Test<'_> {
    async fn enter(&self, who: &Throwaway) -> Result<Probe, BrokerError> {
        self.enter_as(who, format!("test-{:016x}", rand::random::<u64>())).await
    }

    async fn enter_as(&self, who: &Throwaway, id: String) -> Result<Probe, BrokerError> {
        let probe = Probe::connect(self.settings, who.tls.clone(), id, "a device").await?;
        if !probe.subscribe(&topics::down(who.device)).await {
            return Err(BrokerError::Denies { what: "a device listening to its own topic", rule: RULE_DOWN });
        }
        Ok(probe)
    }

    async fn without_certificate(&self, tls: Arc<ClientConfig>) -> Result<(), BrokerError> {
        match Probe::connect(self.settings, tls, format!("test-{:016x}", rand::random::<u64>()), "nobody").await {
            Err(_) => Ok(()),
            Ok(_) => {
                Err(BrokerError::Allows { what: "a client without a certificate could connect".into(), rule: RULE_CERTIFICATE })
            }
        }
    }

    async fn what_must_work(&self) -> Result<(), BrokerError> {
        let device = self.enter(&self.intruder).await?;
        let sent = device.publish(&topics::up(self.intruder.device)).await;
        if !self.plane.receives(&sent, PATIENCE).await {
            return Err(BrokerError::Denies { what: "a device publishing to its own topic", rule: RULE_UP });
        }
        let sent = self.plane.publish(&topics::down(self.intruder.device)).await;
        if !device.receives(&sent, PATIENCE).await {
            return Err(BrokerError::Denies { what: "a device receiving on its own topic", rule: RULE_DOWN });
        }
        Ok(())
    }

    async fn listening_to(&self, filter: &str) -> Result<(), BrokerError> {
        let intruder = self.enter(&self.intruder).await?;
        let victim = self.enter(&self.victim).await?;
        let _ = intruder.subscribe(filter).await;
        let spoken = victim.publish(&topics::up(self.victim.device)).await;
        self.plane.receives(&spoken, PATIENCE).await;
        let told = self.plane.publish(&topics::down(self.victim.device)).await;
        victim.receives(&told, PATIENCE).await;
        // What was sent after the secrets has arrived: so would they have.
        let after = self.plane.publish(&topics::down(self.intruder.device)).await;
        intruder.receives(&after, AFTERWARDS).await;
        let what = format!("a device that subscribed to `{filter}` received another device's messages");
        match intruder.has(&spoken) || intruder.has(&told) {
            true => Err(BrokerError::Allows { what, rule: RULE_DOWN }),
            false => Ok(()),
        }
    }

    async fn speaking(&self) -> Result<(), BrokerError> {
        let victim = self.enter(&self.victim).await?;
        let (own_up, own_down) = (topics::up(self.intruder.device), topics::down(self.intruder.device));
        for (topic, in_the_name_of) in [
            (topics::up(self.victim.device), "another device"),
            (topics::down(self.victim.device), "the control plane"),
            (own_down, "the control plane"),
        ] {
            // One connection of a device at a time: the broker may close the one before.
            let intruder = self.enter(&self.intruder).await?;
            let forged = intruder.publish(&topic).await;
            let after = intruder.publish(&own_up).await;
            self.plane.receives(&after, AFTERWARDS).await;
            let after = self.plane.publish(&topics::down(self.victim.device)).await;
            victim.receives(&after, AFTERWARDS).await;
            if [&self.plane, &victim, &intruder].into_iter().any(|hearer| hearer.has(&forged)) {
                let what = format!("a device could publish in the name of {in_the_name_of}, on `{topic}`");
                return Err(BrokerError::Allows { what, rule: RULE_UP });
            }
        }
        Ok(())
    }

    async fn taking_over(&self) -> Result<(), BrokerError> {
        let id = format!("test-{:016x}", rand::random::<u64>());
        let victim = self.enter_as(&self.victim, id.clone()).await?;
        // The broker may give it another id, or refuse it.
        let _intruder = self.enter_as(&self.intruder, id).await;
        let told = self.plane.publish(&topics::down(self.victim.device)).await;
        match victim.receives(&told, AFTERWARDS).await {
            true => Ok(()),
            false => Err(BrokerError::Allows {
                what: "a device could end another device's connection by using its client id".into(),
                rule: RULE_CLIENT_ID,
            }),
        }
    }
}
