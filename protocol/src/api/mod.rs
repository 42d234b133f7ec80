//! REST views: what `/api/v1` says and takes, shared by the control plane, the command line and the tests.

pub mod activity;
pub mod artifacts;
pub mod commands;
pub mod deployments;
pub mod devices;
pub mod events;
pub mod installation;
pub mod keys;
pub mod models;
pub mod overview;
pub mod page;
pub mod problem;
pub mod releases;
pub mod rollouts;
pub mod sessions;
pub mod telemetry;
pub mod tenants;
pub mod tokens;
pub mod trust;

pub use page::Page;
pub use problem::Problem;
