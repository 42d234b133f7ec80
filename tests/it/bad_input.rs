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
    refused(&["deploy", "agent.release@1.4.0", "--to", "all"], 1, &["aidos agent release list"]);
    refused(&["model", "push", &file("agent.x.onnx", &onnx)], 2, &["not with `agent.`"]);
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
    assert!(used_up.contains("all its uses are spent"), "{used_up}");
    let other = Fleet::start().await;
    let foreign = other.token(&json!({})).await;
    let error = join(&foreign);
    assert!(error.contains("is not the control plane that made this token"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_agent_refuses_inputs_that_do_not_fit_and_says_what_would() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &crate::stories::sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    let file = |name: &str, bytes: &[u8]| {
        let path = fleet.folder().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let refused = |input: &str, says: &[&str]| {
        let output = fleet.cli(&["predict", "digits", "--agent-url", &agent.url, "--input", input]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{input}: {output:?}");
        for word in says {
            assert!(error.contains(word), "{input} should say `{word}`: {error}");
        }
    };
    let image = npy("<f4", "(1, 1, 28, 28)", 28 * 28 * 4);
    crate::stories::predicts_seven(&agent.predict("digits", &crate::stories::digit(7)));
    refused(&file("text.txt", b"hello"), &["text.txt"]);
    refused(&file("cut.npy", &image[..image.len() - 100]), &["cut.npy"]);
    refused(&file("type.npy", &npy("<i8", "(1, 1, 28, 28)", 28 * 28 * 8)), &["FP32"]);
    refused(&file("shape.npy", &npy("<f4", "(1, 1, 28, 27)", 28 * 27 * 4)), &["28"]);
    refused(&format!("nothing={}", file("whole.npy", &image)), &["nothing"]);
    refused(&file("half.json", b"{\"inputs\": ["), &["half.json"]);
    refused(&file("name.json", br#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}"#), &["x"]);
    let image = fleet.cli(&["predict", "digits", "--agent-url", &agent.url, "--input", &file("fine.npy", &image)]);
    assert!(image.status.success(), "one that fits is answered: {image:?}");
}

/// An array as `numpy.save` writes it, of zeros.
fn npy(descr: &str, shape: &str, bytes: usize) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), &vec![0; bytes]].concat()
}
