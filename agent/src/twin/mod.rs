//! The device's side of the twin: the intent replica, site edits and the status map.
