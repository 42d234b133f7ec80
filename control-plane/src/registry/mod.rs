//! The registry: artifacts, models, versions, aliases, releases of the agent, settings for it, and the signed metadata by which devices believe
//! them.
//!
//! Bytes are named by their digest and belong to the tenant that uploaded them; what is registered never changes. This room
//! must never know of devices or deployments: who needs a version says so with a hold.

mod api;
mod artifacts;
mod builds;
mod chunks;
mod deltas;
mod error;
mod grants;
mod inspect;
mod models;
mod range;
mod releases;
mod settings;
mod staging;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod trust;
mod uploads;
mod versions;

pub(crate) use api::{Parts, router};
pub(crate) use artifacts::Artifacts;
pub(crate) use deltas::Held;
pub(crate) use error::RegistryError;
pub(crate) use models::Models;
pub(crate) use releases::Releases;
pub(crate) use settings::AgentSettings;
pub(crate) use trust::{Keys as TrustKeys, Trust};
