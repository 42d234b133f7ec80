//! One strict suite against both ways to offer MQTT: what a device may do, and that nothing else has an effect on others.
//! It looks at what arrives, never at what the server answers; the listener's reason codes are tested in `wire`.

use super::topics;
use super::{Broker, BrokerError, BrokerSettings};
use crate::fleet::raw_link::{Listening, Over, PATIENCE, Raw, hello, listen};
use crate::fleet::testing::{Fleet, TestDevice};
use aidos_protocol::frame::{self, Body, refused::Code};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
/// What `docs/guides/mqtt-broker.md` says, but for the paths.
const RULES: &str = include_str!("../../../../docs/guides/mqtt-broker.md");

fn options(to: &Listening, fleet: &Fleet, device: &TestDevice, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, ("localhost", to.address.port()));
    options.set_transport(rumqttc::Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(fleet.tls(Some(device))))));
    options
}

/// A client that does what it likes; everything that comes to it lands in the channel, which ends with its connection.
async fn intruder(options: MqttOptions) -> (AsyncClient, mpsc::Receiver<frame::Body>) {
    let (client, mut events) = AsyncClient::builder(options).capacity(32).build();
    let (seen, arrivals) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Packet::Publish(publish)) = event {
                let body = frame::decode(publish.payload).unwrap().1;
                if seen.send(body).await.is_err() {
                    return;
                }
            }
        }
    });
    (client, arrivals)
}

async fn ping(victim: &mut Raw, nonce: u64) {
    victim.say(Body::Ping(frame::Ping { nonce })).await;
    assert_eq!(victim.hears().await, Some(Body::Pong(frame::Pong { nonce })), "the victim's session is untouched");
}

