//! What survives a crash: the ledger, the artifacts, the spool of telemetry and the inbox of commands.
//!
//! Nothing here opens a connection or knows what a model is; identity files are not kept here either, so that a damaged
//! ledger never costs a device its name. Each module that keeps rows declares its own tables through [`Ledger::declare`].

mod chunks;
mod download;
mod inbox;
mod ledger;
mod pins;
mod spool;
mod transfers;

pub(crate) use chunks::free_bytes;
pub use chunks::{ChunkError, Chunks};
pub use download::{Download, Mark};
pub use inbox::{Begin, Inbox};
pub use ledger::{Ledger, LedgerError, SetAside};
pub use pins::Pins;
pub use spool::{Spool, SpoolLimits, SpoolStats};
pub use transfers::Tally;
