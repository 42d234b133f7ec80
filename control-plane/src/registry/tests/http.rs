use super::{DIGITS, Registry};
use crate::platform::db::Db;
use crate::platform::testing::{self, both_stores};
use crate::registry::{Held, Parts, router};
use crate::tenants::{Activity, Caller, Tenants};
use aidos_protocol::artifact::Digest;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

both_stores!(
    a_model_is_pushed_over_http,
    bytes_are_fetched_by_range_and_tag,
    a_signed_address_needs_no_key_and_any_other_does,
    problems_name_what_is_wrong,
);

struct Api(Router, Option<Caller>);

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Api {
    fn of(registry: &Registry, caller: Option<&Caller>) -> Self {
        let activity = Activity::new(registry.db.clone(), registry.clock.clone(), testing::events(&registry.clock));
        let tenants = Tenants::new(registry.db.clone(), registry.clock.clone(), activity);
        let parts = Parts {
            models: registry.models.clone(),
            artifacts: registry.artifacts.clone(),
            releases: registry.releases.clone(),
            settings: registry.settings.clone(),
            trust: registry.trust.clone(),
        };
        let (router, _) = router(parts, tenants).split_for_parts();
        Self(router, caller.cloned())
    }
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        if let Some(caller) = &self.1 {
            request.extensions_mut().insert(caller.clone());
        }
        let response = self.0.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 24).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }
    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }
}

