//! Who may do what: tenants, API keys, policy, activity.
