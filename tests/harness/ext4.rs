//! A small disk that turns read-only while it is in use, as a worn card does: ext4 on a loop device. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk. Dropping unmounts it.
pub struct Ext4 {
    image: PathBuf,
    at: PathBuf,
}

impl Ext4 {
    /// Makes a disk of `mebibytes` in the file `image` and mounts it at `at`. Panics where that cannot be done: these tests need root
    /// and loop devices.
    pub fn mount(image: &Path, at: &Path, mebibytes: u64) -> Self {
        std::fs::create_dir_all(at).expect("the test's folder is writable");
        let file = std::fs::File::create(image).expect("the test's folder is writable");
        file.set_len(mebibytes << 20).expect("a sparse file takes no room");
        run(Command::new("mkfs.ext4").arg("-q").arg(image));
        let disk = Self { image: image.to_owned(), at: at.to_owned() };
        disk.attach();
        disk
    }

    /// The file system gives up, with every file that is open: reads go on, writes fail.
    pub fn fails(&self) {
        run(Command::new("mount").args(["-o", "remount,abort"]).arg(&self.at));
        // The first write after it is what makes it read-only.
        let written = std::fs::write(self.at.join("probe"), b"x");
        assert!(written.is_err(), "the disk is read-only");
    }

    /// Checks and mounts it anew. Nobody may have a file of it open.
    pub fn repair(&self) {
        run(Command::new("umount").arg(&self.at));
        // 1: errors were found and corrected.
        let checked = Command::new("e2fsck").args(["-p", "-f"]).arg(&self.image).output().expect("e2fsck is installed");
        assert!(checked.status.code().is_some_and(|code| code <= 1), "{checked:?}");
        self.attach();
    }

    fn attach(&self) {
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&self.image).arg(&self.at));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // Lazily: a process that still has it open was killed by the same test.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
