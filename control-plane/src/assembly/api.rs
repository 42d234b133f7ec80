//! All endpoints in one router, with the layers around them, and the API's TLS.

use super::rooms::Rooms;
use super::{installation, overview, ui};
use crate::config::{ApiSecurity, Config};
use crate::fleet;
use crate::platform::http::{ApiError, layered, openapi};
use crate::platform::pki::{Pki, provider};
use crate::{registry, rollouts, tenants};
use anyhow::Context as _;
use axum::Router;
use axum::middleware;
use axum::routing::get;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::path::Path;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

/// HTTP/2 first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The rooms' endpoints; their document is the whole API.
pub(super) fn endpoints(rooms: &Rooms) -> OpenApiRouter {
    let ground = &rooms.ground;
    let (tenants, activity) = (rooms.tenants.clone(), rooms.activity.clone());
    let fleet_state = fleet::ApiState {
        tenants: tenants.clone(),
        devices: rooms.devices.clone(),
        twins: rooms.twins.clone(),
        commands: rooms.commands.clone(),
        telemetry: rooms.telemetry.clone(),
        clock: ground.clock.clone(),
    };
    let registry = registry::Parts {
        models: rooms.models.clone(),
        artifacts: rooms.artifacts.clone(),
        releases: rooms.releases.clone(),
        settings: rooms.settings.clone(),
        trust: rooms.trust.clone(),
    };
    let (tokens, enrolment, renewal) = (rooms.tokens.clone(), rooms.enrolment.clone(), rooms.renewal.clone());
    OpenApiRouter::new()
        .merge(tenants::router(tenants.clone(), activity, ground.events.clone(), ground.metrics.clone()))
        .merge(fleet::join_router(tenants.clone(), tokens, enrolment, renewal))
        .merge(fleet::router(fleet_state))
        .merge(registry::router(registry, tenants.clone()))
        .merge(rollouts::router(rooms.deployments.clone(), tenants))
        .merge(overview::router(rooms))
        .merge(installation::router(rooms))
}

/// All that is served.
pub(super) fn app(rooms: &Rooms) -> Result<Router, ApiError> {
    let (api, document) = endpoints(rooms).split_for_parts();
    let document = openapi::complete(document);
    let db = rooms.ground.db.clone();
    let ready = move || async move { db.ping().await.map(|()| "ready\n").map_err(ApiError::from) };
    let health = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready));
    let api = api.layer(middleware::from_fn_with_state(rooms.idempotency.clone(), tenants::idempotency_layer));
    Ok(layered(api.merge(health).merge(openapi::router(&document)?).merge(ui::router()), rooms.ground.metrics.clone()))
}

/// TLS as the configuration asks for it; `None` for plain HTTP.
pub(super) fn tls(config: &Config, pki: &Pki) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    Ok(match &config.security {
        ApiSecurity::Plain => None,
        ApiSecurity::Own => Some(Arc::new(pki.server_tls(&config.names, &ALPN, false)?)),
        ApiSecurity::Files { certificate, key } => Some(Arc::new(given(certificate, key)?)),
    })
}

fn given(certificate: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let unreadable = |path: &Path| format!("{} is not a PEM file that holds what it should", path.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| unreadable(certificate))?;
    anyhow::ensure!(!chain.is_empty(), unreadable(certificate));
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config =
        builder.with_no_client_auth().with_single_cert(chain, key).context("--tls-cert and --tls-key do not match")?;
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}