async fn strict(to: &Listening, fleet: &Fleet) {
    let (own, other) = (fleet.device().await, fleet.device().await);
    let mut victim = Raw::welcomed(to, fleet, &other).await;
    let goodbye = || frame::encode(1, Body::Goodbye(frame::Goodbye::default())).unwrap();
    let at_least_once = || PublishOptions::new(QoS::AtLeastOnce);
    let own_down = topics::down(own.id);

    // Listening to others: what the victim hears never comes; an answer to the intruder's own frame does.
    let filters =
        ["#", "d/#", "d/+/down", "d/+/up", "+/+/+", &*topics::down(other.id), &*topics::up(other.id), "$share/g/d/+/up"];
    for (nonce, filter) in filters.iter().enumerate() {
        let (client, mut arrivals) = intruder(options(to, fleet, &own, "intruder")).await;
        client.subscribe(own_down.as_str(), QoS::AtLeastOnce).await.unwrap();
        client.subscribe(*filter, QoS::AtLeastOnce).await.unwrap();
        client.publish(topics::up(own.id), frame::encode(1, hello()).unwrap(), at_least_once()).await.unwrap();
        let welcome = timeout(PATIENCE, arrivals.recv()).await.unwrap();
        assert!(matches!(welcome, Some(Body::Welcome(_))), "{filter}: {welcome:?}");
        ping(&mut victim, 100 + nonce as u64).await;
        let own_ping = frame::encode(1, Body::Ping(frame::Ping { nonce: 1 })).unwrap();
        client.publish(topics::up(own.id), own_ping, at_least_once()).await.unwrap();
        loop {
            match timeout(PATIENCE, arrivals.recv()).await.unwrap() {
                Some(Body::Pong(frame::Pong { nonce: 1 })) => break,
                // A broker may deliver twice what two filters match.
                Some(Body::Welcome(_)) => {}
                other => panic!("{filter}: {other:?}"),
            }
        }
        client.publish(topics::up(own.id), goodbye(), at_least_once()).await.unwrap();
        loop {
            match timeout(PATIENCE, arrivals.recv()).await.unwrap() {
                Some(Body::Goodbye(_)) | None => break,
                Some(Body::Pong(frame::Pong { nonce: 1 })) => {}
                other => panic!("{filter}: {other:?}"),
            }
        }
    }

    // Speaking as others, at each QoS, retained or not.
    for topic in [topics::up(other.id), topics::down(other.id), "d/x/up".into(), "elsewhere".into()] {
        for options_of in [
            PublishOptions::new(QoS::AtMostOnce),
            at_least_once(),
            PublishOptions::new(QoS::ExactlyOnce),
            at_least_once().retained(),
        ] {
            let (client, mut arrivals) = intruder(options(to, fleet, &own, "intruder")).await;
            let _ = client.publish(topic.as_str(), goodbye(), options_of).await;
            // Either it is thrown out or it goes on: the attempt is over when its own frame was answered, or nothing comes.
            let _ = client.subscribe(own_down.as_str(), QoS::AtLeastOnce).await;
            let _ = client.publish(topics::up(own.id), frame::encode(1, hello()).unwrap(), at_least_once()).await;
            let _ = timeout(Duration::from_millis(500), arrivals.recv()).await;
            ping(&mut victim, 7).await;
        }
    }

    // A will in another's name, and another's client id.
    let mut with_will = options(to, fleet, &own, "raw");
    with_will.set_last_will(LastWill::new(topics::up(other.id), goodbye(), QoS::AtLeastOnce, false, None));
    let (client, mut arrivals) = intruder(with_will).await;
    let _ = client.subscribe(own_down.as_str(), QoS::AtLeastOnce).await;
    let _ = timeout(Duration::from_millis(300), arrivals.recv()).await;
    drop((client, arrivals));
    let (_client, mut arrivals) = intruder(options(to, fleet, &own, "raw")).await;
    let _ = timeout(Duration::from_millis(300), arrivals.recv()).await;
    ping(&mut victim, 8).await;

    // Bad frames are refused in the session, whoever carries them.
    victim.bytes(vec![0xff; 99]).await;
    assert_eq!(victim.refusal().await, Code::Malformed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_listener_holds_devices_apart() {
    let fleet = Fleet::new().await;
    let link = listen(&fleet, Over::Mqtt).await;
    strict(&link, &fleet).await;
}

/// A Mosquitto of Debian's package, ended with the test.
struct Mosquitto {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// The `n`th fenced block of the guide that begins with `first`.
fn block(first: &str) -> &'static str {
    let block = RULES.split("```\n").find(|block| block.starts_with(first));
    block.expect("the guide has this configuration")
}

/// Starts Mosquitto with the guide's configuration, after `change` was made to it and to its rules.
fn mosquitto(fleet: &Fleet, change: impl Fn(&str) -> String) -> Mosquitto {
    assert!(std::path::Path::new(MOSQUITTO).exists(), "{MOSQUITTO} is missing: run `cargo xtask test`, which installs it");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (chain, key) = fleet.pki.issue_server(&["localhost".into(), "127.0.0.1".into()]).unwrap();
    let chain: String = chain.iter().map(|c| pem("CERTIFICATE", c)).collect();
    std::fs::write(at("ca.pem"), fleet.pki.ca_pem()).unwrap();
    std::fs::write(at("broker.pem"), chain).unwrap();
    std::fs::write(at("broker.key"), pem("PRIVATE KEY", key.secret_der())).unwrap();
    std::fs::write(at("aidos.acl"), change(block("user control-plane"))).unwrap();
    // Freed at once, and taken by Mosquitto a moment later.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut configuration = change(block("per_listener_settings"))
        .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
        .replace("/etc/mosquitto/aidos-ca.pem", &at("ca.pem"))
        .replace("/etc/mosquitto/broker.pem", &at("broker.pem"))
        .replace("/etc/mosquitto/broker.key", &at("broker.key"))
        .replace("/etc/mosquitto/aidos.acl", &at("aidos.acl"));
    // Started by root it would become a user that cannot read the test's folder.
    configuration.push_str("user root\n");
    std::fs::write(at("mosquitto.conf"), configuration).unwrap();
    let child =
        Command::new(MOSQUITTO).args(["-c", &at("mosquitto.conf")]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mosquitto = Mosquitto { child, port, _folder: folder };
    for _ in 0..100 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return mosquitto;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("Mosquitto does not listen");
}

async fn prepare(fleet: &Fleet, mosquitto: &Mosquitto) -> Result<Broker, BrokerError> {
    let address = format!("mqtts://localhost:{}", mosquitto.port).parse().unwrap();
    let settings = BrokerSettings { address, ca_pem: None };
    Broker::prepare(&settings, &fleet.pki, &fleet.clock, fleet.devices.clone(), fleet.sessions.clone()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_as_the_guide_sets_it_up_holds_devices_apart() {
    let fleet = Fleet::new().await;
    let mosquitto = mosquitto(&fleet, str::to_owned);
    let broker = prepare(&fleet, &mosquitto).await.unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(broker.run(shutdown.clone()));
    let address = SocketAddr::from(([127, 0, 0, 1], mosquitto.port));
    let link = Listening { over: Over::Mqtt, address, shutdown, task };
    // The plane subscribes as it starts.
    tokio::time::sleep(Duration::from_millis(500)).await;
    strict(&link, &fleet).await;

    // A plane that lost its sessions asks devices to say Hello again; a revoked device is told so.
    let device = fleet.device().await;
    let mut raw = Raw::connect(&link, &fleet, Some(&device)).await.unwrap();
    raw.say(Body::Ping(frame::Ping { nonce: 1 })).await;
    assert!(matches!(raw.hears().await, Some(Body::Goodbye(goodbye)) if goodbye.retry_after_ms > 0));
    raw.say(hello()).await;
    assert!(matches!(raw.hears().await, Some(Body::Welcome(_))));
    fleet.devices.revoke(&fleet.caller, device.id).await.unwrap();
    assert_eq!(raw.refusal().await, Code::Revoked);
    raw.say(hello()).await;
    assert_eq!(raw.refusal().await, Code::Revoked);

    fleet.live.shutdown(1_000).await;
    link.shutdown.cancel();
    timeout(PATIENCE, link.task).await.expect("the broker's client ends").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lets_devices_do_more_is_not_used_and_the_missing_rule_is_named() {
    let fleet = Fleet::new().await;
    let cases: [(&str, &str, &str); 7] = [
        ("acl_file /etc/mosquitto/aidos.acl\n", "", "pattern read d/%u/down"),
        ("pattern read d/%u/down", "pattern read d/+/down", "pattern read d/%u/down"),
        ("pattern write d/%u/up", "pattern write d/+/up", "pattern write d/%u/up"),
        ("pattern read d/%u/down", "pattern readwrite d/%u/down", "pattern write d/%u/up"),
        ("require_certificate true", "require_certificate false", "require_certificate true"),
        ("use_username_as_clientid true\n", "", "use_username_as_clientid true"),
        ("topic read d/+/up\n", "", "pattern write d/%u/up"),
    ];
    for (rule, instead, named) in cases {
        let change = |text: &str| {
            let text = text.replace(rule, instead);
            // A client without a certificate has no name, so it gets in only as nobody.
            if instead == "require_certificate false" { text.replace("anonymous false", "anonymous true") } else { text }
        };
        let mosquitto = mosquitto(&fleet, change);
        let error = prepare(&fleet, &mosquitto).await.err().unwrap_or_else(|| panic!("used without `{rule}`")).to_string();
        assert!(error.contains(named) && error.contains("docs/guides/mqtt-broker.md"), "without `{rule}`: {error}");
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_with_what_to_do() {
    let fleet = Fleet::new().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = BrokerSettings { address: format!("mqtts://localhost:{port}").parse().unwrap(), ca_pem: None };
    let broker = Broker::prepare(&settings, &fleet.pki, &fleet.clock, fleet.devices.clone(), fleet.sessions.clone()).await;
    let error = broker.err().unwrap().to_string();
    assert!(error.contains("cannot connect") && error.contains("control plane"), "{error}");
}
