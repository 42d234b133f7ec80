//! `aidos bundle`: model versions in one file that travels on a stick.
//!
//! The file is written beside its name and moved there once all of it was verified, so that half a bundle never looks like one.

use super::{client, model, trust};
use crate::client::Client;
use crate::context;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::{Transfer, say};
use aidos_agent::admin;
use aidos_agent::bundle::Imported;
use aidos_protocol::api::artifacts::ArtifactView;
use aidos_protocol::api::models::ModelVersionView;
use aidos_protocol::artifact::{Digest, Digester};
use aidos_protocol::bundle::{self, BundledFile, BundledMetadata, BundledModel, FORMAT, INDEX, Index, SIGNED_FORMAT};
use aidos_protocol::time::Micros;
use aidos_protocol::trust::Wanted;
use clap::Subcommand;
use reqwest::Method;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt as _, BufWriter};

/// A download as a whole: the largest artifact over a slow line. Silence ends it much sooner.
const WHOLE: Duration = Duration::from_secs(86_400);
/// How long the control plane may send nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// The unit of a tar archive.
const BLOCK: u64 = 512;

/// Model versions in one file, for devices that no network reaches.
#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Write model versions into one file for a stick
    Export {
        /// `name@2`, `name@alias`, or `name` for the latest; one or more
        #[arg(required = true, value_name = "MODEL")]
        models: Vec<String>,
        /// Where to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Bring the files of one to this machine's agent, so that a later deployment downloads nothing; activates nothing
    Import {
        /// The file that `export` wrote
        file: PathBuf,
        /// The agent's data folder [default: that of `aidos up`]
        #[arg(long, value_name = "DIR")]
        agent_dir: Option<PathBuf>,
    },
}

impl Bundle {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        match self {
            Bundle::Export { models, out } => export(&client(global)?, global, &models, &out).await,
            Bundle::Import { file, agent_dir } => import(global, &file, agent_dir).await,
        }
    }
}

async fn import(global: &Global, file: &Path, agent_dir: Option<PathBuf>) -> Result<(), CliError> {
    let data_dir = agent_dir.map_or_else(|| context::data_dir(global).map(|dir| dir.join("agent")), Ok)?;
    if !data_dir.join("identity").exists() {
        let text = format!("no agent has joined with its state in {}", data_dir.display());
        return Err(CliError::failed(text, "name its folder with --agent-dir; on a device run `aidos-agent bundle import FILE`"));
    }
    let config = aidos_agent::config::Config { data_dir, ..Default::default() };
    let imported = admin::import_bundle(&config, file).await.map_err(anyhow::Error::from)?;
    output::list(global.output, &[imported])
}

impl Row for Imported {
    const COLUMNS: &'static [&'static str] = &["MODELS", "NEW FILES", "NEW", "PRESENT FILES", "KEPT UNTIL"];
    const NARROW: usize = 5;
    fn cells(&self) -> Vec<String> {
        let stored = [self.stored.to_string(), output::bytes(self.stored_bytes)];
        [vec![self.name()], stored.to_vec(), vec![self.present.to_string(), output::time(self.kept_until)]].concat()
    }
    fn name(&self) -> String {
        names(&self.models)
    }
}

fn names(models: &[BundledModel]) -> String {
    models.iter().map(|model| format!("{}@{}", model.name, model.version)).collect::<Vec<_>>().join(", ")
}

/// What was written, for `-o json`.
#[derive(Serialize)]
struct Exported {
    file: String,
    bytes: u64,
    models: Vec<BundledModel>,
}

impl Row for Exported {
    const COLUMNS: &'static [&'static str] = &["FILE", "CONTENT", "MODELS"];
    const NARROW: usize = 3;
    fn cells(&self) -> Vec<String> {
        vec![self.name(), output::bytes(self.bytes), names(&self.models)]
    }
    fn name(&self) -> String {
        self.file.clone()
    }
}

/// Where a file's bytes come from.
enum From {
    Registry,
    Here(Vec<u8>),
}

async fn export(client: &Client, global: &Global, models: &[String], out: &Path) -> Result<(), CliError> {
    let (mut listed, mut files) = (Vec::new(), BTreeMap::<Digest, (u64, From)>::new());
    for text in models {
        let version = model::version(client, text).await?;
        if let Some(golden) = version.golden {
            let golden: ArtifactView = client.get(&format!("artifacts/{golden}")).await?;
            files.insert(golden.digest, (golden.size, From::Registry));
        }
        listed.push(list(version, &mut files));
    }
    let wanted: Vec<Wanted> = listed.iter().map(|model| Wanted::bundled(model, files[&model.digest].0)).collect();
    let chain = trust::chain(client, &wanted).await?;
    let metadata = chain.iter().map(|(name, bytes)| BundledMetadata { name: name.clone(), size: bytes.len() as u64 }).collect();
    let format = if chain.is_empty() { FORMAT } else { SIGNED_FORMAT };
    let order = files.iter().map(|(digest, (size, _))| BundledFile { digest: *digest, size: *size }).collect();
    let index = Index { format, created_at: now(), models: listed, metadata, files: order };
    index.check().map_err(|error| CliError::Usage(format!("this bundle cannot be made: {error}")))?;

    let part = part_of(out);
    let written = write(client, &index, &chain, &files, &part).await;
    if let Err(error) = written {
        // What is not whole is of no use; that it cannot be removed either is the lesser news.
        let _ = tokio::fs::remove_file(&part).await;
        return Err(error);
    }
    tokio::fs::rename(&part, out).await.map_err(|e| unwritable(out, &e))?;
    let exported = Exported { file: out.display().to_string(), bytes: index.bytes(), models: index.models };
    say("take it to the device and run `aidos-agent bundle import FILE` there");
    output::one(global.output, &exported, || {
        let content = output::bytes(exported.bytes);
        output::pairs(&[("file", exported.file.clone()), ("content", content), ("models", names(&exported.models))])
    })
}

