//! The agent's end of the admin socket.

use super::wire::{Answer, Request, StatusView};
use super::{Finding, user};
use crate::bundle::Imported;
use crate::observe::LogLine;
use aidos_protocol::ModelName;
use aidos_protocol::twin::{Edit, IntentView, ModelStatus};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";
/// The longest request: a note of 4 KiB, escaped, fits many times.
pub(super) const MAX_REQUEST: u64 = 64 << 10;
/// Connections at a time: people and their scripts.
const CONNECTIONS: usize = 8;
/// How long a connection may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the socket needs from the agent.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// How the agent is.
    async fn status(&self) -> StatusView;
    /// What people want of this device.
    async fn intent(&self) -> Result<IntentView, String>;
    /// Records edits by a person at the site.
    async fn edit(&self, user: &str, edits: Vec<Edit>) -> Result<IntentView, String>;
    /// Where each model stands.
    async fn models(&self) -> BTreeMap<ModelName, ModelStatus>;
    /// What was looked at, and what is wrong.
    async fn doctor(&self) -> Vec<Finding>;
    /// Fills the store from a bundle.
    async fn import(&self, file: PathBuf) -> Result<Imported, String>;
    /// The newest lines of the log.
    async fn logs(&self, lines: usize, level: &str) -> Vec<LogLine>;
}

/// Opens the socket in `dir`, replacing what a killed agent left. The caller holds the data directory's lock, so nobody
/// else is listening there.
pub fn listen(dir: &Path) -> io::Result<UnixListener> {
    let path = dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Bound in a folder that only this user enters, then moved: at no moment can another user connect.
    let closet = tempfile::Builder::new().prefix(".admin").permissions(std::fs::Permissions::from_mode(0o700)).tempdir_in(dir)?;
    let hidden = closet.path().join("s");
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, &path)?;
    Ok(listener)
}

/// Answers until `cancel`. `dir` is the folder of the socket, whose owner is the one user beside root that is answered.
pub async fn serve(listener: UnixListener, dir: &Path, agent: Arc<dyn Agent>, cancel: CancellationToken) -> io::Result<()> {
    let owner = std::fs::metadata(dir.join(SOCKET))?.uid();
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely; they come back.
                tracing::warn!(%error, "a connection to the admin socket could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
        let (agent, cancel) = (Arc::clone(&agent), cancel.clone());
        tokio::spawn(async move {
            let _seat = seat;
            tokio::select! {
                () = cancel.cancelled() => {}
                ended = converse(stream, owner, &*agent) => if let Err(error) = ended {
                    tracing::debug!(%error, "an admin connection ended");
                }
            }
        });
    }
}

async fn converse(stream: UnixStream, owner: u32, agent: &dyn Agent) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    converse_as(uid, stream, owner, agent).await
}

/// Talks to the user `uid`, whom the kernel has named.
async fn converse_as(uid: u32, stream: UnixStream, owner: u32, agent: &dyn Agent) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    if uid != owner && uid != 0 {
        let answer = Answer::Error(format!("the agent belongs to the user {}; use `sudo` or that user", user::name(owner)));
        return write.write_all(&line(&answer)?).await;
    }
    let person = user::name(uid);
    let mut read = BufReader::new(read.take(0));
    loop {
        let mut request = Vec::new();
        read.get_mut().set_limit(MAX_REQUEST);
        let length = tokio::time::timeout(PATIENCE, read.read_until(b'\n', &mut request)).await??;
        if length == 0 {
            return Ok(());
        }
        if request.last() != Some(&b'\n') && length as u64 >= MAX_REQUEST {
            let answer = Answer::Error(format!("the request is longer than {MAX_REQUEST} bytes"));
            return write.write_all(&line(&answer)?).await;
        }
        let answer = match serde_json::from_slice(&request) {
            Ok(request) => answer(agent, &person, request).await,
            Err(error) => Answer::Error(format!("the request cannot be read: {error}")),
        };
        write.write_all(&line(&answer)?).await?;
    }
}

fn line(answer: &Answer) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(answer).map_err(io::Error::other)?;
    bytes.push(b'\n');
    Ok(bytes)
}

