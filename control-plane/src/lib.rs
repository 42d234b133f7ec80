//! The control plane: tenants, fleet, registry, rollouts, behind one REST API and two device links.
//!
//! Rooms stand on floors: `platform ← tenants ← {fleet, registry} ← rollouts ← assembly`. A room is entered through the handle
//! its `mod.rs` exports; no room reads another's tables. This crate must never import the agent.

pub mod assembly;
pub mod config;
mod fleet;
mod platform;
mod registry;
mod rollouts;
mod tenants;
