//! What this device is made of. Collected once per start; nothing here changes while the agent runs.

use super::Gpus;
use aidos_protocol::inventory::Inventory;
use std::path::Path;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The longest text that is taken from the system: it travels in the device's status.
const MAX_TEXT: usize = 256;

/// Collects the inventory. What the system does not tell stays empty or 0. `data` is the folder with the agent's state.
pub fn collect(data: &Path, gpus: &Gpus, engines: &[&str]) -> Inventory {
    let kinds = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kinds);
    let cpu = system.as_ref().ok().and_then(|system| system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()));
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    let disk = rustix::fs::statvfs(data).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
    Inventory {
        hostname: hostname(),
        os: std::env::consts::OS.to_owned(),
        os_version: text(System::long_os_version().ok()),
        kernel: text(System::kernel_version().ok()),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: text(cpu),
        cores,
        memory_bytes: system.map_or(0, |system| system.total_memory()),
        disk_bytes: disk,
        gpus: gpus.inventory(),
        engines: engines.iter().map(|&engine| engine.to_owned()).collect(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        time_zone: time_zone(),
    }
}

/// Bytes of this device's memory; 0 where the system does not tell.
pub fn memory_bytes() -> u64 {
    let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(kinds).map_or(0, |system| system.total_memory())
}

/// The host's name, `device` where there is none.
pub fn hostname() -> String {
    let name = text(System::host_name().ok());
    if name.is_empty() { "device".to_owned() } else { name }
}

fn text(found: Option<String>) -> String {
    found.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// `TZ`, then where `/etc/localtime` points, then `UTC`.
fn time_zone() -> String {
    let named = std::env::var("TZ").ok().map(|zone| zone.trim_start_matches(':').to_owned()).filter(|zone| !zone.is_empty());
    let linked = || {
        let link = std::fs::read_link("/etc/localtime").ok()?;
        link.to_string_lossy().split_once("zoneinfo/").map(|(_, zone)| zone.to_owned())
    };
    text(Some(named.or_else(linked).unwrap_or_else(|| "UTC".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inventory_names_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = collect(dir.path(), &Gpus::find(), &["tract"]);
        assert_eq!((inventory.os.as_str(), inventory.arch.as_str()), (std::env::consts::OS, std::env::consts::ARCH));
        assert!(inventory.cores > 0 && inventory.memory_bytes > 0 && inventory.disk_bytes > 0);
        assert!(!inventory.hostname.is_empty() && !inventory.time_zone.is_empty());
        assert_eq!(inventory.engines, ["tract"]);
    }
}
