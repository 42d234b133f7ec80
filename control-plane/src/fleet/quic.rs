//! The QUIC listener.
