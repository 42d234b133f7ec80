//! The link to the control plane: two transports, failover between them, and the session on top.

mod ports;

pub use ports::{
    CommandPort, IntentPort, IntentPosition, LinkControl, LinkError, LinkHandle, LinkState, PortError, Ports, SpoolPort,
    StatusPort, StatusPosition, channel,
};
