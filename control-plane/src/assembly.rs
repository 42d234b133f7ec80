//! Wires the rooms together and owns the order of start and shutdown; the one place where they meet.
