//! The ground: database, objects, PKI, HTTP habits. Knows no domain.
