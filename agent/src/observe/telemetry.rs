//! How this device fares: one sample of numbers per interval, into the spool.
//!
//! A metric that has no reading is NaN, never left out, so that the names change only when the device does.

use super::Gpus;
use crate::clock;
use crate::state::Spool;
use aidos_protocol::frame::MAX_METRICS;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sysinfo::{
    Components, CpuRefreshKind, MemoryRefreshKind, Networks, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Seconds between two samples, unless intent says otherwise (`telemetry.interval_s`).
pub const DEFAULT_INTERVAL_S: u64 = 10;
/// What intent may ask for: more than once a second wears the battery, less than hourly tells nothing.
pub const INTERVAL_S: std::ops::RangeInclusive<u64> = 1..=3_600;

/// Further metrics, asked at each sample: those of the models.
pub type Extra = Arc<dyn Fn() -> Vec<(String, f64)> + Send + Sync>;

/// Takes samples.
pub struct Sampler {
    system: Option<System>,
    networks: Option<Networks>,
    components: Option<Components>,
    gpus: Gpus,
    data: PathBuf,
    extra: Extra,
    before: Option<(Instant, u64, u64)>,
}

impl Sampler {
    /// Opens the sources. `data` is the folder whose file system is measured.
    pub fn new(data: &Path, gpus: Gpus, extra: Extra) -> Self {
        let kinds = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage());
        Self {
            system: System::new_with_specifics(kinds).ok(),
            networks: Networks::new_with_refreshed_list().ok(),
            components: Components::new_with_refreshed_list().ok(),
            gpus,
            data: data.to_owned(),
            extra,
            before: None,
        }
    }

    /// One sample: names and values, at most [`MAX_METRICS`]. Blocks for as long as the system takes to answer.
    pub fn sample(&mut self) -> Vec<(String, f64)> {
        let mut all: Vec<(String, f64)> = Vec::with_capacity(32);
        let mut add = |name: &str, value: f64| all.push((name.to_owned(), value));
        let load = System::load_average().ok();
        add("load.1m", load.as_ref().map_or(f64::NAN, |load| load.one));
        add("load.5m", load.as_ref().map_or(f64::NAN, |load| load.five));
        add("load.15m", load.as_ref().map_or(f64::NAN, |load| load.fifteen));
        match &mut self.system {
            Some(system) => {
                system.refresh_cpu_usage();
                system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
                add("cpu.percent", f64::from(system.global_cpu_usage()));
                add("memory.used_bytes", system.used_memory() as f64);
                add("memory.available_bytes", system.available_memory() as f64);
                add("agent.rss_bytes", own_memory(system));
            }
            None => ["cpu.percent", "memory.used_bytes", "memory.available_bytes", "agent.rss_bytes"]
                .into_iter()
                .for_each(|name| add(name, f64::NAN)),
        }
        let disk = rustix::fs::statvfs(&self.data).ok();
        let bytes = |blocks: u64| disk.as_ref().map_or(f64::NAN, |disk| blocks.saturating_mul(disk.f_frsize) as f64);
        add("disk.used_bytes", disk.as_ref().map_or(f64::NAN, |disk| bytes(disk.f_blocks.saturating_sub(disk.f_bfree))));
        add("disk.free_bytes", disk.as_ref().map_or(f64::NAN, |disk| bytes(disk.f_bavail)));
        let (received, sent) = self.network_rates();
        add("network.received_bytes_per_s", received);
        add("network.sent_bytes_per_s", sent);
        add("temperature.max_c", self.hottest());
        self.gpus.sample(&mut all);
        all.extend((self.extra)());
        all.truncate(MAX_METRICS);
        all
    }

    fn network_rates(&mut self) -> (f64, f64) {
        let Some(networks) = &mut self.networks else { return (f64::NAN, f64::NAN) };
        networks.refresh(true);
        let total = |pick: fn(&sysinfo::NetworkData) -> u64| {
            let outside = networks.iter().filter(|(name, _)| name.as_os_str() != "lo");
            outside.map(|(_, data)| pick(data)).fold(0u64, u64::saturating_add)
        };
        let now = (Instant::now(), total(sysinfo::NetworkData::total_received), total(sysinfo::NetworkData::total_transmitted));
        let Some(before) = self.before.replace(now) else { return (f64::NAN, f64::NAN) };
        let seconds = now.0.duration_since(before.0).as_secs_f64();
        // An interface that went away takes its total along: no reading rather than a negative one.
        let rate = |now: u64, before: u64| now.checked_sub(before).map_or(f64::NAN, |bytes| bytes as f64 / seconds.max(0.001));
        (rate(now.1, before.1), rate(now.2, before.2))
    }

    fn hottest(&mut self) -> f64 {
        let Some(components) = &mut self.components else { return f64::NAN };
        components.refresh(true);
        let readings = components.iter().filter_map(sysinfo::Component::temperature).filter(|reading| reading.is_finite());
        readings.map(f64::from).reduce(f64::max).unwrap_or(f64::NAN)
    }
}

