//! Start, shutdown and start again of the whole.

use super::super::run;
use crate::config::{Listen, Settings};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

fn settings(data_dir: &Path) -> Settings {
    Settings {
        data_dir: Some(data_dir.to_owned()),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        quic: Some("127.0.0.1:0".parse().unwrap()),
        mqtt: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    }
}

async fn get(api_url: &str, path: &str, key: &str) -> String {
    let mut stream = TcpStream::connect(api_url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_starts_stops_and_starts_again_with_everything_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut key = String::new();
    for start in 0..2 {
        let shutdown = CancellationToken::new();
        let running = run(settings(folder.path()).resolve().unwrap(), shutdown.clone()).await.unwrap();
        assert_eq!(running.first_start, start == 0);
        if running.first_start {
            key = std::fs::read_to_string(&running.owner_key_path).unwrap().trim().to_owned();
        }
        let run_file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("run.json")).unwrap()).unwrap();
        assert_eq!(run_file["api"], running.api_url);
        assert_eq!(run_file["quic"], running.quic_addr.unwrap().to_string());
        assert_eq!(run_file["mqtt"], running.mqtt_addr.unwrap().to_string());
        assert!(get(&running.api_url, "/readyz", "").await.ends_with("ready\n"));
        assert!(get(&running.api_url, "/api/v1/whoami", &key).await.contains("\"role\":\"owner\""));
        let front = get(&running.api_url, "/", "").await;
        assert!(front.starts_with("HTTP/1.1 200") && front.contains("content-security-policy: default-src 'none'"), "{front}");
        assert!(get(&running.api_url, "/docs/", "").await.contains("swagger"));
        assert!(get(&running.api_url, "/metrics", &key).await.contains("aidos_sessions"));
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), running.join()).await.unwrap();
        assert!(!folder.path().join("run.json").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let off = Settings { quic: Some(Listen::Off), mqtt: Some(Listen::Off), ..settings(folder.path()) };
    let config = Settings { listen: Some(address), ..off }.resolve().unwrap();
    let refused = run(config, CancellationToken::new()).await.err().unwrap();
    let text = format!("{refused:#}");
    assert!(text.contains(&address.to_string()) && text.contains("--listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_not_silently_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let start_and_stop = async || {
        let shutdown = CancellationToken::new();
        let running = run(settings(folder.path()).resolve().unwrap(), shutdown.clone()).await?;
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), running.join()).await.unwrap();
        anyhow::Ok(())
    };
    start_and_stop().await.unwrap();
    let (database, kept) = (folder.path().join("control-plane.db"), folder.path().join("backup"));
    std::fs::rename(&database, &kept).unwrap();
    // Also where the owner's key was taken to a safe place.
    for owner_key in [true, false] {
        if !owner_key {
            std::fs::remove_file(folder.path().join("owner.key")).unwrap();
        }
        let refused = format!("{:#}", start_and_stop().await.err().unwrap());
        for word in ["control-plane.db", "restore", "move"] {
            assert!(refused.contains(word), "{refused}");
        }
        // Nothing lies where the backup goes.
        assert!(!database.exists());
    }
    // One that holds nothing is as good as none.
    std::fs::write(&database, "").unwrap();
    let refused = format!("{:#}", start_and_stop().await.err().unwrap());
    assert!(refused.contains("restore"), "{refused}");
    for left in ["control-plane.db", "control-plane.db-wal", "control-plane.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(left));
    }
    std::fs::rename(&kept, &database).unwrap();
    start_and_stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_cut_short_is_gone_on_with() {
    // What a kill leaves at each step: nothing, the CA, the empty database as well, the key of a tenant that was never committed.
    for step in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        if step > 0 {
            let clock = crate::platform::clock::Clock::system();
            crate::platform::pki::Pki::open_or_create(&folder.path().join("pki"), "aidos", clock).unwrap();
        }
        if step > 1 {
            let url = crate::platform::db::Db::sqlite_url(&folder.path().join("control-plane.db"));
            crate::platform::db::Db::connect(&url).await.unwrap().close().await;
        }
        if step > 2 {
            std::fs::write(folder.path().join("owner.key"), "aidos_never_committed\n").unwrap();
        }
        let running = run(settings(folder.path()).resolve().unwrap(), shutdown.clone()).await.unwrap();
        assert!(running.first_start, "step {step}");
        let key = std::fs::read_to_string(&running.owner_key_path).unwrap();
        assert!(get(&running.api_url, "/api/v1/whoami", key.trim()).await.contains("\"role\":\"owner\""), "step {step}");
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), running.join()).await.unwrap();
    }
}
