//! One device's MQTT 5 connection without I/O: bytes in, frames and bytes out.
//!
//! The protocol itself is `mqtt-protocol-core`'s; this decides what is allowed on it. Whoever the peer claims to be, by
//! client id, user name or will, does not matter: `device` comes from its certificate. Denials carry MQTT's reason codes.
//! MQTT 3.1.1 has none of these and is refused with "unsupported protocol version".

use super::{MAX_PACKET_BYTES, topics};
use aidos_protocol::DeviceId;
use bytes::{Buf as _, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, MQTT_PACKET_SIZE_NO_LIMIT};
use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, GenericPacketTrait as _, MaximumQos, Packet, Property, Qos, RetainAvailable, ServerKeepAlive,
    SessionExpiryInterval, SharedSubscriptionAvailable, SubEntry, SubscriptionIdentifierAvailable, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, DisconnectReasonCode, MqttError, PubackReasonCode, SubackReasonCode, UnsubackReasonCode,
};
use mqtt_protocol_core::mqtt::{Connection, Version, common::Cursor, role};
use std::time::Duration;

/// The longest keepalive granted: devices that vanish are noticed within one and a half times this.
const MAX_KEEPALIVE_S: u16 = 300;
/// Messages of a device that are not acknowledged yet; the session takes them one by one anyway.
const RECEIVE_MAXIMUM: u16 = 16;
/// Messages to a device that it has not acknowledged yet.
const SEND_WINDOW: u16 = 16;
const _: () = assert!(MAX_PACKET_BYTES < MQTT_PACKET_SIZE_NO_LIMIT);

/// A frame that came, and the packet id that [`Wire::accepted`] acknowledges.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) frame: Bytes,
    pub(super) packet_id: Option<u16>,
}

/// See the module's documentation.
pub(super) struct Wire {
    core: Connection<role::Server>,
    device: DeviceId,
    connected: bool,
    closed: bool,
    /// Granted on the device's `down` itself, and on what is below it.
    subscribed: [Option<Qos>; 2],
    unacknowledged: u16,
    keepalive: Duration,
    output: BytesMut,
    received: Option<Received>,
}

impl Wire {
    /// `connect_timeout` is what the peer has until its CONNECT.
    pub(super) fn new(device: DeviceId, connect_timeout: Duration) -> Self {
        let options = ConnectionOptions::new().maximum_packet_size_recv(MAX_PACKET_BYTES).receive_maximum(RECEIVE_MAXIMUM);
        let mut core = Connection::with_options(Version::V5_0, options);
        core.set_auto_ping_response(true);
        Self {
            core,
            device,
            connected: false,
            closed: false,
            subscribed: [None, None],
            unacknowledged: 0,
            keepalive: connect_timeout,
            output: BytesMut::new(),
            received: None,
        }
    }

    /// No more is to be read; what is in [`Self::output`] is still to be written.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// How long the peer may be silent.
    pub(super) fn patience(&self) -> Duration {
        self.keepalive
    }

    /// What is to be written.
    pub(super) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Takes one packet, or a part of one, from `bytes`. Call until it is empty; a frame that is returned has to be
    /// [accepted](Self::accepted) before the next call.
    pub(super) fn receive(&mut self, bytes: &mut BytesMut) -> Option<Received> {
        if self.closed {
            bytes.clear();
            return None;
        }
        let mut cursor = Cursor::new(&bytes[..]);
        let events = self.core.recv(&mut cursor);
        let taken = usize::try_from(cursor.position()).unwrap_or(usize::MAX).min(bytes.len());
        bytes.advance(taken);
        self.apply(events);
        self.received.take()
    }

    /// The session has taken the frame.
    pub(super) fn accepted(&mut self, packet_id: Option<u16>) {
        if let Some(id) = packet_id {
            self.puback(id, PubackReasonCode::Success);
        }
    }

    /// Whether a frame can go to the device now: it has subscribed, and acknowledges what it got.
    pub(super) fn can_send(&self) -> bool {
        let window = self.core.get_receive_maximum_vacancy_for_send().unwrap_or(SEND_WINDOW);
        !self.closed && self.granted().is_some() && window > 0 && self.unacknowledged < SEND_WINDOW
    }

    /// Whether the device has acknowledged all it was sent.
    pub(super) fn is_settled(&self) -> bool {
        self.unacknowledged == 0
    }

