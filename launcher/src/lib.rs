//! The launcher: the small, stable parent of the agent. It tries a new version and goes back to the one that works.
//!
//! The agent is the child. It stages a new binary and a request ([`Slots::stage`], [`Slots::ask`]) and ends with
//! [`EXIT_SWITCH`]; the launcher moves the binary into the slot that is not in use, counts a start on disk, and starts it. The
//! new version proves itself by saying that it is healthy; a crash, silence, memory growth or a missed deadline bring the
//! version before back. Invariant: the slot of the version that works is never written.
//!
//! This crate must never touch a network, parse anything from one, or know what the agent does. The agent imports its words
//! ([`State`], [`Slots`]); it imports nobody.

mod args;
mod fault;
mod files;
mod machine;
#[cfg(test)]
mod machine_tests;
mod notify;
mod state;
mod supervise;

pub use args::{ArgsError, Options, USAGE};
pub use files::{FilesError, Slots};
pub use machine::{Action, Ending, Event, Fault, Limits, Machine, Run, next};
pub use notify::{HEALTHY, Said};
pub use state::{Held, Outcome, Release, Request, Slot, State, Trial, Verdict};
pub use supervise::{LaunchError, supervise};

/// The agent ends with this status to ask for the staged version.
pub const EXIT_SWITCH: u8 = 85;
/// Environment variable that tells the agent where the slots are; without it no launcher stands behind it.
pub const SLOTS_VARIABLE: &str = "AIDOS_SLOTS";
/// Environment variable with the id of the trial that this start belongs to; absent for the version that works.
pub const TRIAL_VARIABLE: &str = "AIDOS_TRIAL";
