//! The link to the control plane: two transports, failover between them, and the session on top.
