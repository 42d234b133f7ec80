//! The agent on every device: identity, link, twin, inference, and the state that lets all of it work offline.
//!
//! This crate must never import the control plane; they meet in `aidos-protocol`.

pub mod admin;
pub mod assembly;
pub mod bandwidth;
pub mod bundle;
pub mod clock;
pub mod commands;
pub mod config;
pub mod drain;
mod fault;
pub mod identity;
pub mod infer;
pub mod link;
pub mod models;
pub mod neighbours;
pub mod observe;
pub mod selfupdate;
pub mod serve;
pub mod settings;
pub mod state;
pub mod trust;
pub mod twin;
pub mod update;
