//! Real models answer as ONNX Runtime does: each golden is loaded and run, through the same handle that the agent uses.

use crate::golden::{deploy, golden, model_file, name};
use aidos_agent::infer::{Models, Settings};
use aidos_protocol::{manifest::Manifest, oip::InferRequest};

async fn equals_its_golden(model: &str) {
    let golden = golden(model);
    let models = Models::new(Settings::default());
    deploy(&models, &golden).await;
    for case in &golden.cases {
        let answer = models.infer(&name(model), None, InferRequest::of(case.inputs())).await;
        let answer = answer.unwrap_or_else(|error| panic!("{model}, {}: {error}", case.name));
        case.check(golden.tolerance, &answer);
    }
}

#[tokio::test]
async fn digits_answers_as_onnx_runtime_does() {
    equals_its_golden("digits").await;
}

#[tokio::test]
async fn magika_answers_as_onnx_runtime_does() {
    equals_its_golden("magika").await;
}

#[tokio::test]
async fn the_text_detector_answers_as_onnx_runtime_does() {
    equals_its_golden("rapidocr-det").await;
}

#[tokio::test]
async fn the_text_recogniser_answers_as_onnx_runtime_does() {
    equals_its_golden("rapidocr-rec").await;
}

#[tokio::test]
async fn the_text_direction_classifier_answers_as_onnx_runtime_does() {
    equals_its_golden("rapidocr-cls").await;
}

#[tokio::test]
async fn nudenet_answers_as_onnx_runtime_does() {
    equals_its_golden("nudenet").await;
}

#[tokio::test]
async fn the_voice_detector_without_nested_branches_answers_as_onnx_runtime_does() {
    equals_its_golden("silero-vad-ifless").await;
}

#[tokio::test]
async fn the_voice_detector_is_refused_because_its_branches_differ_in_rank() {
    let golden = golden("silero-vad");
    let models = Models::new(Settings::default());
    let error = models.load(&name("silero-vad"), 1, &model_file(&golden), Manifest::default()).await.unwrap_err().to_string();
    assert!(error.contains("decoder/If` (operator If) give values of different rank: 1,128,F32 and 1,128,1,F32"), "{error}");
    assert!(models.list().is_empty());
}
