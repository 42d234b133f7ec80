//! The last lines of the agent's own log, in memory, for `tail logs` from afar and for `doctor`.
//!
//! Bounded by lines and by bytes; never written to disk, which is the system's journal's work. Lines are numbered from 1, without
//! gaps, so that who has read some can go on behind them.

use crate::clock;
pub use aidos_protocol::api::commands::LogLine;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines kept.
const MAX_LINES: usize = 1_000;
/// Bytes of all lines kept.
const MAX_BYTES: usize = 192 << 10;
/// The longest line.
const MAX_LINE: usize = 2_048;

/// The ring of lines; also the layer that fills it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ring: Mutex<Ring>,
    grown: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<(Level, LogLine)>,
    bytes: usize,
    /// The number of the newest line.
    newest: u64,
}

/// Some lines behind a number.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Oldest first.
    pub lines: Vec<LogLine>,
    /// The number to go on behind.
    pub next: u64,
    /// Lines behind the number that the ring keeps no more.
    pub missed: u64,
}

impl Logs {
    /// The newest `count` lines of at least the severity of `level`, oldest first. An unknown or empty level means `info`.
    pub fn tail(&self, count: usize, level: &str) -> Vec<LogLine> {
        self.ring().tail(count, least(level))
    }

    /// The first `count` lines behind number `after` of at least the severity of `level`; behind 0 the newest ones. A number that
    /// this ring has not reached is of another one: for it all lines are new.
    pub fn behind(&self, after: u64, count: usize, level: &str) -> Behind {
        let least = least(level);
        let ring = self.ring();
        if after == 0 || after > ring.newest {
            return Behind { lines: ring.tail(count, least), next: ring.newest, missed: 0 };
        }
        let gone = ring.newest - ring.lines.len() as u64;
        let numbered = (gone + 1..).zip(&ring.lines).skip_while(|(number, _)| *number <= after);
        let (mut lines, mut next) = (Vec::new(), ring.newest);
        for (number, (level, line)) in numbered {
            if *level > least {
                continue;
            }
            if lines.len() == count {
                next = number - 1;
                break;
            }
            lines.push(line.clone());
        }
        Behind { lines, next, missed: gone.saturating_sub(after) }
    }

    /// Wakes with each new line.
    pub fn grown(&self) -> watch::Receiver<()> {
        self.0.grown.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, level: Level, line: LogLine) {
        let mut ring = self.ring();
        ring.bytes += line.text.len() + line.target.len();
        ring.lines.push_back((level, line));
        ring.newest += 1;
        while ring.lines.len() > MAX_LINES || ring.bytes > MAX_BYTES {
            let Some((_, gone)) = ring.lines.pop_front() else { break };
            ring.bytes -= gone.text.len() + gone.target.len();
        }
        drop(ring);
        self.0.grown.send_replace(());
    }
}

impl Ring {
    fn tail(&self, count: usize, least: Level) -> Vec<LogLine> {
        let wanted = self.lines.iter().rev().filter(|(level, _)| *level <= least);
        let mut lines: Vec<LogLine> = wanted.take(count).map(|(_, line)| line.clone()).collect();
        lines.reverse();
        lines
    }
}

fn least(level: &str) -> Level {
    level.parse().unwrap_or(Level::INFO)
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        let mut line = text.message;
        line.push_str(&text.fields);
        if line.len() > MAX_LINE {
            let end = (0..=MAX_LINE).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
            line.truncate(end);
            line.push('…');
        }
        let level = *meta.level();
        self.push(
            level,
            LogLine { time_us: clock::now(), level: level.as_str().to_owned(), target: meta.target().to_owned(), text: line },
        );
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn the_newest_lines_of_a_level_come_oldest_first() {
        let logs = Logs::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs.clone()), || {
            tracing::info!(n = 1, "first");
            tracing::debug!("unseen");
            tracing::error!(path = "x", "second");
        });
        let texts: Vec<String> = logs.tail(10, "info").into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["first n=1", "second path=\"x\""]);
        assert_eq!(logs.tail(1, "debug").len(), 1);
        assert_eq!(logs.tail(10, "error").len(), 1);
    }

    fn texts(behind: &Behind) -> Vec<&str> {
        behind.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn who_goes_on_behind_a_line_meets_each_later_one_once() {
        let logs = Logs::default();
        let _within = tracing::subscriber::set_default(tracing_subscriber::registry().with(logs.clone()));
        for n in 1..=6 {
            tracing::info!("{n}");
            tracing::debug!("unseen");
        }
        let newest = logs.behind(0, 2, "info");
        assert_eq!((texts(&newest), newest.next, newest.missed), (vec!["5", "6"], 12, 0));
        let first = logs.behind(1, 3, "info");
        assert_eq!(texts(&first), ["2", "3", "4"]);
        let rest = logs.behind(first.next, 3, "info");
        assert_eq!((texts(&rest), rest.next), (vec!["5", "6"], 12));
        assert_eq!(logs.behind(12, 3, "info"), Behind { lines: vec![], next: 12, missed: 0 });
        assert_eq!(texts(&logs.behind(99, 1, "info")), ["6"], "a number of another ring");
    }

    #[test]
    fn lines_that_the_ring_keeps_no_more_are_counted() {
        let logs = Logs::default();
        let _within = tracing::subscriber::set_default(tracing_subscriber::registry().with(logs.clone()));
        for n in 1..=MAX_LINES + 5 {
            tracing::info!("{n}");
        }
        let behind = logs.behind(2, 1, "info");
        assert_eq!((texts(&behind), behind.missed), (vec!["6"], 3));
    }

    #[test]
    fn the_ring_stays_bounded_whatever_is_logged() {
        let logs = Logs::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs.clone()), || {
            for _ in 0..MAX_LINES {
                tracing::info!("{}", "ü".repeat(MAX_LINE));
            }
        });
        let ring = logs.ring();
        assert!(ring.bytes <= MAX_BYTES && ring.lines.len() <= MAX_LINES && !ring.lines.is_empty());
    }
}
