//! What a person can get wrong is refused with an error that says what to do, by exit code and by text.

use aidos_tests::Fleet;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_with_advice() {
    let fleet = Fleet::start().await;
    let refused = |arguments: &[&str], code: i32, says: &[&str]| {
        let output = fleet.cli(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        for word in says {
            assert!(error.contains(word), "{arguments:?} should say `{word}`: {error}");
        }
    };
    let file = |name: &str, bytes: &[u8]| {
        let path = fleet.folder().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let onnx = std::fs::read(crate::stories::sample_model()).unwrap();

    refused(&["model", "push", &file("text.onnx", b"hello")], 1, &["not an ONNX model"]);
    refused(&["model", "push", &file("half.onnx", &onnx[..onnx.len() / 2])], 1, &["cut off"]);
    refused(&["model", "push", "no-such-file.onnx"], 2, &["no-such-file.onnx"]);
    refused(&["model", "push", &file("Bad Name.onnx", &onnx)], 2, &["not a model name", "--name"]);
    refused(&["deploy", "digits@1", "--to", "site=lab,,x"], 2, &["^"]);
    refused(&["deploy", "nothing@1", "--to", "all"], 1, &["nothing"]);
    refused(&["device", "show", "dev_1"], 2, &["32 hexadecimal"]);
    refused(&["predict", "digits", "--input", &file("x.txt", b"?")], 1, &["aidos up"]);
    refused(&["frobnicate"], 2, &["frobnicate"]);

    let join = |token: &str| {
        let dir = fleet.folder().join("nobody");
        let output = std::process::Command::new(aidos_tests::binary("aidos-agent"))
            .args(["join", fleet.api.url(), "--token", token, "--data-dir"])
            .arg(&dir)
            .output()
            .unwrap();
        assert!(!output.status.success() && !dir.join("identity").join("identity.json").exists());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(join("hello").contains("aidos token create"));
    let once = fleet.api.post("tokens", &json!({ "uses": 1 })).await["token"].as_str().unwrap().to_owned();
    let _device = fleet.agent_with_token("first", &once).await;
    let used_up = join(&once);
    assert!(used_up.contains("use"), "{used_up}");
}
