//! Tenants on both databases.
