//! Tenants, keys, activity and idempotency on both databases, through the endpoints.

use super::*;
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError};
use crate::platform::http::layered;
use crate::platform::metrics::Metrics;
use crate::platform::testing::{both_stores, clock, events};
use aidos_protocol::TenantId;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use futures::StreamExt as _;
use serde_json::{Value, json};
use sqlx::Executor as _;
use std::time::Duration;
use tower::ServiceExt as _;

both_stores!(
    the_first_start_makes_one_owner_and_the_second_none,
    a_key_works_until_it_is_revoked_or_expires,
    roles_bound_what_a_key_may_do,
    the_last_lasting_owner_key_stays,
    a_tenant_sees_nothing_of_another,
    activity_is_listed_by_filters_and_pages_and_cannot_be_changed,
    each_entry_of_the_activity_is_an_event,
    a_repeated_request_is_done_once,
    a_repeated_request_for_a_secret_is_done_once_and_not_shown_again,
    an_idempotency_key_belongs_to_one_request_of_one_caller,
);

pub(super) struct Plane {
    pub(super) app: Router,
    db: Db,
    pub(super) clock: Clock,
    tenants: Tenants,
    pub(super) owner: String,
    _folder: tempfile::TempDir,
}

pub(super) async fn plane(db: Db) -> Plane {
    let clock = clock();
    let folder = tempfile::tempdir().unwrap();
    let (events, metrics) = (events(&clock), Metrics::new());
    let activity = Activity::new(db.clone(), clock.clone(), events.clone());
    let tenants = Tenants::new(db.clone(), clock.clone(), activity.clone());
    let key_file = folder.path().join("owner.key");
    assert!(tenants.bootstrap(&key_file).await.unwrap());
    let owner = std::fs::read_to_string(&key_file).unwrap().trim().to_owned();
    let (api, _) = router(tenants.clone(), activity, events, metrics.clone()).split_for_parts();
    let idempotency = Idempotency::new(db.clone(), clock.clone(), tenants.clone());
    let api = api.layer(axum::middleware::from_fn_with_state(idempotency, idempotency_layer));
    Plane { app: layered(api, metrics), db, clock, tenants, owner, _folder: folder }
}

