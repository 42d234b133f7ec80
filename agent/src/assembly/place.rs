//! The data directory: whose it is, who may use it, and what it says about the agent that runs there.

use super::StartError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const LOCK: &str = "agent.lock";
const RUN: &str = "run.json";

/// The data directory of a running agent. Locked as long as this lives; the kernel frees the lock of a killed one.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    _lock: File,
}

/// The folder of the identity's files.
pub fn identity_dir(data: &Path) -> PathBuf {
    data.join("identity")
}

impl Place {
    /// Makes the folder, for this user only, and locks it, so that two agents never share one.
    pub(super) fn take(dir: &Path) -> Result<Self, StartError> {
        let io = |source| StartError::Folder { path: dir.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let path = dir.join(LOCK);
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message.
                let _ = (&mut lock).take(32).read_to_string(&mut holder);
                return Err(StartError::Taken { dir: dir.to_owned(), pid: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(io)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Writes `run.json`, from which other programs learn the bound address.
    pub(super) fn announce(&self, serve: SocketAddr) -> Result<(), StartError> {
        let io = |source| StartError::Folder { path: self.dir.join(RUN), source };
        let text = serde_json::json!({ "serve_addr": serve.to_string(), "pid": std::process::id() }).to_string();
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(io)?;
        file.write_all(text.as_bytes()).map_err(io)?;
        file.persist(self.dir.join(RUN)).map_err(|error| io(error.error))?;
        Ok(())
    }

    /// Takes back what tells that an agent runs here. The lock goes with the value.
    pub(super) fn leave(self) {
        for name in [RUN, crate::admin::SOCKET] {
            // What is not there need not be removed, and what cannot be is replaced by the next start.
            let _ = std::fs::remove_file(self.dir.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_never_share_a_folder_and_a_killed_one_leaves_it_free() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::take(dir.path()).unwrap();
        let error = Place::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(place);
        let place = Place::take(dir.path()).unwrap();
        place.announce("127.0.0.1:7080".parse().unwrap()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(RUN)).unwrap();
        assert!(text.contains("127.0.0.1:7080"));
        place.leave();
        assert!(!dir.path().join(RUN).exists());
    }
}
