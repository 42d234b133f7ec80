//! Telemetry on both databases.

use super::ports::TelemetrySink;
use super::test_fleet::Fleet;
use crate::platform::db::Db;
use crate::platform::testing::{START, both_stores};
use aidos_protocol::frame::{MAX_SAMPLES, Sample, Telemetry};
use aidos_protocol::time::Micros;
use std::time::Duration;

both_stores!(
    a_batch_that_comes_twice_is_stored_once,
    a_range_is_thinned_and_lists_of_names_may_change_within_it,
    the_overview_says_what_there_is_and_what_was_lost,
    old_samples_go_and_the_newest_always_stays,
    a_full_batch_fits_and_a_hostile_one_harms_only_its_sender,
    telemetry_of_another_tenant_is_not_seen_nor_touched,
);

fn batch(names: &[&str], samples: &[(u64, i64, &[f64])]) -> Telemetry {
    let sample = |(seq, second, values): &(u64, i64, &[f64])| Sample {
        seq: *seq,
        time_us: START.plus_seconds(*second).0,
        values: values.to_vec(),
    };
    Telemetry {
        names: names.iter().map(ToString::to_string).collect(),
        samples: samples.iter().map(sample).collect(),
        lost_samples: 0,
        lost_bytes: 0,
    }
}

fn hour() -> (Micros, Micros) {
    (START, START.plus_seconds(3_600))
}

async fn a_batch_that_comes_twice_is_stored_once(db: Db) {
    let fleet = Fleet::new(db).await;
    let (tenant, device) = (fleet.ours.tenant, fleet.device(&fleet.ours, "a", &[]).await);
    assert_eq!(fleet.telemetry.highest(tenant, device).await.unwrap(), 0);
    let first = batch(&["cpu"], &[(1, 0, &[1.0]), (2, 1, &[2.0])]);
    for _ in 0..2 {
        assert_eq!(fleet.telemetry.store(tenant, device, first.clone()).await.unwrap(), 2);
    }
    let overlapping = batch(&["cpu"], &[(2, 1, &[9.0]), (3, 2, &[3.0])]);
    assert_eq!(fleet.telemetry.store(tenant, device, overlapping).await.unwrap(), 3);
    assert_eq!(fleet.telemetry.highest(tenant, device).await.unwrap(), 3);
    let range = fleet.telemetry.range(tenant, device, vec!["cpu".into()], hour(), 1).await.unwrap();
    let point = range.series[0].points[0];
    assert_eq!((point.count, point.min, point.max, point.avg), (3, 1.0, 3.0, 2.0));
}

async fn a_range_is_thinned_and_lists_of_names_may_change_within_it(db: Db) {
    let fleet = Fleet::new(db).await;
    let (tenant, device) = (fleet.ours.tenant, fleet.device(&fleet.ours, "a", &[]).await);
    let store = async |batch| fleet.telemetry.store(tenant, device, batch).await.unwrap();
    store(batch(&["cpu", "gpu"], &[(1, 0, &[1.0, 10.0]), (2, 30, &[3.0, f64::NAN])])).await;
    store(batch(&["gpu", "disk", "cpu"], &[(3, 60, &[20.0, 7.0, 5.0]), (4, 61, &[30.0])])).await;
    let metrics = vec!["cpu".to_owned(), "gpu".to_owned(), "never".to_owned()];
    let range = fleet.telemetry.range(tenant, device, metrics, (START, START.plus_seconds(120)), 2).await.unwrap();
    assert_eq!(range.bucket_us, 60_000_000);
    let of =
        |series: usize| -> Vec<(f64, f64, u64)> { range.series[series].points.iter().map(|p| (p.min, p.max, p.count)).collect() };
    assert_eq!(of(0), [(1.0, 3.0, 2), (5.0, 5.0, 1)]);
    assert_eq!(of(1), [(10.0, 10.0, 1), (20.0, 30.0, 2)]);
    assert_eq!(of(2), []);
    assert_eq!(range.series[2].metric, "never");
}

