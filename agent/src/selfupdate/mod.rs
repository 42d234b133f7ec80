//! The agent's own update: brings the release that intent asks for, stages it, and hands over to the launcher.
//!
//! ```text
//! intent config/agent.release ─▶ plan ─▶ fetch ─▶ stage ─▶ `--version` ─▶ request ─▶ end with EXIT_SWITCH
//!                                  ▲                                                      │ launcher
//!                                  └── status agent/release ◀── healthy? ◀── new version ─┘
//!                                      health/agent.release, signed
//! ```
//! Invariants. Nothing here writes a slot: the launcher does, and only the one that is not in use. A version on trial stages
//! nothing. An attempt that has ended is not begun again until intent says something else. Without a launcher behind it, the
//! agent never replaces itself.

mod alive;
mod plan;
mod staging;
mod supply;
#[cfg(test)]
mod tests;
mod witness;
mod worker;

pub use alive::{Health, heartbeat, ready};
pub use plan::{Standing, Step, plan};
pub use supply::Supply;
pub use witness::Witness;
pub use worker::{Deed, Desired, SelfUpdate};

use aidos_launcher::{SLOTS_VARIABLE, Slots, TRIAL_VARIABLE};

/// The launcher behind this process, if there is one.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// Its folder.
    pub slots: Slots,
    /// The trial that this process is; `None`: it is the version that works.
    pub trial: Option<String>,
}

impl Launcher {
    /// What the environment says.
    pub fn of_environment() -> Option<Self> {
        let dir = std::env::var_os(SLOTS_VARIABLE).filter(|dir| !dir.is_empty())?;
        let trial = std::env::var(TRIAL_VARIABLE).ok().filter(|id| !id.is_empty());
        Some(Self { slots: Slots::at(dir), trial })
    }

    /// Lets this process end when the launcher is gone: nobody would watch it any more, and the next launcher starts its own.
    pub fn end_with_it(&self) {
        if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)) {
            tracing::warn!(%error, "this agent would outlive its launcher");
        }
    }
}
