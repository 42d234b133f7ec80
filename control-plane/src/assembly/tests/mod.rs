//! The whole control plane in one process.

mod agents;
mod authorisation;
mod document;
mod fleet_of_rollouts;
mod plane;
mod repeated;
mod running;
mod statements;
