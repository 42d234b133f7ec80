//! Numbers about this process in Prometheus' text form. Label values must be few: a route, never a path; never a tenant's or a
//! device's id.

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The media type of [`Metrics::text`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one process; a clone shares them.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Shared>);

struct Shared {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

impl Metrics {
    /// Metrics with this version and the HTTP server's counts.
    pub(crate) fn new() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        // 1 ms to 32 s.
        let seconds = RouteSeconds::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16)));
        let mut registry = Registry::with_prefix("aidos");
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register("http_request_seconds", "Time until the answer's head", seconds.clone());
        let version = [("version".into(), env!("CARGO_PKG_VERSION").into())].into_iter();
        registry.sub_registry_with_labels(version).register("build", "This control plane", ConstGauge::new(1_i64));
        Self(Arc::new(Shared { registry: Mutex::new(registry), requests, seconds }))
    }

    /// Adds a metric; its name gets the prefix `aidos_`, a counter's the suffix `_total`.
    pub(crate) fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric);
    }

    /// Counts one request.
    pub(super) fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        self.0.seconds.get_or_create(&RouteLabels { method: method.clone(), route: route.clone() }).observe(took.as_secs_f64());
        self.0.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// All metrics as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        text
    }
}

type RouteSeconds = Family<RouteLabels, Histogram>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_what_rooms_register_are_in_the_text() {
        let metrics = Metrics::new();
        let devices = prometheus_client::metrics::gauge::Gauge::<i64>::default();
        devices.set(3);
        metrics.register("devices_online", "Devices with a session", devices);
        metrics.request("GET", "/api/v1/devices", 200, Duration::from_millis(3));
        let text = metrics.text();
        assert!(text.contains("aidos_devices_online 3"), "{text}");
        assert!(text.contains("aidos_http_requests_total{method=\"GET\",route=\"/api/v1/devices\",status=\"200\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
