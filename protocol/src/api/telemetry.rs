//! Telemetry: `/api/v1/devices/{id}/telemetry`, what a device measured, thinned to what a chart can show.

use crate::DeviceId;
use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// Points of each series when the caller does not say.
pub const DEFAULT_POINTS: u32 = 500;
/// The most points of each series: more than a screen has columns.
pub const MAX_POINTS: u32 = 2_000;
/// The most metrics of one request; with [`MAX_POINTS`] it bounds the memory of one.
pub const MAX_SERIES: usize = 16;

/// `GET /api/v1/devices/{id}/telemetry?metric=a,b&from=&to=&points=`, each of them optional. Times are microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TelemetryRange {
    /// The device.
    pub device: DeviceId,
    /// The range's begin, included.
    pub from: Micros,
    /// The range's end, excluded.
    pub to: Micros,
    /// How long one point stands for, in microseconds.
    pub bucket_us: i64,
    /// One per metric, in the order in which they were asked for.
    pub series: Vec<TelemetrySeries>,
}

/// One metric over time. Times without any reading have no point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TelemetrySeries {
    /// The metric.
    pub metric: String,
    /// In the order of time.
    pub points: Vec<TelemetryPoint>,
}

/// What the readings of one bucket come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TelemetryPoint {
    /// The bucket's begin.
    pub at: Micros,
    /// The least reading.
    pub min: f64,
    /// The greatest reading.
    pub max: f64,
    /// The mean of the readings.
    pub avg: f64,
    /// How many readings there are.
    pub count: u64,
}

/// `GET /api/v1/devices/{id}/telemetry/metrics`: what there is, and the newest of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TelemetryOverview {
    /// The device.
    pub device: DeviceId,
    /// When the oldest sample that is kept was taken.
    pub first_at: Option<Micros>,
    /// When the newest sample was taken.
    pub last_at: Option<Micros>,
    /// The metrics of the newest sample, by name.
    pub metrics: Vec<MetricView>,
    /// Samples that the device dropped over its life, since its spool was full.
    pub lost_samples: u64,
    /// Bytes that the device dropped.
    pub lost_bytes: u64,
    /// Samples that came and were not kept, since the device had used up its metric names.
    pub refused_samples: u64,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MetricView {
    /// Its name; the unit is part of it.
    pub name: String,
    /// The newest reading; absent where there was none in the newest sample.
    pub value: Option<f64>,
}
