//! The driver with real processes: small shell scripts in the place of agents.

use super::*;
use crate::machine::Limits;
use crate::state::{Request, Verdict};
use std::path::{Path, PathBuf};

/// An agent that works until it is told to end.
const GOOD: &str = "#!/bin/sh\necho \"good $AIDOS_TRIAL\" >> \"$AIDOS_AGENT_DATA_DIR/starts\"\nexec sleep 100\n";

struct Device {
    dir: tempfile::TempDir,
    options: Options,
}

fn script(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    path.to_owned()
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = script(&dir.path().join("agent"), GOOD);
        let limits = Limits {
            pause: Duration::from_millis(10),
            silence: Duration::from_secs(30),
            stop: Duration::from_secs(5),
            ..Limits::default()
        };
        let options = Options { data_dir: dir.path().to_owned(), agent: Some(agent), limits, agent_args: Vec::new() };
        Self { dir, options }
    }

    fn slots(&self) -> Slots {
        Slots::of(self.dir.path())
    }

    /// What an agent that wants to switch leaves behind.
    fn stage(&self, text: &str, counter: u64) {
        let slots = self.slots();
        slots.create().unwrap();
        slots.stage("one", &mut text.as_bytes()).unwrap();
        let release = Release { version: "2.0.0".into(), counter, ..Release::default() };
        slots.ask(&Request { id: "one".into(), release }).unwrap();
    }

    fn starts(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("starts")).unwrap_or_default()
    }

    /// Supervises until the good agent stands, then stops.
    fn until(&self, done: impl Fn(&str) -> bool + Send) -> State {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (slots, options) = (self.slots(), &self.options);
            slots.create().unwrap();
            let state = open(&slots, options).unwrap();
            let socket = UnixDatagram::bind(slots.socket()).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let now = Instant::now();
            let machine = Machine::new(state);
            let driver =
                Driver { options, slots, socket, machine, child: None, began: now, measured: now, told_ready: false, told: now };
            let stop = &stop;
            scope.spawn(move || driver.run(stop));
            let limit = Instant::now() + Duration::from_secs(60);
            while !done(&self.starts()) {
                assert!(Instant::now() < limit, "{}", self.starts());
                std::thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::SeqCst);
        });
        self.slots().state().unwrap().unwrap()
    }
}

#[test]
fn a_new_version_that_crashes_is_started_three_times_and_the_old_one_is_back() {
    let device = Device::new();
    device.stage("#!/bin/sh\necho \"new $AIDOS_TRIAL\" >> \"$AIDOS_AGENT_DATA_DIR/starts\"\nexit 7\n", 1);
    let state = device.until(|starts| starts.ends_with("good \n"));
    assert_eq!(device.starts(), "new one\nnew one\nnew one\ngood \n");
    let last = state.last.unwrap();
    assert!(
        matches!(&last.verdict, Verdict::Failed { why } if why.contains("3 starts") && why.contains("exit status 7")),
        "{last:?}"
    );
    assert_eq!((state.good, state.trial), (Slot::A, None));
}

#[test]
fn an_installed_agent_is_copied_into_a_slot_and_ended_with_the_launcher() {
    let device = Device::new();
    let state = device.until(|starts| starts.ends_with("good \n"));
    assert_eq!(device.starts(), "good \n");
    assert_eq!((state.good, state.last), (Slot::A, None));
    assert!(device.slots().binary(Slot::A).exists());
    assert_eq!(device.slots().request().unwrap(), None);
}

#[test]
fn a_binary_that_does_not_start_at_all_is_given_up_at_once() {
    let device = Device::new();
    device.stage("not a program", 1);
    let state = device.until(|starts| starts.ends_with("good \n"));
    let last = state.last.unwrap();
    assert!(matches!(&last.verdict, Verdict::Failed { why } if why.contains("could not be started")), "{last:?}");
    assert_eq!(device.starts(), "good \n");
}
