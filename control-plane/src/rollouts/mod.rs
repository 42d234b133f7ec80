//! Deployments: a desired model version on a selector, and how far each device has come.
