//! The fleet's REST resources.
