//! What a large artifact costs over a bad line: a device fetches it while its connections are cut every ten seconds, one packet in
//! twenty is lost, and the agent's process is killed twenty times.
//!
//! `cargo xtask bench cut_link`; fails when a limit is passed. `AIDOS_BENCH_MIB=64` sets the artifact's size for a quick run.
//!
//! All of it runs in a network namespace of its own, in which the kernel drops each packet between the agent and the line with a
//! probability of one in twenty, both ways; that needs root. The line is a TCP relay within this program. It counts every byte that it took from
//! the server, whether the agent got it or not; what TCP sends again because it was lost is the kernel's, and counted apart.

#![allow(clippy::unwrap_used)]

use aidos_tests::{Figures, Fleet, FleetOptions, eventually};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::json;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// Of the artifact.
const MIB: u64 = 1_024;
/// Of the agent's process.
const KILLS: u64 = 20;
/// Between two cuts of the line, on average; each is at half to one and a half of it.
const CUT_EVERY: Duration = Duration::from_secs(10);
/// Of a hundred packets, so many are lost.
const LOST: u32 = 5;
/// Bytes of a packet, as on most lines: loopback's own are so large that losing one in twenty would be another thing.
const PACKET: &str = "1500";
/// Set where this program runs within its namespace.
const WITHIN: &str = "AIDOS_BENCH_WITHIN";
/// Bytes that pass at once: the packets that are under way together.
const PIECE: usize = 64 << 10;
/// Bytes per second that the line carries.
const RATE: u64 = 32 << 20;

#[expect(clippy::print_stderr, reason = "the progress of minutes")]
fn progress(text: &str) {
    eprintln!("{text}");
}

/// The line.
struct Line {
    address: SocketAddr,
    taken: Arc<AtomicU64>,
    cuts: watch::Sender<u64>,
}

