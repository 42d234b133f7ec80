//! Whatever goes wrong on the command line ends with what to do next, and with the exit code of its kind.

use crate::stories::{digit, sample_model};
use aidos_tests::Fleet;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_command_is_told_what_to_do_next() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    let device = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();
    let (agent_url, url) = (agent.url.clone(), fleet.api.url().to_owned());
    let file = |name: &str, bytes: &[u8]| {
        let path = fleet.folder().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let a_file = file("plain", b"x");
    let not_a_folder = format!("{a_file}/man");
    let (malformed, text, array) = (file("in.json", b"{"), file("in.txt", b"?"), file("x.npy", b"\x93NUMPY"));
    let short = file("short.json", b"[1, 2]");
    let unknown = format!("unknown={}", digit(7).display());
    let (model, sparse) = (sample_model(), fleet.folder().join("large.onnx"));
    let model = model.to_str().unwrap();
    // One byte over the limit, and none of them on the disk.
    std::fs::File::create(&sparse).unwrap().set_len((1 << 30) + 1).unwrap();
    let sparse = sparse.to_str().unwrap();
    let broken = file("broken.toml", b"[");
    let predict = ["predict", "digits", "--agent-url", &agent_url, "--input"];
    let remote = ["predict", "digits", "--device", &device, "--input"];
    let with = |base: &[&str], last: &str| base.iter().copied().chain([last]).map(str::to_owned).collect::<Vec<_>>();
    let typed = |arguments: &[&str]| arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>();

    for (arguments, code, advice) in [
        (typed(&["--url", &url, "--api-key", "x", "--ca", "/nonexistent", "status"]), 2, "PEM file"),
        (typed(&["--url", &url, "--api-key", "x", "--ca", &a_file, "status"]), 1, "hint:"),
        (typed(&["--url", "http://192.0.2.1:7070", "--api-key", "x", "status"]), 2, "--insecure-http"),
        (typed(&["--url", "nowhere", "--api-key", "x", "status"]), 2, "https://host:7070"),
        (typed(&["--url", "http://127.0.0.1:1", "--api-key", "x", "status"]), 1, "aidos up"),
        (typed(&["login", "http://192.0.2.1:7070", "--api-key", "x"]), 2, "--insecure-http"),
        (typed(&["login", &url, "--ca-file", "/nonexistent", "--api-key", "x"]), 2, "PEM file"),
        (typed(&["login", &url]), 2, "AIDOS_API_KEY"),
        (typed(&["context", "use", "nobody"]), 2, "aidos context list"),
        (typed(&["man", &not_a_folder]), 1, "name a folder"),
        (with(&predict, "nothere.png"), 2, "give --input"),
        (with(&predict, &malformed), 2, "write {\"input\": values"),
        (with(&predict, &text), 2, "give one of these"),
        (with(&predict, &array), 2, "numpy.save"),
        (with(&predict, &short), 1, "aidos model show"),
        (with(&predict, &unknown), 2, "it takes"),
        (with(&remote, &unknown), 2, "it takes"),
        (with(&remote, "nothere.png"), 2, "give --input"),
        (typed(&["predict", "nothing", "--agent-url", &agent_url, "--input", &malformed]), 1, "aidos deploy"),
        (typed(&["predict", "digits", "--agent-url", "http://127.0.0.1:1", "--input", &malformed]), 1, "aidos-agent run"),
        (typed(&["predict", "digits@x", "--input", &malformed]), 2, "name@2"),
        (typed(&["device", "restart", &device, "nope"]), 1, "aidos device logs"),
        (typed(&["device", "label", &device, "plain"]), 2, "key=value"),
        (typed(&["device", "show", "dev_00000000000000000000000000000001"]), 1, "hint:"),
        (typed(&["model", "push", "nothere.onnx"]), 2, "name the model's .onnx file"),
        (typed(&["model", "push", sparse]), 1, "1073741825 bytes; a model may have 1073741824"),
        (typed(&["model", "inspect", sparse]), 1, "make it smaller"),
        (typed(&["model", "push", model, "--manifest", &broken]), 2, "--manifest"),
        (typed(&["model", "push", model, "--card", "nothere.md"]), 2, "--card"),
        (typed(&["model", "push", model, "--golden", &malformed]), 2, "golden cases"),
        (typed(&["model", "show", "nothing"]), 1, "aidos model list"),
        (typed(&["deploy", "digits@9", "--to", "all"]), 1, "aidos model show"),
        (typed(&["deployment", "show", "dep_00000000000000000000000000000001"]), 1, "hint:"),
        (typed(&["bundle", "export", "digits", "--out", &not_a_folder]), 1, "--out"),
        (typed(&["trust", "sign", "digits@1", "--keys", &not_a_folder]), 1, "--keys"),
        (typed(&["trust", "init", "--keys", &not_a_folder, "--passphrase-file", &text]), 2, "10 characters"),
        (typed(&["frobnicate"]), 2, "--help"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = fleet.command(&arguments).stdin(std::process::Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(advice), "{arguments:?} should say `{advice}`: {error}");
        // Where something failed, advice has a line of its own, or the text names the command to run.
        assert!(code != 1 || error.contains("\n  hint: ") || error.contains("`aidos "), "{arguments:?}: {error}");
    }

    // Nobody is there to run it: that is not done, and the person is told why.
    agent.process().terminate(Duration::from_secs(20));
    fleet.device("edge-1", "offline").await;
    let variant = crate::stories::variant(fleet.folder(), 2, 10);
    fleet.push("digits", &variant).await;
    let waited = fleet.cli(&["deploy", "digits@2", "--to", "site=lab", "--wait", "--timeout", "1s"]);
    let error = String::from_utf8_lossy(&waited.stderr);
    assert_eq!(waited.status.code(), Some(4), "{error}");
    assert!(error.contains("offline") && error.contains("as they return") && error.contains("aidos deployment show"), "{error}");

    // One that is away does not hold up what others run.
    let _other = fleet.agent("edge-2", &json!({ "site": "lab" })).await;
    fleet.device("edge-2", "online").await;
    fleet.deploy("digits@2", "site=lab").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_line_that_no_other_machine_can_use_says_so() {
    let fleet = Fleet::start().await;
    let created = fleet.cli(&["token", "create"]);
    let (line, note) = (String::from_utf8_lossy(&created.stdout), String::from_utf8_lossy(&created.stderr));
    assert!(created.status.success() && line.contains("aidos-agent join http://127.0.0.1:"), "{line}");
    for flag in ["--listen", "--tls", "--public-url"] {
        assert!(note.contains(flag), "{note}");
    }
}
