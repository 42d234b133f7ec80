//! What the control plane and the agents must agree on: wire frames, ids, the twin, enrolment, artifacts and REST views.
//!
//! This crate is the ground floor. It must never open a socket or a file, read a clock, spawn a task or depend on tokio:
//! whatever needs the time takes it as an argument. It may use randomness only to make new ids and secrets.

pub mod api;
pub mod artifact;
pub mod bundle;
pub mod delta;
pub mod elf;
pub mod enrol;
pub mod frame;
pub mod golden;
mod id;
pub mod inventory;
pub mod label;
pub mod manifest;
pub mod oip;
pub mod rollout;
pub mod selector;
pub mod settings;
mod subject;
pub mod syntax;
pub mod time;
pub mod trust;
pub mod twin;

pub use id::{
    ApiKeyId, ArtifactUploadId, CommandId, DeploymentId, DeviceId, EventId, IdError, ModelName, NameError, TenantId, TokenId,
};
pub use subject::Subject;
