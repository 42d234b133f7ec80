//! One TUF repository per tenant: what people signed offline is checked and kept, and the control plane signs which of it is
//! current.
//!
//! The control plane holds one key, for snapshot and timestamp. It can withhold or delay what was signed; it can never make a
//! device take something that the tenant's people did not sign, so it holds no key of root or targets and asks for none.

mod access;
mod online;
mod publish;
mod repository;

pub(crate) use repository::{Keys, Trust};
