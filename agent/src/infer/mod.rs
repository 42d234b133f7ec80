//! Runs models. Knows tensors and engines; it must never know HTTP, the link or where a model came from.
//!
//! Life of a model here: [`Models::load`] puts a version beside the active one, [`Models::activate`] makes it answer, and the version
//! that answered until then stays beside it, ready to return, until the next load. A request holds the version it began with,
//! so that neither a swap nor an unload loses it.
//!
//! Invariants:
//! - A model file is hostile until `aidos_optimizer::onnx::inspect` has passed it; an engine never sees other bytes.
//! - Parsing and running happen on blocking threads, at most [`Settings::parallel`] at a time; a panic in an engine ends one request only.
//! - Every queue, cache and wait has a limit, and what does not fit is refused at once with the time to try again.

mod compute;
mod drift;
mod engine;
mod error;
mod experiment;
mod models;
mod signature;
mod slots;
mod stats;
mod tract;

pub use compute::Settings;
pub use engine::{Engine, Limits, Program, Run, RunError};
pub use error::{InferError, LoadError, NotLoaded};
pub use experiment::Compared;
pub use models::{ModelInfo, Models};
pub use signature::{Port, Signature};
pub use slots::Place;
pub use tract::TractEngine;
