//! What can be set on an agent, its defaults and its checks.
