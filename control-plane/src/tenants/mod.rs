//! Tenants, the keys of their people, what these may do, and the record of what they did.
//!
//! A tenant is the border that nothing crosses: each handler asks for a [`Viewer`], [`Operator`] or [`Owner`], gets the
//! [`Caller`] with its tenant from the key, and passes that tenant to every store function. No request names its own tenant.

mod activity;
mod api;
mod idempotency;
mod idempotency_store;
mod keys;
mod policy;
mod session_api;
mod session_store;
#[cfg(test)]
mod session_tests;
mod sessions;
mod store;
#[expect(clippy::module_inception, reason = "the room and its noun have one name, as in every room")]
mod tenants;
#[cfg(test)]
mod tests;
mod views;

pub(crate) use activity::{Activity, ActivityQuery};
pub(crate) use api::router;
pub(crate) use idempotency::{Idempotency, layer as idempotency_layer};
pub(crate) use policy::{Caller, Operator, Owner, Viewer};
use sessions::Sessions;
pub(crate) use tenants::Tenants;
