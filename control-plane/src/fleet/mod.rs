//! Devices: enrolment, links, sessions, twins, telemetry, commands.
