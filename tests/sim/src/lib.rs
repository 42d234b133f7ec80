//! Simulated devices. Each has the agent's own device machine, link, session and identity; what is made up is the hardware: how
//! long a step takes, whether a model loads, what it answers, and whether the device tells the truth.
//!
//! ```text
//! Script (from a seed) ─┐
//! Releases ─────────────┴► Updater: aidos_agent::update::step + a body that acts  (pure, a few KiB)
//!                            ├─ Swarm         real sockets: join over HTTP, QUIC with mTLS, ranged downloads
//!                            └─ VirtualFleet  no socket, no clock: as fast as the machine steps
//! ```
//! Nothing here knows the control plane's insides, and nothing here may make a device do what a real one cannot.

mod device;
mod download;
mod ports;
mod script;
mod sockets;
mod swarm;
mod updater;
mod virtual_fleet;

pub use script::{Lie, Mix, Pace, Quality, Releases, Script, Temper};
pub use sockets::Sockets;
pub use swarm::{Counts, Swarm, SwarmError, SwarmOptions};
pub use updater::{Deed, Happened, Report, Updater};
pub use virtual_fleet::{Told, VirtualFleet};
