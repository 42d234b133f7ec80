//! The whole control plane in one process.

mod agents;
mod authorisation;
mod document;
mod plane;
mod repeated;
mod running;
mod statements;
