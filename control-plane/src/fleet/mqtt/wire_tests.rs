//! The MQTT wire without sockets: a client's packets in, the answers' reason codes out.
//! Answers are parsed by type, as a client's side of the protocol would refuse those to packets that it did not send.

use super::*;
use mqtt_protocol_core::mqtt::packet::{SubOpts, SubscriptionIdentifier};
use proptest::prelude::*;

const TIMEOUT: Duration = Duration::from_secs(10);

/// One device for the whole run: an id is random but for its time.
fn device() -> DeviceId {
    static DEVICE: std::sync::LazyLock<DeviceId> = std::sync::LazyLock::new(|| DeviceId::new(1));
    *DEVICE
}

/// What the wire writes, read back by a client's side of the protocol.
fn answers(wire: &mut Wire) -> Vec<Packet> {
    let bytes = wire.output().split();
    let mut rest = &bytes[..];
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let (body, header) = split(rest);
        packets.push(match rest[0] >> 4 {
            2 => v5_0::Connack::parse(body).unwrap().0.into(),
            3 => v5_0::Publish::parse(rest[0] & 0xf, body.into()).unwrap().0.into(),
            4 => v5_0::Puback::parse(body).unwrap().0.into(),
            9 => v5_0::Suback::parse(body).unwrap().0.into(),
            11 => v5_0::Unsuback::parse(body).unwrap().0.into(),
            13 => Packet::V5_0Pingresp(v5_0::Pingresp::new()),
            14 => v5_0::Disconnect::parse(body).unwrap().0.into(),
            other => panic!("a server does not send type {other}"),
        });
        rest = &rest[header + body.len()..];
    }
    packets
}

/// The body of the packet that `bytes` begin with, and the length of its fixed header.
fn split(bytes: &[u8]) -> (&[u8], usize) {
    let (mut length, mut at) = (0, 1);
    loop {
        length |= usize::from(bytes[at] & 0x7f) << (7 * (at - 1));
        at += 1;
        if bytes[at - 1] & 0x80 == 0 {
            return (&bytes[at..at + length], at);
        }
    }
}

fn feed(wire: &mut Wire, packet: impl Into<Packet>) -> Vec<Received> {
    feed_bytes(wire, &packet.into().to_continuous_buffer())
}

fn feed_bytes(wire: &mut Wire, bytes: &[u8]) -> Vec<Received> {
    let mut input = BytesMut::from(bytes);
    let mut received = Vec::new();
    while !input.is_empty() {
        received.extend(wire.receive(&mut input));
    }
    received
}

fn connected() -> Wire {
    let mut wire = Wire::new(device(), TIMEOUT);
    feed(&mut wire, v5_0::Connect::builder().client_id("whoever").unwrap().keep_alive(60).build().unwrap());
    assert!(matches!(&answers(&mut wire)[..], [Packet::V5_0Connack(c)] if c.reason_code() == ConnectReasonCode::Success));
    wire
}

fn publish(topic: &str, qos: Qos) -> v5_0::Publish {
    let builder = v5_0::Publish::builder().topic_name(topic).unwrap().qos(qos).payload(b"frame".as_slice());
    if qos == Qos::AtMostOnce { builder.build().unwrap() } else { builder.packet_id(7u16).build().unwrap() }
}

fn subscribe(filters: &[&str]) -> v5_0::Subscribe {
    let entry = |f: &&str| SubEntry::new(*f, SubOpts::new().set_qos(Qos::ExactlyOnce)).unwrap();
    v5_0::Subscribe::builder().packet_id(9u16).entries(filters.iter().map(entry).collect::<Vec<_>>()).build().unwrap()
}

fn reason(wire: &mut Wire) -> Option<DisconnectReasonCode> {
    match &answers(wire)[..] {
        [.., Packet::V5_0Disconnect(disconnect)] => disconnect.reason_code(),
        _ => None,
    }
}

