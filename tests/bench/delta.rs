//! What an update costs as a patch: bytes against the whole file compressed, and the time and memory to apply it.
//!
//! `cargo bench -p aidos-tests --bench delta` prints one line a figure, `name value unit limit` (`-`: none), and fails when a
//! limit is passed. Real files come from released wheels (`tests/fixtures/deltas/fetch.py`, run here); weights are drawn from
//! a fixed seed: normal with deviation 0.05, each multiplied by 1 + 1e-4 × a normal number, then rounded to the type.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use aidos_optimizer::delta::create;
use aidos_protocol::delta::{Algorithm, MAX_WINDOW_LOG, apply};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Set in the process whose memory is measured; its arguments are base, patch and target.
const APPLY: &str = "AIDOS_BENCH_APPLY";
/// Weights of a generated model: 16 MB as f32.
const WEIGHTS: usize = 4_000_000;
/// The best of several: the machine does other things too.
const RUNS: usize = 5;

struct Figures(bool);

impl Figures {
    fn figure(&mut self, name: &str, value: f64, unit: &str, limit: Option<f64>) {
        let text = limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        println!("{name} {value:.3} {unit} {text}");
        self.0 &= limit.is_none_or(|limit| value <= limit);
    }
}

struct Pair {
    name: &'static str,
    base: Vec<u8>,
    target: Vec<u8>,
    /// Percent of the whole file by zstd-19.
    limit: f64,
}

fn main() -> ExitCode {
    if std::env::var_os(APPLY).is_some() {
        return child(std::env::args().skip(1).map(PathBuf::from).collect());
    }
    let mut figures = Figures(true);
    let dir = tempfile::tempdir().unwrap();
    for pair in pairs() {
        measure(&mut figures, &pair, dir.path());
    }
    if figures.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn pairs() -> Vec<Pair> {
    let real = |name, old: &str, new: &str, limit| {
        let read = |name: &str| std::fs::read(corpus().join(name)).unwrap();
        Pair { name, base: read(old), target: read(new), limit }
    };
    fetch();
    let mut drawn = Normal(0x005E_ED0F_DE17_A000);
    let old: Vec<f32> = (0..WEIGHTS).map(|_| (0.05 * drawn.next()) as f32).collect();
    let new: Vec<f32> = old.iter().map(|weight| weight * (1.0 + 1e-4 * drawn.next()) as f32).collect();
    let mut tail = old.clone();
    tail[WEIGHTS - WEIGHTS / 20..].iter_mut().for_each(|weight| *weight = (0.05 * drawn.next()) as f32);
    let widest = old.iter().fold(0.0_f32, |widest, weight| widest.max(weight.abs()));
    let f32s = |weights: &[f32]| weights.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
    let f16s = |weights: &[f32]| weights.iter().flat_map(|w| half::f16::from_f32(*w).to_le_bytes()).collect::<Vec<_>>();
    let i8s = |weights: &[f32]| weights.iter().map(|w| (w / widest * 127.0).round() as i8 as u8).collect::<Vec<_>>();
    vec![
        real("silero", "silero-vad-5.1.2.onnx", "silero-vad-6.2.1.onnx", 90.0),
        real("onnxruntime", "onnxruntime-1.22.0.so", "onnxruntime-1.22.1.so", 33.0),
        real("magika", "magika-0.6.1", "magika-0.6.2", 69.0),
        Pair { name: "weights_f32", base: f32s(&old), target: f32s(&new), limit: 46.0 },
        Pair { name: "weights_fp16", base: f16s(&old), target: f16s(&new), limit: 8.0 },
        Pair { name: "weights_int8", base: i8s(&old), target: i8s(&new), limit: 0.6 },
        Pair { name: "weights_last_5_percent", base: f32s(&old), target: f32s(&tail), limit: 5.0 },
    ]
}

fn measure(figures: &mut Figures, pair: &Pair, dir: &Path) {
    let name = |what: &str| format!("delta_{}_{what}", pair.name);
    let whole = zstd::bulk::compress(&pair.target, 19).unwrap().len() as f64;
    figures.figure(&name("target"), pair.target.len() as f64, "bytes", None);
    figures.figure(&name("zstd_19"), whole, "bytes", None);
    let begun = Instant::now();
    let patch = create(&pair.base, &pair.target, MAX_WINDOW_LOG).unwrap();
    figures.figure(&name("create"), begun.elapsed().as_secs_f64(), "s", None);
    for (algorithm, size) in &patch.tried {
        figures.figure(&name(algorithm.name()), *size as f64, "bytes", None);
    }
    let index = Algorithm::ALL.iter().position(|algorithm| *algorithm == patch.algorithm).unwrap();
    println!("# {} is sent as {} (algorithm {index})", pair.name, patch.algorithm.name());
    let percent = 100.0 * patch.bytes.len() as f64 / whole;
    figures.figure(&name("chosen"), percent, "percent-of-zstd-19", Some(pair.limit.min(100.5)));

    let path = |what: &str| dir.join(format!("{}.{what}", pair.name));
    std::fs::write(path("base"), &pair.base).unwrap();
    std::fs::write(path("patch"), &patch.bytes).unwrap();
    let own = std::env::current_exe().unwrap();
    let (mut seconds, mut memory) = (f64::INFINITY, 0.0_f64);
    for _ in 0..RUNS {
        let mut command = Command::new(&own);
        let output = command.env(APPLY, "1").args([path("base"), path("patch"), path("target")]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (took, peak) = text.trim().split_once(' ').unwrap();
        seconds = seconds.min(took.parse().unwrap());
        memory = memory.max(peak.parse().unwrap());
        assert_eq!(std::fs::read(path("target")).unwrap(), pair.target);
    }
    figures.figure(&name("apply"), seconds * 1e8 / pair.target.len() as f64, "s-per-100-MB", Some(1.0));
    figures.figure(&name("apply_memory"), memory / 1_024.0, "MiB", Some(64.0));
}

/// Applies one patch as a device does, from file to file; prints the seconds it took and the most memory of this process in KiB.
fn child(files: Vec<PathBuf>) -> ExitCode {
    let open = |n: usize| File::open(&files[n]).unwrap();
    let begun = Instant::now();
    let target = BufWriter::new(File::create(&files[2]).unwrap());
    apply(open(0), BufReader::new(open(1)), target, MAX_WINDOW_LOG).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    println!("{seconds} {}", line.split_whitespace().nth(1).unwrap());
    ExitCode::SUCCESS
}

fn corpus() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache.unwrap_or_else(|| std::env::home_dir().unwrap().join(".cache")).join("aidos/deltas")
}

fn fetch() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/deltas/fetch.py");
    let status = Command::new("python3.11").arg(script).arg(corpus()).status().unwrap();
    assert!(status.success(), "the files to compare could not be fetched; see above");
}

/// Normally distributed numbers (Box–Muller), the same on every machine and with every version of every library.
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f64 {
        let (first, second) = (self.uniform(), self.uniform());
        (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()
    }
    /// Above 0, up to 1 (SplitMix64).
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((mixed ^ (mixed >> 31)) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }
}
