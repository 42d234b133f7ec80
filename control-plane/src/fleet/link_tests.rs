//! The links with real sockets on loopback: each test runs once over QUIC and once over MQTT.

use super::ports::IntentPosition;
use super::quic::{Quic, QuicSettings};
use super::raw_link::{Over, PATIENCE, Raw, hello, listen, listen_with};
use super::testing::{Fleet, TestDevice, csr};
use crate::platform::clock::Clock;
use crate::platform::pki::Pki;
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::{self, Body, refused::Code};
use aidos_protocol::{CommandId, TenantId};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Makes two tests of each `async fn name(over: Over)`.
macro_rules! both_links {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::fleet::raw_link::Over;
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn quic() {
                super::$name(Over::Quic).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mqtt() {
                super::$name(Over::Mqtt).await;
            }
        }
    )+};
}
both_links!(
    every_frame_of_a_session_is_answered,
    a_revoked_device_is_cut_off_within_a_second_and_stays_out,
    devices_that_are_connected_hear_at_once_who_was_revoked_and_others_when_they_come,
    certificates_that_are_not_this_devices_do_not_get_in,
    bad_frames_are_refused_by_their_fault,
    a_new_session_takes_over_from_the_old_one,
    a_shutdown_tells_devices_when_to_come_back,
    a_device_that_vanishes_is_offline,
);

async fn every_frame_of_a_session_is_answered(over: Over) {
    let fleet = Fleet::new().await;
    let (link, device) = (listen(&fleet, over).await, fleet.device().await);
    let mut raw = Raw::welcomed(&link, &fleet, &device).await;
    let row = fleet.devices.get(fleet.caller.tenant, device.id).await.unwrap();
    assert_eq!((row.online, row.agent_version.as_deref()), (true, Some("1.2.3")));

    raw.say(Body::Ping(frame::Ping { nonce: 7 })).await;
    assert_eq!(raw.hears().await, Some(Body::Pong(frame::Pong { nonce: 7 })));
    raw.say(Body::StatusDelta(frame::StatusDelta { boot_id: 3, seq: 9, ..Default::default() })).await;
    assert!(matches!(raw.hears().await, Some(Body::StatusAck(ack)) if ack.seq == 9));
    let sample = frame::Sample { seq: 12, time_us: 1, values: vec![] };
    raw.say(Body::Telemetry(frame::Telemetry { samples: vec![sample], ..Default::default() })).await;
    assert_eq!(raw.hears().await, Some(Body::TelemetryAck(frame::TelemetryAck { seq: 12 })));
    raw.say(Body::SiteChanges(frame::SiteChanges { epoch: 5, changes: vec![] })).await;
    assert!(matches!(raw.hears().await, Some(Body::SiteAck(ack)) if ack.epoch == 5));
    let digest = Digest::of(b"model");
    raw.say(Body::ArtifactRequest(frame::ArtifactRequest { digest: digest.as_bytes().to_vec().into(), ..Default::default() }))
        .await;
    let Some(Body::ArtifactGrant(grant)) = raw.hears().await else { panic!("no grant") };
    assert!(grant.url.contains(&fleet.caller.tenant.to_string()), "{}", grant.url);

    let update = Body::IntentChanges(frame::IntentChanges { epoch: 2, changes: vec![1].into() });
    fleet.desk.updates.lock().unwrap().push(update.clone());
    fleet.live.notify_intent(device.id);
    assert_eq!(raw.hears().await, Some(update));
    let heads: Vec<Bytes> = vec![vec![9; 32].into()];
    raw.say(Body::IntentAck(frame::IntentAck { epoch: 2, heads: heads.clone(), ..Default::default() })).await;

    let id = CommandId::new(1).to_string();
    let command = frame::Command { id: id.clone(), expires_us: i64::MAX / 2, ..Default::default() };
    fleet.desk.commands.lock().unwrap().push(command.clone());
    fleet.live.notify_command(device.id);
    assert_eq!(raw.hears().await, Some(Body::Command(command)));
    raw.say(Body::CommandResult(frame::CommandResult { id, ..Default::default() })).await;

    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    raw.say(Body::RenewRequest(frame::RenewRequest { csr_der: request.der().to_vec().into() })).await;
    let Some(Body::RenewResponse(renewed)) = raw.hears().await else { panic!("no certificate") };
    assert_eq!(renewed.error, "");
    assert_eq!(fleet.desk.results.lock().unwrap().len(), 1);
    let acks = fleet.desk.acks.lock().unwrap().clone();
    assert_eq!(acks, [IntentPosition { epoch: 2, heads }]);
    let renewed = TestDevice { id: device.id, chain_pem: renewed.chain_pem, key };

    raw.say(Body::Goodbye(frame::Goodbye::default())).await;
    assert!(matches!(raw.hears().await, Some(Body::Goodbye(_))));
    raw.closes().await;
    Raw::welcomed(&link, &fleet, &renewed).await;
}

