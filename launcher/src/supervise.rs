//! The driver: one child, one socket, one clock. It decides nothing; [`crate::machine`] does.

use crate::args::Options;
use crate::files::{FilesError, Slots};
use crate::machine::{Action, Event, Machine, Run, next};
use crate::notify::Said;
use crate::state::{Release, Slot, State};
use crate::{SLOTS_VARIABLE, TRIAL_VARIABLE};
use rustix::process::{Pid, Signal, kill_process};
use sd_notify::NotifyState;
use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the launcher waits for words before it looks around: what a stop or an end may go unnoticed, against four wake-ups a
/// second.
const TURN: Duration = Duration::from_millis(250);
/// How often memory is read.
const MEMORY: Duration = Duration::from_secs(1);
/// How often systemd is told that the launcher lives: often enough for the shortest WatchdogSec that makes sense, 5 s.
const ALIVE: Duration = Duration::from_secs(1);
/// The longest datagram that is read; the agent's have a hundred bytes.
const DATAGRAM: usize = 1_024;
/// Datagrams read in one turn, so that a flood of them cannot hide the rest of the world.
const BURST: usize = 64;

/// Why the launcher cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The folder.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// No agent to start.
    #[error("{0} holds no agent yet; name the installed one with --agent FILE")]
    Empty(String),
    /// The socket that the agent speaks to.
    #[error("cannot listen on {path}: {source}; its path has at most 107 bytes, so choose a shorter data folder if it is longer")]
    Socket {
        /// Where.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals.
    #[error("cannot take signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Runs until it is told to stop by SIGTERM or SIGINT.
pub fn supervise(options: &Options) -> Result<(), LaunchError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(LaunchError::Signals)?;
    }
    let slots = Slots::of(&options.data_dir);
    slots.create()?;
    let state = open(&slots, options)?;
    let path = slots.socket();
    let refused = |source| LaunchError::Socket { path: path.display().to_string(), source };
    // A launcher that was killed leaves its socket behind.
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).map_err(refused)?;
    socket.set_read_timeout(Some(TURN)).map_err(refused)?;
    let driver = Driver {
        options,
        slots,
        socket,
        machine: Machine::new(state),
        child: None,
        began: Instant::now(),
        measured: Instant::now(),
        told_ready: false,
        told: Instant::now(),
    };
    driver.run(&stop);
    let _ = std::fs::remove_file(&path);
    Ok(())
}

/// The state, or that of a device on which the agent was just installed.
fn open(slots: &Slots, options: &Options) -> Result<State, LaunchError> {
    match slots.state() {
        Ok(Some(state)) => return Ok(state),
        Ok(None) => {}
        Err(error @ FilesError::Text { .. }) => {
            let aside = slots.set_aside()?;
            say(&format!("{error}; it is kept as {}, and the installed agent is started", aside.display()));
        }
        Err(error) => return Err(error.into()),
    }
    let mut state = State::installed(Release::default());
    match &options.agent {
        Some(agent) => slots.install(Slot::A, agent)?,
        None if slots.binary(Slot::A).exists() => {}
        None if slots.binary(Slot::B).exists() => {
            (state.good, state.b) = (Slot::B, state.a.take());
        }
        None => return Err(LaunchError::Empty(slots.dir().display().to_string())),
    }
    slots.keep(&state)?;
    Ok(state)
}

struct Driver<'a> {
    options: &'a Options,
    slots: Slots,
    socket: UnixDatagram,
    machine: Machine,
    child: Option<Child>,
    began: Instant,
    measured: Instant,
    told_ready: bool,
    told: Instant,
}

