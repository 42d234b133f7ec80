//! Two tenants see nothing of each other: not over REST, not over the links.

use crate::stories::{digit, predicts_seven, sample_model, variant};
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::{self, Body};
use aidos_tests::{Api, Fleet, FleetOptions, Intruder, Over, eventually, hello, trespass};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_see_nothing_of_each_other() {
    let fleet = Fleet::start().await;
    let other = fleet.api.post("tenants", &json!({ "name": "other" })).await;
    let theirs = fleet.api.with_key(other["owner_key"].as_str().unwrap());
    let token = theirs.post("tokens", &json!({})).await["token"].as_str().unwrap().to_owned();
    let _ours = fleet.agent("ours", &json!({ "site": "lab" })).await;
    let _theirs = fleet.agent_with_token("theirs", &token).await;
    let our_device = fleet.device("ours", "online").await["id"].as_str().unwrap().to_owned();
    let version = fleet.push("digits", &sample_model()).await;
    let deployment = fleet.deploy("digits@1", "all").await;

    // Lists hold one's own only, and a selector for everything means everything of one's own.
    let names = |list: serde_json::Value| {
        list["items"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(theirs.get("devices").await), ["theirs"]);
    assert_eq!(names(fleet.api.get("devices").await), ["ours"]);
    assert_eq!(deployment["counts"]["total"], 1);
    assert_eq!(theirs.get("models").await["items"], json!([]));
    assert_eq!(theirs.get("deployments").await["items"], json!([]));

    // By id, what belongs to another does not exist.
    let digest = version["digest"].as_str().unwrap();
    let deployment = deployment["id"].as_str().unwrap();
    for path in [
        format!("devices/{our_device}"),
        format!("devices/{our_device}/twin"),
        format!("devices/{our_device}/telemetry/metrics"),
        "models/digits".into(),
        "models/digits/versions/1".into(),
        format!("artifacts/{digest}"),
        format!("artifacts/{digest}/content"),
        format!("deployments/{deployment}"),
    ] {
        assert_eq!(theirs.status(&path).await, StatusCode::NOT_FOUND, "{path}");
    }
    let revoke = theirs.request(Method::POST, &format!("devices/{our_device}/revoke"));
    assert_eq!(theirs.send(revoke).await.0, StatusCode::NOT_FOUND);
    let command = theirs.request(Method::POST, &format!("devices/{our_device}/commands")).json(&json!({ "kind": "self-test" }));
    assert_eq!(theirs.send(command).await.0, StatusCode::NOT_FOUND);
    // A digest alone gives nobody the bytes behind it.
    theirs.post("models", &json!({ "name": "stolen" })).await;
    let version = theirs.request(Method::POST, "models/stolen/versions").json(&json!({ "digest": digest }));
    assert!(theirs.send(version).await.0.is_client_error());
    let activity = theirs.get("activity").await.to_string();
    assert!(!activity.contains(&our_device) && !activity.contains("digits"), "{activity}");
}

/// What must stay as it is while a stranger tries; what a device measures changes by itself.
async fn state_of(api: &Api, device: &str) -> Value {
    let (shown, twin) = (api.get(&format!("devices/{device}")).await, api.get(&format!("devices/{device}/twin")).await);
    let kept = ["name", "labels", "notes", "agent_version", "revoked_at", "inventory"].map(|key| shown[key].clone());
    let mut models = shown["models"].clone();
    // Its agent starts anew meanwhile.
    models.as_object_mut().unwrap().values_mut().for_each(|model| model["since"] = Value::Null);
    let lost = api.get(&format!("devices/{device}/telemetry/metrics")).await["lost_samples"].clone();
    json!([
        kept,
        models,
        twin["intent"],
        lost,
        api.get("models").await["items"],
        api.get("deployments").await["items"].as_array().map(Vec::len)
    ])
}

async fn command(api: &Api, device: &str, offline: &str) -> String {
    let wish = json!({ "kind": "self-test", "offline": offline, "ttl_s": 600 });
    api.post(&format!("devices/{device}/commands"), &wish).await["id"].as_str().unwrap().to_owned()
}

fn forged(command: &str) -> Body {
    let outcome = frame::command_result::Outcome::Ok.into();
    Body::CommandResult(frame::CommandResult { id: command.to_owned(), outcome, message: "forged".into(), ..Default::default() })
}

fn forged_status() -> Body {
    let entry = |path: &str, value: &str| frame::StatusEntry { path: path.into(), value: value.to_owned().into(), seq: 1_000 };
    let set = vec![entry("agent/version", "\"6.6.6\""), entry("models/stolen", "{\"state\":\"ready\"}")];
    Body::StatusDelta(frame::StatusDelta { boot_id: 1_000_000, base_seq: 0, seq: 1_000, full: true, set, removed: vec![] })
}

/// A device of one tenant, with its own certificate, tries whatever the link lets it say about a device of another.
async fn devices_of_two_tenants_are_apart(over: Over) {
    let fleet = Fleet::with(FleetOptions { mqtt_only: over == Over::Mqtt, ..FleetOptions::default() }).await;
    let other = fleet.api.post("tenants", &json!({ "name": "other" })).await;
    let key = other["owner_key"].as_str().unwrap().to_owned();
    let theirs = fleet.api.with_key(&key);
    let token = theirs.post("tokens", &json!({})).await["token"].as_str().unwrap().to_owned();
    let their_agent = fleet.agent_with_token("theirs", &token).await;
    let as_they = |arguments: &[&str]| {
        let login = ["--url", fleet.api.url(), "--api-key", &key];
        let output = fleet.cli(&[&login, arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    as_they(&["model", "push", &sample_model().to_string_lossy(), "--name", "digits"]);
    as_they(&["deploy", "digits@1", "--to", "all", "--wait"]);
    let their_device = theirs.get("devices").await["items"][0]["id"].as_str().unwrap().to_owned();
    let their_digest: Digest =
        theirs.get("models/digits/versions/1").await["digest"].as_str().unwrap().parse().expect("a digest");
    let their_tenant = theirs.get("whoami").await["tenant"]["id"].as_str().unwrap().to_owned();

    // Our device has joined, and instead of its agent an intruder holds its certificate.
    let our_dir = fleet.folder().join("ours");
    fleet.joined("ours", &fleet.token(&json!({})).await, &our_dir);
    let own_model = variant(fleet.folder(), 1, 0);
    let own = fleet.push("own", &own_model).await;
    let own_digest: Digest = own["digest"].as_str().unwrap().parse().unwrap();
    let before = state_of(&theirs, &their_device).await;
    let mut intruder = Intruder::welcomed(&our_dir, over).await;
    intruder.heard_until_now().await;

    // What happens on their side is not heard on ours.
    let patch = theirs.request(Method::PATCH, &format!("devices/{their_device}")).json(&json!({ "labels": { "secret": "x" } }));
    assert!(theirs.send(patch).await.0.is_success());
    finished(&theirs, &their_device, &command(&theirs, &their_device, "fail").await).await;
    eventually("their device has the label", async || {
        (theirs.get(&format!("devices/{their_device}")).await["in_sync"] == true).then_some(())
    })
    .await;
    let heard = intruder.heard_until_now().await;
    assert!(heard.is_empty(), "{heard:?}");
    let unpatch =
        theirs.request(Method::PATCH, &format!("devices/{their_device}")).json(&json!({ "labels": { "secret": null } }));
    assert!(theirs.send(unpatch).await.0.is_success());

    // Their artifact is not there for us, by its digest or by an address that was signed for another.
    let ask = |digest: Digest| {
        Body::ArtifactRequest(frame::ArtifactRequest { digest: digest.as_bytes().to_vec().into(), ..Default::default() })
    };
    intruder.say(ask(their_digest)).await;
    let Some(Body::ArtifactGrant(refused)) = intruder.hears().await else { panic!("no grant") };
    assert!(!refused.error.is_empty() && refused.url.is_empty() && refused.size == 0, "{refused:?}");
    let unknown = Digest::of(b"nobody has this");
    intruder.say(ask(unknown)).await;
    let Some(Body::ArtifactGrant(nothing)) = intruder.hears().await else { panic!("no grant") };
    let told = |grant: &frame::ArtifactGrant, digest: Digest| grant.error.replace(&digest.to_string(), "?");
    assert_eq!(told(&refused, their_digest), told(&nothing, unknown), "the answer tells that somebody has the bytes");
    intruder.say(ask(own_digest)).await;
    let Some(Body::ArtifactGrant(granted)) = intruder.hears().await else { panic!("no grant") };
    let our_tenant = fleet.api.get("whoami").await["tenant"]["id"].as_str().unwrap().to_owned();
    assert_eq!(reqwest::get(&granted.url).await.unwrap().bytes().await.unwrap(), std::fs::read(&own_model).unwrap());
    for stolen in [
        granted.url.replace(&own_digest.to_string(), &their_digest.to_string()),
        granted.url.replace(&our_tenant, &their_tenant),
        granted.url.replace(&own_digest.to_string(), &their_digest.to_string()).replace(&our_tenant, &their_tenant),
    ] {
        assert_ne!(stolen, granted.url);
        assert_eq!(reqwest::get(&stolen).await.unwrap().status(), StatusCode::FORBIDDEN, "{stolen}");
    }

    // A result of a command that is theirs, and a status, are taken as ours or not at all.
    let mut their_agent = their_agent;
    their_agent.process().terminate(Duration::from_secs(20));
    fleet_sees_offline(&theirs).await;
    let queued = command(&theirs, &their_device, "queue").await;
    intruder.say(forged(&queued)).await;
    intruder.say(forged_status()).await;
    intruder.say(Body::Telemetry(frame::Telemetry { lost_samples: 77, ..Default::default() })).await;
    intruder.heard_until_now().await;
    let path = format!("devices/{their_device}/commands/{queued}");
    assert_eq!(theirs.get(&path).await["state"], "queued");
    their_agent.start().await;
    let done = finished(&theirs, &their_device, &queued).await;
    assert!(done["message"] != "forged" && done["state"] == "ok", "{done}");
    if over == Over::Mqtt {
        drop(intruder);
        let our_device = fleet.api.get("devices").await["items"][0]["id"].as_str().unwrap().to_owned();
        topics_of_others_are_closed((&our_dir, &our_device), &theirs, &their_device).await;
    }

    eventually("their device is as it was", async || {
        (theirs.get(&format!("devices/{their_device}")).await["in_sync"] == true).then_some(())
    })
    .await;
    assert_eq!(state_of(&theirs, &their_device).await, before);
    predicts_seven(&their_agent.predict("digits", &digit(7)));
    let activity = theirs.get("activity?limit=200").await.to_string();
    let our_device = fleet.api.get("devices").await["items"][0]["id"].as_str().unwrap().to_owned();
    assert!(!activity.contains(&our_device), "{activity}");
}

/// Each filter and topic that names another, tried while their device hears something on its own topic.
async fn topics_of_others_are_closed((our_dir, our_device): (&Path, &str), theirs: &Api, their_device: &str) {
    let (up, down) = (format!("d/{their_device}/up"), format!("d/{their_device}/down"));
    let since = theirs.get(&format!("devices/{their_device}")).await["link"]["since_us"].clone();
    let client_id = format!("intruder-{}", rand::random::<u16>());
    let something_happens = async || {
        let id = command(theirs, their_device, "fail").await;
        assert_eq!(finished(theirs, their_device, &id).await["state"], "ok");
    };
    // On its own topics the same client is heard and hears, so its silence on the others means something.
    let (own_down, own_up) = (format!("d/{our_device}/down"), format!("d/{our_device}/up"));
    eventually("it hears on its own topic", async || {
        let heard = trespass(our_dir, &client_id, &own_down, &own_up, hello(), something_happens()).await;
        heard.contains(&own_down).then_some(())
    })
    .await;
    for (filter, topic, client_id) in [
        (&*down, &*up, &*client_id),
        (&*up, &*down, &*client_id),
        ("#", &*up, their_device),
        ("d/+/down", &*up, &*client_id),
        ("d/+/up", &*down, &*client_id),
        ("$share/g/d/+/down", &*up, &*client_id),
        ("$SYS/#", &*up, &*client_id),
    ] {
        for body in [Body::Goodbye(frame::Goodbye::default()), forged_status()] {
            let heard = trespass(our_dir, client_id, filter, topic, body, something_happens()).await;
            assert!(heard.is_empty(), "{filter} and {topic}: {heard:?}");
        }
    }
    let device = theirs.get(&format!("devices/{their_device}")).await;
    assert_eq!((&device["state"], &device["link"]["since_us"]), (&json!("online"), &since), "their session was never disturbed");
}

async fn finished(api: &Api, device: &str, command: &str) -> Value {
    eventually("the command is finished", async || {
        let shown = api.get(&format!("devices/{device}/commands/{command}")).await;
        (!shown["finished_at"].is_null()).then_some(shown)
    })
    .await
}

async fn fleet_sees_offline(api: &Api) {
    eventually("the device is offline", async || (api.get("devices").await["items"][0]["state"] == "offline").then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_one_tenant_reaches_nothing_of_another_over_quic() {
    devices_of_two_tenants_are_apart(Over::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_one_tenant_reaches_nothing_of_another_over_mqtt() {
    devices_of_two_tenants_are_apart(Over::Mqtt).await;
}