async fn a_revoked_device_is_cut_off_within_a_second_and_stays_out(over: Over) {
    let fleet = Fleet::new().await;
    let (link, device) = (listen(&fleet, over).await, fleet.device().await);
    let mut raw = Raw::welcomed(&link, &fleet, &device).await;
    let revoked = Instant::now();
    fleet.devices.revoke(&fleet.caller, device.id).await.unwrap();
    assert_eq!(raw.refusal().await, Code::Revoked);
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    raw.closes().await;
    let mut again = Raw::connect(&link, &fleet, Some(&device)).await.unwrap();
    again.say(hello()).await;
    assert_eq!(again.refusal().await, Code::Revoked);
    let row = fleet.devices.get(fleet.caller.tenant, device.id).await.unwrap();
    assert!(!row.online && row.revoked.is_some());
}

async fn devices_that_are_connected_hear_at_once_who_was_revoked_and_others_when_they_come(over: Over) {
    let fleet = Fleet::new().await;
    let link = listen(&fleet, over).await;
    let (here, away, lost) = (fleet.device().await, fleet.device().await, fleet.device().await);
    let takes = |held: [u8; 32]| match hello() {
        Body::Hello(hello) => Body::Hello(frame::Hello { revocations: held.to_vec().into(), ..hello }),
        _ => unreachable!("a session begins with Hello"),
    };
    let none = frame::revocations_digest([]);
    let mut raw = Raw::connect(&link, &fleet, Some(&here)).await.unwrap();
    raw.say(takes(none)).await;
    assert!(matches!(raw.hears().await, Some(Body::Welcome(_))));
    fleet.devices.revoke(&fleet.caller, lost.id).await.unwrap();
    let list = Body::Revocations(frame::Revocations { devices: vec![lost.id.as_bytes().to_vec().into()] });
    assert_eq!(raw.hears().await, Some(list.clone()));
    // A device that is deleted stays on the list until its certificate ends.
    fleet.devices.delete(&fleet.caller, lost.id).await.unwrap();
    let mut second = Raw::connect(&link, &fleet, Some(&away)).await.unwrap();
    second.say(takes(none)).await;
    assert!(matches!(second.hears().await, Some(Body::Welcome(_))));
    assert_eq!(second.hears().await, Some(list));
    // Who holds it is told nothing, and neither is an agent that takes none.
    for first_words in [takes(frame::revocations_digest([&lost.id.as_bytes()[..]])), hello()] {
        second.say(first_words).await;
        assert!(matches!(second.hears().await, Some(Body::Welcome(_))));
        second.say(Body::Ping(frame::Ping { nonce: 8 })).await;
        assert_eq!(second.hears().await, Some(Body::Pong(frame::Pong { nonce: 8 })));
    }
    // Nor is it told twice to who was there.
    raw.say(Body::Ping(frame::Ping { nonce: 9 })).await;
    assert_eq!(raw.hears().await, Some(Body::Pong(frame::Pong { nonce: 9 })));
}

