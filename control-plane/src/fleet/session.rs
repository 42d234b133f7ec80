//! One session, pure.
