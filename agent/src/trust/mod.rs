//! What this device believes of its tenant's update repository: the store of trusted metadata, the time to judge it by, the
//! driver of the verifier in `aidos_protocol::trust`, and the [`Guard`] that whatever installs something asks first.
//!
//! Nothing here installs anything, and nothing asks the wall clock: an installed model runs whatever the time is, and a new
//! one comes in only by metadata that is valid in trusted time. Network, folder and USB stick are [`Source`]s of the same
//! bytes, so that all of them pass the same checks.
//!
//! A device that was never given a root installs what the control plane says, and says so. One that has a root never goes
//! back; only a person who lets the machine join anew begins again.

mod clock;
mod guard;
mod origin;
mod repository;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use clock::{Clock, SharedClock, TrustedClock, built};
pub use guard::{Guard, PlanesWord, Unvouched, Vouch};
pub use origin::Origin;
pub use repository::{Repository, RepositoryError};
pub use source::{Brought, Folder, Http, Nowhere, Source, SourceError};
pub use store::TrustStore;
