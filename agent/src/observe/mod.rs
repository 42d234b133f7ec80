//! What this device is and how it fares: inventory and telemetry.
