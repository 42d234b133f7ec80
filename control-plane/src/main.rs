//! The control plane's binary: parses and runs.
fn main() {}
