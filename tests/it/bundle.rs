//! A model that travels on a stick, and one that travels between neighbours: a later deployment needs no download.

use crate::stories::{digit, predicts_seven, sample_model};
use aidos_tests::{Agent, Fleet, eventually, free_port};
use serde_json::json;

async fn counter(agent: &Agent, name: &str) -> u64 {
    let text = reqwest::get(format!("{}/metrics", agent.url)).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_from_a_stick_saves_a_later_deployment_the_download() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let stick = fleet.folder().join("stick.tar");
    let out = fleet.cli(&["bundle", "export", "digits@1", "--out", &stick.to_string_lossy(), "-o", "json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    // One device takes it in while it runs, one while it does not.
    let far = json!({ "site": "far" });
    let (running, mut stopped) = (fleet.agent("edge-1", &far).await, fleet.agent("edge-2", &far).await);
    stopped.process().terminate(std::time::Duration::from_secs(20));
    for agent in [&running, &stopped] {
        let out = agent.cli(&["bundle", "import", &stick.to_string_lossy()]);
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("digits@1"), "{text}{}", String::from_utf8_lossy(&out.stderr));
        // It says that nothing runs by that.
        assert!(text.contains("a deployment decides"), "{text}");
    }
    // The operator's command line at the site does the same.
    let fresh = fleet.folder().join("nobody");
    for (dir, code, word) in [(&running.dir, 0, "digits@1"), (&stopped.dir, 0, "digits@1"), (&fresh, 1, "--agent-dir")] {
        let stick = stick.to_string_lossy();
        let out = fleet.cli(&["bundle", "import", &stick, "--agent-dir", &dir.to_string_lossy()]);
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.code() == Some(code) && text.contains(word), "{text}");
    }
    stopped.start().await;
    assert!(!running.predict("digits", &digit(7)).status.success(), "an import activates nothing");

    fleet.device("edge-2", "online").await;
    fleet.deploy("digits@1", "site=far").await;
    for agent in [&running, &stopped] {
        predicts_seven(&agent.predict("digits", &digit(7)));
        assert_eq!(counter(agent, "aidos_artifact_afar_bytes_total").await, 0);
    }

    // A damaged one is refused where the file is not there yet, and says why.
    let mut bytes = std::fs::read(&stick).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&stick, bytes).unwrap();
    let fresh = fleet.agent("edge-3", &json!({})).await;
    let out = fresh.cli(&["bundle", "import", &stick.to_string_lossy()]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("sha256:"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_agent_of_a_site_takes_the_model_from_the_first() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let ports = [free_port(), free_port()];
    let peers = format!("peers = ['127.0.0.1:{}', '127.0.0.1:{}']", ports[0], ports[1]);
    let mut agents = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let config = fleet.folder().join(format!("edge-{n}.toml"));
        std::fs::write(&config, format!("[neighbours]\nlisten = '127.0.0.1:{port}'\n{peers}\n")).unwrap();
        agents.push(fleet.agent_with_config(&format!("edge-{n}"), &json!({ "site": "lab" }), &config).await);
    }
    for n in 0..2 {
        fleet.device(&format!("edge-{n}"), "online").await;
    }
    fleet.deploy("digits@1", "site=lab").await;
    let size = std::fs::metadata(sample_model()).unwrap().len();
    let (mut afar, mut near) = (0, 0);
    for agent in &agents {
        predicts_seven(&agent.predict("digits", &digit(7)));
        afar += counter(agent, "aidos_artifact_afar_bytes_total").await;
        near += counter(agent, "aidos_artifact_near_bytes_total").await;
    }
    assert_eq!((afar, near), (size, size));
    let healthy = eventually("doctor tells of the neighbours", async || {
        let out = agents[0].cli(&["doctor"]);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.contains("neighbours").then_some(text)
    })
    .await;
    assert!(healthy.contains("answered"), "{healthy}");
}