async fn the_overview_says_what_there_is_and_what_was_lost(db: Db) {
    let fleet = Fleet::new(db).await;
    let (tenant, device) = (fleet.ours.tenant, fleet.device(&fleet.ours, "a", &[]).await);
    let empty = fleet.telemetry.overview(tenant, device).await.unwrap();
    assert!(empty.metrics.is_empty() && empty.last_at.is_none());
    let mut lossy = batch(&["mem", "cpu"], &[(5, 0, &[f64::NAN, 1.0]), (6, 9, &[f64::NAN, 2.0])]);
    (lossy.lost_samples, lossy.lost_bytes) = (4, 400);
    fleet.telemetry.store(tenant, device, lossy.clone()).await.unwrap();
    // What is cumulative never shrinks, whatever order frames come in.
    lossy.lost_samples = 3;
    fleet.telemetry.store(tenant, device, lossy).await.unwrap();
    let overview = fleet.telemetry.overview(tenant, device).await.unwrap();
    assert_eq!((overview.lost_samples, overview.lost_bytes, overview.refused_samples), (4, 400, 0));
    assert_eq!((overview.first_at, overview.last_at), (Some(START), Some(START.plus_seconds(9))));
    let metrics: Vec<_> = overview.metrics.iter().map(|m| (m.name.as_str(), m.value)).collect();
    assert_eq!(metrics, [("cpu", Some(2.0)), ("mem", None)]);
}

async fn old_samples_go_and_the_newest_always_stays(db: Db) {
    let fleet = Fleet::new(db).await;
    let (tenant, device) = (fleet.ours.tenant, fleet.device(&fleet.ours, "a", &[]).await);
    let values = [1.0];
    let samples: Vec<(u64, i64, &[f64])> = (1..=150).map(|seq| (seq, seq as i64, &values[..])).collect();
    fleet.telemetry.store(tenant, device, batch(&["cpu"], &samples)).await.unwrap();
    let count = async || {
        let range = fleet.telemetry.range(tenant, device, vec!["cpu".into()], hour(), 1).await.unwrap();
        range.series[0].points.first().map_or(0, |point| point.count)
    };
    assert_eq!(fleet.telemetry.retain().await.unwrap(), 50);
    assert_eq!((count().await, fleet.telemetry.retain().await.unwrap()), (100, 0));
    // An hour is kept.
    fleet.clock.advance(Duration::from_secs(3_600 + 100));
    assert_eq!(fleet.telemetry.retain().await.unwrap(), 49);
    fleet.clock.advance(Duration::from_secs(7_200));
    fleet.telemetry.retain().await.unwrap();
    assert_eq!(count().await, 1);
    assert_eq!(fleet.telemetry.highest(tenant, device).await.unwrap(), 150);
}

async fn a_full_batch_fits_and_a_hostile_one_harms_only_its_sender(db: Db) {
    let fleet = Fleet::new(db).await;
    let (tenant, device) = (fleet.ours.tenant, fleet.device(&fleet.ours, "a", &[]).await);
    let values = [0.5];
    let last = MAX_SAMPLES as u64;
    let samples: Vec<(u64, i64, &[f64])> = (1..=last).map(|seq| (seq, 0, &values[..])).collect();
    assert_eq!(fleet.telemetry.store(tenant, device, batch(&["cpu"], &samples)).await.unwrap(), last);
    // Out of order, twice the same, beyond what can be stored.
    let odd = batch(&["cpu"], &[(u64::MAX, 0, &values), (last + 2, 0, &values), (last + 1, 0, &values), (last + 2, 0, &values)]);
    assert_eq!(fleet.telemetry.store(tenant, device, odd).await.unwrap(), last + 2);
    let long = "n".repeat(129);
    let refused = batch(&[&long], &[(last + 3, 0, &values)]);
    assert_eq!(fleet.telemetry.store(tenant, device, refused).await.unwrap(), last + 3);
    for (seq, list) in (last + 4..).zip(0..260) {
        fleet.telemetry.store(tenant, device, batch(&[&format!("m{list}")], &[(seq, 0, &values)])).await.unwrap();
    }
    // One list was there before: 255 more fit.
    assert_eq!(fleet.telemetry.overview(tenant, device).await.unwrap().refused_samples, 1 + 5);
}

async fn telemetry_of_another_tenant_is_not_seen_nor_touched(db: Db) {
    let fleet = Fleet::new(db).await;
    let (tenant, device) = (fleet.ours.tenant, fleet.device(&fleet.ours, "a", &[]).await);
    fleet.telemetry.store(tenant, device, batch(&["cpu"], &[(1, 0, &[1.0])])).await.unwrap();
    let theirs = fleet.theirs.tenant;
    assert_eq!(fleet.telemetry.highest(theirs, device).await.unwrap(), 0);
    assert!(fleet.telemetry.overview(theirs, device).await.unwrap().metrics.is_empty());
    let range = fleet.telemetry.range(theirs, device, vec!["cpu".into()], hour(), 1).await.unwrap();
    assert!(range.series[0].points.is_empty());
    // A device that is not theirs cannot be written to under their name.
    assert!(fleet.telemetry.store(theirs, device, batch(&["cpu"], &[(9, 0, &[1.0])])).await.is_err());
    assert_eq!(fleet.telemetry.highest(tenant, device).await.unwrap(), 1);
}
