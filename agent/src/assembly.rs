//! Wires the components together and owns the order of start and shutdown; the one place where they meet.
