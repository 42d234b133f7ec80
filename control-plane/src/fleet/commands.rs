//! Commands to devices.
