//! The whole control plane in one process.

mod authorisation;
mod plane;
mod running;
mod statements;