async fn a_model_is_pushed_over_http(db: Db) {
    let registry = Registry::on(db).await;
    let api = Api::of(&registry, Some(&registry.alice));
    let (digest, half) = (Digest::of(DIGITS).to_string(), DIGITS.len() / 2);

    assert_eq!(api.post("/api/v1/models", json!({"name": "digits"})).await.status, 201);
    let begun = api.post("/api/v1/uploads", json!({"digest": digest, "size": DIGITS.len()})).await;
    assert_eq!((begun.status, begun.json()["offset"].as_u64()), (StatusCode::CREATED, Some(0)));
    let upload = format!("/api/v1/uploads/{}", begun.json()["id"].as_str().unwrap());
    let sent = api.send("PATCH", &upload, &[("upload-offset", "0")], DIGITS[..half].to_vec()).await;
    assert_eq!((sent.status, sent.header("upload-offset")), (StatusCode::OK, half.to_string().as_str()));
    let wrong = api.send("PATCH", &upload, &[("upload-offset", "0")], DIGITS[..half].to_vec()).await;
    assert_eq!((wrong.status, wrong.header("upload-offset")), (StatusCode::CONFLICT, half.to_string().as_str()));
    assert_eq!(wrong.json()["code"], "wrong_offset");
    assert_eq!(api.send("HEAD", &upload, &[], "").await.header("upload-offset"), half.to_string());
    let early = api.post(&format!("{upload}/complete"), json!({})).await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    api.send("PATCH", &upload, &[("upload-offset", &half.to_string())], DIGITS[half..].to_vec()).await;
    assert_eq!(api.post(&format!("{upload}/complete"), json!({})).await.status, StatusCode::CREATED);
    let again = api.post("/api/v1/uploads", json!({"digest": digest, "size": DIGITS.len()})).await;
    assert_eq!((again.status, &again.json()["done"]), (StatusCode::OK, &json!(true)));

    let version = api.post("/api/v1/models/digits/versions", json!({"digest": digest})).await;
    assert_eq!(version.status, StatusCode::CREATED);
    assert_eq!(api.post("/api/v1/models/digits/versions", json!({"digest": digest})).await.status, StatusCode::OK);
    let alias = [("content-type", "application/json")];
    let put = api.send("PUT", "/api/v1/models/digits/aliases/champion", &alias, r#"{"version": 1}"#).await;
    assert_eq!(put.status, StatusCode::NO_CONTENT);
    let shown = api.send("GET", "/api/v1/models/digits/versions/champion", &[], "").await.json();
    assert_eq!((&shown["version"], &shown["aliases"]), (&json!(1), &json!(["champion"])));
    let etag = api.send("GET", "/api/v1/models/digits", &[], "").await.header("etag").to_owned();
    assert_eq!(etag, "\"3\"", "the version and the alias are changes of the model");
    let listed = api.send("GET", "/api/v1/models?search=DIG", &[], "").await.json();
    assert_eq!(listed["items"][0]["aliases"], json!({"champion": 1}));
    assert_eq!(api.send("DELETE", "/api/v1/models/digits", &[], "").await.status, StatusCode::NO_CONTENT);
}

async fn bytes_are_fetched_by_range_and_tag(db: Db) {
    let registry = Registry::on(db).await;
    let digest = registry.upload(&registry.alice, b"0123456789").await;
    let api = Api::of(&registry, Some(&registry.alice));
    let path = format!("/api/v1/artifacts/{digest}/content");
    let get = async |headers: &[(&str, &str)]| api.send("GET", &path, headers, "").await;

    let whole = get(&[]).await;
    assert_eq!((whole.status, whole.body.as_slice()), (StatusCode::OK, b"0123456789".as_slice()));
    let etag = whole.header("etag").to_owned();
    assert_eq!((etag.as_str(), whole.header("accept-ranges")), (format!("\"{digest}\"").as_str(), "bytes"));
    let part = get(&[("range", "bytes=2-4")]).await;
    assert_eq!((part.status, part.body.as_slice()), (StatusCode::PARTIAL_CONTENT, b"234".as_slice()));
    assert_eq!((part.header("content-range"), part.header("content-length")), ("bytes 2-4/10", "3"));
    assert_eq!(get(&[("range", "bytes=7-"), ("if-range", &etag)]).await.body, b"789");
    assert_eq!(get(&[("range", "bytes=7-"), ("if-range", "\"other\"")]).await.status, StatusCode::OK);
    let outside = get(&[("range", "bytes=10-")]).await;
    assert_eq!((outside.status, outside.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10"));
    assert_eq!(get(&[("if-none-match", &etag)]).await.status, StatusCode::NOT_MODIFIED);
    let head = api.send("HEAD", &path, &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (StatusCode::OK, "10", 0));
    let foreign = Api::of(&registry, Some(&registry.mallory)).send("GET", &path, &[], "").await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
}

async fn a_signed_address_needs_no_key_and_any_other_does(db: Db) {
    let registry = Registry::on(db).await;
    let digest = registry.upload(&registry.alice, b"0123456789").await;
    let url = registry.artifacts.grant(registry.alice.tenant, digest, &Held::default()).await.url;
    let path = url.strip_prefix("http://plane").unwrap();
    let api = Api::of(&registry, None);
    assert_eq!(api.send("GET", path, &[("range", "bytes=8-")], "").await.body, b"89");
    let forged = path.replace("signature=", "signature=A");
    let stranger = path.replace(&registry.alice.tenant.to_string(), &registry.mallory.tenant.to_string());
    for bad in [forged, stranger] {
        assert_eq!(api.send("GET", &bad, &[], "").await.status, StatusCode::FORBIDDEN, "{bad}");
    }
    for (method, path) in [
        ("POST", "/api/v1/uploads".to_owned()),
        ("GET", format!("/api/v1/artifacts/{digest}")),
        ("GET", format!("/api/v1/artifacts/{digest}/content")),
        ("GET", "/api/v1/models".to_owned()),
        ("DELETE", "/api/v1/models/digits".to_owned()),
    ] {
        assert_eq!(api.send(method, &path, &[], "").await.status, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
}

async fn problems_name_what_is_wrong(db: Db) {
    let registry = Registry::on(db).await;
    let api = Api::of(&registry, Some(&registry.alice));
    let created = api.post("/api/v1/models", json!({"name": "digits"})).await;
    assert_eq!(created.header("etag"), "\"1\"");
    let text = registry.upload(&registry.alice, b"only text").await;
    let refused = api.post("/api/v1/models/digits/versions", json!({"digest": text})).await;
    assert_eq!((refused.status, &refused.json()["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("not_a_model")));
    let patch = [("content-type", "application/json"), ("if-match", "\"7\"")];
    let stale = api.send("PATCH", "/api/v1/models/digits", &patch, r#"{"card": "x"}"#).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let fresh = [("content-type", "application/json"), ("if-match", "\"1\"")];
    let edited = api.send("PATCH", "/api/v1/models/digits", &fresh, r#"{"card": "x"}"#).await;
    assert_eq!((edited.status, edited.header("etag")), (StatusCode::OK, "\"2\""));
    for (body, status) in [
        (json!({"name": "../x"}), 422),
        (json!({"name": "x", "labels": {"a b": "c"}}), 422),
        (json!({"name": "x", "card": "c".repeat(70_000)}), 422),
        (json!({"name": "digits"}), 409),
        (json!({"name": "x", "unknown": 1}), 422),
    ] {
        assert_eq!(api.post("/api/v1/models", body.clone()).await.status.as_u16(), status, "{body}");
    }
    let large = api.post("/api/v1/uploads", json!({"digest": Digest::of(b"large"), "size": 5_000_000_000u64})).await;
    assert_eq!((large.status, &large.json()["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large")));
}
