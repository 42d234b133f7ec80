//! Runs the benchmarks in release and writes what they print into `docs/benchmarks.md`, with machine, commit and command.
//!
//! The page's prose is people's; only what stands between a benchmark's two markers is replaced.

use crate::setup::{cargo, eprintln_step, root, run};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Each is a file of `tests/bench`.
const BENCHES: [&str; 7] = ["twin", "spine", "fleet", "pages", "site", "delta", "cut_link"];
/// Those that measure nothing of the agent: they do without the build that goes to devices, which takes longest.
const WITHOUT_AGENT: [&str; 1] = ["pages"];

/// Runs `only`, or all of them. A figure above its limit fails the run, after it was written.
pub(crate) fn bench(only: Option<&str>) -> Result<()> {
    let chosen: Vec<_> = BENCHES.into_iter().filter(|name| only.is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        bail!("there is no such benchmark: choose one of {}", BENCHES.join(", "));
    }
    // With the binaries in the same build: the benchmarks start them, and dependencies are compiled once.
    eprintln_step("cargo build --release");
    let benches = chosen.iter().flat_map(|name| ["--bench", name]);
    run(cargo().args(["build", "--release", "--workspace", "--bins"]).args(benches))?;
    if chosen.iter().any(|name| !WITHOUT_AGENT.contains(name)) {
        run(cargo().args(["build", "--profile", "dist", "--package", "aidos-agent", "--bin", "aidos-agent"]))?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    // Before the page is written: what was built.
    let commit = commit()?;
    let mut failed = Vec::new();
    for name in chosen {
        eprintln_step(&format!("benchmark {name}"));
        let mut bench = cargo();
        bench.args(["bench", "--quiet", "--workspace", "--bench", name]);
        if !WITHOUT_AGENT.contains(&name) {
            // As it goes to devices.
            bench.env("AIDOS_AGENT_BINARY", target.join("dist/aidos-agent"));
        }
        let output = bench.stderr(Stdio::inherit()).output().with_context(|| format!("benchmark {name} could not be started"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        eprintln_step(&text);
        write(&root().join("docs/benchmarks.md"), name, &commit, &text)?;
        if !output.status.success() {
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("a limit was passed, or it did not run through: {}", failed.join(", ")) }
}

fn write(page: &Path, name: &str, commit: &str, output: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- figures of {name} -->\n"), format!("<!-- end of {name} -->"));
    let text = std::fs::read_to_string(page)?;
    let parts = text.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let (head, tail) = parts.with_context(|| format!("{} lacks the markers of {name}", page.display()))?;
    std::fs::write(page, format!("{head}{begin}{}{end}{tail}", section(name, commit, output)?))?;
    Ok(())
}

/// The command, the machine, the commit, and a table of the lines `name value unit limit`; other lines are for the terminal.
fn section(name: &str, commit: &str, output: &str) -> Result<String> {
    let mut text = format!("`cargo xtask bench {name}`, commit {commit}, {}, {}\n\n", machine()?, today()?);
    text.push_str("| figure | measured | limit |\n|---|---|---|\n");
    for line in output.lines() {
        let [figure, value, unit, limit] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        if value.parse::<f64>().is_ok() {
            let limit = if limit == "-" { String::new() } else { format!("{limit} {unit}") };
            writeln!(text, "| {} | {value} {unit} | {limit} |", figure.replace('_', " "))?;
        }
    }
    Ok(text)
}

fn commit() -> Result<String> {
    let described = said(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=7"]).current_dir(root()))?;
    Ok(described)
}

fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("unknown CPU", |(_, m)| m);
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores ({model}, shared)"))
}

fn today() -> Result<String> {
    said(Command::new("date").args(["-u", "+%Y-%m-%d"]))
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} could not be started"))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
