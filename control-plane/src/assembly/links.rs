//! The links that devices come by: served together, closed together.

use super::rooms::Rooms;
use crate::config::Config;
use crate::fleet::{Broker, BrokerError, BrokerSettings, Devices, MqttListener, Quic, Sessions};
use crate::platform::clock::Clock;
use crate::platform::pki::Pki;
use anyhow::Context as _;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between attempts to reach a broker that was away at the start.
const BROKER_PAUSE: Duration = Duration::from_secs(10);

/// The links of one control plane.
pub(super) struct Links {
    quic: Option<Quic>,
    mqtt: Option<MqttListener>,
    broker: Option<BrokerLink>,
    parts: Parts,
}

/// A broker that passed its test, or was not there to be tested.
struct BrokerLink {
    settings: BrokerSettings,
    ready: Option<Broker>,
}

/// The handles that links hold.
#[derive(Clone)]
struct Parts {
    pki: Pki,
    clock: Clock,
    devices: Devices,
    sessions: Sessions,
}

impl Parts {
    async fn broker(&self, settings: &BrokerSettings) -> Result<Broker, BrokerError> {
        Broker::prepare(settings, &self.pki, &self.clock, self.devices.clone(), self.sessions.clone()).await
    }
}

impl Links {
    /// Takes the bound listeners, and tests the broker's rules where there is one. A broker that is unsafe is refused; one that
    /// is away is tried again later.
    pub(super) async fn prepare(
        config: &Config,
        quic: Option<Quic>,
        mqtt: Option<MqttListener>,
        rooms: &Rooms,
    ) -> anyhow::Result<Self> {
        let parts = Parts {
            pki: rooms.ground.pki.clone(),
            clock: rooms.ground.clock.clone(),
            devices: rooms.devices.clone(),
            sessions: rooms.sessions.clone(),
        };
        let broker = match &config.broker {
            None => None,
            Some((address, ca)) => {
                let ca_pem = ca.as_ref().map(std::fs::read_to_string).transpose().context("--mqtt-broker-ca cannot be read")?;
                let settings = BrokerSettings { address: address.parse()?, ca_pem };
                let ready = match parts.broker(&settings).await {
                    Ok(broker) => Some(broker),
                    Err(error @ BrokerError::Connect { .. }) => {
                        tracing::warn!(%error, "starting without the MQTT broker; it is tried again");
                        None
                    }
                    Err(error) => return Err(error.into()),
                };
                Some(BrokerLink { settings, ready })
            }
        };
        Ok(Self { quic, mqtt, broker, parts })
    }

    /// Serves devices until `stop`.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { quic, mqtt, broker, parts } = self;
        let (clock, sessions) = (&parts.clock, &parts.sessions);
        let quic = async {
            if let Some(quic) = quic {
                quic.run(clock.clone(), sessions.clone(), stop.clone()).await;
            }
        };
        let mqtt = async {
            if let Some(mqtt) = mqtt {
                mqtt.run(clock.clone(), sessions.clone(), stop.clone()).await;
            }
        };
        let broker = async {
            if let Some(link) = broker {
                Box::pin(link.run(&parts, stop.clone())).await;
            }
        };
        tokio::join!(quic, mqtt, broker);
    }
}

impl BrokerLink {
    async fn run(self, parts: &Parts, stop: CancellationToken) {
        let mut ready = self.ready;
        while !stop.is_cancelled() {
            match ready.take() {
                Some(broker) => broker.run(stop.clone()).await,
                None => {
                    stop.run_until_cancelled(tokio::time::sleep(BROKER_PAUSE)).await;
                    match stop.run_until_cancelled(parts.broker(&self.settings)).await {
                        Some(Ok(broker)) => ready = Some(broker),
                        Some(Err(error)) => tracing::warn!(%error, "the MQTT broker is not used; it is tried again"),
                        None => {}
                    }
                }
            }
        }
    }
}
