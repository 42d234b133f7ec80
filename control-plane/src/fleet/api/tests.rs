//! The fleet's endpoints on both databases, asked as a client asks.

use super::{ApiState, router};
use crate::fleet::ports::{CommandQueue, TelemetrySink};
use crate::fleet::test_fleet::Fleet;
use crate::platform::db::Db;
use crate::platform::testing::{START, both_stores};
use aidos_protocol::frame::{CommandResult, MAX_FRAME_BYTES, Sample, Telemetry, command_result::Outcome};
use aidos_protocol::twin::{Status, path};
use aidos_protocol::{CommandId, DeviceId, TenantId};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt as _;

both_stores!(
    every_endpoint_knows_its_role_and_no_tenant_reaches_anothers_device,
    devices_are_listed_by_selector_page_by_page,
    an_edit_in_a_state_that_is_no_more_is_refused,
    a_wrong_edit_says_what_is_wrong_and_changes_nothing,
    settings_are_replaced_or_patched,
    a_device_is_revoked_and_then_removed,
    a_command_is_given_awaited_and_its_result_fetched,
    an_inference_answers_as_the_device_does,
    telemetry_is_asked_for_within_bounds,
    a_drained_device_is_shown_as_such_until_it_reports_otherwise,
);

/// The API as clients meet it.
struct Client {
    fleet: Fleet,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }
    fn etag(&self) -> &str {
        self.headers[header::ETAG].to_str().unwrap()
    }
}

fn state(fleet: &Fleet) -> ApiState {
    ApiState {
        tenants: fleet.tenants.clone(),
        devices: fleet.devices.clone(),
        twins: fleet.twins.clone(),
        commands: fleet.commands.clone(),
        telemetry: fleet.telemetry.clone(),
        clock: fleet.clock.clone(),
    }
}

