//! The MQTT link, in two forms that devices cannot tell apart: a listener inside this process, and an external broker.
//!
//! One PUBLISH carries one frame: device → `d/{device}/up`, plane → `d/{device}/down`. Who a device is, its certificate
//! says: to the listener directly, to a broker through the broker's rules, which are put to the test before it is used.
//! Nothing here reads a frame's content, but for telling whether a broker's message opens a session.

mod broker;
mod deny;
mod listener;
mod topics;
mod wire;

#[cfg(test)]
mod acl_tests;

pub(crate) use broker::{Broker, BrokerError, BrokerSettings};
pub(crate) use listener::{MqttListener, MqttSettings};

/// Above a frame's limit by what an MQTT packet adds: topic, packet id, properties.
const MAX_PACKET_BYTES: u32 = aidos_protocol::frame::MAX_FRAME_BYTES as u32 + 1_024;
