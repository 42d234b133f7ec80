//! Who may call what: every operation of the OpenAPI document is called by everyone who may not.

use super::super::api;
use super::plane::{Names, Plane};
use aidos_protocol::api::keys::Role::{self, Operator, Owner, Viewer};
use aidos_protocol::artifact::Digest;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What needs no key, and why.
const OPEN: &[(&str, &str)] = &[
    ("POST /api/v1/enrol", "a device that joins has only its join token, which is checked instead"),
    ("POST /api/v1/enrol/renew", "a device with an expired certificate proves that it holds the old key"),
    ("POST /api/v1/session", "who signs in shows the key, or a one-time code, in the body"),
    ("GET /api/v1/session", "tells the session of the cookie that came along, and nothing without one"),
    ("DELETE /api/v1/session", "ends the session of the cookie that came along, and nothing without one"),
    ("GET /api/v1/ca.pem", "the CA certificate is public; who fetches it compares it with the pin in a join token"),
    ("GET /api/v1/blobs/{tenant}/{digest}", "the URL itself is signed and expires; devices fetch large files by it"),
    ("GET /api/v1/tuf/{tenant}/{access}/anchor", "devices without a root send no key; the address has an unguessable part"),
    ("GET /api/v1/tuf/{tenant}/{access}/metadata/{file}", "TUF clients send no key; the address has an unguessable part"),
    ("GET /api/v1/tuf/{tenant}/{access}/targets/{*path}", "TUF clients send no key; the address has an unguessable part"),
];

/// What is served beside the document and needs no key, and why.
const OPEN_BESIDE: &[(&str, &str)] = &[
    ("/healthz", "a supervisor asks whether the process lives, and learns nothing else"),
    ("/readyz", "a load balancer asks whether the database answers, and learns nothing else"),
    ("/", "the dashboard's page; the same for everyone"),
    ("/docs/", "the page that shows the document; the same for everyone"),
    ("/api/v1/openapi.json", "the document; the same for everyone"),
];

/// Endpoints without an authorisation test. This list may only shrink, and it is empty.
const UNTESTED: &[&str] = &[];