impl Client {
    async fn new(db: Db) -> Self {
        let fleet = Fleet::new(db).await;
        let router = router(state(&fleet)).split_for_parts().0;
        Self { fleet, router }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    fn request(&self, key: &str, method: &str, path: &str) -> axum::http::request::Builder {
        let uri = format!("/api/v1/devices{path}");
        Request::builder().method(method).uri(uri).header(header::AUTHORIZATION, format!("Bearer {key}"))
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(self.request(&self.fleet.our_keys.viewer, "GET", path).body(Body::empty()).unwrap()).await
    }

    async fn ask(&self, method: &str, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.request(&self.fleet.our_keys.operator, method, path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn device(&self, name: &str, labels: &[(&str, &str)]) -> DeviceId {
        self.fleet.device(&self.fleet.ours, name, labels).await
    }

    fn tenant(&self) -> TenantId {
        self.fleet.ours.tenant
    }
}

async fn every_endpoint_knows_its_role_and_no_tenant_reaches_anothers_device(db: Db) {
    let client = Client::new(db).await;
    let device = client.device("a", &[]).await;
    let given = client.ask("POST", &format!("/{device}/commands"), json!({ "kind": "self-test" }), &[]).await;
    assert_eq!(given.status, 201);
    let command = given.json()["id"].as_str().unwrap().to_owned();
    let document = router(state(&client.fleet)).split_for_parts().1;
    let document = serde_json::to_value(&document).unwrap();
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let uri = path.replace("{device}", &device.to_string()).replace("{command}", &command).replace("{model}", "digits");
            let uri = if path.ends_with("/telemetry") { format!("{uri}?metric=cpu") } else { uri };
            let body = if path.ends_with("/commands") { r#"{"kind":"self-test"}"# } else { "{}" };
            let send = async |key: Option<&str>| {
                let mut request = Request::builder().method(method.as_str()).uri(&uri).header("content-type", "application/json");
                if let Some(key) = key {
                    request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
                }
                client.send(request.body(Body::from(body)).unwrap()).await
            };
            let place = format!("{method} {path}");
            assert_eq!(send(None).await.status, 401, "{place}");
            let viewer = send(Some(&client.fleet.our_keys.viewer)).await;
            assert_eq!(viewer.status == 403, method != "GET", "{place}: {}", viewer.json());
            if path.contains("{device}") {
                let theirs = send(Some(&client.fleet.their_keys.owner)).await;
                assert_eq!(theirs.status, 404, "{place}: {}", theirs.json());
                assert!(!theirs.json().to_string().contains("\"a\""), "{place}");
            }
            asked += 1;
        }
    }
    assert_eq!(asked, 17, "all of this room's endpoints");
    let theirs = client.request(&client.fleet.their_keys.owner, "GET", "").body(Body::empty()).unwrap();
    assert_eq!(client.send(theirs).await.json()["items"], json!([]));
    let untouched = client.get(&format!("/{device}")).await;
    assert_eq!((untouched.json()["state"].as_str(), untouched.status), (Some("offline"), StatusCode::OK));
}

async fn devices_are_listed_by_selector_page_by_page(db: Db) {
    let client = Client::new(db).await;
    for name in ["a", "b", "c"] {
        client.device(name, &[("site", "lab")]).await;
    }
    client.device("d", &[("site", "home")]).await;
    let first = client.get("?selector=site%3Dlab&limit=2").await.json();
    assert_eq!((&first["items"][0]["name"], &first["items"][0]["labels"]), (&json!("a"), &json!({ "site": "lab" })));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = client.get(&format!("?selector=site%3Dlab&limit=2&cursor={cursor}")).await.json();
    assert_eq!((second["items"][0]["name"].as_str(), second.get("next_cursor")), (Some("c"), None));
    let other_order = client.get(&format!("?sort=newest&cursor={cursor}")).await;
    assert_eq!((other_order.status, &other_order.json()["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("cursor")));
    let wrong = client.get("?selector=site%3D%3D%3Dx").await;
    assert_eq!((wrong.status, &wrong.json()["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("selector")));
    assert_eq!(client.get("?state=asleep").await.status, 422);
    assert_eq!(client.get("?q=D&state=offline").await.json()["items"][0]["name"], "d");
}

async fn an_edit_in_a_state_that_is_no_more_is_refused(db: Db) {
    let client = Client::new(db).await;
    let device = client.device("a", &[("old", "1")]).await;
    let path = format!("/{device}");
    let seen = client.get(&path).await;
    let patch = json!({ "name": "b", "labels": { "site": "lab", "old": null }, "notes": { "rack": "3" } });
    let edited = client.ask("PATCH", &path, patch, &[("if-match", seen.etag())]).await;
    assert_eq!(edited.status, 200, "{}", edited.json());
    let view = edited.json();
    assert_eq!(
        (&view["name"], &view["labels"], &view["notes"]),
        (&json!("b"), &json!({ "site": "lab" }), &json!({ "rack": "3" }))
    );
    assert_ne!(edited.etag(), seen.etag());
    let stale = client.ask("PATCH", &path, json!({ "name": "c" }), &[("if-match", seen.etag())]).await;
    assert_eq!((stale.status, &stale.json()["code"]), (StatusCode::PRECONDITION_FAILED, &json!("precondition_failed")));
    let careless = client.ask("PATCH", &path, json!({ "labels": { "x": "y" } }), &[]).await;
    assert_eq!(careless.json()["labels"], json!({ "site": "lab", "x": "y" }));
    assert_eq!(client.get("?selector=x%3Dy").await.json()["items"][0]["id"], json!(device));
    let twin = client.get(&format!("{path}/twin")).await.json();
    assert_eq!(twin["intent"]["labels"], json!({ "site": "lab", "x": "y" }));
    assert_eq!(twin["differences"][0]["path"], "intent");
    let actions = client.fleet.actions(&client.fleet.ours, device).await;
    assert!(actions.contains(&"device.rename".to_owned()) && actions.contains(&"device.edit".to_owned()), "{actions:?}");
}

async fn a_wrong_edit_says_what_is_wrong_and_changes_nothing(db: Db) {
    let client = Client::new(db).await;
    let device = client.device("a", &[]).await;
    let path = format!("/{device}");
    for wrong in [
        json!({ "name": "" }),
        json!({ "name": "b", "labels": { "-bad": "x" } }),
        json!({ "name": "b", "labels": { "site": "x".repeat(300) } }),
        json!({ "label": {} }),
    ] {
        let answer = client.ask("PATCH", &path, wrong.clone(), &[]).await;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.json());
    }
    assert_eq!(client.get(&path).await.json()["name"], "a");
    assert_eq!(client.get("/dev_0").await.status, 404);
}

async fn settings_are_replaced_or_patched(db: Db) {
    let client = Client::new(db).await;
    let device = client.device("a", &[]).await;
    let path = format!("/{device}/config");
    let wanted = json!({ "telemetry.interval_s": 5, "log.level": "debug" });
    assert_eq!(client.ask("PUT", &path, wanted.clone(), &[]).await.json(), wanted);
    let patched = client.ask("PATCH", &path, json!({ "log.level": null, "x": [1] }), &[]).await;
    assert_eq!(patched.json(), json!({ "telemetry.interval_s": 5, "x": [1] }));
    let seen = client.get(&path).await;
    let replaced = client.ask("PUT", &path, json!({ "x": [1] }), &[("if-match", seen.etag())]).await;
    assert_eq!((replaced.json(), replaced.status), (json!({ "x": [1] }), StatusCode::OK));
    let stale = client.ask("PUT", &path, json!({}), &[("if-match", seen.etag())]).await;
    assert_eq!(stale.status, 412);
    assert_eq!(client.ask("PUT", &path, json!({ "a b": 1 }), &[]).await.status, 422);
}

async fn a_device_is_revoked_and_then_removed(db: Db) {
    let client = Client::new(db).await;
    let device = client.device("a", &[("site", "lab")]).await;
    for _ in 0..2 {
        let revoked = client.ask("POST", &format!("/{device}/revoke"), Value::Null, &[]).await.json();
        assert_eq!((&revoked["state"], &revoked["labels"]["site"]), (&json!("revoked"), &json!("lab")));
    }
    let refused = client.ask("POST", &format!("/{device}/commands"), json!({ "kind": "self-test" }), &[]).await;
    assert_eq!(refused.status, 409);
    client.fleet.clock.advance(Duration::from_secs(1));
    assert_eq!(client.ask("DELETE", &format!("/{device}"), Value::Null, &[]).await.status, 204);
    assert_eq!(client.ask("DELETE", &format!("/{device}"), Value::Null, &[]).await.status, 404);
    assert_eq!(client.get(&format!("/{device}")).await.status, 404);
    assert_eq!(client.fleet.actions(&client.fleet.ours, device).await, ["device.revoke", "device.delete"]);
}

fn answer(id: &str, outcome: Outcome, message: &str, payload: &'static [u8]) -> CommandResult {
    CommandResult {
        id: id.to_owned(),
        outcome: outcome.into(),
        message: message.into(),
        payload: bytes::Bytes::from_static(payload),
        content_type: "application/json".into(),
        header_length: 0,
    }
}

async fn a_command_is_given_awaited_and_its_result_fetched(db: Db) {
    let client = Client::new(db).await;
    let device = client.device("a", &[]).await;
    let path = format!("/{device}/commands");
    let tail = json!({ "kind": "tail-logs", "lines": 5, "ttl_s": 60 });
    let given = client.ask("POST", &path, tail, &[]).await;
    assert_eq!((given.status, &given.json()["arguments"]["lines"]), (StatusCode::CREATED, &json!(5)));
    let id = given.json()["id"].as_str().unwrap().to_owned();
    let unready = client.get(&format!("{path}/{id}/result")).await;
    assert_eq!(unready.status, 404);
    let offline = client.ask("POST", &path, json!({ "kind": "self-test", "offline": "fail" }), &[]).await;
    assert_eq!((offline.status, &offline.json()["code"]), (StatusCode::CONFLICT, &json!("device_offline")));
    let wrong = client.ask("POST", &path, json!({ "kind": "restart" }), &[]).await;
    assert_eq!((wrong.status, &wrong.json()["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("component")));

    let place = format!("{path}/{id}?wait=20");
    let waiting = client.get(&place);
    let answering = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.fleet.commands.result(client.tenant(), device, answer(&id, Outcome::Ok, "", b"{\"a\":1}")).await.unwrap();
    };
    let (done, ()) = tokio::join!(waiting, answering);
    let done = done.json();
    assert_eq!((&done["state"], &done["result"]["json"]), (&json!("ok"), &json!({ "a": 1 })));
    let result = client.get(&format!("{path}/{id}/result")).await;
    assert_eq!(result.bytes, b"{\"a\":1}");
    assert_eq!(result.headers["content-type"], "application/json");
    assert_eq!(result.headers["x-content-type-options"], "nosniff");
    let listed = client.get(&path).await.json();
    assert_eq!(
        (&listed["items"][0]["id"], &listed["items"][0]["result"]),
        (&json!(id), &json!({ "content_type": "application/json", "bytes": 7 }))
    );
    assert_eq!(client.get(&format!("{path}/{id}?wait=99")).await.status, 422);
    assert_eq!(client.get(&format!("{path}/{}", CommandId::new(1))).await.status, 404);
    let cancelled = client.ask("DELETE", &format!("{path}/{id}"), Value::Null, &[]).await;
    assert_eq!(cancelled.status, 409);
}

async fn an_inference_answers_as_the_device_does(db: Db) {
    let client = Client::new(db).await;
    let device = client.device("a", &[]).await;
    let path = format!("/{device}/infer/digits");
    assert_eq!(client.ask("POST", &path, json!({}), &[]).await.json()["code"], "device_offline");
    client.fleet.online(&client.fleet.ours, device).await;
    let respond = async |outcome: Outcome, message: &str, payload: &'static [u8]| {
        let asking = client.ask("POST", &path, json!({ "inputs": [] }), &[]);
        let answering = async {
            loop {
                let pending = client.fleet.commands.pending(client.tenant(), device, 1).await.unwrap();
                if let Some(command) = pending.first() {
                    let result = answer(&command.id, outcome, message, payload);
                    return client.fleet.commands.result(client.tenant(), device, result).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::join!(asking, answering).0
    };
    let ok = respond(Outcome::Ok, "", b"{\"outputs\":[]}").await;
    assert_eq!((ok.status, &ok.bytes[..]), (StatusCode::OK, &b"{\"outputs\":[]}"[..]));
    let failed = respond(Outcome::Failed, "no input `x`", b"").await;
    assert_eq!((failed.status, &failed.json()["detail"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("no input `x`")));
    assert_eq!(respond(Outcome::Refused, "no such model", b"").await.json()["code"], "device_refused");
    let silent = client.ask("POST", &format!("{path}?timeout=1"), json!({}), &[]).await;
    assert_eq!((silent.status, &silent.json()["code"]), (StatusCode::GATEWAY_TIMEOUT, &json!("device_timeout")));
    for size in [MAX_FRAME_BYTES - 10, MAX_FRAME_BYTES + 10] {
        let request = client.request(&client.fleet.our_keys.operator, "POST", &path).body(Body::from(vec![b' '; size])).unwrap();
        assert_eq!(client.send(request).await.status, 413, "{size}");
    }
    assert_eq!(client.ask("POST", &format!("{path}?timeout=0"), json!({}), &[]).await.status, 422);
    assert_eq!(client.ask("POST", &path, json!({}), &[("inference-header-content-length", "x")]).await.status, 422);
    assert_eq!(client.ask("POST", &format!("/{device}/infer/..%2Fx"), json!({}), &[]).await.status, 404);
}

async fn telemetry_is_asked_for_within_bounds(db: Db) {
    let client = Client::new(db).await;
    let device = client.device("a", &[]).await;
    let sample = |seq: u64| Sample { seq, time_us: START.plus_seconds(-10).0, values: vec![seq as f64] };
    let batch = Telemetry { names: vec!["cpu".into()], samples: vec![sample(1), sample(2)], lost_samples: 3, lost_bytes: 30 };
    client.fleet.telemetry.store(client.tenant(), device, batch).await.unwrap();
    let path = format!("/{device}/telemetry");
    let hour = client.get(&format!("{path}?metric=cpu&points=60")).await.json();
    assert_eq!((&hour["bucket_us"], &hour["to"]), (&json!(60_000_000), &json!(START)));
    assert_eq!(hour["series"][0]["points"][0]["avg"], json!(1.5));
    let metrics = client.get(&format!("{path}/metrics")).await.json();
    assert_eq!((&metrics["metrics"], &metrics["lost_samples"]), (&json!([{ "name": "cpu", "value": 2.0 }]), &json!(3)));
    let all = client.get(&path).await.json();
    assert_eq!(all["series"], client.get(&format!("{path}?metric=cpu")).await.json()["series"]);
    for wrong in ["?metric=cpu&points=0", "?metric=cpu&points=5000", "?metric=cpu&from=5&to=5", "?metric=cpu&from=x"] {
        assert_eq!(client.get(&format!("{path}{wrong}")).await.status, 422, "{wrong}");
    }
    let many: Vec<String> = (0..17).map(|n| format!("m{n}")).collect();
    assert_eq!(client.get(&format!("{path}?metric={}", many.join(","))).await.status, 422);
    assert_eq!(client.get(&format!("{path}?metric=cpu&from={}&to={}", i64::MIN, i64::MAX)).await.status, 200);
}

async fn a_drained_device_is_shown_as_such_until_it_reports_otherwise(db: Db) {
    let client = Client::new(db).await;
    let (device, other) = (client.device("a", &[]).await, client.device("b", &[]).await);
    let mut status = Status::new(1);
    let report = async |status: &Status| {
        client.fleet.twins.apply_status(client.tenant(), device, &status.full()).await.unwrap().unwrap();
    };
    status.set(path::DRAIN, &json!({ "since_us": 7 })).unwrap();
    report(&status).await;
    let listed = client.get("").await.json();
    assert_eq!((&listed["items"][0]["drained_at"], listed["items"][1].get("drained_at")), (&json!(7), None), "{listed}");
    assert_eq!(client.get(&format!("/{device}")).await.json()["drained_at"], 7);
    assert_eq!(client.get(&format!("/{other}")).await.json().get("drained_at"), None);
    status.remove(path::DRAIN);
    report(&status).await;
    assert_eq!(client.get(&format!("/{device}")).await.json().get("drained_at"), None);
}
