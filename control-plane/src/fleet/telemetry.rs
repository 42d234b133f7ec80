//! Telemetry of devices.