impl Driver<'_> {
    fn run(mut self, stop: &AtomicBool) {
        // An agent may have asked just before the launcher was killed.
        self.asked();
        self.happen(Event::Begin);
        while self.machine.run != Run::Over {
            self.listen();
            if stop.swap(false, Ordering::SeqCst) {
                tell(&[NotifyState::Stopping]);
                self.happen(Event::Stop);
            }
            self.look();
            self.happen(Event::Tick);
            if self.told.elapsed() >= ALIVE {
                self.told = Instant::now();
                // The launcher is alive; whether the agent is, it judges itself.
                tell(&[NotifyState::Watchdog]);
            }
        }
    }

    /// Reads what the agent said, for a turn at most.
    fn listen(&mut self) {
        let mut datagram = [0; DATAGRAM];
        for _ in 0..BURST {
            let Ok(length) = self.socket.recv(&mut datagram) else { return };
            for said in Said::read(&datagram[..length]) {
                match said {
                    Said::Alive => self.happen(Event::Beat),
                    Said::Healthy(id) => self.happen(Event::Healthy(id)),
                    Said::Ready if !self.told_ready => {
                        self.told_ready = true;
                        tell(&[NotifyState::Ready]);
                        self.happen(Event::Beat);
                    }
                    Said::Ready => self.happen(Event::Beat),
                }
            }
        }
    }

    /// Looks at the child: whether it has ended, and what it takes.
    fn look(&mut self) {
        let Some(child) = &mut self.child else { return };
        match child.try_wait() {
            Ok(Some(status)) => {
                self.child = None;
                self.asked();
                let words = describe(status);
                say(&format!("the agent ended ({words})"));
                self.happen(Event::Exited(status.code(), words));
            }
            Ok(None) if self.measured.elapsed() >= MEMORY => {
                self.measured = Instant::now();
                let memory = memory_of(child.id());
                if let Some(bytes) = memory {
                    self.happen(Event::Memory(bytes));
                }
            }
            Ok(None) | Err(_) => {}
        }
    }

    /// Takes up what the agent asked for.
    fn asked(&mut self) {
        let request = match self.slots.request() {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                say(&error.to_string());
                return self.forget();
            }
        };
        let staged = self.slots.staged(&request.id).map_err(|error| error.to_string());
        let fit = staged.and_then(|path| if path.exists() { Ok(()) } else { Err("its binary is not there".to_owned()) });
        self.happen(Event::Request(request, fit));
        self.forget();
    }

    fn forget(&self) {
        if let Err(error) = self.slots.answered() {
            say(&error.to_string());
        }
    }

    /// One event with all that follows from it.
    fn happen(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let (machine, action) = next(self.machine.clone(), event, &self.options.limits, self.began.elapsed());
            if machine.state != self.machine.state {
                self.announce(&machine.state);
                if let Err(error) = self.slots.keep(&machine.state) {
                    say(&format!("{error}; nothing new is tried until it can be written"));
                    if self.child.is_none() {
                        self.machine.run = Run::Idle;
                        if matches!(action, Some(Action::Start { .. })) {
                            events.push_back(Event::NotKept);
                        }
                    }
                    continue;
                }
            }
            self.machine = machine;
            match action {
                Some(Action::Start { slot, trial }) => events.extend(self.start(slot, trial)),
                Some(Action::Terminate) => self.signal(Signal::TERM),
                Some(Action::Kill) => self.signal(Signal::KILL),
                Some(Action::Quit) | None => {}
            }
        }
    }

    /// Starts a slot's binary; the event when that fails.
    fn start(&mut self, slot: Slot, trial: Option<String>) -> Option<Event> {
        let held = self.machine.state.held(slot).map(|held| held.release.to_string()).unwrap_or_default();
        say(&format!("starting {held} from slot {slot}{}", if trial.is_some() { ", on trial" } else { "" }));
        if let Some(id) = &trial
            && let Err(error) = self.slots.take(id, slot)
        {
            return Some(Event::NotStarted(error.to_string()));
        }
        let mut command = Command::new(self.slots.binary(slot));
        command
            .args(&self.options.agent_args)
            .env("AIDOS_AGENT_DATA_DIR", &self.options.data_dir)
            .env(SLOTS_VARIABLE, self.slots.dir())
            .env("NOTIFY_SOCKET", self.slots.socket())
            .env("WATCHDOG_USEC", self.options.limits.silence.as_micros().to_string())
            // systemd's number is the launcher's own.
            .env_remove("WATCHDOG_PID");
        match trial {
            Some(id) => command.env(TRIAL_VARIABLE, id),
            None => command.env_remove(TRIAL_VARIABLE),
        };
        match command.spawn() {
            Ok(child) => {
                self.child = Some(child);
                tell(&[NotifyState::Status(&format!("{held} in slot {slot}"))]);
                None
            }
            Err(error) => {
                say(&format!("it could not be started: {error}"));
                Some(Event::NotStarted(error.to_string()))
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // Not reaped yet, so the number is still its own; one that has just ended does not hear it.
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    fn announce(&self, next: &State) {
        if next.last != self.machine.state.last
            && let Some(last) = &next.last
        {
            use crate::state::Verdict::{Failed, Good, Refused};
            match &last.verdict {
                Good => say(&format!("{} is good", last.release)),
                Refused { why } => say(&format!("{} was refused: {why}", last.release)),
                Failed { why } => say(&format!("{} was given up: {why}; the version before goes on", last.release)),
            }
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// Resident bytes of a process, as Linux tells them in pages.
fn memory_of(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Tells systemd, where there is one.
fn tell(state: &[NotifyState<'_>]) {
    // Without systemd this does nothing, and with it nothing else could be told.
    let _ = sd_notify::notify(state);
}

/// Says something in the log.
fn say(text: &str) {
    // There is nowhere left to tell that standard error is gone.
    let _ = writeln!(std::io::stderr(), "aidos-launcher: {text}");
}

#[cfg(test)]
mod process_tests;
#[cfg(test)]
mod tests;
