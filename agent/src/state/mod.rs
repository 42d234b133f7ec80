//! What survives a crash: the ledger, the chunk store, the spool of telemetry and the inbox of commands.
//!
//! Nothing here knows the link, the twin or a model; identity files are not kept here either, so that a damaged ledger
//! never costs a device its name. Each module that keeps rows declares its own tables through [`Ledger::declare`].

mod ledger;

pub use ledger::{Ledger, LedgerError, SetAside};
