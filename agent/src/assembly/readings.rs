//! What link, spool and models know of themselves, as metrics of telemetry.
//!
//! The names stay the same while the device does: what has no reading is NaN. Nothing here waits for a component.

use super::ports::Links;
use crate::infer::{ModelInfo, Models, Place};
use crate::link::Traffic;
use crate::observe::telemetry::Extra;
use crate::state::{Spool, SpoolStats};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Models whose versions are told one by one. Two versions with four numbers each and three of a shadow: they fill less than
/// half of a sample.
const VERSIONED: usize = 8;

/// All of them, those of the models last: a sample that is full loses these first.
pub(super) fn all(links: Links, spool: Spool, models: Models) -> Extra {
    let parts = [link(move || links.handle().traffic()), self::spool(move || spool.stats_now()), self::models(models)];
    Arc::new(move || parts.iter().flat_map(|part| part()).collect())
}

/// `link.rtt_ms`, `link.sent_bytes_per_s` and `link.received_bytes_per_s` since the sample before.
fn link(traffic: impl Fn() -> Option<Traffic> + Send + Sync + 'static) -> Extra {
    let before = Mutex::new(None);
    Arc::new(move || {
        let now = traffic().map(|traffic| (Instant::now(), traffic));
        let before = std::mem::replace(&mut *before.lock().unwrap_or_else(PoisonError::into_inner), now);
        let rate = |pick: fn(&Traffic) -> u64| {
            let ((at, is), (since, was)) = now.zip(before)?;
            // A link that was started again counts from zero: no reading rather than a negative one.
            let bytes = pick(&is).checked_sub(pick(&was))?;
            Some(bytes as f64 / at.duration_since(since).as_secs_f64().max(0.001))
        };
        let round_trip = now.and_then(|(_, traffic)| traffic.round_trip).map(|took| took.as_secs_f64() * 1e3);
        let reading = |name: &str, value: Option<f64>| (name.to_owned(), value.unwrap_or(f64::NAN));
        vec![
            reading("link.rtt_ms", round_trip),
            reading("link.sent_bytes_per_s", rate(|traffic| traffic.sent)),
            reading("link.received_bytes_per_s", rate(|traffic| traffic.received)),
        ]
    })
}

/// `spool.waiting_samples` and `spool.waiting_bytes`; the sample that is being taken is not among them.
fn spool(stats: impl Fn() -> Option<SpoolStats> + Send + Sync + 'static) -> Extra {
    Arc::new(move || {
        let stats = stats();
        let reading = |name: &str, pick: fn(&SpoolStats) -> u64| {
            (name.to_owned(), stats.as_ref().map_or(f64::NAN, |stats| pick(stats) as f64))
        };
        vec![reading("spool.waiting_samples", |stats| stats.waiting), reading("spool.waiting_bytes", |stats| stats.bytes)]
    })
}

/// `model.<name>.requests`, `.failures` and `.p90_us` of the active versions; `model.<name>.<version>.requests`, `.errors`,
/// `.p95_us` and `.drift` of each version that is there; while a shadow runs, what it counted.
fn models(models: Models) -> Extra {
    Arc::new(move || {
        let (mut all, list) = (Vec::new(), models.list());
        for info in list.iter().filter(|info| info.place == Place::Active) {
            let Ok(done) = models.statistics_of(&info.name, Some(info.version)) else { continue };
            let stats = &done.inference_stats;
            all.push((format!("model.{}.requests", info.name), stats.success.count as f64));
            all.push((format!("model.{}.failures", info.name), stats.fail.count as f64));
            all.push((format!("model.{}.p90_us", info.name), done.latency.p90_us as f64));
        }
        for info in list.iter().filter(|info| !is_told(info, &list)).take(2 * VERSIONED) {
            let Some(measures) = models.measures(&info.name, info.place) else { continue };
            let name = |what: &str| format!("model.{}.{}.{what}", info.name, info.version);
            all.push((name("requests"), measures.requests as f64));
            all.push((name("errors"), measures.errors as f64));
            all.push((name("p95_us"), measures.p95_us.map_or(f64::NAN, |us| us as f64)));
            all.push((name("drift"), measures.drift.unwrap_or(f64::NAN)));
            if let Some((_, counts)) = models.compared(&info.name).filter(|(version, _)| *version == info.version) {
                all.push((name("shadow_compared"), counts.compared as f64));
                all.push((name("shadow_agreed"), counts.agreed as f64));
                all.push((name("shadow_dropped"), counts.dropped as f64));
            }
        }
        all
    })
}

