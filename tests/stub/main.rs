//! What a bad version of the agent does, for tests: it says its version and then crashes, hangs, grows, or lives without ever
//! being in touch. Which of these, and which version, stands in the last line of its own file, so one build makes any of them:
//! `AIDOS-STUB <crash|hang|grow|deaf> <version>`.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::parent_id;
use std::process::ExitCode;
use std::time::Duration;

/// Bytes at the end of the file that hold the line.
const TAIL: u64 = 128;

fn main() -> ExitCode {
    let line = last_line().unwrap_or_default();
    let mut words = line.split_whitespace().skip(1);
    let (behaviour, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if std::env::args().any(|argument| argument == "--version") {
        let said = writeln!(std::io::stdout(), "aidos-agent {version}");
        return if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let parent = parent_id();
    match behaviour {
        "hang" | "deaf" | "grow" => {
            let mut taken = Vec::new();
            // Never longer than its launcher, and never more than half a GiB.
            while parent_id() == parent {
                if behaviour != "hang" {
                    say_alive();
                }
                if behaviour == "grow" && taken.len() < 32 {
                    taken.push(vec![1u8; 16 << 20]);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(101),
    }
}

fn last_line() -> Option<String> {
    let mut file = std::fs::File::open(std::env::current_exe().ok()?).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    String::from_utf8_lossy(&tail).lines().last().map(str::to_owned)
}

fn say_alive() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = UnixDatagram::unbound() {
        // A launcher that has just gone does not listen any more.
        let _ = socket.send_to(b"WATCHDOG=1\n", path);
    }
}
