//! The self-test with golden cases, run by the real engine on a version beside the one that answers.

use crate::golden::{deploy, golden, model_file, name};
use aidos_agent::infer::{Models, Place, Settings};
use aidos_agent::models::Runner;
use aidos_protocol::{golden::Golden, manifest::Manifest, oip::AnswerForm, oip::InferRequest};
use serde_json::{Value, json};

/// A golden file of what digits answers now, with one number of the first case changed by `error`.
async fn file(models: &Models, error: f64, latency_ms: Option<u64>) -> Golden {
    let digits = golden("digits");
    let mut cases = Vec::new();
    for case in &digits.cases {
        let request = InferRequest { parameters: Default::default(), ..InferRequest::of(case.inputs()) };
        let answer = models.infer(&name("digits"), None, request.clone()).await.unwrap();
        let mut response: Value = serde_json::from_slice(&answer.encode(&AnswerForm::json()).unwrap().body).unwrap();
        if cases.is_empty() {
            let first = &mut response["outputs"][0]["data"][0];
            *first = json!(first.as_f64().unwrap() + error);
        }
        let request: Value = serde_json::from_slice(&request.encode(false).unwrap().body).unwrap();
        cases.push(json!({ "name": case.name, "request": request, "response": response }));
    }
    let mut file = json!({ "tolerance": 0.001, "cases": cases });
    if let Some(bound) = latency_ms {
        file["latency_ms"] = json!(bound);
    }
    Golden::from_json(file.to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn golden_cases_pass_fail_by_the_number_and_fail_by_the_time_on_the_version_beside() {
    let models = Models::new(Settings::default());
    let digits = golden("digits");
    deploy(&models, &digits).await;
    let (right, wrong, hasty) =
        (file(&models, 0.0, Some(60_000)).await, file(&models, 0.5, None).await, file(&models, 0.0, Some(0)).await);
    models.load(&name("digits"), 2, &model_file(&digits), Manifest::default()).await.unwrap();
    models.mark(&name("digits"), Place::Active);
    let report = models.golden(&name("digits"), 2, &right).await;
    assert!(report.passed, "{}", report.failure);
    assert_eq!((report.cases as usize, report.failure.as_str()), (digits.cases.len(), ""));
    assert!(report.largest_error <= 0.001 && report.slowest_us > 0);
    let report = models.golden(&name("digits"), 2, &wrong).await;
    assert!(!report.passed && report.failure.starts_with("case 0"), "{}", report.failure);
    assert!((report.largest_error - 0.5).abs() < 0.25, "{}", report.largest_error);
    let report = models.golden(&name("digits"), 2, &hasty).await;
    assert!(!report.passed && report.failure.contains("0 are allowed"), "{}", report.failure);
    assert_eq!(models.measures(&name("digits"), Place::Active).unwrap().requests, 0, "the version that answers was not asked");
}
