//! `/metrics` in Prometheus' text form: what inference has done, then what the rest of the agent adds.

use super::ServeContext;
use crate::infer::{Models, Place};
use aidos_protocol::oip::views::{Duration, ModelStatistics};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use std::fmt::Write as _;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(models): State<Models>, State(context): State<ServeContext>) -> Response {
    let mut text = String::new();
    inference(&mut text, &models);
    (context.metrics)(&mut text);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// Names and versions need no escaping: a model's name is `[a-z0-9._-]`.
fn inference(text: &mut String, models: &Models) {
    family(text, "aidos_model_active", "gauge", "1 for the version of a model that answers, 0 for one beside it.");
    for info in models.list() {
        let active = u8::from(info.place == Place::Active);
        line(text, "aidos_model_active", &info.name.to_string(), &info.version.to_string(), "", active);
    }
    let statistics = models.statistics();
    let mut each = |name: &str, kind: &str, help: &str, rows: &dyn Fn(&ModelStatistics) -> Vec<(&'static str, f64)>| {
        family(text, name, kind, help);
        for entry in &statistics {
            for (label, value) in rows(entry) {
                line(text, name, &entry.name, &entry.version, label, value);
            }
        }
    };
    each("aidos_inference_requests_total", "counter", "Requests by result.", &|entry| {
        let stats = &entry.inference_stats;
        vec![(r#",result="success""#, stats.success.count as f64), (r#",result="failure""#, stats.fail.count as f64)]
    });
    each("aidos_inference_seconds_total", "counter", "Time of answered requests by phase.", &|entry| {
        let stats = &entry.inference_stats;
        let seconds = |phase: Duration| phase.ns as f64 / 1e9;
        vec![
            (r#",phase="queue""#, seconds(stats.queue)),
            (r#",phase="input""#, seconds(stats.compute_input)),
            (r#",phase="compute""#, seconds(stats.compute_infer)),
            (r#",phase="output""#, seconds(stats.compute_output)),
        ]
    });
    each("aidos_inference_latency_seconds", "gauge", "Quantiles of whole requests since the version was loaded.", &|entry| {
        let seconds = |us: u64| us as f64 / 1e6;
        vec![
            (r#",quantile="0.5""#, seconds(entry.latency.p50_us)),
            (r#",quantile="0.9""#, seconds(entry.latency.p90_us)),
            (r#",quantile="0.99""#, seconds(entry.latency.p99_us)),
        ]
    });
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, model: &str, version: &str, labels: &str, value: impl std::fmt::Display) {
    _ = writeln!(text, r#"{name}{{model="{model}",version="{version}"{labels}}} {value}"#);
}
