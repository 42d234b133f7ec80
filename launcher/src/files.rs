//! The folder with the two slots, the state and what the agent stages.
//!
//! ```text
//! slots/a/aidos-agent, slots/b/aidos-agent   written by the launcher only, by rename
//! slots/state.json                           written by the launcher only
//! slots/staged-<id>, slots/request.json      written by the agent only
//! slots/notify                               the socket that the agent speaks to
//! ```
//! Everything is written beside its place, flushed, renamed into it, and the folder flushed: after a cut at any point there
//! is the old or the new.

use crate::fault::{after, point};
use crate::state::{FORMAT, Request, Slot, State};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The binary's name in a slot.
const BINARY: &str = "aidos-agent";
const STATE: &str = "state.json";
const REQUEST: &str = "request.json";
const SOCKET: &str = "notify";
const STAGED: &str = "staged-";
/// The longest state or request: a few releases and sentences.
const MAX_TEXT: u64 = 64 << 10;
/// Bytes that are written at once.
const PIECE: usize = 64 << 10;
/// The longest id of a request.
const MAX_ID: usize = 64;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The system refused.
    #[error("{path}: {source}; check that the folder exists, has space and belongs to the user that runs the agent")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not what it should be.
    #[error("{path} cannot be read: {why}")]
    Text {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A request's id cannot be a file name.
    #[error("`{0}` cannot name a request: use 1 to {MAX_ID} of a-z 0-9 -")]
    Id(String),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FilesError + '_ {
    move |source| FilesError::Io { path: path.to_owned(), source }
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Slots {
    dir: PathBuf,
}

impl Slots {
    /// The slots in the agent's data folder.
    pub fn of(data: &Path) -> Self {
        Self { dir: data.join("slots") }
    }

    /// The slots in the folder itself, as [`crate::SLOTS_VARIABLE`] names it.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The binary of a slot.
    pub fn binary(&self, slot: Slot) -> PathBuf {
        self.dir.join(slot.name()).join(BINARY)
    }

    /// The socket that the agent speaks to.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Makes the folders, for this user only.
    pub fn create(&self) -> Result<(), FilesError> {
        for dir in [self.dir.clone(), self.dir.join(Slot::A.name()), self.dir.join(Slot::B.name())] {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io(&dir))?;
        }
        Ok(())
    }

    /// The state; `None` before the first start. One that cannot be read is an error, never an empty state.
    pub fn state(&self) -> Result<Option<State>, FilesError> {
        let path = self.dir.join(STATE);
        let Some(state) = read::<State>(&path)? else { return Ok(None) };
        if state.format > FORMAT {
            let why = format!("it has the form {}, and this launcher knows {FORMAT}: install a newer launcher", state.format);
            return Err(FilesError::Text { path, why });
        }
        Ok(Some(state))
    }

    /// Writes the state. Durable on return.
    pub fn keep(&self, state: &State) -> Result<(), FilesError> {
        let text = serde_json::to_vec_pretty(state).expect("a state has only text keys");
        write(&self.dir.join(STATE), &mut text.as_slice(), 0o600)
    }

    /// Puts a state that cannot be read out of the way, for a person to look at.
    pub fn set_aside(&self) -> Result<PathBuf, FilesError> {
        let (path, aside) = (self.dir.join(STATE), self.dir.join("state.json.damaged"));
        point("state.aside").and_then(|()| std::fs::rename(&path, &aside)).map_err(io(&path))?;
        Ok(aside)
    }

    /// Copies `file` into `slot`.
    pub fn install(&self, slot: Slot, file: &Path) -> Result<(), FilesError> {
        let mut source = File::open(file).map_err(io(file))?;
        write(&self.binary(slot), &mut source, 0o700)
    }

    /// The agent's side: writes `bytes` as the binary of the attempt `id` and returns its path. Others' staged files are removed.
    pub fn stage(&self, id: &str, bytes: &mut dyn std::io::Read) -> Result<PathBuf, FilesError> {
        let path = self.staged(id)?;
        self.clear(Some(&path))?;
        write(&path, bytes, 0o700)?;
        Ok(path)
    }

    /// Where the binary of the attempt `id` is staged.
    pub fn staged(&self, id: &str) -> Result<PathBuf, FilesError> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(fine) {
            return Err(FilesError::Id(id.chars().take(MAX_ID).collect()));
        }
        Ok(self.dir.join(format!("{STAGED}{id}")))
    }

    /// The agent's side: asks for the staged version. Durable on return; the agent then ends with [`crate::EXIT_SWITCH`].
    pub fn ask(&self, request: &Request) -> Result<(), FilesError> {
        let text = serde_json::to_vec(request).expect("a request has only text keys");
        write(&self.dir.join(REQUEST), &mut text.as_slice(), 0o600)
    }

    /// What the agent asked for, if it did.
    pub fn request(&self) -> Result<Option<Request>, FilesError> {
        read(&self.dir.join(REQUEST))
    }

    /// Forgets the request.
    pub fn answered(&self) -> Result<(), FilesError> {
        remove(&self.dir.join(REQUEST))
    }

    /// Moves the staged binary of `id` into `slot`; one that was moved already is fine.
    pub fn take(&self, id: &str, slot: Slot) -> Result<(), FilesError> {
        let (from, to) = (self.staged(id)?, self.binary(slot));
        match point("slot.rename").and_then(|()| std::fs::rename(&from, &to)) {
            Ok(()) => {
                after("slot.renamed");
                flush_folder(&to)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && to.exists() => Ok(()),
            Err(source) => Err(FilesError::Io { path: from, source }),
        }
    }

    /// Removes staged files but `keep`, and what a cut left half written.
    pub fn clear(&self, keep: Option<&Path>) -> Result<(), FilesError> {
        for entry in std::fs::read_dir(&self.dir).map_err(io(&self.dir))? {
            let path = entry.map_err(io(&self.dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(STAGED) && keep != Some(path.as_path()) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, FilesError> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_TEXT).read_to_end(&mut text).map_err(io(path))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FilesError::Io { path: path.to_owned(), source }),
    };
    let value = serde_json::from_slice(&text);
    value.map(Some).map_err(|error| FilesError::Text { path: path.to_owned(), why: error.to_string() })
}

fn write(path: &Path, bytes: &mut dyn std::io::Read, mode: u32) -> Result<(), FilesError> {
    let beside = path.with_extension("new");
    let mut made = || {
        point("file.create")?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        let mut piece = vec![0; PIECE];
        loop {
            let length = bytes.read(&mut piece)?;
            if length == 0 {
                break;
            }
            point("file.write")?;
            file.write_all(&piece[..length])?;
        }
        // The mode of one that a cut left behind may be another.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        point("file.sync")?;
        // A binary that is open for writing cannot be started: it is closed on return.
        file.sync_all()
    };
    made().map_err(io(&beside))?;
    point("file.rename").and_then(|()| std::fs::rename(&beside, path)).map_err(io(path))?;
    after("file.renamed");
    flush_folder(path)
}

fn flush_folder(path: &Path) -> Result<(), FilesError> {
    let folder = path.parent().expect("every file of the slots lies in a folder");
    let flushed = || {
        point("folder.sync")?;
        File::open(folder)?.sync_all()
    };
    flushed().map_err(io(folder))?;
    after("folder.synced");
    Ok(())
}

fn remove(path: &Path) -> Result<(), FilesError> {
    match point("file.remove").and_then(|()| std::fs::remove_file(path)) {
        Ok(()) => {
            after("file.removed");
            flush_folder(path)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FilesError::Io { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Release;

    fn slots() -> (tempfile::TempDir, Slots) {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::of(dir.path());
        slots.create().unwrap();
        (dir, slots)
    }

    #[test]
    fn the_state_comes_back_and_a_damaged_or_newer_one_is_an_error() {
        let (_dir, slots) = slots();
        assert_eq!(slots.state().unwrap(), None);
        let state = State::installed(Release::default());
        slots.keep(&state).unwrap();
        assert_eq!(slots.state().unwrap(), Some(state.clone()));
        slots.keep(&State { format: FORMAT + 1, ..state }).unwrap();
        assert!(slots.state().unwrap_err().to_string().contains("newer launcher"));
        std::fs::write(slots.dir().join(STATE), b"{").unwrap();
        assert!(slots.state().is_err());
        slots.set_aside().unwrap();
        assert_eq!(slots.state().unwrap(), None);
    }

    #[test]
    fn a_staged_binary_is_moved_once_and_moving_it_again_changes_nothing() {
        let (_dir, slots) = slots();
        let other = slots.stage("first", &mut b"x".as_slice()).unwrap();
        let staged = slots.stage("id-1", &mut b"binary".as_slice()).unwrap();
        assert!(staged.exists() && !other.exists());
        slots.take("id-1", Slot::B).unwrap();
        slots.take("id-1", Slot::B).unwrap();
        let mode = std::fs::metadata(slots.binary(Slot::B)).unwrap().permissions().mode();
        assert_eq!((std::fs::read(slots.binary(Slot::B)).unwrap().as_slice(), mode & 0o777), (b"binary".as_slice(), 0o700));
        assert!(slots.take("id-2", Slot::A).is_err());
    }

    #[test]
    fn an_id_never_leads_out_of_the_folder() {
        let (_dir, slots) = slots();
        for bad in ["", "../x", "a/b", "UPPER", &"a".repeat(65)] {
            assert!(matches!(slots.staged(bad), Err(FilesError::Id(_))), "{bad}");
        }
    }
}
