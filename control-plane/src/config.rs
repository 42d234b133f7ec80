//! What can be set, its defaults and its checks.