impl Plane {
    async fn send(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<Value>,
        idempotency: Option<&str>,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(key) = idempotency {
            request = request.header("idempotency-key", key);
        }
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let response = self.app.clone().oneshot(request.unwrap()).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    async fn get(&self, path: &str, key: &str) -> (StatusCode, Value) {
        self.send("GET", path, key, None, None).await
    }

    async fn key(&self, owner: &str, role: &str, ttl_s: Option<u64>) -> (String, String) {
        let wish = json!({ "name": role, "role": role, "ttl_s": ttl_s });
        let (status, made) = self.send("POST", "/api/v1/keys", owner, Some(wish), None).await;
        assert_eq!(status, 201, "{made}");
        (made["id"].as_str().unwrap().into(), made["secret"].as_str().unwrap().into())
    }

    async fn tenant(&self, name: &str) -> (String, String) {
        let (status, made) = self.send("POST", "/api/v1/tenants", &self.owner, Some(json!({ "name": name })), None).await;
        assert_eq!(status, 201, "{made}");
        (made["tenant"]["id"].as_str().unwrap().into(), made["owner_key"].as_str().unwrap().into())
    }
}

async fn the_first_start_makes_one_owner_and_the_second_none(db: Db) {
    let plane = plane(db).await;
    let elsewhere = plane._folder.path().join("second.key");
    assert!(!plane.tenants.bootstrap(&elsewhere).await.unwrap());
    assert!(!elsewhere.exists());
    let (status, me) = plane.get("/api/v1/whoami", &plane.owner).await;
    assert_eq!(status, 200);
    assert_eq!((me["role"].as_str(), me["tenant"]["name"].as_str()), (Some("owner"), Some("default")));
    assert_eq!(me["tenant"]["root"], true);
}

async fn a_key_works_until_it_is_revoked_or_expires(db: Db) {
    let plane = plane(db).await;
    let (id, revoked) = plane.key(&plane.owner, "viewer", None).await;
    let (_, short) = plane.key(&plane.owner, "viewer", Some(60)).await;
    for key in [&revoked, &short] {
        assert_eq!(plane.get("/api/v1/whoami", key).await.0, 200);
    }
    let path = format!("/api/v1/keys/{id}");
    assert!(plane.get(&path, &plane.owner).await.1["last_used_at"].is_i64());
    for _ in 0..2 {
        assert_eq!(plane.send("DELETE", &path, &plane.owner, None, None).await.0, 204);
    }
    plane.clock.advance(Duration::from_secs(60));
    for (key, why) in [(revoked.as_str(), "revoked"), (&short, "expired"), ("", "no API key"), ("aidos_x", "not an API key")] {
        let (status, problem) = plane.get("/api/v1/whoami", key).await;
        assert_eq!(status, 401);
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    }
    let unknown = super::keys::KeyText::generate();
    assert_eq!(plane.get("/api/v1/whoami", unknown.reveal()).await.0, 401);
    let (_, listed) = plane.get("/api/v1/keys", &plane.owner).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    assert!(!listed.to_string().contains(&plane.owner[10..]));
}

async fn roles_bound_what_a_key_may_do(db: Db) {
    let plane = plane(db).await;
    for role in ["viewer", "operator"] {
        let (_, key) = plane.key(&plane.owner, role, None).await;
        assert_eq!(plane.get("/api/v1/activity", &key).await.0, 200);
        let (status, problem) = plane.get("/api/v1/keys", &key).await;
        assert_eq!(status, 403);
        assert!(problem["detail"].as_str().unwrap().contains("owner"), "{problem}");
        let (status, _) = plane.send("POST", "/api/v1/tenants", &key, Some(json!({ "name": "x" })), None).await;
        assert_eq!(status, 403);
    }
    for bad in
        [json!({ "name": "", "role": "viewer" }), json!({ "name": "x", "role": "viewer", "ttl_s": 1 }), json!({ "name": "x" })]
    {
        assert_eq!(plane.send("POST", "/api/v1/keys", &plane.owner, Some(bad), None).await.0, 422);
    }
}

async fn the_last_lasting_owner_key_stays(db: Db) {
    let plane = plane(db).await;
    let (_, me) = plane.get("/api/v1/whoami", &plane.owner).await;
    let own = format!("/api/v1/keys/{}", me["key_id"].as_str().unwrap());
    plane.key(&plane.owner, "owner", Some(600)).await;
    let (status, problem) = plane.send("DELETE", &own, &plane.owner, None, None).await;
    assert_eq!(status, 409);
    assert!(problem["hint"].as_str().unwrap().contains("aidos key create"), "{problem}");
    plane.key(&plane.owner, "owner", None).await;
    assert_eq!(plane.send("DELETE", &own, &plane.owner, None, None).await.0, 204);
}

async fn a_tenant_sees_nothing_of_another(db: Db) {
    let plane = plane(db).await;
    let (acme, acme_owner) = plane.tenant("acme").await;
    let (globex, globex_owner) = plane.tenant("globex").await;
    let (status, _) = plane.send("POST", "/api/v1/tenants", &plane.owner, Some(json!({ "name": "acme" })), None).await;
    assert_eq!(status, 409);
    let (key, _) = plane.key(&acme_owner, "viewer", None).await;
    assert_eq!(plane.get(&format!("/api/v1/keys/{key}"), &globex_owner).await.0, 404);
    assert_eq!(plane.send("DELETE", &format!("/api/v1/keys/{key}"), &globex_owner, None, None).await.0, 404);
    assert_eq!(plane.get(&format!("/api/v1/tenants/{acme}"), &globex_owner).await.0, 404);
    assert_eq!(plane.get(&format!("/api/v1/tenants/{globex}"), &globex_owner).await.0, 200);
    assert_eq!(plane.get(&format!("/api/v1/tenants/{acme}"), &plane.owner).await.0, 200);
    assert_eq!(plane.get("/metrics", &globex_owner).await.0, 403);
    let (_, seen) = plane.get("/api/v1/tenants", &globex_owner).await;
    assert_eq!(seen["items"].as_array().unwrap().len(), 1);
    let (_, all) = plane.get("/api/v1/tenants?limit=2", &plane.owner).await;
    let next = format!("/api/v1/tenants?limit=2&cursor={}", all["next_cursor"].as_str().unwrap());
    assert_eq!(plane.get(&next, &plane.owner).await.1["items"][0]["name"], "globex");
    let (_, activity) = plane.get("/api/v1/activity", &globex_owner).await;
    assert!(!activity.to_string().contains(&acme), "{activity}");
    let (status, _) = plane.send("POST", "/api/v1/tenants", &globex_owner, Some(json!({ "name": "sub" })), None).await;
    assert_eq!(status, 403);
}

async fn activity_is_listed_by_filters_and_pages_and_cannot_be_changed(db: Db) {
    let plane = plane(db).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        plane.clock.advance(Duration::from_secs(1));
        ids.push(plane.key(&plane.owner, "viewer", None).await.0);
    }
    let (_, first) = plane.get("/api/v1/activity?action=key.create&limit=2", &plane.owner).await;
    let targets: Vec<&str> = first["items"].as_array().unwrap().iter().map(|item| item["target"].as_str().unwrap()).collect();
    assert_eq!(targets, [&ids[2], &ids[1]]);
    let next = format!("/api/v1/activity?action=key.create&limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    let (_, second) = plane.get(&next, &plane.owner).await;
    assert_eq!(second["items"][0]["target"], ids[0]);
    assert!(second.get("next_cursor").is_none());
    let one = plane.get(&format!("/api/v1/activity?target={}", ids[1]), &plane.owner).await.1;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    let at = one["items"][0]["at"].as_i64().unwrap();
    let until = plane.get(&format!("/api/v1/activity?since={at}&until={}", at + 1), &plane.owner).await.1;
    assert_eq!(until["items"].as_array().unwrap().len(), 1);
    let system = plane.get("/api/v1/activity?actor=system", &plane.owner).await.1;
    assert_eq!(system["items"][0]["action"], "tenant.create");
    for edit in ["UPDATE activity SET actor = 'x'", "DELETE FROM activity"] {
        let error = plane.db.pool().execute(edit).await.unwrap_err();
        assert!(StoreError::from(error).to_string().contains("append-only"));
    }
}

async fn each_entry_of_the_activity_is_an_event(db: Db) {
    let plane = plane(db).await;
    let request =
        Request::get("/api/v1/events?kinds=activity.created").header("authorization", format!("Bearer {}", plane.owner));
    let watched = plane.app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let wish = Some(json!({ "name": "ci", "role": "viewer" }));
    let (_, made) = plane.send("POST", "/api/v1/keys", &plane.owner, wish, None).await;
    let (mut frames, mut text) = (watched.into_body().into_data_stream(), String::new());
    while !text.contains("data:") {
        text.push_str(std::str::from_utf8(&frames.next().await.unwrap().unwrap()).unwrap());
    }
    let event: Value = serde_json::from_str(text.lines().find_map(|line| line.strip_prefix("data:")).unwrap()).unwrap();
    let (_, listed) = plane.get("/api/v1/activity?action=key.create", &plane.owner).await;
    let entry = &listed["items"][0];
    assert_eq!((&event["kind"], &event["resource"]), (&"activity.created".into(), &entry["id"]));
    assert_eq!(event["data"], json!({ "actor": entry["actor"], "action": "key.create", "target": made["id"] }));
}

async fn a_repeated_request_is_done_once(db: Db) {
    let plane = plane(db).await;
    let wish = || Some(json!({ "name": "acme" }));
    let bad = Some(json!({ "name": "Not A Name" }));
    assert_eq!(plane.send("POST", "/api/v1/tenants", &plane.owner, bad, Some("k1")).await.0, 422);
    assert_eq!(plane.send("POST", "/api/v1/tenants", &plane.owner, wish(), Some("k1")).await.0, 201);
    let (_, listed) = plane.get("/api/v1/tenants", &plane.owner).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}

async fn a_repeated_request_for_a_secret_is_done_once_and_not_shown_again(db: Db) {
    let plane = plane(db).await;
    let wish = || Some(json!({ "name": "ci", "role": "viewer" }));
    let (status, made) = plane.send("POST", "/api/v1/keys", &plane.owner, wish(), Some("k")).await;
    assert_eq!(status, 201);
    let (status, again) = plane.send("POST", "/api/v1/keys", &plane.owner, wish(), Some("k")).await;
    assert_eq!(status, 409);
    assert!(!again.to_string().contains(made["secret"].as_str().unwrap()));
    assert_eq!(plane.get("/api/v1/keys", &plane.owner).await.1["items"].as_array().unwrap().len(), 2);
    plane.clock.advance(Duration::from_secs(25 * 3_600));
    let idempotency = Idempotency::new(plane.db.clone(), plane.clock.clone(), plane.tenants.clone());
    assert_eq!(idempotency.sweep().await.unwrap(), 1);
    assert_eq!(plane.send("POST", "/api/v1/keys", &plane.owner, wish(), Some("k")).await.0, 201);
}

async fn an_idempotency_key_belongs_to_one_request_of_one_caller(db: Db) {
    let plane = plane(db).await;
    let wish = |name: &str| Some(json!({ "name": name, "role": "viewer" }));
    assert_eq!(plane.send("POST", "/api/v1/keys", &plane.owner, wish("a"), Some("k")).await.0, 201);
    let (status, problem) = plane.send("POST", "/api/v1/keys", &plane.owner, wish("b"), Some("k")).await;
    assert_eq!((status.as_u16(), problem["field"].as_str()), (422, Some("Idempotency-Key")));
    let (_, other) = plane.tenant("acme").await;
    assert_eq!(plane.send("POST", "/api/v1/keys", &other, wish("b"), Some("k")).await.0, 201);
    assert_eq!(plane.send("POST", "/api/v1/keys", "", wish("b"), Some("k")).await.0, 401);
    assert_eq!(plane.send("POST", "/api/v1/keys", &plane.owner, wish("b"), Some(&"k".repeat(200))).await.0, 422);
}

#[test]
fn a_caller_says_who_it_is() {
    let tenant = TenantId::new(1);
    assert_eq!(Caller::site(tenant, "ana").actor, "site:ana");
    assert_eq!(Caller::system(tenant).actor, "system");
}
