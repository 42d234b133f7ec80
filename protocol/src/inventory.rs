//! What a device is made of, as it reports it in its status under [`crate::twin::path::INVENTORY`].

use serde::{Deserialize, Serialize};

/// Slow-changing facts about a device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Inventory {
    /// The host's name.
    pub hostname: String,
    /// `linux`, …
    pub os: String,
    /// Distribution and version as the system says it.
    pub os_version: String,
    /// Kernel release.
    pub kernel: String,
    /// `x86_64`, `aarch64`, …
    pub arch: String,
    /// Model name of the first processor.
    pub cpu: String,
    /// Logical processors.
    pub cores: u32,
    /// Bytes.
    pub memory_bytes: u64,
    /// Size of the file system that holds the agent's state, in bytes.
    pub disk_bytes: u64,
    /// Accelerators; empty where there are none or no driver is loaded.
    pub gpus: Vec<Gpu>,
    /// Inference engines that this agent has, `tract` always.
    pub engines: Vec<String>,
    /// The agent's version.
    pub agent_version: String,
    /// IANA name or UTC offset, for maintenance windows.
    pub time_zone: String,
}

/// One accelerator.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Gpu {
    /// Product name.
    pub name: String,
    /// Bytes.
    pub memory_bytes: u64,
    /// Driver version.
    pub driver: String,
}
