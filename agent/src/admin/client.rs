//! The subcommands' end of the admin socket.

use super::server::SOCKET;
use super::wire::{Answer, Request};
use crate::assembly;
use crate::bundle::Imported;
use crate::config::Config;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// The longest answer: an intent with all its notes at their longest, several times.
const MAX_ANSWER: u64 = 4 << 20;
/// How long the agent may take: `doctor` reads every model file.
const PATIENCE: Duration = Duration::from_secs(120);

/// The same for what reads gigabytes from a stick.
const LONG_PATIENCE: Duration = Duration::from_secs(3_600);

/// Why the running agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens.
    #[error("no agent is running with the data directory {0}; start it with `aidos-agent run`, or name another with --data-dir")]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error("{0} belongs to another user; use `sudo`, or run this as the agent's user")]
    NotYours(PathBuf),
    /// The agent said no.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or what came is no answer.
    #[error("the agent did not answer properly: {0}; see its log")]
    Broken(String),
}

/// Asks the agent whose data directory is `dir`.
pub async fn call<T: DeserializeOwned>(dir: &Path, request: &Request) -> Result<T, AdminError> {
    call_within(PATIENCE, dir, request).await
}

/// Brings a bundle into the store of the agent of `config`: through the agent where it runs, beside it where it does not.
pub async fn import_bundle(config: &Config, file: &Path) -> Result<Imported, ImportError> {
    // The agent has another working directory.
    let file = file.canonicalize().map_err(|error| ImportError::File(file.to_owned(), error))?;
    let request = Request::ImportBundle { file: file.clone() };
    match call_within(LONG_PATIENCE, &config.data_dir, &request).await {
        Err(AdminError::NotRunning(_)) => Ok(assembly::import_bundle(config, &file).await?),
        answered => Ok(answered?),
    }
}

/// Why a bundle was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is no such file, or it may not be read.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] std::io::Error),
    /// The agent runs and refuses, or cannot be asked.
    #[error(transparent)]
    Agent(#[from] AdminError),
    /// Without the agent it does not work either.
    #[error(transparent)]
    Alone(#[from] assembly::ImportError),
}

/// [`call`] that waits for as long as it is told.
async fn call_within<T: DeserializeOwned>(patience: Duration, dir: &Path, request: &Request) -> Result<T, AdminError> {
    let path = dir.join(SOCKET);
    let stream = UnixStream::connect(&path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => AdminError::NotYours(path),
        _ => AdminError::NotRunning(dir.to_owned()),
    })?;
    let exchange = tokio::time::timeout(patience, exchange(stream, request)).await;
    let text = exchange.map_err(|_| broken("it took too long"))?.map_err(broken)?;
    match serde_json::from_slice(&text).map_err(broken)? {
        Answer::Ok(value) => serde_json::from_value(value).map_err(broken),
        Answer::Error(why) => Err(AdminError::Refused(why)),
    }
}

async fn exchange(stream: UnixStream, request: &Request) -> std::io::Result<Vec<u8>> {
    let (read, mut write) = stream.into_split();
    let mut bytes = serde_json::to_vec(request)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    let mut text = Vec::new();
    BufReader::new(read.take(MAX_ANSWER)).read_until(b'\n', &mut text).await?;
    Ok(text)
}

fn broken(why: impl ToString) -> AdminError {
    AdminError::Broken(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_that_does_not_run_is_said_to_and_how_to_start_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = call::<serde_json::Value>(dir.path(), &Request::Status).await.unwrap_err().to_string();
        assert!(error.contains("aidos-agent run"), "{error}");
    }
}
