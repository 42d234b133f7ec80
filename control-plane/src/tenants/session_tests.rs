//! Sessions of browsers on both databases, through the endpoints.

use super::tests::{Plane, plane};
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt as _;

both_stores!(
    a_session_reads_and_needs_its_token_to_change_anything,
    a_session_ends_with_its_key_unused_and_at_last,
    a_login_link_signs_in_once_and_not_late,
    what_opens_nothing_is_refused_with_advice,
    a_newer_session_ends_the_oldest_of_many,
);

/// A browser: its cookie and its page's token.
#[derive(Clone, Default)]
struct Browser {
    cookie: String,
    csrf: String,
}

impl Browser {
    async fn ask(&self, plane: &Plane, method: &str, path: &str, body: Option<Value>) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path).header(header::COOKIE, format!("other=1; {}", self.cookie));
        if !self.csrf.is_empty() {
            request = request.header("x-csrf-token", &self.csrf);
        }
        let request = match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let (parts, body) = plane.app.clone().oneshot(request.unwrap()).await.unwrap().into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Signs in; what the control plane answered where it refused.
    async fn signed_in(plane: &Plane, with: Value) -> Result<Self, (StatusCode, Value)> {
        let (status, headers, body) = Self::default().ask(plane, "POST", "/api/v1/session", Some(with)).await;
        if status != StatusCode::CREATED {
            return Err((status, body));
        }
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        for word in ["__Host-aidos=", "HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(cookie.contains(word), "{word}: {cookie}");
        }
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Ok(Self { cookie, csrf: body["csrf_token"].as_str().unwrap().to_owned() })
    }

    async fn reads(&self, plane: &Plane) -> StatusCode {
        self.ask(plane, "GET", "/api/v1/whoami", None).await.0
    }
}

async fn owner(plane: &Plane) -> Browser {
    Browser::signed_in(plane, json!({ "api_key": plane.owner })).await.unwrap()
}

