//! The whole control plane in one process.

mod authorisation;
mod plane;
mod repeated;
mod running;
mod statements;
