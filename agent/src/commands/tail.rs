//! Reading the agent's log from afar: the newest lines, or those behind a number, which may be waited for.
//!
//! A wait has a place of its own, so that followers never keep other commands from being carried out. Reading changes nothing, so
//! it needs no place in the inbox either: who follows a log for hours writes nothing to the device's disk.

use super::Deed;
use crate::observe::{Behind, Logs};
use aidos_protocol::api::commands::{LogTail, MAX_TAIL_WAIT_S};
use aidos_protocol::frame::TailLogs;
use aidos_protocol::frame::command_result::Outcome;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// The most lines of log in one answer.
const MAX_LINES: u32 = 500;
/// Reads that wait at a time: half of the commands that a session has, so that the others always pass. Further ones are answered
/// at once, whether there are lines or not.
pub(super) const WAITING: usize = 4;

/// The readers of one device's log.
pub(super) struct Tails {
    logs: Logs,
    boot_id: u64,
    waiting: Semaphore,
}

impl Tails {
    pub(super) fn new(logs: Logs, boot_id: u64) -> Self {
        Self { logs, boot_id, waiting: Semaphore::new(WAITING) }
    }

    pub(super) async fn answer(&self, tail: &TailLogs) -> Deed {
        let count = tail.lines.clamp(1, MAX_LINES) as usize;
        let Some(after) = tail.after else {
            let lines = self.logs.tail(count, &tail.level);
            return Deed::json(Outcome::Ok, format!("{} lines", lines.len()), &lines);
        };
        let here = tail.boot_id.is_none_or(|boot_id| boot_id == self.boot_id);
        let Behind { lines, next, missed } = self.behind(if here { after } else { 0 }, count, tail).await;
        let message = format!("{} lines", lines.len());
        Deed::json(Outcome::Ok, message, &LogTail { boot_id: self.boot_id, next, missed, lines })
    }

    async fn behind(&self, after: u64, count: usize, tail: &TailLogs) -> Behind {
        // Before the first look, so that no line falls between.
        let mut grown = self.logs.grown();
        let mut found = self.logs.behind(after, count, &tail.level);
        let wait_s = tail.wait_s.min(MAX_TAIL_WAIT_S);
        if !found.lines.is_empty() || wait_s == 0 {
            return found;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return found };
        let until = Instant::now() + Duration::from_secs(wait_s.into());
        while found.lines.is_empty() && timeout_at(until, grown.changed()).await.is_ok_and(|changed| changed.is_ok()) {
            // What was looked at and is of no matter is not looked at again.
            found = Behind { missed: found.missed, ..self.logs.behind(found.next, count, &tail.level) };
        }
        found
    }
}
