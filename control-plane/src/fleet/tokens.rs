//! Join tokens.
