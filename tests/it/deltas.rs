//! A second version on its way to devices that have the first: as a delta once devices have asked for one, in chunks where the
//! delta lies, and each device tells what its line was spared.

use crate::stories::{digit, predicts_seven, sample_model};
use aidos_protocol::artifact::Digest;
use aidos_tests::{Agent, Fleet, eventually};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Bytes beside the sample's own: enough chunks that none is shared by chance.
const PADDING: usize = 3 << 20;

/// A version of the sample with much text in its documentation, a letter of which differs in every 4 KiB from the other version's:
/// they share no chunk but for the sample's own.
fn retrained(folder: &Path, number: u8) -> PathBuf {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'a' + (state >> 32) as u8 % 26
    };
    let mut text: Vec<u8> = std::iter::repeat_with(&mut letter).take(PADDING).collect();
    text.iter_mut().step_by(4 << 10).for_each(|letter| *letter = b'0' + number);
    let mut bytes = std::fs::read(sample_model()).unwrap();
    bytes.push(6 << 3 | 2);
    let mut length = text.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.append(&mut text);
    // A push takes the manifest beside the file.
    std::fs::copy(sample_model().with_file_name("model.toml"), folder.join("model.toml")).unwrap();
    let path = folder.join(format!("retrained-{number}.onnx"));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// One text of the control plane's database, once there is one.
pub(crate) async fn written(fleet: &Fleet, what: &str, sql: &str) -> String {
    let file = fleet.control_plane_dir().join("control-plane.db");
    eventually(what, async || {
        let db = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        db.query_row(sql, [], |row| row.get(0)).ok()
    })
    .await
}

/// How the model's second version came to a device, as the device tells it.
async fn transfer(fleet: &Fleet, name: &str) -> Value {
    let id = fleet.device(name, "online").await["id"].as_str().unwrap().to_owned();
    eventually(&format!("{name} tells how the second version came"), async || {
        let told = fleet.api.get(&format!("devices/{id}/twin")).await["status"]["transfers/digits"].clone();
        (told["version"] == 2).then_some(told)
    })
    .await
}

/// Deploys the second version to one device and waits until it runs there.
async fn second(fleet: &Fleet, agent: &Agent, name: &str) -> Value {
    fleet.deploy("digits@2", &format!("who={name}")).await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    transfer(fleet, name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_version_comes_as_a_delta_and_in_chunks_where_the_delta_lies() {
    let fleet = Fleet::start().await;
    let mut agents = Vec::new();
    for name in ["one", "two", "three", "four"] {
        agents.push(fleet.agent(name, &json!({ "who": name, "site": "lab" })).await);
    }
    let (old, new) = (retrained(fleet.folder(), 1), retrained(fleet.folder(), 2));
    let size = std::fs::metadata(&new).unwrap().len();
    fleet.push("digits", &old).await;
    fleet.deploy("digits@1", "site=lab").await;
    let pushed = fleet.push("digits", &new).await;
    assert_eq!(pushed["version"], 2, "{pushed}");
    let chunked = "SELECT COUNT(*) || '' FROM artifact_chunks WHERE state = 'ready' HAVING COUNT(*) = 2";
    written(&fleet, "both versions are cut into chunks", chunked).await;

    // Nobody has asked yet, so there is no delta; the two that come first have it made for the others.
    for (agent, name) in agents.iter().zip(["one", "two"]) {
        let told = second(&fleet, agent, name).await;
        assert_eq!((&told["way"], &told["size"]), (&json!("chunks"), &json!(size)), "{told}");
        assert!(told["fetched"].as_u64().unwrap() > size / 2, "{told}");
    }
    let patch = written(&fleet, "the delta is made", "SELECT patch FROM artifact_deltas WHERE state = 'ready'").await;
    let told = second(&fleet, &agents[2], "three").await;
    assert_eq!(told["way"], "delta", "{told}");
    let fetched = told["fetched"].as_u64().unwrap();
    assert!(fetched > 0 && fetched < size / 10, "{told}: of {size}");

    // The device tells it again after a restart, from what it wrote down.
    agents[2].process().kill();
    agents[2].start().await;
    assert_eq!(transfer(&fleet, "three").await["fetched"], fetched);

    // The control plane's disk rots under the delta.
    let digest: Digest = patch.parse().unwrap();
    let stored = find(&fleet.control_plane_dir().join("objects"), &digest.hex()).expect("the delta is stored by its digest");
    let mut bytes = std::fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&stored, bytes).unwrap();
    let told = second(&fleet, &agents[3], "four").await;
    assert_eq!(told["way"], "chunks", "{told}");
}

/// The file of this name somewhere in a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { (entry.file_name().to_str() == Some(name)).then_some(path) }
    })
}
