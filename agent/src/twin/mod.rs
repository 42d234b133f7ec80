//! The device's side of the twin: the replica of its intent, edits made at the site, and the status that it reports.
//!
//! All of it works without a link. Nothing is acknowledged to the plane before it is in the ledger, and an edit made here stays
//! in the ledger until the plane says that it holds it or why it refuses it.

mod replica;
mod site_edits;
mod status;
#[cfg(test)]
mod tests;
mod voucher;

pub use replica::{Replica, Signer, TwinError};
pub use site_edits::{RefusedEdit, SiteEdit};
pub use status::StatusMap;
pub use voucher::Voucher;
