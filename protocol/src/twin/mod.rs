//! The twin of a device: two documents by writer. *Intent* (many writers, automerge) and *status* (one writer, a versioned map).
//!
//! Intent holds what people want: never telemetry, progress, counters or logs, whose history would grow it without bound.

pub mod path;
