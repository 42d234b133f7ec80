//! Renewal of certificates.
