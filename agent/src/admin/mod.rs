//! The local admin socket and the subcommands that speak to it: status, labels, notes, intent, models, logs, doctor.
//!
//! The socket belongs to the agent's user (mode 0600) and answers only that user and root, whom the kernel names
//! (`SO_PEERCRED`); there is no other login, and it never listens on a network. One request and one answer per line, as JSON,
//! so it works while the device is cut off.

mod cli;
mod client;
mod doctor;
mod print;
mod server;
mod user;
mod wire;

pub use cli::Cli;
pub use client::{AdminError, ImportError, call, import_bundle};
pub use doctor::{Finding, Health, Inference, findings};
pub use server::{Agent, SOCKET, listen, serve};
pub use wire::{Answer, LinkView, Request, StatusView};
