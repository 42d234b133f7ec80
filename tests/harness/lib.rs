//! What end-to-end tests share: real processes with captured logs, a control plane and agents in temporary folders, and a link
//! that can be cut. Nothing here may reach beyond loopback or outlive its test.

mod api;
mod binaries;
mod ext4;
mod figures;
mod fleet;
mod intruder;
mod launched;
mod mosquitto;
mod postgres;
mod process;
mod relay;
mod tcp_relay;
mod tmpfs;

pub use api::Api;
pub use binaries::binary;
pub use ext4::Ext4;
pub use figures::Figures;
pub use fleet::{Agent, Bucket, Fleet, FleetOptions, eventually, free_port};
pub use intruder::{Intruder, Over, hello, trespass};
pub use launched::Launched;
pub use mosquitto::Mosquitto;
pub use postgres::Postgres;
pub use process::Process;
pub use relay::UdpRelay;
pub use tcp_relay::TcpRelay;
pub use tmpfs::Tmpfs;
