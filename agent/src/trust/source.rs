//! Where metadata comes from. A source is not trusted with anything: it may lie, and the verifier notices.

use aidos_protocol::trust::Want;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may pause before and within its answer. Half a minute outlasts a roaming modem.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one file may take: the largest, 5 MiB, at 17 KB/s. A server that drips bytes must not hold up updates for ever.
const PATIENCE_PER_FILE: Duration = Duration::from_secs(300);

/// Why a source gave no answer. That a file does not exist is an answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The server could not be reached or answered something else than a file.
    #[error("the update repository at {address} {why}; the device tries again later")]
    Http {
        /// The file's address.
        address: String,
        /// What happened.
        why: String,
    },
    /// There is none.
    #[error("the control plane has not told this device yet where the update repository is")]
    Nowhere,
    /// The folder could not be read.
    #[error("{path}: {source}; check that the medium is there and readable")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A place that has metadata files.
#[async_trait]
pub trait Source: Send + Sync {
    /// The file, `None` when there is none. At most one byte more than the limit is read, by which the verifier sees that
    /// there are too many.
    async fn get(&self, want: &Want) -> Result<Option<Vec<u8>>, SourceError>;
}

#[async_trait]
impl Source for Box<dyn Source> {
    async fn get(&self, want: &Want) -> Result<Option<Vec<u8>>, SourceError> {
        (**self).get(want).await
    }
}

/// No repository at all: what is stored must do.
#[derive(Debug, Clone)]
pub struct Nowhere;

#[async_trait]
impl Source for Nowhere {
    async fn get(&self, _: &Want) -> Result<Option<Vec<u8>>, SourceError> {
        Err(SourceError::Nowhere)
    }
}

/// Files that were read before: those of a bundle.
#[derive(Debug, Clone)]
pub struct Brought(pub BTreeMap<String, Vec<u8>>);

#[async_trait]
impl Source for Brought {
    async fn get(&self, want: &Want) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.0.get(&want.address).cloned())
    }
}

/// A repository behind HTTP.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
}

impl Http {
    /// The repository below `base`, by a client that trusts who serves it.
    pub fn new(client: reqwest::Client, base: &str) -> Self {
        Self { client, base: format!("{}/", base.trim_end_matches('/')) }
    }
}

#[async_trait]
impl Source for Http {
    async fn get(&self, want: &Want) -> Result<Option<Vec<u8>>, SourceError> {
        let address = format!("{}{}", self.base, want.address);
        let answer = tokio::time::timeout(PATIENCE_PER_FILE, read(&self.client, &address, want.max_bytes)).await;
        let slow = || Err(format!("takes more than {} s for one file", PATIENCE_PER_FILE.as_secs()));
        answer.unwrap_or_else(|_| slow()).map_err(|why| SourceError::Http { address, why })
    }
}

async fn read(client: &reqwest::Client, address: &str, max: u64) -> Result<Option<Vec<u8>>, String> {
    let silent = |_| format!("has not answered for {} s", PATIENCE.as_secs());
    let failed = |error: reqwest::Error| format!("could not be read ({})", error.without_url());
    let mut response = tokio::time::timeout(PATIENCE, client.get(address).send()).await.map_err(silent)?.map_err(failed)?;
    match response.status().as_u16() {
        200 => {}
        // Object stores answer 403 for what does not exist.
        403 | 404 => return Ok(None),
        status => return Err(format!("answered {status}")),
    }
    let mut bytes = Vec::new();
    while let Some(piece) = tokio::time::timeout(PATIENCE, response.chunk()).await.map_err(silent)?.map_err(failed)? {
        let room = usize::try_from(max).unwrap_or(usize::MAX).saturating_add(1) - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() >= room {
            break;
        }
    }
    Ok(Some(bytes))
}

/// A repository in a folder: a USB stick, a mounted share.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The repository in `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

#[async_trait]
impl Source for Folder {
    async fn get(&self, want: &Want) -> Result<Option<Vec<u8>>, SourceError> {
        // An address has no slash: names are percent-encoded.
        let (path, max) = (self.path.join(&want.address), want.max_bytes);
        let failed = |path: &Path, source| SourceError::Io { path: path.to_owned(), source };
        let at = path.clone();
        let read = move || {
            let file = match std::fs::File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                other => other.map_err(|e| failed(&path, e))?,
            };
            let mut bytes = Vec::new();
            file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| failed(&path, e))?;
            Ok(Some(bytes))
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(failed(&at, std::io::Error::other(e))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that answers with the head of a file without a length, and then with `piece` again and again, after `pause` each.
    async fn endless(piece: &'static [u8], pause: Duration) -> Http {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 1_024];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
                    while stream.write_all(piece).await.is_ok() {
                        tokio::time::sleep(pause).await;
                    }
                });
            }
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        Http::new(reqwest::Client::builder().no_proxy().build().unwrap(), &base)
    }

    fn timestamp() -> Want {
        Want { address: "timestamp.json".into(), max_bytes: 5_000 }
    }

    #[tokio::test]
    async fn of_endless_data_one_byte_more_than_the_limit_is_read() {
        let source = endless(&[b' '; 4_096], Duration::ZERO).await;
        let read = tokio::time::timeout(Duration::from_secs(20), source.get(&timestamp())).await.expect("it ends");
        assert_eq!(read.unwrap().unwrap().len(), 5_001);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_drips_is_given_up_after_a_while() {
        let source = endless(b" ", Duration::from_secs(10)).await;
        let begun = tokio::time::Instant::now();
        let error = source.get(&timestamp()).await.unwrap_err().to_string();
        assert!(error.contains("for one file") || error.contains("has not answered"), "{error}");
        assert!(begun.elapsed() <= PATIENCE_PER_FILE + Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}
