//! Reads a TUF repository with tough's own client and writes one target to standard output.
//!
//! `tough-reader ROOT METADATA_URL TARGETS_URL PATH`; exits with 1 when anything is refused or not found.

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;
use std::io::Write as _;
use tough::{RepositoryLoader, TargetName};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, metadata, targets, path] = arguments.as_slice() else { bail!("usage: ROOT METADATA_URL TARGETS_URL PATH") };
    let root = std::fs::read(root)?;
    let repository = RepositoryLoader::new(&root, metadata.parse()?, targets.parse()?).load().await?;
    let name = TargetName::new(path)?;
    let stream = repository.read_target(&name).await?.with_context(|| format!("nobody vouches for {path}"))?;
    let pieces: Vec<_> = stream.try_collect().await?;
    pieces.iter().try_for_each(|piece| std::io::stdout().write_all(piece.as_ref()))?;
    Ok(())
}
