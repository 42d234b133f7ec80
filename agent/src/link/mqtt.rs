//! The link over MQTT 5 with TLS and the device's certificate: one PUBLISH (QoS 1) per frame on `d/{device}/up` and
//! `d/{device}/down`. For networks that block UDP, and for fleets that have a broker already.
//!
//! Only these two topics, never a wildcard, never a retained message. The session is clean: what matters is sent again by the
//! session itself, so a broker needs to keep nothing. The will is a `Goodbye` on the device's own topic.

use super::endpoint::Endpoint;
use super::transport::{ConnectError, Connection, FrameSink, FrameStream, Lost, Transport};
use crate::identity::Identity;
use aidos_protocol::frame::{self, Body, Goodbye, MAX_FRAME_BYTES};
use async_trait::async_trait;
use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{LastWill, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::{AsyncClient, Broker, ConnectionError, Event, EventLoop, MqttOptions, PublishOptions, TlsConfiguration};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Below the five minutes after which many routers forget a silent TCP connection.
const KEEP_ALIVE_S: u16 = 240;
/// TCP, TLS, CONNECT and SUBSCRIBE take five round trips; from silence on any of them there is nothing to expect.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// Frames on their way without an acknowledgement, each direction; the rest waits at its sender.
const IN_FLIGHT: u16 = 16;
/// Topic and properties beside the frame in one packet.
const PACKET_OVERHEAD: usize = 1024;
/// How long a close waits for the last frames to be acknowledged.
const LINGER: Duration = Duration::from_secs(1);

/// MQTT to the endpoint that the identity knows.
pub struct Mqtt {
    identity: Identity,
}

impl Mqtt {
    /// For the device of `identity`.
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }

    fn options(&self, endpoint: &Endpoint, stream: TcpStream, up: &str) -> Result<MqttOptions, ConnectError> {
        let tls = self.identity.client_tls(&[]).map_err(|e| ConnectError::Failed(e.to_string()))?;
        let goodbye = Body::Goodbye(Goodbye { reason: "connection lost".into(), retry_after_ms: 0 });
        let will = frame::encode(frame::VERSION, goodbye).map_err(|e| ConnectError::Failed(e.to_string()))?;
        let limit = u32::try_from(MAX_FRAME_BYTES + PACKET_OVERHEAD).unwrap_or(u32::MAX);
        let broker = Broker::tcp(endpoint.host.clone(), endpoint.port);
        let mut options = MqttOptions::new(self.identity.device_id().to_string(), broker);
        // The socket is connected here, so that all addresses of a name get their chance and IPv6 literals work.
        let stream = Arc::new(std::sync::Mutex::new(Some(stream)));
        options.set_socket_connector(move |_, _| {
            let stream = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            std::future::ready(stream.ok_or_else(|| std::io::Error::other("a connection is made once")))
        });
        options
            .set_transport(rumqttc::Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))))
            .set_keep_alive(KEEP_ALIVE_S)
            .set_last_will(LastWill::new(up, will.to_vec(), QoS::AtLeastOnce, false, None))
            .set_max_packet_size(Some(limit))
            .set_receive_maximum(Some(IN_FLIGHT))
            .set_outgoing_inflight_upper_limit(IN_FLIGHT);
        Ok(options)
    }
}

#[async_trait]
impl Transport for Mqtt {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let endpoints = self.identity.endpoints();
        let endpoint = Endpoint::parse(&endpoints.mqtt, &endpoints.api_url)?;
        let device = self.identity.device_id();
        let (up, down) = (format!("d/{device}/up"), format!("d/{device}/down"));
        let handshake = async {
            let connect = async |address| TcpStream::connect(address).await.map_err(|e| ConnectError::Failed(e.to_string()));
            let stream = endpoint.race(connect).await?;
            // A frame is one write; waiting for more would only delay it.
            stream.set_nodelay(true).map_err(|e| ConnectError::Failed(e.to_string()))?;
            let options = self.options(&endpoint, stream, &up)?;
            let builder = AsyncClient::builder(options).capacity(usize::from(IN_FLIGHT));
            let (client, mut events) = builder.try_build().map_err(|e| ConnectError::Failed(e.to_string()))?;
            client.subscribe(down.clone(), QoS::AtLeastOnce).await.map_err(|e| ConnectError::Failed(e.to_string()))?;
            subscribed(&mut events).await?;
            Ok((client, events))
        };
        let (client, events) = timeout(HANDSHAKE_TIMEOUT, Box::pin(handshake)).await.map_err(|_| ConnectError::Silent)??;
        let (frames, incoming) = mpsc::channel(usize::from(IN_FLIGHT));
        let pump = AbortOnDropHandle::new(tokio::spawn(pump(events, down, frames)));
        let sink = Sink { client, up, pump: Some(pump) };
        Ok(Connection { sink: Box::new(sink), stream: Box::new(Stream(incoming)), gauge: None })
    }
}

/// Polls until the broker has granted the one subscription.
async fn subscribed(events: &mut EventLoop) -> Result<(), ConnectError> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                return match ack.return_codes.first() {
                    Some(SubscribeReasonCode::Success(_)) => Ok(()),
                    other => Err(ConnectError::Failed(format!("the broker does not let this device subscribe: {other:?}"))),
                };
            }
            Ok(_) => {}
            Err(error) => return Err(ConnectError::Failed(error.to_string())),
        }
    }
}

/// Drives the client: without polling it neither sends nor receives. Ends with the first error, since reconnecting is decided
/// elsewhere; a slow session makes it wait, whereupon the broker stops at [`IN_FLIGHT`].
async fn pump(mut events: EventLoop, down: String, frames: mpsc::Sender<Result<Bytes, Lost>>) {
    let lost = loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) if publish.topic == down.as_bytes() => {
                if publish.payload.len() > MAX_FRAME_BYTES {
                    break Lost(format!("a frame of {} bytes", publish.payload.len()));
                }
                if frames.send(Ok(publish.payload)).await.is_err() {
                    // The session is over. What it said last is still to be delivered.
                    continue;
                }
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => match ack.reason {
                PubAckReason::Success => {}
                PubAckReason::NoMatchingSubscribers => break Lost("no control plane listens at the broker".into()),
                reason => break Lost(format!("the broker does not take this device's frames: {reason:?}")),
            },
            Ok(Event::Incoming(Packet::Disconnect(bye))) => {
                break Lost(format!("the broker disconnected this device: {:?}", bye.reason_code));
            }
            Ok(_) => {}
            Err(ConnectionError::RequestsDone) => return,
            Err(error) => break Lost(error.to_string()),
        }
    };
    let _ = frames.send(Err(lost)).await;
}

struct Sink {
    client: AsyncClient,
    up: String,
    pump: Option<AbortOnDropHandle<()>>,
}

#[async_trait]
impl FrameSink for Sink {
    async fn send(&mut self, frame: Bytes) -> Result<(), Lost> {
        let published = self.client.publish(self.up.clone(), frame, PublishOptions::at_least_once()).await;
        published.map_err(|e| Lost(e.to_string()))
    }

    async fn close(&mut self, _reason: &str) {
        // Behind all publishes; a DISCONNECT makes the broker drop the will.
        if self.client.disconnect_with_timeout(LINGER).await.is_ok()
            && let Some(pump) = self.pump.take()
        {
            let _ = timeout(LINGER * 2, pump).await;
        }
    }
}

struct Stream(mpsc::Receiver<Result<Bytes, Lost>>);

#[async_trait]
impl FrameStream for Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, Lost> {
        self.0.recv().await.transpose()
    }
}

#[cfg(test)]
mod tests;
