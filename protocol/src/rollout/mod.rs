//! The words of a rollout that people write and both sides read: waves, gates, maintenance windows, and how a device updates.
//!
//! Pure values with their parsers. Nothing here decides whether a rollout goes on (the control plane's machine does) or when
//! a device may act (the device's machine does); nothing here knows the time or a time zone.

mod constraint;
mod gate;
mod limit;
mod plan;
mod policy;
mod wave;
mod window;

pub use constraint::Constraints;
pub use gate::{Breach, Comparison, Gate, MAX_GATES, Metric, Threshold, Verdict};
pub use limit::Limit;
pub use plan::{MAX_DEADLINE_S, MAX_SOAK_S, Plan, PlanError};
pub use policy::{Experiment, MAX_WATCH_S, PolicyError, UpdatePolicy};
pub use wave::{MAX_WAVES, Share, Waves};
pub use window::{MAX_SPANS, MINUTES_OF_WEEK, Window};
