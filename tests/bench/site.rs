//! What a site's line carries when all of its agents get the same model: 50 agents in one process, over real sockets, with a real
//! control plane.
//!
//! `cargo bench -p aidos-tests --bench site` prints one line a figure, `name value unit limit` (`-`: none), and fails when a
//! limit is passed. The bytes are those that the agents count as they arrive.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use aidos_agent::identity::{JoinOptions, join};
use aidos_agent::{assembly, config};
use aidos_tests::{Fleet, eventually, free_port};
use futures::future::join_all;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

const AGENTS: usize = 50;
/// Bytes of text in the model: enough ranges that neighbours go on from one to the next.
const BALLAST: usize = 12 << 20;

struct Figures(bool);

impl Figures {
    fn figure(&mut self, name: &str, value: f64, unit: &str, limit: Option<f64>) {
        let text = limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        println!("{name} {value:.3} {unit} {text}");
        self.0 &= limit.is_none_or(|limit| value <= limit);
    }
}

/// The sample model with a long `doc_string`: two protobuf messages one after the other are one message with the fields of both.
fn large_model(folder: &Path) -> PathBuf {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models/digits/digits.onnx");
    let mut bytes = std::fs::read(sample).unwrap();
    bytes.push(6 << 3 | 2);
    let mut length = BALLAST;
    while length > 0x7f {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend((0..BALLAST as u32).map(|n| b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26));
    let file = folder.join("large.onnx");
    std::fs::write(&file, bytes).unwrap();
    file
}

/// The value of a counter in an agent's metrics.
async fn counter(address: std::net::SocketAddr, name: &str) -> f64 {
    let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// Bytes from afar, from neighbours, and seconds until all have the model; `sharing`: whether neighbours are used.
async fn deploy(sharing: bool) -> (f64, f64, f64, f64) {
    let fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let model = large_model(folder.path());
    let size = std::fs::metadata(&model).unwrap().len() as f64;
    fleet.push("large", &model).await;
    let wish = json!({ "uses": AGENTS, "labels": { "site": "bench" } });
    let token = fleet.api.post("tokens", &wish).await["token"].as_str().unwrap().to_owned();
    let ports: Vec<u16> = (0..AGENTS).map(|_| free_port()).collect();
    let peers: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let stop = CancellationToken::new();
    let agents = ports.iter().enumerate().map(|(n, port)| {
        let (url, token, stop, peers) = (fleet.api.url().to_owned(), token.clone(), stop.clone(), peers.clone());
        let (data_dir, port) = (folder.path().join(format!("agent-{n}")), *port);
        tokio::spawn(async move {
            std::fs::create_dir_all(&data_dir).unwrap();
            let options = JoinOptions {
                url,
                token,
                name: format!("agent-{n}"),
                labels: Default::default(),
                dir: assembly::identity_dir(&data_dir),
                insecure_http: false,
                force: false,
            };
            join(&options).await.unwrap();
            let mut config = config::Config { data_dir, ..config::Config::default() };
            config.serve.address = "127.0.0.1:0".parse().unwrap();
            config.neighbours.enabled = Some(sharing);
            config.neighbours.listen = format!("127.0.0.1:{port}").parse().unwrap();
            config.neighbours.peers = peers;
            assembly::run(config.check().unwrap(), stop).await.unwrap()
        })
    });
    let agents: Vec<_> = join_all(agents).await.into_iter().map(Result::unwrap).collect();
    eventually("every agent is connected and knows its site", async || {
        let devices = fleet.api.get("devices?limit=200&state=online").await;
        let online = devices["items"].as_array()?;
        for device in online {
            let id = device["id"].as_str()?;
            if fleet.api.get(&format!("devices/{id}")).await["in_sync"] != true {
                return None;
            }
        }
        (online.len() == AGENTS).then_some(())
    })
    .await;

    let start = Instant::now();
    let deployment = fleet.api.post("deployments", &json!({ "subject": "large@1", "selector": "site=bench" })).await;
    let path = format!("deployments/{}", deployment["id"].as_str().unwrap());
    eventually("every agent is ready", async || (fleet.api.get(&path).await["counts"]["ready"] == AGENTS).then_some(())).await;
    let seconds = start.elapsed().as_secs_f64();
    let (mut afar, mut near) = (0.0, 0.0);
    for agent in &agents {
        afar += counter(agent.serve_addr, "aidos_artifact_afar_bytes_total").await;
        near += counter(agent.serve_addr, "aidos_artifact_near_bytes_total").await;
    }
    stop.cancel();
    for agent in agents {
        agent.join().await.unwrap();
    }
    (size, afar, near, seconds)
}

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let mut figures = Figures(true);
    let (size, afar, near, seconds) = Box::pin(deploy(true)).await;
    figures.figure("site_50_agents_afar", afar / size, "times-artifact", Some(1.1));
    figures.figure("site_50_agents_near", near / size, "times-artifact", None);
    figures.figure("site_50_agents_all_ready", seconds, "s", None);
    let (size, afar, _, seconds) = Box::pin(deploy(false)).await;
    figures.figure("site_50_agents_afar_without_neighbours", afar / size, "times-artifact", None);
    figures.figure("site_50_agents_all_ready_without_neighbours", seconds, "s", None);
    if figures.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
