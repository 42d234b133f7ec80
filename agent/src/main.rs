//! The agent's binary: parses and runs.
fn main() {}
