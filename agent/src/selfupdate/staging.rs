//! Brings a fetched binary to the place from where the launcher takes it, checked in every way that is possible before it runs.

use crate::models::FetchError;
use crate::state::{Chunks, free_bytes};
use crate::trust::Unvouched;
use aidos_launcher::{FilesError, Release, Request, Slots};
use aidos_protocol::artifact::{Digest, Digester};
use aidos_protocol::twin::{DesiredRelease, ReleaseBinary};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// How long a new binary may take to print its version: reading 50 MB from a slow card.
const SMOKE: Duration = Duration::from_secs(20);
/// Bytes of what it prints that are read.
const PRINTED: u64 = 1_024;
/// Bytes that stay free beside a staged binary: the ledger and the spool go on writing.
const SPARE: u64 = 16 << 20;
/// Times that a start is tried again because the file still counts as open for writing: a process that was forked at that moment
/// holds it until it has started.
const BUSY: u32 = 20;

/// Why a release is not staged.
#[derive(Debug, thiserror::Error)]
pub(super) enum StagingError {
    /// Nobody vouches for it.
    #[error(transparent)]
    Unvouched(#[from] Unvouched),
    /// It did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It could not be written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// There is no room.
    #[error("{needed} bytes are needed beside the agent in use, and {free} are free; free some space")]
    Space { needed: u64, free: u64 },
    /// What was read back is something else.
    #[error("the stored binary has the digest {is}, not {wanted}; it is fetched again")]
    Rotten { is: Digest, wanted: Digest },
    /// It does not run here, or is not what it is called.
    #[error("the new binary {0}")]
    Smoke(String),
    /// The agent is ending.
    #[error("the agent is stopping")]
    Stopping,
}

impl StagingError {
    /// Whether another attempt could end differently.
    pub(super) fn again(&self) -> bool {
        match self {
            Self::Smoke(_) | Self::Fetch(FetchError::Length { .. }) => false,
            Self::Unvouched(why) => !why.is_final(),
            _ => true,
        }
    }
}

/// Stages the fetched binary of `desired`, asks it for its version, and returns what the launcher is asked for.
pub(super) async fn stage(
    store: &Chunks,
    slots: &Slots,
    desired: &DesiredRelease,
    binary: &ReleaseBinary,
) -> Result<Request, StagingError> {
    let id = desired.attempt();
    let (store, staging, wanted, attempt) = (store.clone(), slots.clone(), binary.clone(), id.clone());
    let copy = tokio::task::spawn_blocking(move || copy(&store, &staging, &wanted, &attempt));
    let path = copy.await.map_err(|_| StagingError::Stopping)??;
    let printed = printed_version(&path).await.map_err(StagingError::Smoke)?;
    if !desired.is_printed_as(&printed) {
        let why = format!("says that its version is `{}`, and it was released as {}", printed.escape_debug(), desired.version);
        return Err(StagingError::Smoke(why));
    }
    let release = Release {
        version: desired.version.clone(),
        counter: desired.counter,
        floor: desired.floor,
        digest: binary.digest.to_string(),
    };
    Ok(Request { id, release })
}

fn copy(store: &Chunks, slots: &Slots, binary: &ReleaseBinary, id: &str) -> Result<std::path::PathBuf, StagingError> {
    let free = free_bytes(slots.dir()).map_err(FetchError::from)?;
    let needed = binary.size.saturating_add(SPARE);
    if free < needed {
        return Err(StagingError::Space { needed, free });
    }
    let gone = || FetchError::Broken {
        digest: binary.digest,
        offset: 0,
        size: binary.size,
        reason: "its file was cleared away before it was used".into(),
    };
    let path = store.path(&binary.digest).ok_or_else(gone)?;
    let file = File::open(&path).map_err(|source| FilesError::Io { path: path.clone(), source })?;
    let mut reader = Reader { inner: file, digester: Digester::default() };
    let staged = slots.stage(id, &mut reader)?;
    let is = reader.digester.finish();
    if is != binary.digest {
        slots.clear(None)?;
        // The store finds the rot, too, and lets go of the file.
        store.verify(&binary.digest).map_err(FetchError::from)?;
        return Err(StagingError::Rotten { is, wanted: binary.digest });
    }
    Ok(staged)
}

/// Computes the digest of what passes.
struct Reader {
    inner: File,
    digester: Digester,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.digester.update(&buffer[..length]);
        Ok(length)
    }
}

/// What `binary --version` prints last in its first line.
async fn printed_version(binary: &Path) -> Result<String, String> {
    let attempt = async {
        let mut child = start(binary).await.map_err(|error| format!("does not start: {error}"))?;
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(PRINTED).read_to_end(&mut text).await.map_err(|error| format!("prints nothing: {error}"))?;
        }
        let status = child.wait().await.map_err(|error| format!("does not end: {error}"))?;
        if !status.success() {
            return Err(format!("fails when it is asked for its version ({status})"));
        }
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().next().and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned())
    };
    // What takes too long is killed as it is dropped.
    match tokio::time::timeout(SMOKE, attempt).await {
        Ok(printed) => printed,
        Err(_) => Err(format!("does not print its version within {} s", SMOKE.as_secs())),
    }
}

async fn start(binary: &Path) -> std::io::Result<tokio::process::Child> {
    let mut tries = 0;
    loop {
        let mut command = tokio::process::Command::new(binary);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        // It is not the agent yet.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", aidos_launcher::SLOTS_VARIABLE, aidos_launcher::TRIAL_VARIABLE] {
            command.env_remove(variable);
        }
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy && tries < BUSY => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            started => return started,
        }
    }
}
