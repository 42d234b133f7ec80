//! Places on the way of an update where a test has the disk fail or the process end: before and after every write, flush and
//! rename that the agent makes. Outside of tests nothing of it is compiled.
//!
//! SQLite's own writes are not taken apart: a transaction is one write that is whole or did not happen, which is what its
//! write-ahead log is for; the points stand before it begins, before it commits, and after.

#[cfg(test)]
pub(crate) use armed::{Plan, after, passed, point};

/// Before a deed of the disk: fails or ends the process when a test says so.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn point(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}

/// After a deed of the disk: ends the process when a test says so.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn after(_name: &'static str) {}

#[cfg(test)]
mod armed {
    use std::io;
    use std::sync::Mutex;

    /// What happens at the points that are passed, counted from 0.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Plan {
        /// The nth fails.
        Fail(usize),
        /// The nth and all that follow fail: a disk that stays full or read-only.
        FailFrom(usize),
        /// The process ends at the nth.
        Kill(usize),
        /// They are counted.
        Record,
    }

    static PASSED: Mutex<Option<(Plan, Vec<&'static str>)>> = Mutex::new(None);

    impl Plan {
        /// From here on, points are counted in this process.
        pub(crate) fn arm(self) {
            *PASSED.lock().unwrap() = Some((self, Vec::new()));
        }
    }

    /// The points passed since the plan was armed.
    pub(crate) fn passed() -> Vec<&'static str> {
        PASSED.lock().unwrap().as_ref().map(|(_, passed)| passed.clone()).unwrap_or_default()
    }

    /// Whether the point fails.
    fn pass(name: &'static str) -> bool {
        let mut guard = PASSED.lock().unwrap();
        let Some((plan, passed)) = guard.as_mut() else { return false };
        let number = passed.len();
        passed.push(name);
        if *plan == Plan::Kill(number) {
            // The lock is held, so that no other thread goes on in between.
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("a process may end itself");
            loop {
                std::thread::park();
            }
        }
        match *plan {
            Plan::Fail(at) => number == at,
            Plan::FailFrom(at) => number >= at,
            Plan::Kill(_) | Plan::Record => false,
        }
    }

    pub(crate) fn point(name: &'static str) -> io::Result<()> {
        if pass(name) { Err(io::Error::other(format!("injected at {name}"))) } else { Ok(()) }
    }

    pub(crate) fn after(name: &'static str) {
        // What has happened cannot fail any more.
        pass(name);
    }
}
