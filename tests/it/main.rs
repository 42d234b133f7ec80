//! End-to-end tests, one file per story, with the real binaries.

mod backends;
mod bad_input;
mod failover;
mod floors;
mod main_job;
mod offline;
mod real_models;
mod stories;
mod tenants;
