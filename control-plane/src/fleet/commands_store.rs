//! Commands in the database.
