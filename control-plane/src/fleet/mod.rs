//! Devices: enrolment, links, sessions, twins, telemetry, commands.
//!
//! What joins and what is connected is decided here, and only by certificates that this deployment's CA signed: no field of
//! any frame says who a device is. This room must never read another room's tables nor import the registry; what it needs
//! from there comes through [`ports`].

mod announcements;
mod api;
mod attempts;
mod command_request;
mod commands;
mod commands_store;
mod devices;
mod enrol;
mod join_api;
mod listing;
mod listing_store;
mod live;
mod mqtt;
mod peer;
mod ports;
mod quic;
mod refusal;
mod renew;
mod revocations;
mod search_store;
mod selector_sql;
mod session;
mod sessions;
mod store;
mod summary;
mod summary_store;
mod telemetry;
mod telemetry_store;
mod thinning;
mod tokens;
mod tokens_store;
mod twins;
mod twins_merge;
mod twins_port;
mod twins_status;
mod twins_store;
mod views;

#[cfg(test)]
mod commands_tests;
#[cfg(test)]
mod join_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod listing_tests;
#[cfg(test)]
mod raw_link;
#[cfg(test)]
mod telemetry_tests;
#[cfg(test)]
mod test_fleet;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod twins_tests;

pub(crate) use announcements::announce_twins;
pub(crate) use api::{ApiState, router};
pub(crate) use commands::Commands;
pub(crate) use devices::Devices;
pub(crate) use enrol::Enrolment;
pub(crate) use join_api::router as join_router;
pub(crate) use live::Live;
pub(crate) use mqtt::{Broker, BrokerError, BrokerSettings, MqttListener, MqttSettings};
#[cfg(test)]
pub(crate) use ports::TelemetrySink;
pub(crate) use ports::{ArtifactSource, TrustSource, Wish};
pub(crate) use quic::{Quic, QuicSettings};
pub(crate) use renew::Renewal;
pub(crate) use sessions::{SessionPorts, SessionSettings, Sessions};
pub(crate) use store::{DeviceKey, DeviceRow};
pub(crate) use summary::Summary;
pub(crate) use telemetry::{Retention, Telemetry};
pub(crate) use tokens::Tokens;
pub(crate) use twins::{TwinError, Twins, What};
