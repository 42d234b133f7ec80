//! The agent replaces itself, and comes back when the new version is bad.

use crate::deltas::written;
use crate::stories::noise;
use aidos_tests::{Fleet, eventually};
use std::time::Duration;

/// Short spans, but long enough for a busy machine: the real agent must not be taken for a bad one.
const PATIENT: [&str; 4] = ["--silence", "30", "--deadline", "120"];
const SHORT: [&str; 6] = ["--starts", "2", "--silence", "12", "--deadline", "20"];

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_takes_over_and_none_below_the_floor_is_taken_after_it() {
    let fleet = Fleet::start().await;
    let mut device = fleet.launched("edge", &PATIENT).await;
    fleet.push_release(&fleet.bad_agent("crash", "0.0.9"), "0.0.9", &[]);
    fleet.push_release(&fleet.other_agent("second build"), "0.1.0+second", &["--raise-floor"]);
    let cut = "SELECT MIN(state) FROM artifact_chunks HAVING MIN(state) = 'ready' AND MAX(state) = 'ready'";
    written(&fleet, "the releases are cut into chunks", cut).await;

    fleet.deploy_release("0.1.0+second");
    let status = device.release(&fleet, "0.1.0+second", "ready").await;
    assert_eq!((&status["active"], &status["active_counter"]), (&"0.1.0+second".into(), &2.into()), "{status}");
    assert_eq!((&status["previous"], &status["floor"]), (&"installed".into(), &2.into()), "{status}");
    // It came in those chunks that the binary before lacks.
    let came =
        device.reports(&fleet, "transfers/agent.release", "it says how the binary came", |came| came["size"].is_u64()).await;
    assert_eq!((&came["version"], &came["way"]), (&2.into(), &"chunks".into()), "{came}");
    assert!(came["fetched"].as_u64().unwrap() * 20 < came["size"].as_u64().unwrap(), "{came}");
    // It is the new binary that runs, and it answers.
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(device.dir.join("run.json")).unwrap()).unwrap();
    let program = std::fs::read_link(format!("/proc/{}/exe", run["pid"])).unwrap();
    assert!(program.ends_with("slots/b/aidos-agent"), "{}", program.display());
    let live = format!("http://{}/v2/health/live", run["serve_addr"].as_str().unwrap());
    assert!(reqwest::get(live).await.unwrap().status().is_success());

    // An older one is refused on the device before a byte of it is fetched, and the status says why.
    fleet.deploy_release("0.0.9");
    let status = device.release(&fleet, "0.0.9", "failed").await;
    assert!(status["error"].as_str().unwrap().contains("below this device's security floor 2"), "{status}");
    assert_eq!(status["active"], "0.1.0+second");

    // The launcher passes the end on: the agent ends in order, and with it.
    assert!(device.launcher.terminate(Duration::from_secs(30)).success());
    assert!(!device.dir.join("run.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_hangs_or_is_never_in_touch_gives_way_to_the_one_before() {
    let fleet = Fleet::start().await;
    let mut device = fleet.launched("edge", &SHORT).await;
    let bad = [
        ("crash", "9.0.1", "2 starts, the last one: it ended by itself (exit status 101)"),
        ("hang", "9.0.2", "2 starts, the last one: it hung: no heartbeat for 12 s"),
        ("grow", "9.0.4", "its memory grew to"),
        ("deaf", "9.0.3", "it was not healthy within 20 s"),
    ];
    for (behaviour, version, why) in bad {
        fleet.push_release(&fleet.bad_agent(behaviour, version), version, &[]);
        fleet.deploy_release(version);
        let status = device.release(&fleet, version, "rolled_back").await;
        assert!(status["error"].as_str().unwrap().contains(why), "{behaviour}: {status}");
        assert_eq!((&status["active"], &status["floor"]), (&"0.1.0".into(), &0.into()), "{status}");
        fleet.device("edge", "online").await;
    }
    // The same version is not tried again by itself, but when someone asks anew.
    let starts = |log: &str| log.matches("starting agent 9.0.3").count();
    assert_eq!(starts(&device.launcher.log()), 1);
    fleet.deploy_release("9.0.3");
    eventually("the version is tried again", async || (starts(&device.launcher.log()) == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_loses_its_control_plane_before_it_has_proved_itself_gives_way() {
    let mut fleet = Fleet::start().await;
    let mut device = fleet.launched("edge", &["--silence", "30", "--deadline", "15"]).await;
    fleet.push_release(&fleet.other_agent("proves itself late"), "0.1.0+late", &[]);
    // It has to be in touch for longer than the control plane lives.
    let settings = fleet.folder().join("agents.toml");
    std::fs::write(&settings, "[update]\nhealthy_after_s = 12\n").unwrap();
    assert!(fleet.cli(&["config", "push", settings.to_str().unwrap(), "--to", "all"]).status.success());
    device.reports(&fleet, "agent/config", "the settings hold", |status| status["version"] == 1).await;
    fleet.deploy_release("0.1.0+late");
    device.release(&fleet, "0.1.0+late", "trial").await;
    fleet.control_plane().terminate(Duration::from_secs(20));
    eventually("it is given up", async || device.launcher.log().contains("was not healthy within 15 s").then_some(())).await;
    fleet.start_control_plane().await;
    let status = device.release(&fleet, "0.1.0+late", "rolled_back").await;
    assert_eq!(status["active"], "0.1.0", "{status}");
    fleet.device("edge", "online").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_reach_a_running_agent_and_are_taken_back() {
    let fleet = Fleet::start().await;
    let mut device = fleet.launched("edge", &PATIENT).await;
    let file = fleet.folder().join("agents.toml");
    let push = |text: &str| {
        std::fs::write(&file, text).unwrap();
        fleet.cli(&["config", "push", file.to_str().unwrap(), "--to", "all"])
    };
    let refused = push("[telemetry]\ninterval_s = 0\n");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("telemetry.interval_s"), "{refused:?}");
    assert!(push("[telemetry]\ninterval_s = 2\n").status.success());
    assert!(push("[telemetry]\ninterval_s = 3\n[storage]\nmax_bytes = 1073741824\n").status.success());
    let applied = |version: u64| move |value: &serde_json::Value| value["version"] == version;
    let status = device.reports(&fleet, "agent/config", "the second version holds", applied(2)).await;
    assert_eq!((&status["state"], &status["at_restart"][0]), (&"applied".into(), &"storage.max_bytes".into()), "{status}");
    assert!(fleet.cli(&["config", "apply", "1", "--to", "all"]).status.success());
    let status = device.reports(&fleet, "agent/config", "the first version holds again", applied(1)).await;
    assert_eq!(status["at_restart"], serde_json::Value::Null, "{status}");
    let shown = fleet.cli(&["config", "show", &device.id, "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["desired"]["settings"]["telemetry"]["interval_s"], 2, "{shown}");

    // The bound on its line holds for a running agent: half a MiB that does not shrink, at 128 KiB a second, takes seconds.
    assert!(push("[storage]\ndownload_bytes_per_s = 131072\n").status.success());
    device.reports(&fleet, "agent/config", "the bound holds", applied(3)).await;
    fleet.push("digits", &noise(fleet.folder(), 1, 512 << 10)).await;
    let begun = std::time::Instant::now();
    fleet.deploy("digits@1", "all").await;
    assert!(begun.elapsed() > std::time::Duration::from_secs(2), "{:?}", begun.elapsed());

    // An agent whose launcher was killed ends in order: the next launcher's agent would find it in its place.
    device.launcher.kill();
    eventually("the agent ends with its launcher", async || (!device.dir.join("run.json").exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_and_settings_go_in_waves_and_a_bad_release_reaches_one_device() {
    let fleet = Fleet::start().await;
    let mut devices = [fleet.launched("edge-0", &SHORT).await, fleet.launched("edge-1", &SHORT).await];
    fleet.push_release(&fleet.other_agent("second build"), "0.1.0+second", &[]);
    fleet.push_release(&fleet.bad_agent("crash", "9.0.1"), "9.0.1", &[]);
    let waves = |what: &str, more: &[&str]| {
        let how = ["rollout", "create", what, "--to", "all", "--waves", "1,100%", "--wait", "-o", "json"];
        let out = fleet.cli(&[&how, more].concat());
        let rollout: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"));
        (out.status.code(), rollout)
    };

    let (code, good) = waves("agent.release@0.1.0+second", &["--gate", "memory<4GiB"]);
    assert_eq!((code, &good["phase"], &good["subject"]), (Some(0), &"finished".into(), &"agent.release".into()), "{good}");
    let gate = &good["gates"][0];
    assert!(gate["verdict"] == "holds" && gate["candidate"].as_f64() > Some(1e6), "each says what it takes: {good}");
    for device in &mut devices {
        device.release(&fleet, "0.1.0+second", "ready").await;
    }

    let (code, bad) = waves("agent.release@9.0.1", &["--auto-revert"]);
    assert_eq!((code, &bad["phase"], &bad["reverted"]), (Some(3), &"aborted".into(), &true.into()), "{bad}");
    assert_eq!((&bad["waves"][0]["failed"], &bad["waves"][1]["waiting"]), (&1.into(), &1.into()), "{bad}");
    for device in &mut devices {
        // What is wanted again is what runs.
        device.release(&fleet, "0.1.0+second", "ready").await;
    }
    let exposed = devices.iter().filter(|device| device.launcher.log().contains("starting agent 9.0.1")).count();
    assert_eq!(exposed, 1);

    let settings = serde_json::json!({ "settings": { "telemetry": { "interval_s": 2 } } });
    fleet.api.post("agent-settings", &settings).await;
    let (code, slow) = waves("agent.config@1", &["--soak", "1s"]);
    assert_eq!((code, &slow["phase"]), (Some(0), &"finished".into()), "{slow}");
    assert!(slow["waves"].as_array().unwrap().iter().all(|wave| wave["succeeded"] == 1), "each vouches for it: {slow}");
}