async fn answer(agent: &dyn Agent, person: &str, request: Request) -> Answer {
    let value = match request {
        Request::Status => to_value(Ok(agent.status().await)),
        Request::Intent => to_value(agent.intent().await),
        Request::Labels { set, remove } => {
            let set = set.into_iter().map(|(key, value)| Edit::SetLabel { key, value });
            let edits = set.chain(remove.into_iter().map(|key| Edit::RemoveLabel { key })).collect();
            to_value(agent.edit(person, edits).await)
        }
        Request::Notes { set, remove } => {
            let set = set.into_iter().map(|(key, value)| Edit::SetNote { key, value });
            let edits = set.chain(remove.into_iter().map(|key| Edit::RemoveNote { key })).collect();
            to_value(agent.edit(person, edits).await)
        }
        Request::Models => to_value(Ok(agent.models().await)),
        Request::Doctor => to_value(Ok(agent.doctor().await)),
        Request::ImportBundle { file } => to_value(agent.import(file).await),
        Request::Logs { lines, level } => to_value(Ok(agent.logs(lines, &level).await)),
    };
    value.map_or_else(Answer::Error, Answer::Ok)
}

fn to_value<T: serde::Serialize>(result: Result<T, String>) -> Result<serde_json::Value, String> {
    serde_json::to_value(result?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{AdminError, call};
    use std::sync::Mutex;

    #[derive(Default)]
    struct Fake(Mutex<Vec<(String, Vec<Edit>)>>);

    #[async_trait]
    impl Agent for Fake {
        async fn status(&self) -> StatusView {
            StatusView { version: "1".into(), ..StatusView::default() }
        }
        async fn intent(&self) -> Result<IntentView, String> {
            Err("this device has not joined".into())
        }
        async fn edit(&self, user: &str, edits: Vec<Edit>) -> Result<IntentView, String> {
            self.0.lock().unwrap().push((user.to_owned(), edits));
            Ok(IntentView::default())
        }
        async fn models(&self) -> BTreeMap<ModelName, ModelStatus> {
            BTreeMap::new()
        }
        async fn doctor(&self) -> Vec<Finding> {
            Vec::new()
        }
        async fn import(&self, file: PathBuf) -> Result<Imported, String> {
            Err(format!("{}: no such file", file.display()))
        }
        async fn logs(&self, _: usize, _: &str) -> Vec<LogLine> {
            Vec::new()
        }
    }

    fn start(dir: &Path) -> Arc<Fake> {
        let (listener, fake) = (listen(dir).unwrap(), Arc::new(Fake::default()));
        let (dir, agent) = (dir.to_owned(), fake.clone());
        tokio::spawn(async move { serve(listener, &dir, agent, CancellationToken::new()).await });
        fake
    }

    #[tokio::test]
    async fn requests_are_answered_and_an_edit_carries_the_callers_name() {
        let dir = tempfile::tempdir().unwrap();
        let fake = start(dir.path());
        let status: StatusView = call(dir.path(), &Request::Status).await.unwrap();
        assert_eq!(status.version, "1");
        let set = BTreeMap::from([("site".to_owned(), "lab".to_owned())]);
        let _: IntentView = call(dir.path(), &Request::Labels { set, remove: vec!["old".into()] }).await.unwrap();
        let edits = fake.0.lock().unwrap();
        assert_eq!(edits[0].1.len(), 2);
        assert_eq!(edits[0].0, user::name(std::fs::metadata(dir.path()).unwrap().uid()));
    }

    #[tokio::test]
    async fn the_socket_is_the_owners_alone_and_replaces_what_a_killed_agent_left() {
        let dir = tempfile::tempdir().unwrap();
        drop(listen(dir.path()).unwrap());
        start(dir.path());
        let mode = std::fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(call::<StatusView>(dir.path(), &Request::Status).await.is_ok());
    }

    #[tokio::test]
    async fn another_user_is_turned_away_with_a_hint() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fake = Fake::default();
        let (ended, mut read) = (converse_as(1_001, ours, 1_000, &fake), BufReader::new(theirs));
        ended.await.unwrap();
        let mut text = String::new();
        read.read_line(&mut text).await.unwrap();
        assert!(text.contains("belongs to the user"), "{text}");
    }

    #[tokio::test]
    async fn bad_and_endless_requests_get_an_error_and_errors_reach_the_caller() {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path());
        for request in [b"nonsense\n".to_vec(), vec![b'x'; MAX_REQUEST as usize + 1]] {
            let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
            let _ = stream.write_all(&request).await;
            let mut text = String::new();
            BufReader::new(stream).read_line(&mut text).await.unwrap();
            assert!(text.starts_with(r#"{"error":"the request"#), "{text}");
        }
        let error = call::<IntentView>(dir.path(), &Request::Intent).await.unwrap_err();
        assert!(matches!(error, AdminError::Refused(ref why) if why.contains("not joined")), "{error}");
    }
}
