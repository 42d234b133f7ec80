//! A device's end of a link without any of the agent's care, for tests: it says what it is told to, well-formed or not.

use super::mqtt::{MqttListener, MqttSettings};
use super::quic::{Quic, QuicSettings};
use super::testing::{Fleet, TestDevice};
use aidos_protocol::DeviceId;
use aidos_protocol::frame::{self, Body, Hello, refused::Code};
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// For what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Over {
    Quic,
    Mqtt,
}

/// A link that is listening.
pub(crate) struct Listening {
    pub(crate) over: Over,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

pub(crate) async fn listen(fleet: &Fleet, over: Over) -> Listening {
    listen_with(fleet, over, QuicSettings::default()).await
}

/// As [`listen`], with other limits of QUIC.
pub(crate) async fn listen_with(fleet: &Fleet, over: Over, settings: QuicSettings) -> Listening {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let shutdown = CancellationToken::new();
    let (pki, clock, sessions) = (fleet.pki.clone(), fleet.clock.clone(), fleet.sessions.clone());
    let (address, task) = match over {
        Over::Quic => {
            let quic = Quic::bind(QuicSettings { listen, ..settings }, pki).unwrap();
            (quic.local_addr().unwrap(), tokio::spawn(quic.run(clock, sessions, shutdown.clone())))
        }
        Over::Mqtt => {
            let mqtt = MqttListener::bind(MqttSettings { listen, ..Default::default() }, pki).await.unwrap();
            (mqtt.local_addr().unwrap(), tokio::spawn(mqtt.run(clock, sessions, shutdown.clone())))
        }
    };
    Listening { over, address, shutdown, task }
}

/// A device's end of a link, without any of the agent's care.
pub(crate) struct Raw {
    pub(crate) send: Sender,
    pub(crate) frames: mpsc::Receiver<Bytes>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

pub(crate) enum Sender {
    Quic(quinn::SendStream),
    Mqtt(AsyncClient, DeviceId),
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Raw {
    /// `Err`: the TLS layer or the link refused.
    pub(crate) async fn connect(to: &Listening, fleet: &Fleet, device: Option<&TestDevice>) -> Result<Self, String> {
        let mut tls = fleet.tls(device);
        let (forward, frames) = mpsc::channel(64);
        match to.over {
            Over::Quic => {
                tls.alpn_protocols = vec![frame::ALPN.to_vec()];
                let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
                let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
                endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
                let connecting = endpoint.connect(to.address, "localhost").unwrap();
                let connection = connecting.await.map_err(|e| e.to_string())?;
                let (mut send, mut receive) = connection.open_bi().await.map_err(|e| e.to_string())?;
                // A refusal of the certificate arrives after TLS 1.3 lets the client speak: wait for a moment.
                send.write_all(&[]).await.map_err(|e| e.to_string())?;
                let watched = connection.clone();
                if let Ok(error) = timeout(Duration::from_millis(100), watched.closed()).await {
                    return Err(error.to_string());
                }
                let task = tokio::spawn(async move {
                    let mut length = [0; 4];
                    while receive.read_exact(&mut length).await.is_ok() {
                        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                        if receive.read_exact(&mut frame).await.is_err() || forward.send(frame.into()).await.is_err() {
                            return;
                        }
                    }
                });
                Ok(Self { send: Sender::Quic(send), frames, task })
            }
            Over::Mqtt => {
                let id = device.map_or_else(|| DeviceId::new(0), |d| d.id);
                let mut options = MqttOptions::new("raw", ("localhost", to.address.port()));
                options
                    .set_transport(rumqttc::Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))))
                    .set_max_packet_size(Some(2 << 20))
                    .set_unlimited_incoming_packet_size();
                let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
                client.subscribe(format!("d/{id}/down"), QoS::AtLeastOnce).await.unwrap();
                loop {
                    match events.poll().await {
                        Ok(Event::Incoming(Packet::SubAck(_))) => break,
                        Ok(_) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                }
                let task = tokio::spawn(async move {
                    while let Ok(event) = events.poll().await {
                        if let Event::Incoming(Packet::Publish(publish)) = event
                            && forward.send(publish.payload).await.is_err()
                        {
                            return;
                        }
                    }
                });
                Ok(Self { send: Sender::Mqtt(client, id), frames, task })
            }
        }
    }

    pub(crate) async fn bytes(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        match &mut self.send {
            Sender::Quic(send) => {
                let _ = send.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes()).await;
                let _ = send.write_all(&bytes).await;
            }
            Sender::Mqtt(client, id) => {
                let _ = client.publish(format!("d/{id}/up"), bytes, PublishOptions::new(QoS::AtLeastOnce)).await;
            }
        }
    }

    pub(crate) async fn say(&mut self, body: Body) {
        self.bytes(frame::encode(frame::VERSION, body).unwrap()).await;
    }

    pub(crate) async fn hears(&mut self) -> Option<Body> {
        let bytes = timeout(PATIENCE, self.frames.recv()).await.expect("the plane answers")?;
        Some(frame::decode(bytes).unwrap().1)
    }

    pub(crate) async fn refusal(&mut self) -> Code {
        match self.hears().await {
            Some(Body::Refused(refused)) => refused.code(),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    pub(crate) async fn welcomed(to: &Listening, fleet: &Fleet, device: &TestDevice) -> Self {
        let mut raw = Self::connect(to, fleet, Some(device)).await.unwrap();
        raw.say(hello()).await;
        let Some(Body::Welcome(welcome)) = raw.hears().await else { panic!("no Welcome") };
        assert_eq!((welcome.version, welcome.status_boot_id, welcome.status_seq), (1, 3, 4));
        raw
    }

    pub(crate) async fn closes(&mut self) {
        while let Some(bytes) = timeout(PATIENCE, self.frames.recv()).await.expect("the link closes") {
            drop(bytes);
        }
    }
}

pub(crate) fn hello() -> Body {
    Body::Hello(Hello { min_version: 1, max_version: 1, agent_version: "1.2.3".into(), ..Default::default() })
}