impl Line {
    async fn start(server: SocketAddr) -> Self {
        // Small buffers, as the few packets under way on a long line; those of loopback would hold megabytes.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, cuts) = (Arc::new(AtomicU64::new(0)), watch::channel(0).0);
        tokio::spawn(accept(listener, server, Arc::clone(&taken), cuts.clone()));
        Self { address, taken, cuts }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, taken: Arc<AtomicU64>, cuts: watch::Sender<u64>) {
    while let Ok((agent, _)) = listener.accept().await {
        let (taken, mut cut) = (Arc::clone(&taken), cuts.subscribe());
        tokio::spawn(async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(64 << 10).unwrap();
            let Ok(server) = socket.connect(server).await else { return };
            tokio::select! {
                () = pass(agent, server, &taken) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

/// Passes bytes both ways until one end is done.
async fn pass(agent: TcpStream, server: TcpStream, taken: &AtomicU64) {
    let ((mut from_agent, mut to_agent), (mut from_server, mut to_server)) = (agent.into_split(), server.into_split());
    let there = async { drop(tokio::io::copy(&mut from_agent, &mut to_server).await) };
    let back = async {
        let mut buffer = vec![0; PIECE];
        let mut free = Instant::now();
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            taken.fetch_add(read as u64, Ordering::Relaxed);
            free = free.max(Instant::now()) + Duration::from_secs_f64(read as f64 / RATE as f64);
            tokio::time::sleep_until(free.into()).await;
            if to_agent.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// The sample model with bytes in a field that no version of ONNX has: readers pass over it, and it does not compress.
fn large_model(folder: &Path, bytes: u64) -> PathBuf {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models/digits/digits.onnx");
    let sample = std::fs::read(sample).unwrap();
    let varint = |mut number: u64| {
        let mut written = Vec::new();
        while number >= 0x80 {
            written.push(number as u8 | 0x80);
            number >>= 7;
        }
        written.push(number as u8);
        written
    };
    // The tag takes two bytes, the length five.
    let ballast = bytes - sample.len() as u64 - 7;
    let file = folder.join("large.onnx");
    let mut out = BufWriter::new(std::fs::File::create(&file).unwrap());
    out.write_all(&sample).unwrap();
    out.write_all(&varint(999 << 3 | 2)).unwrap();
    out.write_all(&varint(ballast)).unwrap();
    let (mut random, mut left, mut block) = (StdRng::seed_from_u64(7), ballast, vec![0; 1 << 20]);
    while left > 0 {
        random.fill_bytes(&mut block);
        let now = left.min(block.len() as u64);
        out.write_all(&block[..now as usize]).unwrap();
        left -= now;
    }
    out.flush().unwrap();
    file
}

/// Runs a program that sets the namespace up.
fn done(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "`{program} {}` failed", arguments.join(" "));
}

/// Lets the kernel lose packets of connections to `port` of this namespace.
fn lose(port: u16) {
    let some = |which: &str| {
        format!("tcp {which} {port} counter name \"seen\" numgen random mod 100 < {LOST} counter name \"lost\" drop")
    };
    let rules = [
        "table inet line {",
        "counter seen { }",
        "counter lost { }",
        "chain way {",
        "type filter hook input priority 0; policy accept;",
        &some("dport"),
        &some("sport"),
        "}",
        "}",
    ];
    done("nft", &[&rules.join("\n")]);
}

/// Packets that a counter has seen.
fn packets(counter: &str) -> f64 {
    let said = Command::new("nft").args(["list", "counter", "inet", "line", counter]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let number = text.split("packets ").nth(1).and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("nft counts packets: {text}"))
}

fn main() -> ExitCode {
    if std::env::var_os(WITHIN).is_none() {
        let own = std::env::current_exe().unwrap();
        let status = Command::new("unshare").arg("--net").arg(own).args(std::env::args_os().skip(1)).env(WITHIN, "1").status();
        let status = status.expect("unshare is there");
        return ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    }
    done("ip", &["link", "set", "dev", "lo", "mtu", PACKET, "gso_max_size", PACKET, "up"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure())
}

async fn measure() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let mib = std::env::var("AIDOS_BENCH_MIB").map_or(MIB, |text| text.parse().unwrap());
    let mut figures = Figures::default();
    let folder = tempfile::tempdir().unwrap();
    let model = large_model(folder.path(), mib << 20);
    let size = std::fs::metadata(&model).unwrap().len();

    // The relay in the harness is not used: it neither cuts nor counts.
    let mut fleet = Fleet::start().await;
    let server = fleet.api.url().trim_start_matches("http://").parse().unwrap();
    let line = Line::start(server).await;
    *fleet.options() = FleetOptions { public_url: Some(format!("http://{}", line.address)), ..FleetOptions::default() };
    fleet.control_plane().kill();
    fleet.start_control_plane().await;
    fleet.push("large", &model).await;
    std::fs::remove_file(&model).unwrap();
    progress("waiting for the artifact's chunks");
    let begun = Instant::now();
    while !fleet.control_plane().log().contains("can be fetched in chunks") {
        assert!(begun.elapsed() < Duration::from_secs(3_600), "it is not cut into chunks:\n{}", fleet.control_plane().log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    figures.figure("cut_link_packing", begun.elapsed().as_secs_f64(), "s", None);

    let mut agent = fleet.agent("edge", &json!({ "site": "far" })).await;
    let id = fleet.device("edge", "online").await["id"].as_str().unwrap().to_owned();
    let before = line.taken.load(Ordering::Relaxed);
    lose(line.address.port());
    let begun = Instant::now();
    fleet.api.post("deployments", &json!({ "subject": "large@1", "selector": "site=far" })).await;
    let cutter = {
        let cuts = line.cuts.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(CUT_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
                cuts.send_modify(|cuts| *cuts += 1);
            }
        })
    };
    let mut random = StdRng::seed_from_u64(11);
    for kill in 1..=KILLS {
        // Spread over the whole way, somewhere between two even steps.
        let at = size * kill / (KILLS + 1) - random.random_range(0..size / (KILLS + 1) / 2);
        while line.taken.load(Ordering::Relaxed) - before < at {
            assert!(begun.elapsed() < Duration::from_secs(3_600), "nothing comes any more:\n{}", agent.process().log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        agent.process().kill();
        agent.start().await;
        progress(&format!("kill {kill} after {} MiB", (line.taken.load(Ordering::Relaxed) - before) >> 20));
    }
    let told = eventually("the device has the file", async || {
        let told = fleet.api.get(&format!("devices/{id}/twin")).await["status"]["transfers/large"].clone();
        told["way"].is_string().then_some(told)
    })
    .await;
    let taken = line.taken.load(Ordering::Relaxed) - before;
    cutter.abort();
    assert_eq!(told["size"], size, "{told}");
    figures.figure("cut_link_artifact", size as f64 / f64::from(1 << 20), "MiB", None);
    figures.figure("cut_link_agent_kills", KILLS as f64, "times", None);
    figures.figure("cut_link_line_cuts", *line.cuts.borrow() as f64, "times", None);
    figures.figure("cut_link_packets_lost", 100.0 * packets("lost") / packets("seen"), "percent", None);
    figures.figure("cut_link_until_complete", begun.elapsed().as_secs_f64(), "s", None);
    figures.figure("cut_link_bytes_on_the_line", taken as f64 / size as f64, "times-artifact", Some(1.02));
    figures.figure(
        "cut_link_bytes_as_the_device_counts",
        told["fetched"].as_f64().unwrap() / size as f64,
        "times-artifact",
        None,
    );
    figures.verdict()
}
