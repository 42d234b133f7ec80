//! Signs of life to whoever watches this process, and what counts as healthy.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// The heartbeat when a watcher names no bound of its own.
const EVERY: Duration = Duration::from_secs(20);

/// Tells the launcher or systemd that this process is alive, until `stop`. It runs on the same workers as everything else, so it
/// falls silent when they hang. Without a watcher it returns at once.
pub async fn heartbeat(stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    // A third, so that one lost or late beat is no alarm.
    let every = sd_notify::watchdog_enabled().map_or(EVERY, |bound| (bound / 3).clamp(Duration::from_millis(100), EVERY));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => tell(&[NotifyState::Watchdog]),
        }
    }
}

/// Tells that this process answers requests.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells that the trial `id` is healthy.
pub(super) fn healthy(id: &str) {
    tell(&[NotifyState::Custom(&format!("{}={id}", aidos_launcher::HEALTHY))]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        // The watcher restarts what it does not hear; the log then tells why.
        tracing::warn!(%error, "the watcher of this agent cannot be told anything");
    }
}

/// Whether a version has been in touch for long enough, without a break.
#[derive(Debug, Clone, Copy, Default)]
pub struct Health {
    since: Option<Instant>,
}

impl Health {
    /// Whether `online` has held for `span` up to `now`.
    pub fn judge(&mut self, online: bool, span: Duration, now: Instant) -> bool {
        if !online {
            self.since = None;
            return false;
        }
        now.duration_since(*self.since.get_or_insert(now)) >= span
    }
}