    /// Publishes a frame on the device's `down`.
    pub(super) fn send(&mut self, frame: &[u8]) {
        let qos = self.granted().unwrap_or(Qos::AtLeastOnce);
        let builder = v5_0::Publish::builder().qos(qos).payload(frame);
        let builder = builder.topic_name(topics::down(self.device)).expect("an id makes a topic without wildcards");
        let builder = match qos {
            Qos::AtMostOnce => builder,
            _ => match self.core.acquire_packet_id() {
                Ok(id) => builder.packet_id(id),
                // 65,535 unacknowledged messages; the window stops long before.
                Err(_) => return self.disconnect(DisconnectReasonCode::QuotaExceeded),
            },
        };
        let packet = builder.build().expect("topic, QoS and packet id go together");
        if qos != Qos::AtMostOnce {
            self.unacknowledged += 1;
        }
        let events = self.core.checked_send(packet);
        self.apply(events);
    }

    /// Ends the connection in order.
    pub(super) fn disconnect(&mut self, reason: DisconnectReasonCode) {
        if self.connected && !self.closed {
            let packet = v5_0::Disconnect::builder().reason_code(reason).build().expect("a reason code needs no more");
            let events = self.core.checked_send(packet);
            self.apply(events);
        }
        self.closed = true;
    }

    fn granted(&self) -> Option<Qos> {
        self.subscribed.iter().flatten().copied().max_by_key(|qos| *qos as u8)
    }

    fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    self.output.extend_from_slice(&packet.to_continuous_buffer());
                }
                Event::NotifyPacketReceived(packet) => self.packet(packet),
                Event::NotifyError(error) => {
                    tracing::debug!(device = %self.device, ?error, "MQTT connection ends");
                    if error == MqttError::ProtocolError || error == MqttError::MalformedPacket {
                        self.disconnect(DisconnectReasonCode::ProtocolError);
                    }
                    self.closed = true;
                }
                Event::RequestClose => self.closed = true,
                // Timers: the driver measures silence itself, for peers that ask for no keepalive too.
                Event::NotifyPacketIdReleased(_) | Event::RequestTimerReset { .. } | Event::RequestTimerCancel(_) => {}
            }
        }
    }

    fn packet(&mut self, packet: Packet) {
        if self.closed {
            return;
        }
        match packet {
            Packet::V5_0Connect(connect) if !self.connected => self.connect(&connect),
            _ if !self.connected => self.closed = true,
            Packet::V5_0Publish(publish) => self.publish(&publish),
            Packet::V5_0Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::V5_0Unsubscribe(unsubscribe) => {
                let codes = unsubscribe.entries().iter().map(|filter| self.unsubscribe(filter.as_str())).collect();
                let packet = v5_0::Unsuback::builder().packet_id(unsubscribe.packet_id()).reason_codes(codes).build();
                let events = self.core.checked_send(packet.expect("one code for each entry"));
                self.apply(events);
            }
            Packet::V5_0Puback(_) => self.unacknowledged = self.unacknowledged.saturating_sub(1),
            Packet::V5_0Pingreq(_) => {}
            Packet::V5_0Disconnect(_) => self.closed = true,
            _ => self.disconnect(DisconnectReasonCode::ProtocolError),
        }
    }

    fn connect(&mut self, connect: &v5_0::Connect) {
        let extended = connect.props().iter().any(|p| matches!(p, Property::AuthenticationMethod(_)));
        // A will on the own `up` is what an agent leaves with brokers; here the connection's end is the session's, so it is
        // accepted and not needed. Any other would be denied when nobody is left to be told.
        let refused = match connect.will_topic() {
            _ if extended => Some(ConnectReasonCode::BadAuthenticationMethod),
            Some(topic) if topic != topics::up(self.device) => Some(ConnectReasonCode::NotAuthorized),
            Some(_) if connect.will_retain() => Some(ConnectReasonCode::RetainNotSupported),
            Some(_) if connect.will_qos() == Qos::ExactlyOnce => Some(ConnectReasonCode::QosNotSupported),
            _ => None,
        };
        if let Some(reason) = refused {
            self.connack(reason, Vec::new());
            self.closed = true;
            return;
        }
        let asked = connect.keep_alive();
        let granted = if asked == 0 { MAX_KEEPALIVE_S } else { asked.min(MAX_KEEPALIVE_S) };
        self.keepalive = Duration::from_millis(u64::from(granted) * 1_500);
        let valid = "the value is in the property's range";
        let mut properties: Vec<Property> = vec![
            MaximumQos::new(1).expect(valid).into(),
            RetainAvailable::new(0).expect(valid).into(),
            SharedSubscriptionAvailable::new(0).expect(valid).into(),
            SubscriptionIdentifierAvailable::new(0).expect(valid).into(),
            // The frames' own acknowledgements carry a session over; there is none in MQTT.
            SessionExpiryInterval::new(0).expect(valid).into(),
        ];
        if granted != asked {
            properties.push(ServerKeepAlive::new(granted).expect(valid).into());
        }
        if connect.client_id().is_empty() {
            let id = AssignedClientIdentifier::new(self.device.to_string());
            properties.push(id.expect("an id is a short text").into());
        }
        self.connack(ConnectReasonCode::Success, properties);
        self.connected = true;
    }

    fn connack(&mut self, reason: ConnectReasonCode, properties: Vec<Property>) {
        let packet = v5_0::Connack::builder().session_present(false).reason_code(reason).props(properties).build();
        let events = self.core.checked_send(packet.expect("each property appears once"));
        self.apply(events);
    }

    fn publish(&mut self, publish: &v5_0::Publish) {
        if publish.retain() {
            return self.disconnect(DisconnectReasonCode::RetainNotSupported);
        }
        let allowed = publish.topic_name() == topics::up(self.device);
        match (publish.qos(), publish.packet_id()) {
            (Qos::ExactlyOnce, _) => self.disconnect(DisconnectReasonCode::QosNotSupported),
            (Qos::AtLeastOnce, Some(id)) if !allowed => self.puback(id, PubackReasonCode::NotAuthorized),
            // QoS 0 has no answer that could carry the reason.
            _ if !allowed => self.disconnect(DisconnectReasonCode::NotAuthorized),
            (_, packet_id) => {
                let frame = Bytes::copy_from_slice(publish.payload().as_slice());
                self.received = Some(Received { frame, packet_id });
            }
        }
    }

    fn puback(&mut self, id: u16, reason: PubackReasonCode) {
        if self.closed {
            return;
        }
        let packet = v5_0::Puback::builder().packet_id(id).reason_code(reason).build();
        let events = self.core.checked_send(packet.expect("an id that came is valid"));
        self.apply(events);
    }

    fn subscribe(&mut self, subscribe: &v5_0::Subscribe) {
        if subscribe.props().iter().any(|p| matches!(p, Property::SubscriptionIdentifier(_))) {
            return self.disconnect(DisconnectReasonCode::SubscriptionIdentifiersNotSupported);
        }
        let codes = subscribe.entries().iter().map(|entry| self.subscribe_entry(entry)).collect();
        let packet = v5_0::Suback::builder().packet_id(subscribe.packet_id()).reason_codes(codes).build();
        let events = self.core.checked_send(packet.expect("one code for each entry"));
        self.apply(events);
    }

    fn subscribe_entry(&mut self, entry: &SubEntry) -> SubackReasonCode {
        let filter = entry.topic_filter();
        if filter.starts_with("$share/") {
            return SubackReasonCode::SharedSubscriptionsNotSupported;
        }
        if !topics::may_subscribe(self.device, filter) {
            return SubackReasonCode::NotAuthorized;
        }
        let (qos, code) = match entry.sub_opts().qos() {
            Qos::AtMostOnce => (Qos::AtMostOnce, SubackReasonCode::GrantedQos0),
            _ => (Qos::AtLeastOnce, SubackReasonCode::GrantedQos1),
        };
        self.subscribed[usize::from(filter.ends_with('#'))] = Some(qos);
        code
    }

    fn unsubscribe(&mut self, filter: &str) -> UnsubackReasonCode {
        let held =
            topics::may_subscribe(self.device, filter) && self.subscribed[usize::from(filter.ends_with('#'))].take().is_some();
        // A foreign filter gets the same answer as one that was never subscribed: nothing is learnt.
        if held { UnsubackReasonCode::Success } else { UnsubackReasonCode::NoSubscriptionExisted }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
