//! A small disk that a test can fill: a tmpfs of its own. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk. Dropping unmounts it.
pub struct Tmpfs {
    at: PathBuf,
}

impl Tmpfs {
    /// Mounts `mebibytes` at `at`. Panics where this user may not mount.
    pub fn mount(at: &Path, mebibytes: u64) -> Self {
        std::fs::create_dir_all(at).expect("the test's folder is writable");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().expect("mount is there");
        assert!(mounted.status.success(), "this test mounts a small disk, which needs root: {mounted:?}");
        Self { at: at.to_owned() }
    }

    /// Fills it to the last byte but `left`; gives the file to remove for it to have space again.
    pub fn fill(&self, left: u64) -> PathBuf {
        let path = self.at.join("filler");
        let mut file = std::fs::File::create(&path).expect("a file can be made");
        let block = vec![0xa5; 1 << 20];
        let spared = self.at.join("spared");
        std::fs::write(&spared, vec![0; usize::try_from(left).expect("a small disk")]).expect("so much is free");
        // A smaller block each time the disk is too full for one.
        let mut length = block.len();
        while length > 0 {
            match std::io::Write::write(&mut file, &block[..length]) {
                Ok(written) if written > 0 => {}
                _ => length /= 2,
            }
        }
        std::fs::remove_file(spared).expect("it was just written");
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that still has it open was killed by the same test.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
