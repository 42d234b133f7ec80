//! Devices: enrolment, links, sessions, twins, telemetry, commands.
//!
//! What joins and what is connected is decided here, and only by certificates that this deployment's CA signed: no field of
//! any frame says who a device is. This room must never read another room's tables nor import the registry; what it needs
//! from there comes through [`ports`].

mod api;
mod commands;
mod commands_store;
mod devices;
mod enrol;
mod mqtt;
mod quic;
mod renew;
mod selector_sql;
mod session;
mod sessions;
mod store;
mod telemetry;
mod telemetry_store;
mod tokens;
mod twins;
mod twins_store;
mod views;
