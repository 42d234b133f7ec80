//! A TUF client with the command line that the public conformance suite drives. It runs the agent's own verifier, store and
//! driver; the files that the suite looks at are copies of what the agent's ledger holds.

use aidos_agent::state::Ledger;
use aidos_agent::trust::{Clock, Http, Repository, TrustStore, TrustedClock, built};
use aidos_protocol::time::Micros;
use aidos_protocol::trust::{Found, Trusted, quote};
use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A TUF client for conformance tests.
#[derive(Parser)]
struct Arguments {
    /// Where trusted metadata is kept.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// Where the repository's metadata is.
    #[arg(long)]
    metadata_url: Option<String>,
    /// A target to download; may be repeated.
    #[arg(long)]
    target_name: Vec<String>,
    /// Where the repository's targets are.
    #[arg(long)]
    target_base_url: Option<String>,
    /// Where downloaded targets go.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    /// Judge by the agent's trusted time instead of the wall clock.
    #[arg(long)]
    trusted_time: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Begin to trust a root.
    Init {
        /// The root's file.
        root: PathBuf,
    },
    /// Bring the metadata up to date.
    Refresh,
    /// Bring the metadata up to date and download targets.
    Download,
}

/// The wall clock, which the suite sets by libfaketime.
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Micros {
        aidos_agent::clock::now()
    }
    fn observe(&mut self, _: Micros) {}
    fn recover(&mut self) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Another provider cannot have been installed: this is the first statement that could.
    let _ = rustls::crypto::ring::default_provider().install_default();
    std::fs::create_dir_all(&arguments.metadata_dir)?;
    let store = TrustStore::open(Ledger::open(&arguments.metadata_dir)?)?;
    let done = if arguments.trusted_time {
        let clock = TrustedClock::new(built(), store.seen().await?);
        run(&arguments, &store, clock).await
    } else {
        run(&arguments, &store, WallClock).await
    };
    // Also after a failure: what was accepted until then is trusted.
    if let Some(trusted) = store.load().await? {
        copy(&trusted?, &arguments.metadata_dir)?;
    }
    done
}

async fn run<C: Clock>(arguments: &Arguments, store: &TrustStore, clock: C) -> Result<()> {
    if let Command::Init { root } = &arguments.command {
        return Ok(Repository::<Http, C>::init(store, &std::fs::read(root)?, &clock).await?);
    }
    let url = arguments.metadata_url.as_ref().context("--metadata-url is needed")?;
    let client = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(10)).build()?;
    let mut repository = Repository::open(store.clone(), Http::new(client.clone(), url), clock).await?;
    repository.refresh().await?;
    if matches!(arguments.command, Command::Download) {
        let base = arguments.target_base_url.as_ref().context("--target-base-url is needed")?;
        let folder = arguments.target_dir.as_ref().context("--target-dir is needed")?;
        for name in &arguments.target_name {
            let found = repository.find(name).await?.with_context(|| format!("nobody vouches for {name}"))?;
            let consistent = repository.trusted().root().consistent_snapshot;
            download(&client, base, folder, name, &found, consistent).await?;
        }
    }
    Ok(())
}

async fn download(
    client: &reqwest::Client,
    base: &str,
    folder: &Path,
    name: &str,
    found: &Found,
    consistent: bool,
) -> Result<()> {
    let path = folder.join(quote(name));
    if std::fs::read(&path).is_ok_and(|bytes| found.target.verify(name, &bytes).is_ok()) {
        return Ok(());
    }
    let url = format!("{}/{}", base.trim_end_matches('/'), found.target.address(name, consistent));
    let mut response = client.get(&url).send().await?.error_for_status()?;
    let (mut check, mut bytes) = (found.target.check(name)?, Vec::new());
    while let Some(piece) = response.chunk().await? {
        check.update(&piece)?;
        bytes.extend_from_slice(&piece);
    }
    check.finish()?;
    std::fs::create_dir_all(folder)?;
    Ok(std::fs::write(path, bytes)?)
}

/// Writes each trusted file as `<role>.json` and removes what is no longer trusted.
fn copy(trusted: &Trusted, folder: &Path) -> Result<()> {
    let files: Vec<(String, &[u8])> = trusted.files().map(|(role, bytes)| (format!("{}.json", quote(role)), bytes)).collect();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { bail!("a file name in {} is not UTF-8", folder.display()) };
        if name.ends_with(".json") && !files.iter().any(|(file, _)| file == name) {
            std::fs::remove_file(folder.join(name))?;
        }
    }
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
