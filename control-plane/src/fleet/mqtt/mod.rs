//! The MQTT link.