/// Each operation that needs a key, the least role that may call it, and a body where it takes one.
fn operations() -> Vec<(&'static str, Role, Option<Value>)> {
    let digest = Digest::of(b"another");
    vec![
        ("GET /api/v1/whoami", Viewer, None),
        ("POST /api/v1/login-links", Viewer, None),
        ("GET /metrics", Viewer, None),
        ("GET /api/v1/events", Viewer, None),
        ("GET /api/v1/overview", Viewer, None),
        ("GET /api/v1/installation", Owner, None),
        ("GET /api/v1/activity", Viewer, None),
        ("GET /api/v1/tenants", Viewer, None),
        ("POST /api/v1/tenants", Owner, Some(json!({ "name": "more" }))),
        ("GET /api/v1/tenants/{tenant}", Viewer, None),
        ("GET /api/v1/keys", Owner, None),
        ("POST /api/v1/keys", Owner, Some(json!({ "name": "more", "role": "viewer" }))),
        ("GET /api/v1/keys/{key}", Owner, None),
        ("DELETE /api/v1/keys/{key}", Owner, None),
        ("GET /api/v1/tokens", Viewer, None),
        ("POST /api/v1/tokens", Operator, Some(json!({}))),
        ("DELETE /api/v1/tokens/{id}", Operator, None),
        ("GET /api/v1/devices", Viewer, None),
        ("GET /api/v1/devices/{device}", Viewer, None),
        ("PATCH /api/v1/devices/{device}", Operator, Some(json!({ "name": "renamed" }))),
        ("GET /api/v1/devices/{device}/twin", Viewer, None),
        ("GET /api/v1/devices/{device}/config", Viewer, None),
        ("PUT /api/v1/devices/{device}/config", Operator, Some(json!({}))),
        ("PATCH /api/v1/devices/{device}/config", Operator, Some(json!({}))),
        ("GET /api/v1/devices/{device}/telemetry", Viewer, None),
        ("GET /api/v1/devices/{device}/telemetry/metrics", Viewer, None),
        ("GET /api/v1/devices/{device}/updates", Viewer, None),
        ("GET /api/v1/devices/{device}/commands", Viewer, None),
        ("POST /api/v1/devices/{device}/commands", Operator, Some(json!({ "kind": "self-test" }))),
        ("GET /api/v1/devices/{device}/commands/{command}", Viewer, None),
        ("GET /api/v1/devices/{device}/commands/{command}/result", Viewer, None),
        ("DELETE /api/v1/devices/{device}/commands/{command}", Operator, None),
        ("POST /api/v1/devices/{device}/infer/{model}", Operator, Some(json!({ "inputs": [] }))),
        ("POST /api/v1/devices/{device}/revoke", Operator, None),
        ("DELETE /api/v1/devices/{device}", Operator, None),
        ("GET /api/v1/models", Viewer, None),
        ("POST /api/v1/models", Operator, Some(json!({ "name": "more" }))),
        ("GET /api/v1/models/{name}", Viewer, None),
        ("PATCH /api/v1/models/{name}", Operator, Some(json!({ "description": "edited" }))),
        ("GET /api/v1/models/{name}/versions", Viewer, None),
        ("POST /api/v1/models/{name}/versions", Operator, Some(json!({ "digest": digest }))),
        ("GET /api/v1/models/{name}/versions/{version}", Viewer, None),
        ("PUT /api/v1/models/{name}/aliases/{alias}", Operator, Some(json!({ "version": 1 }))),
        ("DELETE /api/v1/models/{name}/aliases/{alias}", Operator, None),
        ("DELETE /api/v1/models/{name}", Operator, None),
        ("POST /api/v1/uploads", Operator, Some(json!({ "digest": digest, "size": 7 }))),
        ("GET /api/v1/uploads/{id}", Viewer, None),
        ("PATCH /api/v1/uploads/{id}", Operator, None),
        ("POST /api/v1/uploads/{id}/complete", Operator, None),
        ("DELETE /api/v1/uploads/{id}", Operator, None),
        ("GET /api/v1/artifacts/{digest}", Viewer, None),
        ("GET /api/v1/artifacts/{digest}/content", Viewer, None),
        ("GET /api/v1/agent-releases", Viewer, None),
        ("POST /api/v1/agent-releases", Operator, Some(json!({ "version": "2", "arch": "x86_64", "digest": digest }))),
        ("GET /api/v1/agent-settings", Viewer, None),
        ("POST /api/v1/agent-settings", Operator, Some(json!({ "settings": { "log": { "level": "debug" } } }))),
        ("GET /api/v1/agent-settings/{version}", Viewer, None),
        ("GET /api/v1/trust", Viewer, None),
        ("PUT /api/v1/trust", Operator, Some(json!({ "files": [] }))),
        ("GET /api/v1/deployments", Viewer, None),
        ("POST /api/v1/deployments", Operator, Some(json!({ "subject": "digits@1", "selector": "site=lab" }))),
        ("GET /api/v1/deployments/{id}", Viewer, None),
        ("GET /api/v1/deployments/{id}/devices", Viewer, None),
        ("GET /api/v1/rollouts", Viewer, None),
        ("POST /api/v1/rollouts", Operator, Some(json!({ "subject": "digits@1", "selector": "site=lab" }))),
        ("GET /api/v1/rollouts/{id}", Viewer, None),
        ("GET /api/v1/rollouts/{id}/devices", Viewer, None),
        ("GET /api/v1/rollouts/{id}/cells", Viewer, None),
        ("GET /api/v1/rollouts/{id}/gates", Viewer, None),
        ("GET /api/v1/rollouts/{id}/history", Viewer, None),
        ("POST /api/v1/rollouts/{id}/pause", Operator, Some(json!({}))),
        ("POST /api/v1/rollouts/{id}/resume", Operator, Some(json!({}))),
        ("POST /api/v1/rollouts/{id}/promote", Operator, Some(json!({}))),
        ("POST /api/v1/rollouts/{id}/abort", Operator, Some(json!({}))),
        ("POST /api/v1/rollouts/{id}/undo", Operator, Some(json!({}))),
        ("DELETE /api/v1/deployments/{id}", Operator, None),
    ]
}

/// `GET /path` of all operations in the document, those that need no key apart.
fn documented(plane: &Plane) -> (BTreeSet<String>, BTreeSet<String>) {
    let (_, document) = api::endpoints(&plane.rooms).split_for_parts();
    let document = serde_json::to_value(crate::platform::http::openapi::complete(document)).unwrap();
    let (mut keyed, mut open) = (BTreeSet::new(), BTreeSet::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(security) = operation["security"].as_array() else { panic!("{method} {path} has no security") };
            let list = if security.iter().any(|one| one.get("api_key").is_some()) { &mut keyed } else { &mut open };
            list.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    (keyed, open)
}

#[tokio::test]
async fn each_operation_has_a_name_of_its_own_a_summary_and_a_tag() {
    let plane = Plane::new().await;
    let document = api::endpoints(&plane.rooms).split_for_parts().1;
    let document = serde_json::to_value(crate::platform::http::openapi::complete(document)).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('_'), "{method} {path}: {name}");
            assert!(names.insert(name.to_owned()), "{method} {path}: {name} is taken");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{method} {path}");
        }
    }
}

