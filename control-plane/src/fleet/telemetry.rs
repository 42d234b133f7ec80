//! Telemetry of devices: taking it in, thinning it out for charts, and letting go of what is old.
//!
//! A sample is stored once, whatever the link does; what is acknowledged is on disk. A device can fill its own share only:
//! its samples are bounded by [`Retention`], its lists of metric names by [`MAX_SCHEMAS`], and what is beyond is counted.

use super::ports::TelemetrySink;
use super::telemetry_store::{self as store, Loss};
use super::thinning::Thinner;
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError};
use aidos_protocol::api::telemetry::{MetricView, TelemetryOverview, TelemetryRange, TelemetrySeries};
use aidos_protocol::artifact::Digest;
use aidos_protocol::{DeviceId, TenantId, frame, time::Micros};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use std::collections::HashMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Lists of metric names per device. A list changes when a disk, an interface or a GPU comes or goes; a host that makes
/// interfaces all day goes through some hundred in a month.
const MAX_SCHEMAS: i64 = 256;
/// The longest name of a metric, in bytes: a mount point in it fits, a log line does not.
const MAX_NAME_BYTES: usize = 128;
/// Samples that retention removes in one transaction: a few milliseconds, so that nobody waits for the write lock.
const REMOVE_AT_ONCE: i64 = 2_000;
/// Devices that retention looks at before it asks for the next ones.
const DEVICES_AT_ONCE: i64 = 500;

/// How much telemetry is kept of each device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Samples older than this are removed.
    pub(crate) max_age: Duration,
    /// At most so many samples are kept, the newest.
    pub(crate) max_samples: u32,
    /// How often what is beyond is removed.
    pub(crate) interval: Duration,
}

impl Default for Retention {
    /// 30 days; room for that at one sample in five seconds; looked at each ten minutes.
    fn default() -> Self {
        let max_age = Duration::from_secs(30 * 24 * 3_600);
        Self { max_age, max_samples: 520_000, interval: Duration::from_secs(600) }
    }
}

/// The handle to telemetry.
#[derive(Clone)]
pub(crate) struct Telemetry {
    db: Db,
    clock: Clock,
    retention: Retention,
}

impl Telemetry {
    /// Telemetry in `db`.
    pub(crate) fn new(db: Db, clock: Clock, retention: Retention) -> Self {
        Self { db, clock, retention }
    }

    /// At most `points` points of each of `metrics` between `from` and `to`. A metric that there never was has none. Reads the
    /// samples as they come, so that its memory depends on the points alone.
    pub(crate) async fn range(
        &self,
        tenant: TenantId,
        device: DeviceId,
        metrics: Vec<String>,
        (from, to): (Micros, Micros),
        points: u32,
    ) -> Result<TelemetryRange, StoreError> {
        let mut thinner = Thinner::new(from, to, points, metrics.len());
        // Where each metric stands in each list of names; read first, so that one request never holds two connections.
        let mut places: HashMap<String, Vec<Option<usize>>> = HashMap::new();
        let mut schemas = store::schemas(self.db.pool(), tenant, device);
        while let Some((schema, names)) = schemas.try_next().await? {
            let found = metrics.iter().map(|metric| names.iter().position(|name| name == metric)).collect();
            places.insert(schema, found);
        }
        drop(schemas);
        let mut samples = store::samples(self.db.pool(), tenant, device, from, to);
        while let Some(sample) = samples.try_next().await? {
            // A list that began after `schemas` was read belongs to samples newer than this request.
            for (series, place) in places.get(&sample.schema).into_iter().flatten().enumerate() {
                if let Some(value) = place.and_then(|place| sample.values.get(place)) {
                    thinner.add(series, sample.time, *value);
                }
            }
        }
        drop(samples);
        let bucket_us = thinner.bucket_us();
        let series = metrics.into_iter().zip(thinner.finish());
        let series = series.map(|(metric, points)| TelemetrySeries { metric, points }).collect();
        Ok(TelemetryRange { device, from, to, bucket_us, series })
    }