#[test]
fn a_device_speaks_on_its_own_topic_whoever_it_says_it_is() {
    let mut wire = connected();
    let received = feed(&mut wire, publish(&topics::up(device()), Qos::AtLeastOnce));
    assert_eq!(received.iter().map(|r| &r.frame[..]).collect::<Vec<_>>(), [b"frame"]);
    assert!(answers(&mut wire).is_empty(), "acknowledged only once the session has it");
    wire.accepted(received[0].packet_id);
    let [Packet::V5_0Puback(ack)] = &answers(&mut wire)[..] else { panic!("no PUBACK") };
    assert_eq!((ack.packet_id(), ack.reason_code().is_none_or(|r| r == PubackReasonCode::Success)), (7, true));
}

#[test]
fn speaking_as_another_is_denied_with_the_reason() {
    let other = DeviceId::new(2);
    for topic in [topics::up(other), topics::down(device()), topics::down(other), "x".into(), "$SYS/x".into()] {
        let mut wire = connected();
        assert!(feed(&mut wire, publish(&topic, Qos::AtLeastOnce)).is_empty());
        let [Packet::V5_0Puback(ack)] = &answers(&mut wire)[..] else { panic!("no PUBACK for {topic}") };
        assert_eq!(ack.reason_code(), Some(PubackReasonCode::NotAuthorized));
        assert!(feed(&mut wire, publish(&topic, Qos::AtMostOnce)).is_empty());
        assert_eq!(reason(&mut wire), Some(DisconnectReasonCode::NotAuthorized));
        assert!(wire.is_closed());
    }
}

#[test]
fn retained_and_exactly_once_messages_are_not_taken() {
    let topic = topics::up(device());
    let retained = v5_0::Publish::builder().topic_name(&*topic).unwrap().qos(Qos::AtMostOnce).retain(true).build().unwrap();
    let mut wire = connected();
    assert!(feed(&mut wire, retained).is_empty());
    assert_eq!(reason(&mut wire), Some(DisconnectReasonCode::RetainNotSupported));
    let mut wire = connected();
    assert!(feed(&mut wire, publish(&topic, Qos::ExactlyOnce)).is_empty());
    assert_eq!(reason(&mut wire), Some(DisconnectReasonCode::QosNotSupported));
}

#[test]
fn only_the_own_down_is_subscribed_to() {
    let mut wire = connected();
    let (own, other) = (topics::down(device()), topics::down(DeviceId::new(2)));
    let (tree, shared) = (format!("{own}/#"), format!("$share/g/{own}"));
    feed(&mut wire, subscribe(&[&own, &tree, &other, "#", "d/+/down", &shared]));
    let [Packet::V5_0Suback(ack)] = &answers(&mut wire)[..] else { panic!("no SUBACK") };
    use SubackReasonCode::{GrantedQos1, NotAuthorized, SharedSubscriptionsNotSupported};
    let denied = [NotAuthorized, NotAuthorized, NotAuthorized, SharedSubscriptionsNotSupported];
    assert_eq!(ack.reason_codes(), [&[GrantedQos1, GrantedQos1][..], &denied].concat());
    let id = SubscriptionIdentifier::new(1).unwrap();
    let entries = vec![SubEntry::new(own.as_str(), SubOpts::new()).unwrap()];
    let packet = v5_0::Subscribe::builder().packet_id(3u16).entries(entries).props(vec![id.into()]).build().unwrap();
    feed(&mut wire, packet);
    assert_eq!(reason(&mut wire), Some(DisconnectReasonCode::SubscriptionIdentifiersNotSupported));
}

#[test]
fn frames_wait_for_the_subscription_and_for_acknowledgements() {
    let mut wire = connected();
    assert!(!wire.can_send());
    feed(&mut wire, subscribe(&[&topics::down(device())]));
    answers(&mut wire);
    let mut ids = Vec::new();
    while wire.can_send() {
        wire.send(b"frame");
        let [Packet::V5_0Publish(publish)] = &answers(&mut wire)[..] else { panic!("no PUBLISH") };
        assert_eq!((publish.topic_name(), publish.qos()), (&*topics::down(device()), Qos::AtLeastOnce));
        ids.extend(publish.packet_id());
    }
    assert_eq!(ids.len(), usize::from(SEND_WINDOW));
    feed(&mut wire, v5_0::Puback::builder().packet_id(ids[0]).build().unwrap());
    assert!(wire.can_send());
}

