//! What end-to-end tests share: real processes with captured logs, a control plane and agents in temporary folders, and a link
//! that can be cut. Nothing here may reach beyond loopback or outlive its test.

mod api;
mod binaries;
mod fleet;
mod launched;
mod mosquitto;
mod process;
mod relay;

pub use api::Api;
pub use binaries::binary;
pub use fleet::{Agent, Bucket, Fleet, FleetOptions, eventually, free_port};
pub use launched::Launched;
pub use mosquitto::Mosquitto;
pub use process::Process;
pub use relay::UdpRelay;
