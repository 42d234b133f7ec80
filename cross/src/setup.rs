//! Installs what the tests need on a bare Debian machine, once: system packages, Python clients, models, cargo-deny.
//!
//! Everything but the system packages lands in the user's cache folder, so that the checkout stays clean.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// A system program the tests and benchmarks start, and the Debian package that brings it.
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("mosquitto", &["/usr/sbin/mosquitto", "/usr/bin/mosquitto"], "mosquitto"),
    ("initdb", &["/usr/lib/postgresql/*/bin/initdb"], "postgresql"),
    ("curl", &["/usr/bin/curl"], "curl"),
    ("faketime", &["/usr/bin/faketime"], "faketime"),
    ("nft", &["/usr/sbin/nft"], "nftables"),
    ("ip", &["/usr/bin/ip", "/usr/sbin/ip"], "iproute2"),
    ("chromium", &["/usr/bin/chromium"], "chromium"),
    ("mkfs.ext4", &["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"], "e2fsprogs"),
];
/// PyPI packages: an S3 server, and unmodified clients of the inference protocol and of TUF repositories.
const PYTHON: &[&str] =
    &["moto[server]==5.2.5", "tritonclient[http]==2.73.0", "numpy==2.4.6", "tuf==7.0.0", "securesystemslib[crypto]==1.4.0"];
const CARGO_DENY: &str = "0.20.2";

/// Where the tools are.
pub(crate) struct Tools {
    /// `~/.cache/aidos`.
    pub(crate) cache: PathBuf,
    /// The Python interpreter of the test environment.
    pub(crate) python: PathBuf,
    /// The folder of fetched models.
    pub(crate) models: PathBuf,
    /// cargo-deny.
    pub(crate) cargo_deny: PathBuf,
    /// A reader of TUF repositories that is built apart.
    pub(crate) tough_reader: PathBuf,
}

/// The root of the repository that `cargo xtask` was called in: as cargo tells it now, for a target folder that several
/// clones share may hold this program as another clone built it.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        here.parent().expect("this crate lies in the repository").to_owned()
    });
    &ROOT
}

/// Runs a command and fails with its whole line when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("{line} could not be started"))?;
    if !status.success() {
        bail!("{line} failed: {status}");
    }
    Ok(())
}

/// Installs all of it; what is there already costs nothing.
pub(crate) fn all() -> Result<Tools> {
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| std::env::home_dir().map(|h| h.join(".cache")));
    let cache = home.context("neither XDG_CACHE_HOME nor HOME is set: set one")?.join("aidos");
    std::fs::create_dir_all(&cache)?;
    system_packages()?;
    let python = python(&cache)?;
    let models = cache.join("models");
    run(Command::new(&python).arg(root().join("tests/fixtures/models/fetch.py")).arg(&models))?;
    let (cargo_deny, tough_reader) = (cargo_deny(&cache)?, tough_reader(&cache)?);
    Ok(Tools { cache, python, models, cargo_deny, tough_reader })
}

/// The first path that exists; `*` in a path stands for any one folder, newest name first.
pub(crate) fn find(candidates: &[&str]) -> Option<PathBuf> {
    candidates.iter().find_map(|candidate| match candidate.split_once("/*/") {
        None => Some(PathBuf::from(candidate)).filter(|p| p.exists()),
        Some((folder, rest)) => {
            let mut versions: Vec<_> = std::fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path().join(rest))).collect();
            versions.sort();
            versions.into_iter().rev().find(|p| p.exists())
        }
    })
}

fn system_packages() -> Result<()> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(_, at, _)| find(at).is_none()).map(|(_, _, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln_step(&format!("installing Debian packages: {}", missing.join(" ")));
    let apt = |args: &[&str]| run(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    apt(&[install.as_slice(), &missing].concat())
        .with_context(|| format!("install these yourself, then run this again: {}", missing.join(" ")))
}

fn python(cache: &Path) -> Result<PathBuf> {
    let venv = cache.join("venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("installed.txt");
    let wanted = PYTHON.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    eprintln_step("installing Python packages");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).context("python3 with the venv module is needed")?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON))?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

/// Cargo in the checkout, without what `cargo run` tells this program of its own package: build scripts that look at that would
/// build everything above them anew each time a person's cargo and this one take turns.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root());
    let own = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_PACKAGE"];
    for (name, _) in std::env::vars_os() {
        if own.iter().any(|own| name.to_string_lossy().starts_with(own)) {
            command.env_remove(name);
        }
    }
    command
}

fn cargo_deny(cache: &Path) -> Result<PathBuf> {
    let tools = cache.join("tools");
    let binary = tools.join("bin/cargo-deny");
    if !binary.exists() {
        eprintln_step("installing cargo-deny");
        run(Command::new(env!("CARGO"))
            .args(["install", "--quiet", "--locked", "cargo-deny", "--version", CARGO_DENY, "--root"])
            .arg(&tools))?;
    }
    Ok(binary)
}

/// Built on every run, which costs nothing when nothing changed; its manifest says why it stands apart.
fn tough_reader(cache: &Path) -> Result<PathBuf> {
    let target = cache.join("tools/tough-reader");
    eprintln_step("building tough-reader");
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(root().join("tests/tough-reader/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target))?;
    Ok(target.join("debug/tough-reader"))
}

/// Says on standard error what is about to take a while.
#[allow(clippy::print_stderr)]
pub(crate) fn eprintln_step(step: &str) {
    eprintln!("xtask: {step}");
}
