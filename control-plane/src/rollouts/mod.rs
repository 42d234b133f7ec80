//! Rollouts: which version of a model, of the agent or of its settings is wanted where, and how far each device has come.
//!
//! A rollout is a deployment that devices are admitted to in waves; the conductor opens a wave when the devices of the one before
//! vouch for the version. A deployment is desired state: a background task compares it with what the devices' intents say and edits the difference,
//! again and again, so that late joiners, changed labels and restarts need no code of their own. Success is only what a
//! device itself reports. This room must never read the tables of the fleet or the registry.

mod api;
mod candidate;
mod conductor;
mod course;
mod deployments;
mod desired;
mod judge;
mod machine;
mod members;
mod outcome;
mod phases;
mod phases_store;
mod ports;
mod readings;
mod readings_api;
mod readings_store;
#[cfg(test)]
mod readings_tests;
mod reconcile;
mod rollout;
mod rollout_api;
mod rollout_store;
#[cfg(test)]
mod rollout_tests;
#[cfg(test)]
mod steer_tests;
mod store;
#[cfg(test)]
mod tests;
mod updates;
mod updates_api;
mod updates_store;
#[cfg(test)]
mod updates_tests;
#[cfg(test)]
mod waves_tests;

pub(crate) use api::router;
pub(crate) use candidate::Offers;
pub(crate) use conductor::Conductor;
pub(crate) use deployments::{DeploymentError, Deployments};
pub(crate) use desired::Desired;
pub(crate) use ports::{Account, Change, DeviceFacts, DevicePage, Fleet, FleetError, Status, Wanted};
pub(crate) use reconcile::Reconciler;
