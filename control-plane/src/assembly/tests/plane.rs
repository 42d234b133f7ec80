//! A control plane for tests: all rooms on a fresh SQLite database, asked without a socket.

use super::super::api;
use super::super::endpoints::Endpoints;
use super::super::rooms::{Ground, Rooms};
use crate::platform::db::Db;
use crate::platform::http::Events;
use crate::platform::metrics::Metrics;
use crate::platform::objects::Objects;
use crate::platform::pki::Pki;
use crate::platform::testing::clock;
use aidos_protocol::artifact::Digest;
use aidos_protocol::enrol::EndpointsView;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const DIGITS: &[u8] = include_bytes!("../../../../models/digits/digits.onnx");

/// A control plane and its API.
pub(super) struct Plane {
    pub(super) rooms: Rooms,
    app: Router,
    /// The root tenant's first owner key.
    pub(super) owner: String,
    _folder: tempfile::TempDir,
}

/// What was answered to a request with an Idempotency-Key.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) replayed: bool,
    pub(super) body: Value,
}

/// One of each resource of a tenant, by the names of the parameters in paths.
pub(super) type Names = Vec<(&'static str, String)>;

impl Plane {
    pub(super) async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let clock = clock();
        let ground = Ground {
            db: Db::connect(&Db::sqlite_url(&at("plane.db"))).await.unwrap(),
            pki: Pki::open_or_create(&at("pki"), "home", clock.clone()).unwrap(),
            objects: Objects::local(&at("objects")).unwrap(),
            events: Events::new(clock.clone(), CancellationToken::new()),
            metrics: Metrics::new(),
            staging: at("uploads"),
            keys: at("pki"),
            clock,
        };
        let api_url = "http://127.0.0.1:7070".to_owned();
        let public = EndpointsView { api_url: api_url.clone(), ..EndpointsView::default() };
        let endpoints = Endpoints { local_url: api_url, quic: None, mqtt: None, public };
        let rooms = Rooms::open(ground, &endpoints, CancellationToken::new()).await.unwrap();
        assert!(rooms.tenants.bootstrap(&at("owner.key")).await.unwrap());
        let owner = std::fs::read_to_string(at("owner.key")).unwrap().trim().to_owned();
        let app = api::app(&rooms).unwrap();
        Self { rooms, app, owner, _folder: folder }
    }

    /// Sends a request; the answer's body is read only where it is JSON.
    pub(super) async fn send(&self, method: &str, path: &str, key: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("upload-offset", "0");
        let request = if key.is_empty() { request } else { request.header("authorization", format!("Bearer {key}")) };
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.answer(request.unwrap()).await
    }

    /// Sends a request with an Idempotency-Key.
    pub(super) async fn repeat(&self, method: &str, path: &str, key: &str, idempotency: &str, body: &Value) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
        let request = request.header("content-type", "application/json").header("idempotency-key", idempotency);
        let response = self.app.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 4 << 20).await.unwrap();
        let replayed = parts.headers.contains_key("idempotency-replayed");
        Answer { status: parts.status, replayed, body: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    async fn answer(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let json = response.headers().get("content-type").is_some_and(|kind| kind.to_str().unwrap().contains("json"));
        if !json {
            return (status, Value::Null);
        }
        let bytes = to_bytes(response.into_body(), 4 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn made(&self, path: &str, key: &str, body: Value) -> Value {
        let (status, made) = self.send("POST", path, key, Some(&body)).await;
        assert!(status.is_success(), "POST {path}: {status} {made}");
        made
    }

    /// A key of `owner`'s tenant.
    pub(super) async fn key(&self, owner: &str, role: &str) -> String {
        text(&self.made("/api/v1/keys", owner, json!({ "name": role, "role": role })).await["secret"])
    }

    /// Another tenant's first owner key.
    pub(super) async fn tenant(&self, name: &str) -> String {
        text(&self.made("/api/v1/tenants", &self.owner, json!({ "name": name })).await["owner_key"])
    }

    /// Makes one of each resource in the tenant of `key`, an owner's.
    pub(super) async fn furnish(&self, key: &str) -> Names {
        let (_, me) = self.send("GET", "/api/v1/whoami", key, None).await;
        let (token, device) = self.device(key).await;
        let command = json!({ "kind": "self-test" });
        let command = self.made(&format!("/api/v1/devices/{device}/commands"), key, command).await;
        let digest = self.upload(key, DIGITS).await;
        self.made("/api/v1/models", key, json!({ "name": "digits" })).await;
        self.made("/api/v1/models/digits/versions", key, json!({ "digest": digest })).await;
        let alias = Some(json!({ "version": 1 }));
        let (status, _) = self.send("PUT", "/api/v1/models/digits/aliases/champion", key, alias.as_ref()).await;
        assert_eq!(status, 204);
        let release = json!({ "version": "1", "arch": "x86_64", "digest": digest });
        self.made("/api/v1/agent-releases", key, release).await;
        self.made("/api/v1/agent-settings", key, json!({ "settings": {} })).await;
        let deployment = self.made("/api/v1/deployments", key, json!({ "subject": "digits@1", "selector": "site=lab" })).await;
        let open = json!({ "digest": Digest::of(b"later"), "size": 5 });
        let upload = self.made("/api/v1/uploads", key, open).await;
        let viewer = self.made("/api/v1/keys", key, json!({ "name": "spare", "role": "viewer" })).await;
        vec![
            ("{tenant}", text(&me["tenant"]["id"])),
            ("{key}", text(&viewer["id"])),
            ("/tokens/{id}", format!("/tokens/{token}")),
            ("/deployments/{id}", format!("/deployments/{}", text(&deployment["id"]))),
            ("/rollouts/{id}", format!("/rollouts/{}", text(&deployment["id"]))),
            ("/uploads/{id}", format!("/uploads/{}", text(&upload["id"]))),
            ("{device}", device),
            ("{command}", text(&command["id"])),
            ("{digest}", digest),
            ("{name}", "digits".into()),
            ("{model}", "digits".into()),
            ("{alias}", "champion".into()),
            ("{version}", "1".into()),
        ]
    }

    /// A join token and a device that joined with it.
    pub(super) async fn device(&self, key: &str) -> (String, String) {
        let wish = json!({ "uses": 1, "ttl_s": 600, "labels": { "site": "lab" } });
        let token = self.made("/api/v1/tokens", key, wish).await;
        let device = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&device).unwrap().pem().unwrap();
        let wish = json!({ "token": token["token"], "csr_pem": csr, "name": "device" });
        let joined = self.made("/api/v1/enrol", "", wish).await;
        let listed = self.send("GET", "/api/v1/tokens", key, None).await.1;
        (text(&listed["items"][0]["id"]), text(&joined["device_id"]))
    }

    async fn upload(&self, key: &str, bytes: &'static [u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        let upload = self.made("/api/v1/uploads", key, json!({ "digest": digest, "size": bytes.len() })).await;
        let path = format!("/api/v1/uploads/{}", text(&upload["id"]));
        let chunk = Request::builder().method("PATCH").uri(&path).header("upload-offset", "0");
        let chunk = chunk.header("authorization", format!("Bearer {key}")).body(Body::from(bytes)).unwrap();
        assert_eq!(self.answer(chunk).await.0, 200);
        self.made(&format!("{path}/complete"), key, json!({})).await;
        digest
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