async fn a_session_reads_and_needs_its_token_to_change_anything(db: Db) {
    let plane = plane(db).await;
    let browser = owner(&plane).await;
    let (status, _, session) = browser.ask(&plane, "GET", "/api/v1/session", None).await;
    assert_eq!((status, &session["role"], &session["csrf_token"]), (StatusCode::OK, &json!("owner"), &json!(browser.csrf)));
    assert_eq!(browser.reads(&plane).await, StatusCode::OK);

    let wish = || Some(json!({ "name": "more", "role": "viewer" }));
    let forged = [Browser { csrf: String::new(), ..browser.clone() }, Browser { csrf: "0".repeat(64), ..browser.clone() }];
    for other in forged {
        let (status, _, problem) = other.ask(&plane, "POST", "/api/v1/keys", wish()).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(problem["hint"].as_str().unwrap().contains("reload"), "{problem}");
        assert_eq!(other.reads(&plane).await, StatusCode::OK, "reading changes nothing");
    }
    // The token of another session of the same key is none of this one's.
    let second = owner(&plane).await;
    let mixed = Browser { csrf: second.csrf, ..browser.clone() };
    assert_eq!(mixed.ask(&plane, "POST", "/api/v1/keys", wish()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(browser.ask(&plane, "POST", "/api/v1/keys", wish()).await.0, StatusCode::CREATED);

    // It may do what its key may, and signs out for good.
    let viewer = browser.ask(&plane, "POST", "/api/v1/keys", wish()).await.2["secret"].as_str().unwrap().to_owned();
    let viewer = Browser::signed_in(&plane, json!({ "api_key": viewer })).await.unwrap();
    assert_eq!(viewer.ask(&plane, "POST", "/api/v1/keys", wish()).await.0, StatusCode::FORBIDDEN);
    let (status, headers, _) = browser.ask(&plane, "DELETE", "/api/v1/session", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"), "{headers:?}");
    assert_eq!(browser.reads(&plane).await, StatusCode::UNAUTHORIZED);
    assert_eq!(viewer.reads(&plane).await, StatusCode::OK);
}

async fn a_session_ends_with_its_key_unused_and_at_last(db: Db) {
    let plane = plane(db).await;
    let browser = owner(&plane).await;
    let made =
        browser.ask(&plane, "POST", "/api/v1/keys", Some(json!({ "name": "short", "role": "owner", "ttl_s": 7_200 }))).await.2;
    let short = Browser::signed_in(&plane, json!({ "api_key": made["secret"] })).await.unwrap();
    let made = browser.ask(&plane, "POST", "/api/v1/keys", Some(json!({ "name": "gone", "role": "owner" }))).await.2;
    let gone = Browser::signed_in(&plane, json!({ "api_key": made["secret"] })).await.unwrap();
    let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(browser.ask(&plane, "DELETE", &path, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(gone.reads(&plane).await, StatusCode::UNAUTHORIZED, "its key was revoked");
    plane.clock.advance(Duration::from_secs(7_201));
    assert_eq!((short.reads(&plane).await, browser.reads(&plane).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
    // Used every ten hours it lives for a week; unused it does not outlive the night.
    let idle = owner(&plane).await;
    for _ in 0..16 {
        plane.clock.advance(Duration::from_secs(10 * 3_600));
        assert_eq!(browser.reads(&plane).await, StatusCode::OK);
    }
    assert_eq!(idle.reads(&plane).await, StatusCode::UNAUTHORIZED);
    plane.clock.advance(Duration::from_secs(10 * 3_600));
    assert_eq!(browser.reads(&plane).await, StatusCode::UNAUTHORIZED);
}

async fn a_login_link_signs_in_once_and_not_late(db: Db) {
    let plane = plane(db).await;
    let browser = owner(&plane).await;
    let link = async || {
        let (status, _, link) = browser.ask(&plane, "POST", "/api/v1/login-links", None).await;
        assert_eq!(status, StatusCode::CREATED);
        json!({ "code": link["path"].as_str().unwrap().strip_prefix("/sign-in#code=").unwrap() })
    };
    let code = link().await;
    let other = Browser::signed_in(&plane, code.clone()).await.unwrap();
    assert_eq!(other.reads(&plane).await, StatusCode::OK);
    let (status, problem) = Browser::signed_in(&plane, code).await.err().unwrap();
    assert!(status == StatusCode::UNAUTHORIZED && problem["hint"].as_str().unwrap().contains("aidos open"), "{problem}");
    let late = link().await;
    plane.clock.advance(Duration::from_secs(601));
    assert!(Browser::signed_in(&plane, late).await.is_err());
}

async fn what_opens_nothing_is_refused_with_advice(db: Db) {
    let plane = plane(db).await;
    for (with, status) in [
        (json!({}), StatusCode::BAD_REQUEST),
        (json!({ "api_key": "x", "code": "y" }), StatusCode::BAD_REQUEST),
        (json!({ "api_key": "aidos_typo" }), StatusCode::UNAUTHORIZED),
        (json!({ "code": "typo" }), StatusCode::UNAUTHORIZED),
        (json!({ "password": "x" }), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let refused = Browser::signed_in(&plane, with.clone()).await.err().unwrap();
        assert_eq!(refused.0, status, "{with}: {}", refused.1);
    }
    for cookie in ["__Host-aidos=", "__Host-aidos=x", "__Host-aidos=../../../../../../../../../../etc"] {
        let browser = Browser { cookie: cookie.into(), csrf: String::new() };
        assert_eq!(browser.reads(&plane).await, StatusCode::UNAUTHORIZED, "{cookie}");
    }
}

async fn a_newer_session_ends_the_oldest_of_many(db: Db) {
    let plane = plane(db).await;
    let first = owner(&plane).await;
    plane.clock.advance(Duration::from_secs(1));
    let second = owner(&plane).await;
    for _ in 0..49 {
        plane.clock.advance(Duration::from_secs(1));
        owner(&plane).await;
    }
    assert_eq!((first.reads(&plane).await, second.reads(&plane).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
}