/// Notes the files of a version.
fn list(version: ModelVersionView, files: &mut BTreeMap<Digest, (u64, From)>) -> BundledModel {
    files.insert(version.digest, (version.size, From::Registry));
    let manifest = version.manifest.as_ref().map(|manifest| {
        let bytes = bundle::manifest_file(manifest);
        let digest = Digest::of(&bytes);
        files.insert(digest, (bytes.len() as u64, From::Here(bytes)));
        digest
    });
    BundledModel { name: version.model, version: version.version, digest: version.digest, manifest, golden: version.golden }
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn part_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    out.with_file_name(name)
}

fn unwritable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::failed(format!("{}: {error}", path.display()), "choose another place with --out")
}

async fn write(
    client: &Client,
    index: &Index,
    chain: &[(String, Vec<u8>)],
    files: &BTreeMap<Digest, (u64, From)>,
    part: &Path,
) -> Result<(), CliError> {
    let failed = |error: std::io::Error| unwritable(part, &error);
    let mut out = BufWriter::new(File::create(part).await.map_err(failed)?);
    let json = serde_json::to_vec(index).map_err(anyhow::Error::from)?;
    out.write_all(&header(INDEX, json.len() as u64)?).await.map_err(failed)?;
    out.write_all(&json).await.map_err(failed)?;
    out.write_all(&padding(json.len() as u64)).await.map_err(failed)?;
    for (name, bytes) in chain {
        out.write_all(&header(&bundle::metadata_name(name), bytes.len() as u64)?).await.map_err(failed)?;
        out.write_all(bytes).await.map_err(failed)?;
        out.write_all(&padding(bytes.len() as u64)).await.map_err(failed)?;
    }
    let bar = Transfer::new("exporting", index.bytes());
    let mut before = 0;
    for file in &index.files {
        out.write_all(&header(&bundle::name(&file.digest), file.size)?).await.map_err(failed)?;
        match &files[&file.digest].1 {
            From::Here(bytes) => out.write_all(bytes).await.map_err(failed)?,
            From::Registry => download(client, file, &mut out, part, |done| bar.at(before + done)).await?,
        }
        out.write_all(&padding(file.size)).await.map_err(failed)?;
        before += file.size;
        bar.at(before);
    }
    // Two empty blocks end an archive.
    out.write_all(&[0; 2 * BLOCK as usize]).await.map_err(failed)?;
    out.flush().await.map_err(failed)?;
    // A stick is pulled out as soon as the command has ended.
    out.get_ref().sync_all().await.map_err(failed)?;
    bar.finish();
    Ok(())
}

/// Copies an artifact from the registry as it comes, and verifies it.
async fn download(
    client: &Client,
    file: &BundledFile,
    out: &mut BufWriter<File>,
    part: &Path,
    told: impl Fn(u64),
) -> Result<(), CliError> {
    let request = client.request(Method::GET, &format!("artifacts/{}/content", file.digest)).timeout(WHOLE);
    let mut response = client.send(request).await?;
    let again = |what: String| CliError::failed(format!("{}: {what}", file.digest), "run the export again");
    let (mut digester, mut done) = (Digester::default(), 0);
    loop {
        let piece = tokio::time::timeout(SILENCE, response.chunk()).await;
        let piece = piece.map_err(|_| CliError::Timeout(format!("{}: the control plane sends nothing more", file.digest)))?;
        let Some(piece) = piece.map_err(|error| again(format!("the download broke off: {error}")))? else { break };
        done += piece.len() as u64;
        if done > file.size {
            return Err(again(format!("more than its {} bytes came", file.size)));
        }
        digester.update(&piece);
        out.write_all(&piece).await.map_err(|e| unwritable(part, &e))?;
        told(done);
    }
    let is = digester.finish();
    if is != file.digest {
        return Err(again(format!("what came after {done} of {} bytes is {is}", file.size)));
    }
    Ok(())
}

/// The head of a file in the archive: a name, a length, and nothing of whoever made it.
fn header(name: &str, size: u64) -> Result<[u8; BLOCK as usize], CliError> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(anyhow::Error::from)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// What fills the last block.
fn padding(size: u64) -> Vec<u8> {
    vec![0; (BLOCK - size % BLOCK) as usize % BLOCK as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_a_tar_archive_that_any_reader_takes() {
        let mut archive = Vec::new();
        for content in [&b"x"[..], &[7; 512], &[8; 1_000]] {
            archive.extend(header(&bundle::name(&Digest::of(content)), content.len() as u64).unwrap());
            archive.extend(content);
            archive.extend(padding(content.len() as u64));
        }
        archive.extend([0; 1_024]);
        assert_eq!(archive.len() % 512, 0);
        let mut reader = tar::Archive::new(archive.as_slice());
        let sizes: Vec<u64> = reader.entries().unwrap().map(|entry| entry.unwrap().header().size().unwrap()).collect();
        assert_eq!(sizes, [1, 512, 1_000]);
    }

    #[test]
    fn half_a_bundle_has_another_name() {
        assert_eq!(part_of(Path::new("/media/stick/b.tar")), Path::new("/media/stick/b.tar.part"));
    }
}
