//! The Open Inference Protocol v2 over HTTP on localhost; imports `infer`, never the reverse.
//!
//! What Triton's and KServe's clients send works unmodified: metadata, health, JSON and binary inference, statistics and the
//! repository index. Models come by deployment, so loading and unloading over this API is refused.
//!
//! It must never listen beyond loopback on its own account: the listener comes from outside. There is no login; whoever reaches
//! the port may ask the models.

mod error;
mod health;
mod infer;
mod listen;
mod measures;
mod metrics;
mod models;
mod traffic;

pub use listen::run;
pub use traffic::Traffic;

use crate::infer::Models;
use axum::{
    Router,
    extract::{FromRef, Request},
    routing::{get, post},
};
use error::ServeError;
use std::sync::Arc;

/// What this API needs from the rest of the agent.
#[derive(Clone)]
pub struct ServeContext {
    /// Why the agent is not ready to answer, if it is not: models that should be there are still loading, say.
    pub not_ready: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Whether inference requests are taken.
    pub traffic: Traffic,
    /// Appends the rest of the agent's metrics in Prometheus' text form.
    pub metrics: Arc<dyn Fn(&mut String) + Send + Sync>,
}

impl Default for ServeContext {
    /// Always ready, never drained, and no metrics but those of inference.
    fn default() -> Self {
        Self { not_ready: Arc::new(|| None), traffic: Traffic::default(), metrics: Arc::new(|_| ()) }
    }
}

#[derive(Clone, FromRef)]
struct ServeState {
    models: Models,
    context: ServeContext,
    bodies: infer::Bodies,
}

/// All routes, ready for [`run`].
pub fn router(models: Models, context: ServeContext) -> Router {
    let of_model = Router::new()
        .route("/", get(models::metadata))
        .route("/ready", get(models::ready))
        .route("/config", get(models::config))
        .route("/stats", get(models::statistics_of))
        .route("/infer", post(infer::infer))
        .route("/metrics", post(measures::custom));
    Router::new()
        .route("/v2", get(health::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/stats", get(models::statistics))
        .nest("/v2/models/{model}", of_model.clone())
        .nest("/v2/models/{model}/versions/{version}", of_model)
        .route("/v2/repository/index", post(models::repository_index))
        .route("/v2/repository/models/{model}/load", post(models::no_loading))
        .route("/v2/repository/models/{model}/unload", post(models::no_loading))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(|request: Request| async move { ServeError::no_route(request.uri().path()) })
        .method_not_allowed_fallback(|request: Request| async move {
            ServeError::wrong_method(request.method(), request.uri().path())
        })
        .with_state(ServeState { models, context, bodies: infer::Bodies::default() })
}
