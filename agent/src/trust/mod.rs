//! What this device believes of its tenant's update repository: the store of trusted metadata, the time to judge it by, and
//! the driver of the verifier in `aidos_protocol::trust`.
//!
//! Nothing here installs anything, and nothing asks the wall clock: an installed model runs whatever the time is, and a new
//! one comes in only by metadata that is valid in trusted time. Network, folder and USB stick are [`Source`]s of the same
//! bytes, so that all of them pass the same checks.

mod clock;
mod repository;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use clock::{Clock, TrustedClock, built};
pub use repository::{Repository, RepositoryError};
pub use source::{Folder, Http, Source, SourceError};
pub use store::TrustStore;
