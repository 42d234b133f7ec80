//! The links that devices come by: bound together, served together, closed together.

use super::endpoints::Endpoints;
use super::rooms::Rooms;
use crate::config::Config;
use crate::fleet::{Broker, BrokerError, BrokerSettings, MqttListener, MqttSettings, Quic, QuicSettings};
use anyhow::Context as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between attempts to reach a broker that was away at the start.
const BROKER_PAUSE: Duration = Duration::from_secs(10);

/// Links that are bound and not yet served.
pub(super) struct Links {
    pub(super) quic_addr: Option<SocketAddr>,
    pub(super) mqtt_addr: Option<SocketAddr>,
    quic: Option<Quic>,
    mqtt: Option<MqttListener>,
    broker: Option<BrokerLink>,
}

/// A broker that passed its test, or was not there to be tested.
struct BrokerLink {
    ready: Option<Broker>,
    prepare: Preparation,
}

/// What testing and using a broker takes.
struct Preparation {
    settings: BrokerSettings,
    rooms: Parts,
}

/// The handles that links hold.
#[derive(Clone)]
struct Parts {
    pki: crate::platform::pki::Pki,
    clock: crate::platform::clock::Clock,
    devices: crate::fleet::Devices,
    sessions: crate::fleet::Sessions,
}

impl Preparation {
    async fn run(&self) -> Result<Broker, BrokerError> {
        let Parts { pki, clock, devices, sessions } = self.rooms.clone();
        Broker::prepare(&self.settings, &pki, &clock, devices, sessions).await
    }
}

impl Links {
    /// Binds the links that the configuration asks for, and tests its broker's rules.
    pub(super) async fn bind(config: &Config, endpoints: &Endpoints, rooms: &Rooms) -> anyhow::Result<Self> {
        let parts = Parts {
            pki: rooms.ground.pki.clone(),
            clock: rooms.ground.clock.clone(),
            devices: rooms.devices.clone(),
            sessions: rooms.sessions.clone(),
        };
        let Parts { pki, clock, sessions, .. } = parts.clone();
        let quic = match endpoints.quic {
            None => None,
            Some(listen) => {
                let settings = QuicSettings { listen, names: config.names.clone(), ..QuicSettings::default() };
                Some(Quic::bind(settings, pki.clone(), clock.clone(), sessions.clone())?)
            }
        };
        let mqtt = match endpoints.mqtt {
            None => None,
            Some(listen) => {
                let settings = MqttSettings { listen, names: config.names.clone(), ..MqttSettings::default() };
                Some(MqttListener::bind(settings, pki, clock, sessions).await?)
            }
        };
        let broker = match &config.broker {
            None => None,
            Some((address, ca)) => {
                let ca_pem = ca.as_ref().map(std::fs::read_to_string).transpose().context("--mqtt-broker-ca cannot be read")?;
                let settings = BrokerSettings { address: address.parse()?, ca_pem };
                let prepare = Preparation { settings, rooms: parts };
                let ready = match prepare.run().await {
                    Ok(broker) => Some(broker),
                    Err(error @ BrokerError::Connect { .. }) => {
                        tracing::warn!(%error, "starting without the MQTT broker; it is tried again");
                        None
                    }
                    Err(error) => return Err(error.into()),
                };
                Some(BrokerLink { ready, prepare })
            }
        };
        let quic_addr = quic.as_ref().map(Quic::local_addr).transpose()?;
        let mqtt_addr = mqtt.as_ref().map(MqttListener::local_addr).transpose()?;
        Ok(Self { quic_addr, mqtt_addr, quic, mqtt, broker })
    }

    /// Serves devices until `stop`.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let quic = async {
            if let Some(quic) = self.quic {
                quic.run(stop.clone()).await;
            }
        };
        let mqtt = async {
            if let Some(mqtt) = self.mqtt {
                mqtt.run(stop.clone()).await;
            }
        };
        let broker = async {
            if let Some(link) = self.broker {
                link.run(stop.clone()).await;
            }
        };
        tokio::join!(quic, mqtt, broker);
    }
}

impl BrokerLink {
    async fn run(self, stop: CancellationToken) {
        let mut ready = self.ready;
        while !stop.is_cancelled() {
            match ready.take() {
                Some(broker) => broker.run(stop.clone()).await,
                None => {
                    stop.run_until_cancelled(tokio::time::sleep(BROKER_PAUSE)).await;
                    match stop.run_until_cancelled(self.prepare.run()).await {
                        Some(Ok(broker)) => ready = Some(broker),
                        Some(Err(error)) => tracing::warn!(%error, "the MQTT broker is not used; it is tried again"),
                        None => {}
                    }
                }
            }
        }
    }
}
