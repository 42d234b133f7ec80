//! What people see, word for word: help, tables, error texts with their exit codes, and the bodies of refusals.
//!
//! After a change that is meant, look at the difference and take it over with `INSTA_UPDATE=always cargo xtask test snapshots`.

use crate::stories::sample_model;
use aidos_tests::{Fleet, binary};
use reqwest::{Method, RequestBuilder, header};
use serde_json::json;
use std::fmt::Write as _;
use std::process::{Command, Output};

/// What differs from run to run, and what stands in its place. Ages lose their padding, which they share a column with.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, instead) in [
        (r"\b([a-z]+)_[0-9a-f]{32}\b", "${1}_[id]"),
        (r"\bsha256:[0-9a-f]{64}\b", "sha256:[digest]"),
        (r#""request_id": "[0-9a-f]{32}""#, r#""request_id": "[id]""#),
        (r"http://127\.0\.0\.1:\d{4,5}", "[url]"),
        (r"(?m)\b(?:\d+[smhd]){1,2}( +|\b)", "[age]  "),
        (r"/[\w./-]*/\.tmp\w+", "[folder]"),
        (r"(?m) +$", ""),
    ] {
        settings.add_filter(pattern, instead);
    }
    settings
}

fn shown(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let code = output.status.code().expect("it was not killed");
    format!("exit code: {code}\n----- stdout -----\n{out}----- stderr -----\n{err}")
}

/// A program without the environment that its help would show.
fn alone(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary(program));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AIDOS_")) {
        command.env_remove(name);
    }
    command.args(arguments).env("NO_COLOR", "1").env("COLUMNS", "100").output().unwrap()
}

