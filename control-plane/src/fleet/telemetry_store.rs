//! Telemetry in the database.
