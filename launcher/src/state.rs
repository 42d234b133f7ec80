//! What the launcher remembers. It is the only writer of it; the agent reads it to tell the control plane where it stands.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The form of the file; a higher one was written by a launcher of the future.
pub(crate) const FORMAT: u32 = 1;

/// One of the two places for a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// `slots/a`
    A,
    /// `slots/b`
    B,
}

impl Slot {
    /// The one beside it.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A version of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// As people name it; empty for the one that was installed with the launcher.
    #[serde(default)]
    pub version: String,
    /// Counts the fleet's releases; what is below the floor is never started.
    #[serde(default)]
    pub counter: u64,
    /// The floor from the moment on that this release has proved itself.
    #[serde(default)]
    pub floor: u64,
    /// Digest of the binary, for people; the agent has verified it.
    #[serde(default)]
    pub digest: String,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version.as_str() {
            "" => f.write_str("the installed agent"),
            version => write!(f, "agent {version}"),
        }
    }
}

/// What lies in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which version.
    pub release: Release,
    /// Whether it has run and been healthy.
    pub proven: bool,
}

/// What the agent asks for when it ends with [`crate::EXIT_SWITCH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Names this attempt; a request is handled once.
    pub id: String,
    /// The staged version.
    pub release: Release,
}

/// A version on trial, in the slot beside the good one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The request's.
    pub id: String,
    /// Starts so far; counted before each.
    pub starts: u32,
    /// Bytes that the version before took, 0 when unknown.
    #[serde(default)]
    pub memory_before: u64,
    /// What ended its last start; empty while none has ended.
    #[serde(default)]
    pub last_fault: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Verdict {
    /// It is the good one now.
    Good,
    /// It was never started.
    Refused {
        /// Why.
        why: String,
    },
    /// It was started and given up.
    Failed {
        /// Why.
        why: String,
    },
}

/// The last attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The request's id.
    pub id: String,
    /// What was tried.
    pub release: Release,
    /// How it ended.
    pub verdict: Verdict,
}

/// What the launcher knows across its own restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The form of this state; a launcher takes none that is newer than its own.
    pub format: u32,
    /// The slot of the version that works.
    pub good: Slot,
    /// What lies in slot a.
    pub a: Option<Held>,
    /// What lies in slot b.
    pub b: Option<Held>,
    /// The version on trial, in the slot beside `good`.
    pub trial: Option<Trial>,
    /// No version with a lower counter is started. It never sinks.
    pub floor: u64,
    /// The last attempt that has ended.
    pub last: Option<Outcome>,
}

impl State {
    /// Of a device on which `release` was installed into slot a.
    pub fn installed(release: Release) -> Self {
        let held = Held { release, proven: true };
        Self { format: FORMAT, good: Slot::A, a: Some(held), b: None, trial: None, floor: 0, last: None }
    }

    /// What lies in `slot`.
    pub fn held(&self, slot: Slot) -> Option<&Held> {
        match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        }
    }

    pub(crate) fn held_mut(&mut self, slot: Slot) -> &mut Option<Held> {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    /// The version that works.
    pub fn good_release(&self) -> Option<&Release> {
        self.held(self.good).map(|held| &held.release)
    }

    /// The proven version beside it, while no trial has taken its place.
    pub fn previous(&self) -> Option<&Release> {
        self.held(self.good.other()).filter(|held| held.proven).map(|held| &held.release)
    }
}
