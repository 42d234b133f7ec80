//! How one model on this device comes from one version to the next without ever being without a whole one.
//!
//! [`machine::step`] decides, [`Journal`] keeps what was decided before it is done, [`judge`] weighs window, power and heat.
//! Nothing here opens a connection, loads a model or asks a clock: `models` does what the machine says and tells it what
//! came of it.

mod conditions;
mod journal;
pub mod machine;
mod record;
mod surroundings;

pub use conditions::{Admission, Conditions, HouseRules, judge};
pub use journal::Journal;
pub(crate) use journal::text;
pub use machine::{Effect, Event, Measured, Trouble, step};
pub use record::{Kept, Memory, Slot, Stage, State, Update, WaitKind};
pub use surroundings::{Here, Surroundings};
