//! Real models go the whole way: pushed, deployed, and their answers equal ONNX Runtime's. A real client, unmodified, gets them too.

use crate::stories::{fetched, goldens, peer, sample_model};
use aidos_tests::Fleet;
use serde_json::json;
use std::process::Command;

/// The models that tract runs; `silero-vad` is the one it cannot load yet.
const MODELS: &[&str] = &["magika", "rapidocr-det", "rapidocr-rec", "rapidocr-cls", "nudenet"];

#[tokio::test(flavor = "multi_thread")]
async fn real_models_answer_on_a_device_as_onnx_runtime_does() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    for model in MODELS {
        fleet.push(model, &fetched(model)).await;
        fleet.deploy(&format!("{model}@1"), "site=lab").await;
    }
    // `tritonclient[http]` as it is on PyPI, in JSON and in binary, against every golden. It wants the address without a scheme.
    let address = agent.url.trim_start_matches("http://");
    for model in MODELS.iter().chain(&["digits"]) {
        let check = Command::new(peer("AIDOS_TEST_PYTHON"))
            .arg(goldens().with_file_name("tritonclient_check.py"))
            .args([address, *model])
            .output()
            .expect("python starts");
        let (out, err) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
        assert!(check.status.success(), "{model}: {out}{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_the_engine_cannot_load_says_why_and_harms_no_other() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("silero", &fetched("silero-vad")).await;
    let refused = fleet.cli(&["deploy", "silero@1", "--to", "site=lab", "--wait"]);
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    let deployments = fleet.api.get("deployments").await;
    let id = deployments["items"][0]["id"].as_str().unwrap();
    let devices = fleet.api.get(&format!("deployments/{id}/devices")).await;
    let error = devices["items"][0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("(operator If) give values of different rank"), "the error names the operator at fault: {error}");
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    crate::stories::predicts_seven(&agent.predict("digits", &crate::stories::digit(7)));
}
