//! Twins in the database.
