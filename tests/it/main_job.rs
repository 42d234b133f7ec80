//! The main job: one command brings up a fleet, a model goes out to it, and it answers, also once the control plane is gone.

use crate::stories::{digit, predicts_seven, variant};
use aidos_tests::{Process, binary, eventually};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// `run` names the log, so that a later run is not taken for an earlier one.
fn up(run: &str, folder: &Path) -> Process {
    let mut command = Command::new(binary("aidos"));
    command.arg("up").arg("--data-dir").arg(folder);
    for port in ["--listen", "--quic", "--mqtt", "--serve"] {
        command.args([port, "127.0.0.1:0"]);
    }
    Process::start(run, command, folder)
}

fn aidos(folder: &Path, arguments: &[&str]) -> Output {
    let contexts = folder.join("contexts.toml");
    Command::new(binary("aidos"))
        .args(arguments)
        .env("AIDOS_DATA_DIR", folder)
        .env("AIDOS_CONTEXTS", contexts)
        .env_remove("AIDOS_URL")
        .output()
        .unwrap()
}

async fn running(process: &mut Process) {
    eventually("`aidos up` says what to try next", async || {
        assert!(process.is_running(), "`aidos up` ended:\n{}", process.log());
        process.log().contains("aidos predict digits").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_brings_up_a_fleet_that_answers_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let seven = digit(7);
    let predict = ["predict", "digits", "--input", seven.to_str().unwrap()];
    let mut first = up("first", folder.path());
    running(&mut first).await;
    predicts_seven(&aidos(folder.path(), &predict));
    dashboard_opens_by_a_link(folder.path(), &first.log()).await;
    let devices = aidos(folder.path(), &["device", "list", "-o", "name"]);
    assert!(devices.status.success(), "{}", String::from_utf8_lossy(&devices.stderr));
    let device = String::from_utf8_lossy(&devices.stdout).trim().to_owned();

    // Its log holds what the agent said, although `aidos up` shows none of it, and nothing that the control plane said.
    let logs = aidos(folder.path(), &["device", "logs", &device]);
    let text = String::from_utf8_lossy(&logs.stdout);
    assert!(logs.status.success() && text.contains("the agent runs") && text.contains("the model answers"), "{logs:?}");
    assert!(!text.contains("aidos_control_plane") && !first.log().contains("the agent runs"), "{text}");

    // Another device is asked through the control plane; here it is the same one.
    predicts_seven(&aidos(folder.path(), &["predict", "digits", "--device", &device, "--input", seven.to_str().unwrap()]));

    // Ctrl-C drains. Nothing runs any more; the model still answers from what the device has.
    assert!(first.terminate(Duration::from_secs(20)).success());
    let status = aidos(folder.path(), &["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stderr).contains("aidos up"), "{}", String::from_utf8_lossy(&status.stderr));
    predicts_seven(&aidos(folder.path(), &predict));

    // The next start resumes: the same device, the same single version.
    let mut second = up("second", folder.path());
    running(&mut second).await;
    predicts_seven(&aidos(folder.path(), &predict));
    eventually("the device is connected again", async || {
        let listed = aidos(folder.path(), &["device", "list", "-o", "json"]);
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).ok()?;
        (listed[0]["state"] == "online").then_some(())
    })
    .await;
    assert_eq!(aidos(folder.path(), &["device", "list", "-o", "name"]).stdout, devices.stdout);
    let models = aidos(folder.path(), &["model", "list", "-o", "json"]);
    let models: serde_json::Value = serde_json::from_slice(&models.stdout).unwrap();
    assert_eq!(models[0]["latest_version"], 1);

    // The first start made a root for development, said so, and signed the sample; the second found it.
    assert!(first.log().contains("DEVELOPMENT root of trust") && !second.log().contains("DEVELOPMENT"), "{}", second.log());
    let trust = aidos(folder.path(), &["trust", "status", "-o", "json"]);
    let trust: serde_json::Value = serde_json::from_slice(&trust.stdout).unwrap();
    let targets = trust["roles"].as_array().unwrap().iter().find(|role| role["role"] == "targets").unwrap();
    assert_eq!(targets["version"], 2);

    // What is pushed on this machine is signed with those keys, so that the device takes it.
    let shown = aidos(folder.path(), &["device", "show", &device]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("signed updates only"), "{shown:?}");
    let file = variant(folder.path(), 2, 10);
    let pushed = aidos(folder.path(), &["model", "push", file.to_str().unwrap(), "--name", "digits"]);
    assert!(String::from_utf8_lossy(&pushed.stderr).contains("signed with the development keys"), "{pushed:?}");
    let deployed = aidos(folder.path(), &["deploy", "digits@2", "--to", "all", "--wait", "--timeout", "60s"]);
    assert!(deployed.status.success(), "{deployed:?}");
    // The new version by its number; one that there is not is no other.
    let versioned = |version: &str| ["predict", version, "--input", seven.to_str().unwrap()].map(str::to_owned);
    let by_number = |version: &str| aidos(folder.path(), &versioned(version).each_ref().map(String::as_str));
    predicts_seven(&by_number("digits@2"));
    let none = by_number("digits@9");
    assert!(none.status.code() == Some(1) && String::from_utf8_lossy(&none.stderr).contains('9'), "{none:?}");
}

/// The link that was printed, and the one that `aidos open` makes, each sign one browser in, once.
async fn dashboard_opens_by_a_link(folder: &Path, log: &str) {
    let printed = log.lines().find(|line| line.starts_with("dashboard:")).unwrap_or_else(|| panic!("{log}"));
    let opened = aidos(folder, &["open", "--print"]);
    assert!(opened.status.success(), "{opened:?}");
    let opened = String::from_utf8_lossy(&opened.stdout).into_owned();
    let links = [printed.split_whitespace().nth(1).unwrap(), opened.trim()];
    let _ = rustls::crypto::ring::default_provider().install_default();
    let browser = reqwest::Client::new();
    for link in links {
        let (page, code) = link.split_once("#code=").unwrap();
        let shown = browser.get(page).header("accept", "text/html").send().await.unwrap();
        assert!(shown.status() == 200 && shown.headers().contains_key("content-security-policy"), "{shown:?}");
        let session = page.replace("/sign-in", "/api/v1/session");
        let sign_in = || browser.post(&session).json(&serde_json::json!({ "code": code })).send();
        let signed_in = sign_in().await.unwrap();
        assert_eq!(signed_in.status(), 201);
        let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
        assert!(
            cookie.starts_with("__Host-aidos=") && cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
            "{cookie}"
        );
        assert_eq!(sign_in().await.unwrap().status(), 401, "a link works once");
    }
    assert_ne!(links[0], links[1]);
}

#[test]
fn a_port_in_use_is_named_with_the_flag_to_change_it() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let flags = ["--listen", "--quic", "--mqtt", "--serve"];
    for flag in flags {
        let taken = if flag == "--quic" { udp.local_addr() } else { tcp.local_addr() };
        let taken = taken.unwrap().to_string();
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = vec!["up"];
        for other in flags {
            arguments.extend([other, if other == flag { &taken } else { "127.0.0.1:0" }]);
        }
        let output = aidos(folder.path(), &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flag}: {error}");
        assert!(error.contains(&taken) && error.contains(flag), "{flag}: {error}");
    }
}
