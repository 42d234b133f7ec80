//! The link to the control plane: two transports, failover between them, and the session on top.
//!
//! One loop ([`run`]) holds at most one session at a time. `failover` (pure) decides which transport and when, `session`
//! (pure machine and driver) speaks the protocol, `quic` and `mqtt` only carry frames.

mod backoff;
mod endpoint;
mod failover;
mod meter;
mod mqtt;
mod ports;
mod quic;
mod reach;
mod renew;
mod run;
mod session;
mod transport;

pub use meter::{Gauge, Traffic};
pub use mqtt::Mqtt;
pub use ports::{
    CommandPort, Held, IntentPort, IntentPosition, LinkControl, LinkError, LinkHandle, LinkState, PortError, Ports,
    RevocationPort, SpoolPort, StatusPort, StatusPosition, channel,
};
pub use quic::{Quic, quic_gauge};
pub use reach::{Reached, reach};
pub use renew::keep_certificate_fresh;
pub use run::run;
pub use transport::{ConnectError, Connection, FrameSink, FrameStream, Lost, Transport};

#[cfg(test)]
mod testing;