/// Whether the version that answers has the same number, published again with other bytes: a name is told once.
fn is_told(info: &ModelInfo, list: &[ModelInfo]) -> bool {
    let active = |other: &ModelInfo| other.place == Place::Active && other.name == info.name && other.version == info.version;
    info.place == Place::Beside && list.iter().any(active)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::Settings;
    use crate::state::{Ledger, SpoolLimits};
    use aidos_protocol::ModelName;
    use aidos_protocol::frame::MAX_METRICS;
    use aidos_protocol::manifest::Manifest;
    use aidos_protocol::oip::{InferRequest, Tensor};
    use aidos_protocol::rollout::Experiment;
    use aidos_protocol::time::Micros;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    fn names(extra: &Extra) -> Vec<String> {
        extra().into_iter().map(|(name, _)| name).collect()
    }

    fn value(all: &[(String, f64)], name: &str) -> f64 {
        all.iter().find(|(is, _)| is == name).unwrap_or_else(|| panic!("{name} in {all:?}")).1
    }

    fn digits() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/digits.onnx")
    }

    #[test]
    fn a_link_has_its_names_at_any_time_and_figures_while_it_is_there() {
        let told: Arc<Mutex<Option<Traffic>>> = Arc::default();
        let extra = link({
            let told = Arc::clone(&told);
            move || *told.lock().unwrap()
        });
        let all = ["link.rtt_ms", "link.sent_bytes_per_s", "link.received_bytes_per_s"];
        assert_eq!(names(&extra), all);
        assert!(extra().iter().all(|(_, value)| value.is_nan()), "without a link there is no reading");

        let traffic = Traffic { round_trip: Some(Duration::from_micros(12_500)), sent: 1_000, received: 500 };
        *told.lock().unwrap() = Some(traffic);
        let first = extra();
        assert_eq!(value(&first, all[0]), 12.5);
        assert!(value(&first, all[1]).is_nan(), "a rate needs two readings");
        *told.lock().unwrap() = Some(Traffic { sent: 2_000, ..traffic });
        let second = extra();
        assert!(value(&second, all[1]) > 0.0);
        assert_eq!(value(&second, all[2]), 0.0);
        // The link was started again, and then went away.
        *told.lock().unwrap() = Some(Traffic { round_trip: None, sent: 10, received: 600 });
        let again = extra();
        assert!(value(&again, all[0]).is_nan() && value(&again, all[1]).is_nan() && value(&again, all[2]) > 0.0, "{again:?}");
        *told.lock().unwrap() = None;
        assert_eq!(names(&extra), all);
        assert!(extra().iter().all(|(_, value)| value.is_nan()));
    }

    #[tokio::test]
    async fn what_waits_in_the_spool_is_told_and_unknown_while_the_spool_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(Ledger::open(dir.path()).unwrap(), SpoolLimits::default()).unwrap();
        let extra = self::spool({
            let spool = spool.clone();
            move || spool.stats_now()
        });
        assert_eq!(extra(), [("spool.waiting_samples".to_owned(), 0.0), ("spool.waiting_bytes".to_owned(), 0.0)]);
        for n in 0..3 {
            spool.push(Micros(n), ["cpu".to_owned()].into(), vec![0.5]).await.unwrap();
        }
        let all = extra();
        assert_eq!(value(&all, "spool.waiting_samples"), 3.0);
        assert!(value(&all, "spool.waiting_bytes") >= 3.0 * 8.0, "also what is not on disk yet waits: {all:?}");
        assert!(self::spool(|| None)().iter().all(|(_, value)| value.is_nan()));
    }

    #[tokio::test]
    async fn each_version_is_told_by_its_number_and_a_shadow_with_what_it_counted() {
        let models = Models::new(Settings::default());
        let (name, file): (ModelName, _) = ("digits".parse().unwrap(), digits());
        let extra = self::models(models.clone());
        models.load(&name, 1, &file, Manifest::default()).await.unwrap();
        models.activate(&name, 1).unwrap();
        let active = ["requests", "failures", "p90_us", "1.requests", "1.errors", "1.p95_us", "1.drift"];
        assert_eq!(names(&extra), active.map(|what| format!("model.digits.{what}")));
        let info = models.load(&name, 2, &file, Manifest::default()).await.unwrap();
        models.experiment(&name, Some((2, Experiment::Shadow { percent: 100 })));
        let port = &info.signature.inputs[0];
        let shape: Vec<usize> = port.shape.iter().flatten().map(|dim| dim.unwrap_or(1)).collect();
        let zeros = vec![0.0; shape.iter().product()];
        let request = InferRequest::of(vec![Tensor::fp32(&port.name, shape, &zeros).unwrap()]);
        models.infer(&name, None, request).await.unwrap();
        let all = extra();
        assert_eq!((value(&all, "model.digits.1.requests"), value(&all, "model.digits.1.errors")), (1.0, 0.0));
        assert!(value(&all, "model.digits.1.p95_us") > 0.0);
        let shadow = value(&all, "model.digits.2.shadow_compared") + value(&all, "model.digits.2.shadow_dropped");
        assert!(shadow <= 1.0);
        assert!(value(&all, "model.digits.2.drift").is_nan(), "one answer is too few to tell drift by");
    }

    #[tokio::test]
    async fn no_name_is_told_twice_and_versions_leave_room_for_the_rest_of_a_sample() {
        let models = Models::new(Settings::default());
        let extra = self::models(models.clone());
        for n in 0..2 * VERSIONED {
            let name: ModelName = format!("m{n}").parse().unwrap();
            models.load(&name, 1, &digits(), Manifest::default()).await.unwrap();
            models.activate(&name, 1).unwrap();
            // The same number again with other bytes, for every second one.
            models.load(&name, 1 + n as u64 % 2, &digits(), Manifest::default()).await.unwrap();
        }
        let all = names(&extra);
        let mut once = all.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), all.len(), "{all:?}");
        let versioned = all.iter().filter(|name| name.ends_with(".drift")).count();
        assert_eq!(versioned, 2 * VERSIONED);
        assert!(versioned * 4 + VERSIONED * 3 < MAX_METRICS / 2);
    }
}