fn filled(operation: &str, names: &Names) -> (String, String) {
    let (method, path) = operation.split_once(' ').unwrap();
    let path = names.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    assert!(!path.contains('{'), "{operation} has a parameter that the test does not know");
    let query = if path.ends_with("/telemetry") { "?metric=cpu" } else { "" };
    (method.to_owned(), format!("{path}{query}"))
}

#[tokio::test]
async fn every_operation_is_in_the_table_and_the_open_ones_have_a_reason() {
    let plane = Plane::new().await;
    let (keyed, open) = documented(&plane);
    let table: BTreeSet<String> = operations().into_iter().map(|(operation, ..)| operation.to_owned()).collect();
    let untested: BTreeSet<String> = UNTESTED.iter().map(|operation| (*operation).to_owned()).collect();
    let missing: Vec<_> = keyed.iter().filter(|one| !table.contains(*one) && !untested.contains(*one)).collect();
    assert!(missing.is_empty(), "without an authorisation test: {missing:#?}");
    let gone: Vec<_> = table.iter().filter(|one| !keyed.contains(*one)).collect();
    assert!(gone.is_empty(), "in the table and not in the document: {gone:#?}");
    let reasons: BTreeSet<String> = OPEN.iter().map(|(operation, _)| (*operation).to_owned()).collect();
    assert_eq!(open, reasons, "what needs no key needs a reason in this test");
}

#[tokio::test]
async fn without_a_key_or_with_a_wrong_one_nothing_is_done() {
    let plane = Plane::new().await;
    let names = plane.furnish(&plane.owner).await;
    for (operation, _, body) in operations() {
        let (method, path) = filled(operation, &names);
        for key in ["", "aidos_0000000000000000000000000000000000000"] {
            let (status, problem) = plane.send(&method, &path, key, body.as_ref()).await;
            assert_eq!(status, 401, "{operation}: {problem}");
            assert_eq!(problem["code"], "unauthorized", "{operation}");
        }
    }
    for (path, _) in OPEN_BESIDE {
        assert_eq!(plane.send("GET", path, "", None).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn a_role_below_the_needed_one_is_refused_and_the_needed_one_is_not() {
    let plane = Plane::new().await;
    let names = plane.furnish(&plane.owner).await;
    let keys = [(Viewer, plane.key(&plane.owner, "viewer").await), (Operator, plane.key(&plane.owner, "operator").await)];
    for (operation, needed, body) in operations() {
        let (method, path) = filled(operation, &names);
        for (_, key) in keys.iter().filter(|(role, _)| *role < needed) {
            let (status, problem) = plane.send(&method, &path, key, body.as_ref()).await;
            assert_eq!(status, 403, "{operation}: {problem}");
            assert!(problem["hint"].as_str().unwrap().contains(needed.as_str()), "{operation}: {problem}");
        }
    }
    // Only now, since some of these remove what the others name.
    for (operation, needed, body) in operations() {
        let (method, path) = filled(operation, &names);
        let key = keys.iter().find(|(role, _)| *role == needed).map_or(&plane.owner, |(_, key)| key);
        let (status, problem) = plane.send(&method, &path, key, body.as_ref()).await;
        assert!(status != 401 && status != 403 && !status.is_server_error(), "{operation}: {status} {problem}");
    }
}

#[tokio::test]
async fn another_tenants_owner_finds_nothing_and_changes_nothing() {
    let plane = Plane::new().await;
    let names = plane.furnish(&plane.owner).await;
    let stranger = plane.tenant("stranger").await;
    for (operation, _, body) in operations().into_iter().filter(|(operation, ..)| operation.contains('{')) {
        let (method, path) = filled(operation, &names);
        let (status, problem) = plane.send(&method, &path, &stranger, body.as_ref()).await;
        assert_eq!(status, 404, "{operation}: {problem}");
        assert_eq!(problem["code"], "not_found", "{operation}");
    }
    for (operation, ..) in operations().into_iter().filter(|(operation, ..)| operation.starts_with("GET ")) {
        let (method, path) = filled(operation, &names);
        // A command that waits has no result yet.
        if !path.ends_with("/result") {
            assert_eq!(plane.send(&method, &path, &plane.owner, None).await.0, 200, "{operation}");
        }
    }
    assert_eq!(plane.send("GET", "/api/v1/installation", &stranger, None).await.0, 403, "it concerns all tenants");
    for list in ["devices", "models", "deployments", "rollouts", "tokens", "agent-releases", "agent-settings"] {
        let (_, listed) = plane.send("GET", &format!("/api/v1/{list}"), &stranger, None).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 0, "{list}");
    }
}