#[test]
fn only_a_will_on_the_own_topic_gets_through_the_door() {
    let (own, other) = (topics::up(device()), topics::up(DeviceId::new(2)));
    use ConnectReasonCode::{NotAuthorized, QosNotSupported, RetainNotSupported, Success};
    for (topic, qos, retain, reason) in [
        (&own, Qos::AtLeastOnce, false, Success),
        (&own, Qos::AtLeastOnce, true, RetainNotSupported),
        (&own, Qos::ExactlyOnce, false, QosNotSupported),
        (&other, Qos::AtLeastOnce, false, NotAuthorized),
        (&topics::down(device()), Qos::AtLeastOnce, false, NotAuthorized),
    ] {
        let connect = v5_0::Connect::builder().client_id("x").unwrap();
        let connect = connect.will_message(topic.as_str(), b"bye".to_vec(), qos, retain).unwrap().build().unwrap();
        let mut wire = Wire::new(device(), TIMEOUT);
        feed(&mut wire, connect);
        let [Packet::V5_0Connack(ack)] = &answers(&mut wire)[..] else { panic!("no CONNACK") };
        assert_eq!((ack.reason_code(), wire.is_closed()), (reason, reason != Success), "{topic} {qos:?} {retain}");
    }
}

#[test]
fn keepalive_is_bounded_and_told() {
    let mut wire = Wire::new(device(), TIMEOUT);
    assert_eq!(wire.patience(), TIMEOUT);
    feed(&mut wire, v5_0::Connect::builder().client_id("").unwrap().keep_alive(0).build().unwrap());
    let [Packet::V5_0Connack(ack)] = &answers(&mut wire)[..] else { panic!("no CONNACK") };
    let told = ack.props().iter().any(|p| matches!(p, Property::ServerKeepAlive(s) if s.val() == MAX_KEEPALIVE_S));
    let named = ack.props().iter().any(|p| matches!(p, Property::AssignedClientIdentifier(_)));
    assert!(told && named, "{ack:?}");
    assert_eq!(wire.patience(), Duration::from_secs(450));
}

#[test]
fn anything_before_connect_and_a_second_connect_end_the_connection() {
    let mut wire = Wire::new(device(), TIMEOUT);
    assert!(feed(&mut wire, publish(&topics::up(device()), Qos::AtMostOnce)).is_empty());
    assert!(wire.is_closed());
    let mut wire = connected();
    feed(&mut wire, v5_0::Connect::builder().client_id("x").unwrap().build().unwrap());
    assert!(wire.is_closed());
}

#[test]
fn a_packet_over_the_limit_is_refused_by_its_header() {
    let mut wire = connected();
    // PUBLISH of 256 MiB: five bytes are enough to know.
    assert!(feed_bytes(&mut wire, &[0x30, 0xff, 0xff, 0xff, 0x7f]).is_empty());
    assert_eq!(reason(&mut wire), Some(DisconnectReasonCode::PacketTooLarge));
}

#[test]
fn version_3_1_1_is_told_that_it_is_not_spoken() {
    let mut wire = Wire::new(device(), TIMEOUT);
    feed_bytes(&mut wire, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x");
    assert!(wire.is_closed());
    let [Packet::V5_0Connack(ack)] = &answers(&mut wire)[..] else { panic!("no CONNACK") };
    assert_eq!(ack.reason_code(), ConnectReasonCode::UnsupportedProtocolVersion);
}

proptest! {
    #[test]
    fn random_bytes_neither_panic_nor_yield_a_frame(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut fresh = Wire::new(device(), TIMEOUT);
        prop_assert!(feed_bytes(&mut fresh, &bytes).is_empty());
        let mut open = connected();
        feed_bytes(&mut open, &bytes);
    }
}