    /// The metrics there are, their newest readings, and what was lost.
    pub(crate) async fn overview(&self, tenant: TenantId, device: DeviceId) -> Result<TelemetryOverview, StoreError> {
        let pool = self.db.pool();
        let loss = store::loss(pool, tenant, device).await?;
        let newest = store::newest(pool, tenant, device).await?;
        let mut metrics = Vec::new();
        if let Some(sample) = &newest {
            // Retention may have removed the list since the sample was read.
            let names = store::names(pool, tenant, device, &sample.schema).await?.unwrap_or_default();
            let value = |place: usize| sample.values.get(place).copied().filter(|value| value.is_finite());
            metrics.extend(names.into_iter().enumerate().map(|(place, name)| MetricView { name, value: value(place) }));
            metrics.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(TelemetryOverview {
            device,
            first_at: store::oldest_time(pool, tenant, device).await?,
            last_at: newest.map(|sample| sample.time),
            metrics,
            lost_samples: unsigned(loss.samples),
            lost_bytes: unsigned(loss.bytes),
            refused_samples: unsigned(loss.refused),
        })
    }

    /// Removes what is beyond the retention, once. Returns how many samples went.
    pub(crate) async fn retain(&self) -> Result<u64, StoreError> {
        let age = i64::try_from(self.retention.max_age.as_micros()).unwrap_or(i64::MAX);
        let oldest = Micros(self.clock.now().0.saturating_sub(age));
        let mut removed = 0;
        for tenant in store::tenants(self.db.pool()).await? {
            let mut after = None;
            loop {
                let devices = store::devices(self.db.pool(), tenant, after, DEVICES_AT_ONCE).await?;
                for device in &devices {
                    removed += self.retain_device(tenant, *device, oldest).await?;
                }
                after = devices.last().copied();
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(removed)
    }

    async fn retain_device(&self, tenant: TenantId, device: DeviceId, oldest: Micros) -> Result<u64, StoreError> {
        let keep = i64::from(self.retention.max_samples);
        let first = store::first_kept(self.db.pool(), tenant, device, keep).await?.unwrap_or(i64::MIN);
        let mut removed = 0;
        loop {
            let mut tx = self.db.begin().await?;
            let gone = store::remove(&mut tx, tenant, device, oldest, first, REMOVE_AT_ONCE).await?;
            tx.commit().await?;
            removed += gone;
            if gone < REMOVE_AT_ONCE.unsigned_abs() {
                return Ok(removed);
            }
        }
    }

    /// Keeps to the retention until `shutdown`.
    pub(crate) async fn run_retention(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(self.retention.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            match shutdown.run_until_cancelled(self.retain()).await {
                Some(Ok(0)) | None => {}
                Some(Ok(removed)) => tracing::debug!(removed, "removed old telemetry"),
                Some(Err(error)) => tracing::warn!(%error, "old telemetry could not be removed; trying again later"),
            }
        }
    }
}

#[async_trait]
impl TelemetrySink for Telemetry {
    async fn highest(&self, tenant: TenantId, device: DeviceId) -> Result<u64, StoreError> {
        let mut connection = self.db.pool().acquire().await?;
        let highest = store::highest(&mut connection, tenant, device).await?;
        Ok(highest.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0))
    }

    async fn store(&self, tenant: TenantId, device: DeviceId, batch: frame::Telemetry) -> Result<u64, StoreError> {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut loss = Loss { samples: signed(batch.lost_samples), bytes: signed(batch.lost_bytes), refused: 0 };
        let mut tx = self.db.begin().await?;
        let highest = store::highest(&mut tx, tenant, device).await?.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0);
        let mut samples = batch.samples;
        samples.retain(|sample| sample.seq > highest && i64::try_from(sample.seq).is_ok());
        samples.sort_by_key(|sample| sample.seq);
        samples.dedup_by_key(|sample| sample.seq);
        let last = samples.last().map_or(highest, |sample| sample.seq);
        if !samples.is_empty() {
            let names = serde_json::to_string(&batch.names).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            // Half of the digest: it only has to tell one device's lists apart.
            let schema = Digest::of(names.as_bytes()).hex()[..32].to_owned();
            let valid = batch.names.len() <= frame::MAX_METRICS && batch.names.iter().all(|n| n.len() <= MAX_NAME_BYTES);
            if valid && schema_fits(&mut tx, tenant, device, &schema, &names).await? {
                store::insert_samples(&mut tx, tenant, device, &schema, &samples).await?;
            } else {
                // Acknowledged nevertheless: the device would send it for ever, and nothing behind it would arrive.
                loss.refused = i64::try_from(samples.len()).unwrap_or(i64::MAX);
                tracing::warn!(%tenant, %device, samples = loss.refused, "telemetry was not kept: too many or too long metric names");
            }
        }
        store::put_loss(&mut tx, tenant, device, loss, self.clock.now()).await?;
        tx.commit().await?;
        Ok(last)
    }
}

/// Whether `schema` is there, or there was room for it.
async fn schema_fits(
    tx: &mut sqlx::AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    schema: &str,
    names: &str,
) -> Result<bool, StoreError> {
    if store::has_schema(tx, tenant, device, schema).await? {
        return Ok(true);
    }
    if store::count_schemas(tx, tenant, device).await? >= MAX_SCHEMAS {
        store::prune_schemas(tx, tenant, device).await?;
        if store::count_schemas(tx, tenant, device).await? >= MAX_SCHEMAS {
            return Ok(false);
        }
    }
    store::insert_schema(tx, tenant, device, schema, names).await?;
    Ok(true)
}
