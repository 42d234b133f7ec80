//! The sessions that are open.
