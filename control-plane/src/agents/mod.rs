//! What agents should be: which version of themselves they run, and with which settings.
//!
//! Both are sent once to the devices that match at that moment, as reserved settings of their intent, which no site can write.
//! Who did it is in the activity. This room must never decide how fast something spreads: that is for rollouts, and until a
//! rollout does it, a person's selector does.

mod api;
mod send;
mod settings;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use api::router;
pub(crate) use send::Agents;
