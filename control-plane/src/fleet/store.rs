//! Devices, keys and tokens in the database.
