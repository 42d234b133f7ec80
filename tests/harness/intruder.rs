//! A device's end of a link without any of the agent's care: it has the device's real certificate and says what a test wants.

use aidos_agent::identity::Identity;
use aidos_protocol::frame::{self, Body, Hello};
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// For what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// A QUIC stream.
    Quic,
    /// MQTT, whose topics name devices.
    Mqtt,
}

/// A link that was opened with a device's certificate. Dropping ends it.
pub struct Intruder {
    send: Sender,
    frames: mpsc::Receiver<Bytes>,
    task: JoinHandle<()>,
}

enum Sender {
    Quic(quinn::SendStream),
    Mqtt(AsyncClient, String),
}

impl Drop for Intruder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Intruder {
    /// Connects as the device whose agent keeps its state in `dir`, and says Hello. That agent must not run.
    pub async fn welcomed(dir: &Path, over: Over) -> Self {
        let identity = Identity::load(&dir.join("identity")).expect("the identity is readable").expect("the device has joined");
        let mut link = match over {
            Over::Quic => quic(&identity).await,
            Over::Mqtt => mqtt(&identity).await,
        };
        link.say(hello()).await;
        let first = link.hears().await;
        assert!(matches!(first, Some(Body::Welcome(_))), "{first:?}");
        link
    }

    /// Sends a frame on this device's own way.
    pub async fn say(&mut self, body: Body) {
        let bytes = encoded(body);
        match &mut self.send {
            Sender::Quic(send) => {
                let length = u32::try_from(bytes.len()).expect("a frame is short");
                send.write_all(&length.to_be_bytes()).await.expect("the session is open");
                send.write_all(&bytes).await.expect("the session is open");
            }
            Sender::Mqtt(client, own) => {
                let up = PublishOptions::new(QoS::AtLeastOnce);
                client.publish(format!("d/{own}/up"), bytes, up).await.expect("the session is open");
            }
        }
    }

    /// The next frame; `None` once the link is closed.
    pub async fn hears(&mut self) -> Option<Body> {
        let bytes = timeout(PATIENCE, self.frames.recv()).await.expect("the control plane answers or closes")?;
        Some(frame::decode(bytes).expect("the control plane sends frames").1)
    }

    /// Everything that came before the answer to a ping sent now.
    pub async fn heard_until_now(&mut self) -> Vec<Body> {
        let nonce = rand::random();
        self.say(Body::Ping(frame::Ping { nonce })).await;
        let mut heard = Vec::new();
        loop {
            match self.hears().await.expect("the session is open") {
                Body::Pong(frame::Pong { nonce: answered }) if answered == nonce => return heard,
                other => heard.push(other),
            }
        }
    }
}

/// What a device says first, and is answered.
pub fn hello() -> Body {
    let (min_version, max_version) = (frame::MIN_VERSION, frame::VERSION);
    Body::Hello(Hello { min_version, max_version, agent_version: "9.9.9".into(), ..Hello::default() })
}

fn encoded(body: Body) -> Bytes {
    frame::encode(frame::VERSION, body).expect("a frame of a test is legal")
}

async fn quic(identity: &Identity) -> Intruder {
    let tls = identity.client_tls(&[frame::ALPN]).expect("the identity makes TLS settings");
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3 is on");
    let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback has a free port");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let address = identity.endpoints().quic.parse().expect("QUIC is at an address");
    let connection = endpoint.connect(address, "localhost").expect("the settings fit").await.expect("the certificate is taken");
    let (send, mut receive) = connection.open_bi().await.expect("a stream opens");
    let (forward, frames) = mpsc::channel(64);
    let task = tokio::spawn(async move {
        let _open = (endpoint, connection);
        let mut length = [0; 4];
        while receive.read_exact(&mut length).await.is_ok() {
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            if receive.read_exact(&mut frame).await.is_err() || forward.send(frame.into()).await.is_err() {
                return;
            }
        }
    });
    Intruder { send: Sender::Quic(send), frames, task }
}

fn options(identity: &Identity, client_id: &str) -> MqttOptions {
    let endpoint = identity.endpoints().mqtt;
    let port = endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("MQTT is at a port");
    let tls = identity.client_tls(&[]).expect("the identity makes TLS settings");
    let mut options = MqttOptions::new(client_id, ("localhost", port));
    options
        .set_transport(rumqttc::Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))))
        .set_max_packet_size(Some(2 << 20))
        .set_unlimited_incoming_packet_size();
    options
}

async fn mqtt(identity: &Identity) -> Intruder {
    let own = identity.device_id().to_string();
    let (client, mut events) = AsyncClient::builder(options(identity, "intruder")).capacity(64).build();
    client.subscribe(format!("d/{own}/down"), QoS::AtLeastOnce).await.expect("the client takes requests");
    loop {
        if let Event::Incoming(Packet::SubAck(_)) = events.poll().await.expect("the certificate is taken") {
            break;
        }
    }
    let (forward, frames) = mpsc::channel(64);
    let task = tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Packet::Publish(publish)) = event
                && forward.send(publish.payload).await.is_err()
            {
                return;
            }
        }
    });
    Intruder { send: Sender::Mqtt(client, own), frames, task }
}

/// Connects with the certificate of the device in `dir`, subscribes to `filter`, publishes `body` to `topic`, and listens until
/// `listen` ends. Gives the topics of everything that came.
pub async fn trespass(
    dir: &Path,
    client_id: &str,
    filter: &str,
    topic: &str,
    body: Body,
    listen: impl Future<Output = ()>,
) -> Vec<String> {
    let identity = Identity::load(&dir.join("identity")).expect("the identity is readable").expect("the device has joined");
    let (client, mut events) = AsyncClient::builder(options(&identity, client_id)).capacity(64).build();
    let (tell, mut told) = mpsc::channel(64);
    let task = tokio::spawn(async move {
        // A connection that is closed for what it tried is an end as good as any.
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Packet::Publish(publish)) = event
                && tell.send(String::from_utf8_lossy(&publish.topic).into_owned()).await.is_err()
            {
                return;
            }
        }
    });
    // A queue whose connection is gone refuses.
    let _ = client.subscribe(filter, QoS::AtLeastOnce).await;
    let _ = client.publish(topic, encoded(body), PublishOptions::new(QoS::AtLeastOnce)).await;
    listen.await;
    task.abort();
    let mut topics = Vec::new();
    while let Some(topic) = told.recv().await {
        topics.push(topic);
    }
    topics
}