/// Bytes of this process in memory; `None` where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    let bytes = own_memory(&mut System::new_with_specifics(RefreshKind::nothing()).ok()?);
    bytes.is_finite().then_some(bytes as u64)
}

fn own_memory(system: &mut System) -> f64 {
    let Ok(pid) = sysinfo::get_current_pid() else { return f64::NAN };
    let kinds = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kinds);
    system.process(pid).map_or(f64::NAN, |process| process.memory() as f64)
}

/// Samples into `spool` every `interval` seconds until `cancel`. A spool that cannot write is told once, not at each sample.
pub async fn run(mut sampler: Sampler, spool: Spool, mut interval: watch::Receiver<u64>, cancel: CancellationToken) {
    let mut names: Arc<[String]> = Arc::default();
    let mut failing = false;
    loop {
        let taken = tokio::task::spawn_blocking(move || {
            let sample = sampler.sample();
            (sampler, sample)
        });
        let Ok((back, sample)) = taken.await else {
            tracing::error!("sampling failed; telemetry stops until the agent is restarted");
            return cancel.cancelled().await;
        };
        sampler = back;
        let (found, values): (Vec<String>, Vec<f64>) = sample.into_iter().unzip();
        if names[..] != found[..] {
            names = found.into();
        }
        match spool.push(clock::now(), Arc::clone(&names), values).await {
            Ok(_) => failing = false,
            Err(error) if !failing => {
                tracing::error!(%error, "telemetry cannot be stored; it is kept in memory as far as it fits");
                failing = true;
            }
            Err(_) => {}
        }
        let next = Instant::now();
        loop {
            let seconds = (*interval.borrow_and_update()).clamp(*INTERVAL_S.start(), *INTERVAL_S.end());
            let due = tokio::time::Instant::from_std(next + Duration::from_secs(seconds));
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep_until(due) => break,
                changed = interval.changed() => if changed.is_err() { return cancel.cancelled().await },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Ledger, SpoolLimits};

    #[test]
    fn a_sample_has_the_same_names_each_time_and_true_readings() {
        let dir = tempfile::tempdir().unwrap();
        let extra: Extra = Arc::new(|| vec![("model.digits.requests".to_owned(), 3.0)]);
        let mut sampler = Sampler::new(dir.path(), Gpus::find(), extra);
        let first = sampler.sample();
        std::thread::sleep(Duration::from_millis(20));
        let second = sampler.sample();
        let names = |sample: &[(String, f64)]| sample.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&first), names(&second));
        let value = |name: &str| second.iter().find(|(is, _)| is == name).unwrap().1;
        assert!(value("memory.used_bytes") > 0.0 && value("disk.free_bytes") > 0.0);
        assert!(value("agent.rss_bytes") > 100_000.0 && value("network.received_bytes_per_s") >= 0.0);
        assert_eq!(value("model.digits.requests"), 3.0);
    }

    #[tokio::test]
    async fn a_new_interval_holds_at_once_and_is_kept_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(Ledger::open(dir.path()).unwrap(), SpoolLimits::default()).unwrap();
        let (interval, watched) = watch::channel(3_600);
        let cancel = CancellationToken::new();
        let sampler = Sampler::new(dir.path(), Gpus::find(), Arc::new(Vec::new));
        let task = tokio::spawn(run(sampler, spool.clone(), watched, cancel.clone()));
        let reached = |count: u64| {
            let spool = spool.clone();
            async move {
                while spool.stats().await.waiting < count {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached(1)).await.expect("one sample at once");
        interval.send_replace(0);
        tokio::time::timeout(Duration::from_secs(20), reached(2)).await.expect("0 is taken as the shortest interval");
        assert!(spool.stats().await.waiting < 10);
        cancel.cancel();
        task.await.unwrap();
    }
}
