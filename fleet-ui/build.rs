//! Builds the dashboard with npm, when its sources changed, into `dist`.
//!
//! Without Node, or with `AIDOS_UI=skip`, a page takes its place that says how to get it: the control plane builds everywhere.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the dashboard is made of, beside its dependencies.
const SOURCES: [&str; 7] = ["app", "public", "index.html", "package.json", "package-lock.json", "vite.config.ts", "compress.mjs"];
/// Its types come from here.
const DOCUMENT: &str = "../docs/openapi.json";
/// Lines of a step that failed.
const SHOWN: usize = 20;
const TYPES: &str = "app/api/schema.d.ts";

fn main() {
    for source in SOURCES.iter().chain(&["missing", DOCUMENT]) {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=AIDOS_UI");
    let out = Path::new("dist");
    let skip = std::env::var_os("AIDOS_UI").is_some_and(|wish| wish == "skip");
    let built = if skip { Err("AIDOS_UI=skip".to_owned()) } else { build(out) };
    if let Err(why) = built {
        println!("cargo::warning=the dashboard is left out: {why}");
        missing(out);
    }
}

fn build(out: &Path) -> Result<(), String> {
    // Where the dependencies are those of the lock file, npm is not asked again.
    let (lock, installed) = (Path::new("package-lock.json"), Path::new("node_modules/.package-lock.json"));
    let written = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    if written(installed).is_none_or(|installed| written(lock).is_some_and(|lock| lock > installed)) {
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]))?;
    }
    types()?;
    run(Command::new("npm").args(["run", "--silent", "build", "--", "--emptyOutDir", "--outDir"]).arg(out))?;
    run(Command::new("node").arg("compress.mjs").arg(out))
}

/// Writes the API's types among the sources, only where they changed: what is written there has this script run again.
fn types() -> Result<(), String> {
    let made = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("schema.d.ts");
    run(Command::new("npm").args(["exec", "--no", "--", "openapi-typescript", DOCUMENT, "--output"]).arg(&made))?;
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    if read(&made) != read(Path::new(TYPES)) {
        std::fs::copy(made, TYPES).map_err(|error| format!("{TYPES}: {error}"))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let line = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{line}: {error}; install Node 20 or later"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().collect();
    Err(format!("{line} failed: {}", lines[lines.len().saturating_sub(SHOWN)..].join(" | ")))
}

fn missing(out: &Path) {
    let _ = std::fs::remove_dir_all(out);
    std::fs::create_dir_all(out).expect("cargo's output folder is writable");
    std::fs::copy("missing/index.html", out.join("index.html")).expect("the page stands in the sources");
}
