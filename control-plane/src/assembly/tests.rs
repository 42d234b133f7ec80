//! The whole control plane in one process.
