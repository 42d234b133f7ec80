//! The last lines of the agent's own log, in memory, for `tail logs` from afar and for `doctor`.
//!
//! Bounded by lines and by bytes; never written to disk, which is the system's journal's work.

use crate::clock;
use aidos_protocol::time::Micros;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
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

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogLine {
    /// When.
    pub time_us: Micros,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// Which module.
    pub target: String,
    /// The message and its fields.
    pub text: String,
}

/// The ring of lines; also the layer that fills it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<(Level, LogLine)>,
    bytes: usize,
}

impl Logs {
    /// The newest `count` lines of at least the severity of `level`, oldest first. An unknown or empty level means `info`.
    pub fn tail(&self, count: usize, level: &str) -> Vec<LogLine> {
        let least: Level = level.parse().unwrap_or(Level::INFO);
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<LogLine> =
            ring.lines.iter().rev().filter(|(level, _)| *level <= least).take(count).map(|(_, line)| line.clone()).collect();
        lines.reverse();
        lines
    }

    fn push(&self, level: Level, line: LogLine) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += line.text.len() + line.target.len();
        ring.lines.push_back((level, line));
        while ring.lines.len() > MAX_LINES || ring.bytes > MAX_BYTES {
            let Some((_, gone)) = ring.lines.pop_front() else { break };
            ring.bytes -= gone.text.len() + gone.target.len();
        }
    }
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

    #[test]
    fn the_ring_stays_bounded_whatever_is_logged() {
        let logs = Logs::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs.clone()), || {
            for _ in 0..MAX_LINES {
                tracing::info!("{}", "ü".repeat(MAX_LINE));
            }
        });
        let ring = logs.0.lock().unwrap();
        assert!(ring.bytes <= MAX_BYTES && ring.lines.len() <= MAX_LINES && !ring.lines.is_empty());
    }
}
