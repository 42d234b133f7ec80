//! Against a real Mosquitto with client certificates and an ACL (Debian's package `mosquitto`).

use super::*;
use crate::identity::testing::TestCa;
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::{DeviceId, TenantId};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const DAY: Duration = Duration::from_secs(86_400);

struct Mosquitto {
    child: Child,
    port: u16,
}

/// Panics where it is not installed: a skipped peer is an untested link.
async fn mosquitto(ca: &TestCa, dir: &Path, acl: &str) -> Mosquitto {
    let binary =
        ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"].iter().find(|p| Path::new(p).exists());
    let binary = binary.expect("mosquitto is not there: run `cargo xtask test`, which installs it");
    let (chain, key) = ca.server();
    let pem = |der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = |name: &str| dir.join(name).display().to_string();
    std::fs::write(dir.join("ca.pem"), &ca.pem).unwrap();
    std::fs::write(dir.join("server.pem"), pem(&chain[0]) + &ca.pem).unwrap();
    std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("acl"), format!("{acl}pattern write d/%u/up\npattern read d/%u/down\n")).unwrap();
    let config = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n\
         acl_file {}\npersistence false\nuser root\nlog_dest stderr\n",
        at("ca.pem"),
        at("server.pem"),
        at("server.key"),
        at("acl"),
    );
    std::fs::write(dir.join("mosquitto.conf"), config).unwrap();
    let mut child = Command::new(binary)
        .args(["-c", &at("mosquitto.conf")])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = log.next_line().await.unwrap() {
        if line.contains("running") {
            break;
        }
    }
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    Mosquitto { child, port }
}

fn transport(ca: &TestCa, dir: &Path, port: u16) -> Mqtt {
    let endpoints = EndpointsView { mqtt: format!("localhost:{port}"), ..EndpointsView::default() };
    Mqtt::new(ca.joined(&dir.join("identity"), endpoints))
}

#[tokio::test]
async fn a_device_connects_to_mosquitto_with_its_certificate_and_is_told_that_no_plane_listens() {
    let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
    let broker = mosquitto(&ca, dir.path(), "").await;
    let Connection { mut sink, mut stream, .. } = transport(&ca, dir.path(), broker.port).connect().await.unwrap();
    sink.send(Bytes::from_static(b"hello")).await.unwrap();
    let lost = stream.next().await.unwrap_err();
    assert!(lost.to_string().contains("no control plane"), "{lost}");
}

#[tokio::test]
async fn frames_reach_the_other_side_of_mosquitto_and_come_back() {
    let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
    let (tenant, plane_id) = (TenantId::new(1), DeviceId::new(99));
    let acl = format!("user {plane_id}\ntopic readwrite d/#\n");
    let broker = mosquitto(&ca, dir.path(), &acl).await;
    // The plane's part is played by a client of this same crate, which answers each frame with itself.
    let endpoints = EndpointsView { mqtt: format!("localhost:{}", broker.port), ..EndpointsView::default() };
    let plane = ca.joined_with(&dir.path().join("plane"), endpoints, tenant, plane_id, DAY, 30 * DAY);
    let endpoint = Endpoint { host: "localhost".into(), port: broker.port };
    let stream = TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap();
    let options = Mqtt::new(plane).options(&endpoint, stream, "d/none/up").unwrap();
    let (client, mut events) = AsyncClient::builder(options).build();
    client.subscribe("d/+/up", QoS::AtLeastOnce).await.unwrap();
    subscribed(&mut events).await.unwrap();

    let device = transport(&ca, dir.path(), broker.port);
    let down = format!("d/{}/down", device.identity.device_id());
    let echo = tokio::spawn(async move {
        let mut last = Bytes::new();
        while last != "last" {
            if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
                last = publish.payload.clone();
                client.publish(down.clone(), publish.payload, PublishOptions::at_least_once()).await.unwrap();
            }
        }
    });
    let Connection { mut sink, mut stream, .. } = device.connect().await.unwrap();
    let big = Bytes::from(vec![7; MAX_FRAME_BYTES]);
    sink.send(big.clone()).await.unwrap();
    assert_eq!(stream.next().await, Ok(Some(big)));
    sink.send(Bytes::from_static(b"last")).await.unwrap();
    sink.close("done").await;
    echo.await.unwrap();
}

#[tokio::test]
async fn a_broker_that_vanishes_is_noticed_and_one_that_is_not_there_is_an_error() {
    let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
    let mut broker = mosquitto(&ca, dir.path(), "").await;
    let device = transport(&ca, dir.path(), broker.port);
    let Connection { sink: _sink, mut stream, .. } = device.connect().await.unwrap();
    broker.child.kill().await.unwrap();
    assert!(stream.next().await.is_err());
    assert!(matches!(device.connect().await, Err(ConnectError::Failed(_))));
}