#[test]
fn help_says_what_can_be_done() {
    let _bound = settings().bind_to_scope();
    insta::assert_snapshot!("help", shown(&alone("aidos", &["--help"])));
    for noun in ["up", "deploy", "predict", "model", "device", "deployment", "rollout", "token", "key", "tenant", "context"] {
        insta::assert_snapshot!(format!("help-{noun}"), shown(&alone("aidos", &[noun, "--help"])));
    }
    insta::assert_snapshot!("help-agent", shown(&alone("aidos-agent", &["--help"])));
    insta::assert_snapshot!("help-control-plane", shown(&alone("aidos-control-plane", &["serve", "--help"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_show_a_fleet_at_a_glance() {
    let fleet = Fleet::start().await;
    insta_in(&settings(), || {
        insta::assert_snapshot!("table-device-list-empty", shown(&fleet.cli(&["device", "list"])));
        insta::assert_snapshot!("table-status-empty", shown(&fleet.cli(&["status"])));
    });
    let mut lab = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    let _shop = fleet.agent("edge-2", &json!({ "site": "shop", "shelf": "3" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    insta_in(&settings(), || {
        for (name, arguments) in [
            ("table-device-list", &["device", "list"] as &[&str]),
            ("table-device-list-selector", &["device", "list", "-l", "site!=lab"]),
            ("table-model-list", &["model", "list"]),
            ("table-deployment-list", &["deployment", "list"]),
            ("table-status", &["status"]),
            ("table-deploy-dry-run", &["deploy", "digits@1", "--to", "site=shop", "--dry-run"]),
            ("table-token-list", &["token", "list", "-o", "name"]),
        ] {
            insta::assert_snapshot!(name, shown(&fleet.cli(arguments)));
        }
    });
    lab.process().terminate(std::time::Duration::from_secs(20));
    fleet.device("edge-1", "offline").await;
    insta_in(&settings(), || insta::assert_snapshot!("table-status-offline", shown(&fleet.cli(&["status"]))));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_end_with_what_to_do_next_and_their_exit_code() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let text = fleet.folder().join("text.onnx");
    std::fs::write(&text, b"hello").unwrap();
    let viewer = fleet.api.post("keys", &json!({ "name": "looks", "role": "viewer" })).await;
    let (viewer, url) = (viewer["secret"].as_str().unwrap().to_owned(), fleet.api.url().to_owned());
    insta_in(&settings(), || {
        for (name, arguments) in [
            ("error-1-not-a-model", &["model", "push", text.to_str().unwrap(), "--name", "text"] as &[&str]),
            ("error-1-no-such-model", &["deploy", "nothing@1", "--to", "all"]),
            ("error-1-no-such-version", &["deploy", "digits@7", "--to", "all"]),
            ("error-1-no-such-device", &["device", "show", "dev_00000000000000000000000000000001"]),
            ("error-1-no-agent", &["predict", "digits", "--input", "seven.png"]),
            ("error-1-unreachable", &["--url", "http://127.0.0.1:1", "--api-key", "aidos_x", "status"]),
            ("error-1-wrong-key", &["--url", &url, "--api-key", "aidos_x", "status"]),
            ("error-1-role", &["--url", &url, "--api-key", &viewer, "token", "create"]),
            ("error-2-unknown-command", &["frobnicate"]),
            ("error-2-selector", &["deploy", "digits@1", "--to", "site=lab,,x"]),
            ("error-2-device-id", &["device", "show", "dev_1"]),
            ("error-2-no-file", &["model", "push", "no-such-file.onnx"]),
            ("error-2-no-context", &["--context", "elsewhere", "status"]),
            ("error-2-flag", &["deploy", "digits@1", "--to", "all", "--timeout", "5s"]),
            ("error-2-span", &["token", "create", "--ttl", "1w"]),
            ("error-4-timeout", &["deploy", "digits@1", "--to", "site=nowhere", "--wait", "--timeout", "0s"]),
        ] {
            let output = fleet.cli(arguments);
            let code = name.split('-').nth(1).and_then(|code| code.parse().ok());
            assert_eq!(output.status.code(), code, "{name}: {}", shown(&output));
            insta::assert_snapshot!(name, shown(&output));
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_api_are_problem_details() {
    let fleet = Fleet::start().await;
    let _agent = fleet.agent("edge-1", &json!({})).await;
    let device = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();
    let version = fleet.push("digits", &sample_model()).await;
    let digest = version["digest"].as_str().unwrap();
    let viewer = fleet.api.post("keys", &json!({ "name": "looks", "role": "viewer" })).await;
    let viewer = fleet.api.with_key(viewer["secret"].as_str().unwrap());
    let config = format!("devices/{device}/config");
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    let typed = |request: RequestBuilder, body: &'static str| request.header(header::CONTENT_TYPE, "application/json").body(body);
    let open = fleet.api.with_key("");
    // The body over the limit is so by little: the server reads no further, and a client that still writes may miss the answer.
    let mut requests = vec![
        ("400 not JSON", typed(fleet.api.request(post.clone(), "models"), "{")),
        ("401 no valid key", open.request(get.clone(), "devices")),
        ("403 a viewer's key", viewer.request(post.clone(), "models").json(&json!({ "name": "x" }))),
        ("404 no such device", fleet.api.request(get.clone(), "devices/dev_00000000000000000000000000000001")),
        ("404 no such model", fleet.api.request(get.clone(), "models/nothing")),
        ("405 no such method", fleet.api.request(Method::DELETE, "devices")),
        ("409 the name is taken", fleet.api.request(post.clone(), "models").json(&json!({ "name": "digits" }))),
        ("412 a stale If-Match", fleet.api.request(put, &config).header(header::IF_MATCH, "\"999\"").json(&json!({}))),
        ("413 a body over the limit", fleet.api.request(post.clone(), "models").json(&json!({ "card": "x".repeat(1 << 20) }))),
        ("415 no JSON", fleet.api.request(post.clone(), "models").header(header::CONTENT_TYPE, "text/plain").body("x")),
        (
            "416 a range outside",
            fleet.api.request(get.clone(), &format!("artifacts/{digest}/content")).header(header::RANGE, "bytes=9999999-"),
        ),
        ("422 an unknown field", fleet.api.request(post.clone(), "models").json(&json!({ "nom": "x" }))),
        ("422 a selector", fleet.api.request(get.clone(), "devices?selector=site%3Dlab%2C%2Cx")),
        (
            "422 a selector in a body",
            fleet.api.request(post.clone(), "deployments").json(&json!({ "subject": "digits@1", "selector": "site=lab,,x" })),
        ),
        ("422 a cursor", fleet.api.request(get, "devices?cursor=nonsense")),
    ];
    let enrol =
        || open.request(post.clone(), "enrol").json(&json!({ "token": "hello", "csr_pem": "", "name": "x", "labels": {} }));
    requests.push(("a token that is none", enrol()));
    let mut text = String::new();
    for (name, request) in requests {
        write!(text, "{}", refused(name, request).await).unwrap();
    }
    // A stranger who fails too often is asked to wait; this comes last, for it is remembered.
    while enrol().send().await.unwrap().status() == reqwest::StatusCode::UNPROCESSABLE_ENTITY {}
    text += &refused("429 too many failures", enrol()).await;
    insta_in(&settings(), || insta::assert_snapshot!("problems", text));
}

async fn refused(name: &str, request: RequestBuilder) -> String {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let of = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert!(status.is_client_error(), "{name}: {status}");
    assert_eq!(of(header::CONTENT_TYPE).as_deref(), Some("application/problem+json"), "{name}");
    let retry = of(header::RETRY_AFTER).map(|seconds| format!("retry-after: {seconds}\n")).unwrap_or_default();
    let body: serde_json::Value = response.json().await.unwrap();
    assert!(!name.starts_with('4') || name.starts_with(status.as_str()), "{name}: {status} {body}");
    format!("# {name}\n{status}\n{retry}{body:#}\n\n")
}

/// The settings hold for one thread; a test of tokio's may go on in another after each await.
fn insta_in(settings: &insta::Settings, check: impl FnOnce()) {
    settings.bind(check);
}
