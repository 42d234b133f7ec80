//! End-to-end tests, one file per story, with the real binaries.

#![allow(clippy::unwrap_used)] // an integration test is all test, which clippy does not see

mod backends;
mod bad_input;
mod bundle;
mod cli_errors;
mod deltas;
mod failover;
mod faults;
mod floors;
mod kills;
mod made_models;
mod main_job;
mod offline;
mod real_models;
mod rollouts;
mod selfupdate;
mod signed;
mod sim;
mod snapshots;
mod steering;
mod stories;
mod tenants;
mod tls;
mod top;
mod trust;
mod up_interrupted;
mod updates;