async fn certificates_that_are_not_this_devices_do_not_get_in(over: Over) {
    let fleet = Fleet::new().await;
    let (link, device) = (listen(&fleet, over).await, fleet.device().await);
    assert!(Raw::connect(&link, &fleet, None).await.is_err(), "no certificate");

    let key = rcgen::KeyPair::generate().unwrap();
    let with = |pki: &Pki, tenant: TenantId| TestDevice {
        id: device.id,
        chain_pem: pki.issue_device(tenant, device.id, &csr(&key)).unwrap().chain_pem,
        key: rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap(),
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Pki::open_or_create(elsewhere.path(), "test", Clock::system()).unwrap();
    let foreign = with(&foreign, fleet.caller.tenant);
    assert!(Raw::connect(&link, &fleet, Some(&foreign)).await.is_err(), "a foreign certificate");

    let past = Clock::manual(fleet.clock.now().plus_seconds(-40 * 86_400));
    let expired = Pki::open_or_create(&fleet.folder.path().join("pki"), "test", past).unwrap();
    let expired = with(&expired, fleet.caller.tenant);
    assert!(Raw::connect(&link, &fleet, Some(&expired)).await.is_err(), "an expired certificate");

    // Signed by our CA, but for a key that was never recorded, or for another tenant: no session.
    for tenant in [fleet.caller.tenant, TenantId::new(5)] {
        let mut raw = Raw::connect(&link, &fleet, Some(&with(&fleet.pki, tenant))).await.unwrap();
        raw.say(hello()).await;
        assert_eq!(raw.refusal().await, Code::UnknownDevice);
    }
    // A session leaves a moment after its last words.
    let left = async {
        while fleet.live.is_online(device.id) {
            tokio::task::yield_now().await
        }
    };
    timeout(PATIENCE, left).await.expect("no session stays");
}

async fn bad_frames_are_refused_by_their_fault(over: Over) {
    let fleet = Fleet::new().await;
    let (link, device) = (listen(&fleet, over).await, fleet.device().await);
    let newer = frame::encode(99, Body::Ping(frame::Ping { nonce: 1 })).unwrap();
    let random: Vec<u8> = (0..999).map(|_| rand::random::<u8>() | 0x80).collect();
    let cases = [
        (Bytes::from(random), Code::Malformed),
        (Bytes::from(vec![0; frame::MAX_FRAME_BYTES + 1]), Code::TooLarge),
        (newer, Code::Version),
        (frame::encode(1, Body::Welcome(frame::Welcome::default())).unwrap(), Code::Forbidden),
    ];
    for (bytes, code) in cases {
        let mut raw = Raw::welcomed(&link, &fleet, &device).await;
        raw.bytes(bytes).await;
        assert_eq!(raw.refusal().await, code);
        raw.closes().await;
    }
    let mut early = Raw::connect(&link, &fleet, Some(&device)).await.unwrap();
    early.say(Body::Ping(frame::Ping { nonce: 1 })).await;
    assert_eq!(early.refusal().await, Code::Malformed);
}

async fn a_new_session_takes_over_from_the_old_one(over: Over) {
    let fleet = Fleet::new().await;
    let (link, device) = (listen(&fleet, over).await, fleet.device().await);
    let mut old = Raw::welcomed(&link, &fleet, &device).await;
    let mut new = Raw::welcomed(&link, &fleet, &device).await;
    assert_eq!(old.refusal().await, Code::Replaced);
    old.closes().await;
    new.say(Body::Ping(frame::Ping { nonce: 1 })).await;
    assert!(matches!(new.hears().await, Some(Body::Pong(_))));
    assert!(fleet.devices.get(fleet.caller.tenant, device.id).await.unwrap().online, "the old one's end is not the device's");
    assert_eq!(fleet.live.count(), 1);
}

async fn a_device_that_vanishes_is_offline(over: Over) {
    let fleet = Fleet::new().await;
    let (link, device) = (listen(&fleet, over).await, fleet.device().await);
    drop(Raw::welcomed(&link, &fleet, &device).await);
    let left = async {
        while fleet.live.is_online(device.id) {
            tokio::task::yield_now().await
        }
    };
    timeout(PATIENCE, left).await.expect("the session ends with its link");
    assert!(!fleet.devices.get(fleet.caller.tenant, device.id).await.unwrap().online);
}

async fn a_shutdown_tells_devices_when_to_come_back(over: Over) {
    let fleet = Fleet::new().await;
    let (link, device) = (listen(&fleet, over).await, fleet.device().await);
    let mut raw = Raw::welcomed(&link, &fleet, &device).await;
    let (_, refused) = tokio::join!(fleet.live.shutdown(4_000), raw.hears());
    let Some(Body::Refused(refused)) = refused else { panic!("no refusal") };
    assert_eq!(refused.code(), Code::ShuttingDown);
    assert!((2_000..=4_000).contains(&refused.retry_after_ms));
    link.shutdown.cancel();
    timeout(PATIENCE, link.task).await.expect("the listener ends").unwrap();
    assert!(!fleet.devices.get(fleet.caller.tenant, device.id).await.unwrap().online);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_in_the_cloud_reaches_the_device_and_its_report_comes_back() {
    use aidos_protocol::twin::{Edit, Intent};
    let (fleet, twins) = Fleet::with_twins().await;
    let (link, device, tenant) = (listen(&fleet, Over::Quic).await, fleet.device().await, fleet.caller.tenant);
    let mut raw = Raw::connect(&link, &fleet, Some(&device)).await.unwrap();
    raw.say(hello()).await;
    assert!(matches!(raw.hears().await, Some(Body::Welcome(_))));
    let Some(Body::IntentDocument(document)) = raw.hears().await else { panic!("a device without intent gets all of it") };
    let intent = Intent::load(&document.document).unwrap();
    let ack = |intent: &Intent| {
        Body::IntentAck(frame::IntentAck { epoch: document.epoch, heads: intent.wire_heads(), ..Default::default() })
    };
    raw.say(ack(&intent)).await;
    let edit = Edit::SetLabel { key: "site".into(), value: "lab".into() };
    twins.edit(&fleet.caller, device.id, &[edit], None).await.unwrap();
    let Some(Body::IntentChanges(changes)) = raw.hears().await else { panic!("one edit travels as changes") };
    assert!(changes.changes.len() < 250, "{} bytes", changes.changes.len());
    raw.say(Body::StatusDelta(frame::StatusDelta {
        boot_id: 1,
        seq: 1,
        full: true,
        set: vec![frame::StatusEntry { path: "link".into(), value: b"{}".to_vec().into(), seq: 1 }],
        ..Default::default()
    }))
    .await;
    assert_eq!(raw.hears().await, Some(Body::StatusAck(frame::StatusAck { boot_id: 1, seq: 1, resync: false })));
    assert_eq!(twins.status(tenant, device.id).await.unwrap().seq, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_an_address_is_proven_first_and_connections_are_bounded() {
    let fleet = Fleet::new().await;
    // An eighth of so few handshakes is none: every address has to be proven.
    let settings = QuicSettings { max_handshakes: 4, max_connections: 1, segmentation_offload: false, ..Default::default() };
    let link = listen_with(&fleet, Over::Quic, settings).await;
    let (device, other) = (fleet.device().await, fleet.device().await);
    let first = Raw::welcomed(&link, &fleet, &device).await;
    let refused = Raw::connect(&link, &fleet, Some(&other)).await.err().expect("the second is one too many");
    assert!(refused.contains("refused"), "{refused}");
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_mqtt_client_is_let_go_after_its_keepalive() {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration, Transport};
    let fleet = Fleet::new().await;
    let (link, device) = (listen(&fleet, Over::Mqtt).await, fleet.device().await);
    let mut options = MqttOptions::new("quiet", ("localhost", link.address.port()));
    let tls = TlsConfiguration::Rustls(std::sync::Arc::new(fleet.tls(Some(&device))));
    options.set_transport(Transport::tls_with_config(tls)).set_keep_alive(1);
    let (client, mut events) = AsyncClient::builder(options).capacity(4).build();
    client.subscribe(format!("d/{}/down", device.id), QoS::AtLeastOnce).await.unwrap();
    let bytes = frame::encode(1, hello()).unwrap();
    client.publish(format!("d/{}/up", device.id), bytes, PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::Publish(_))) {}
    // From here nobody polls: no ping goes out, and the socket stays open.
    let (begin, gone) = (Instant::now(), async {
        while fleet.live.is_online(device.id) {
            tokio::task::yield_now().await
        }
    });
    timeout(PATIENCE, gone).await.expect("the session ends");
    assert!((Duration::from_millis(1_200)..Duration::from_secs(4)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_that_was_killed_and_is_back_tells_devices_so_at_their_first_packet() {
    let fleet = Fleet::new().await;
    let device = fleet.device().await;
    // What runs in a runtime that ends says no goodbye, like a process that is killed.
    let killed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let guard = killed.enter();
    let link = listen(&fleet, Over::Quic).await;
    drop(guard);
    let mut raw = Raw::welcomed(&link, &fleet, &device).await;
    tokio::task::spawn_blocking(move || killed.shutdown_timeout(PATIENCE)).await.unwrap();

    let settings = QuicSettings { listen: link.address, ..Default::default() };
    let again = Quic::bind(settings, fleet.pki.clone()).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(again.run(fleet.clock.clone(), fleet.sessions.clone(), stop.clone()));
    raw.say(Body::Ping(frame::Ping { nonce: 1 })).await;
    raw.closes().await;
    stop.cancel();
    running.await.unwrap();
}
