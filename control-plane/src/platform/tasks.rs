//! Background work with a name: a task that ends or panics is started again, later and later, until the control plane stops.
//! Tasks take no input; they read what should be and make it so. A task must never hold what only one run of it can finish.

use std::future::Future;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The first pause before a restart.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause: what is broken for hours is tried once a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length was healthy: its end is the first failure again.
const HEALTHY: Duration = Duration::from_secs(300);

/// The background tasks of one process; a clone shares them.
#[derive(Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// No tasks yet; `stop` ends all that come.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stop }
    }

    /// Runs what `make` makes, again and again, until the stop. A run sees the stop through its token and should then end.
    pub(crate) fn spawn<F>(&self, name: &'static str, make: impl Fn(CancellationToken) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let mut pause = FIRST_PAUSE;
            while !stop.is_cancelled() {
                let begun = Instant::now();
                // A task of its own, so that its panic ends only the run.
                let outcome = tokio::spawn(make(stop.clone())).await;
                if stop.is_cancelled() {
                    break;
                }
                if begun.elapsed() >= HEALTHY {
                    pause = FIRST_PAUSE;
                }
                let wait = pause.mul_f64(rand::random_range(0.5..1.0));
                match outcome {
                    Ok(()) => tracing::warn!(task = name, ?wait, "a background task ended; it starts again"),
                    Err(error) => tracing::error!(task = name, ?wait, %error, "a background task failed; it starts again"),
                }
                stop.run_until_cancelled(tokio::time::sleep(wait)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    /// Runs `work` every `period` until the stop, the first time at once. A panic skips to the next start.
    pub(crate) fn every<F>(&self, name: &'static str, period: Duration, work: impl Fn() -> F + Clone + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(name, move |stop| {
            let work = work.clone();
            async move {
                let mut ticks = tokio::time::interval(period);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                    work().await;
                }
            }
        });
    }

    /// Waits until all tasks have ended after the stop, `patience` at most. Says whether they did.
    pub(crate) async fn join(&self, patience: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_task_that_panics_or_ends_starts_again_until_the_stop() {
        let stop = CancellationToken::new();
        let tasks = Tasks::new(stop.clone());
        let runs = Arc::new(AtomicU32::new(0));
        let seen = runs.clone();
        tasks.spawn("flaky", move |stop| {
            let run = seen.fetch_add(1, Ordering::SeqCst);
            async move {
                match run {
                    0 => panic!("the first run fails"),
                    1 => {}
                    _ => stop.cancelled().await,
                }
            }
        });
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if runs.load(Ordering::SeqCst) == 3 {
                break;
            }
        }
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        stop.cancel();
        assert!(tasks.join(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_not_waited_for_for_ever() {
        let stop = CancellationToken::new();
        let tasks = Tasks::new(stop.clone());
        tasks.spawn("stubborn", |_| std::future::pending());
        tokio::time::sleep(Duration::from_millis(20)).await;
        stop.cancel();
        assert!(!tasks.join(Duration::from_millis(50)).await);
    }
}
