//! Keeps the components running: starts one again when it ends by itself or panics, and when someone asks.
//!
//! Invariant: of each component at most one run exists at a time; the next begins after the one before has ended.

use crate::commands::Restart;
use aidos_protocol::twin::{ComponentState, ComponentStatus};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pause before a component is started again; it doubles with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length ends the row of failures.
const SOUND: Duration = Duration::from_secs(300);
/// How long a component may take to end when it is asked to; then it is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// Told of each change of a component's status.
pub(super) type Tell = Arc<dyn Fn(&str, &ComponentStatus) + Send + Sync>;

/// The components of one agent. Cheap to clone.
#[derive(Clone)]
pub(super) struct Components {
    known: Arc<Mutex<BTreeMap<&'static str, Arc<Notify>>>>,
    tell: Tell,
}

impl Components {
    pub(super) fn new(tell: Tell) -> Self {
        Self { known: Arc::default(), tell }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<&'static str, Arc<Notify>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what `make` makes, again and again, until `stop`. `make` gets the token that ends that one run.
    pub(super) fn supervise<F, R>(&self, name: &'static str, stop: CancellationToken, make: F) -> JoinHandle<()>
    where
        F: Fn(CancellationToken) -> R + Send + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let asked = Arc::new(Notify::new());
        self.known().insert(name, Arc::clone(&asked));
        let tell = Arc::clone(&self.tell);
        tokio::spawn(async move {
            let mut status = ComponentStatus { state: ComponentState::Running, ..ComponentStatus::default() };
            let mut failures = 0u32;
            loop {
                tell(name, &status);
                let (began, token) = (Instant::now(), stop.child_token());
                let mut run = tokio::spawn(make(token.clone()));
                let ended = tokio::select! {
                    ended = &mut run => Some(ended),
                    () = asked.notified() => None,
                    () = stop.cancelled() => None,
                };
                let error = match ended {
                    None => {
                        token.cancel();
                        if tokio::time::timeout(PATIENCE, &mut run).await.is_err() {
                            tracing::warn!(component = name, "it did not end in time and was cut off");
                            run.abort();
                        }
                        String::new()
                    }
                    Some(Ok(Ok(()))) => "it ended by itself".to_owned(),
                    Some(Ok(Err(error))) => error,
                    Some(Err(_)) => "it failed inside the agent; see the log".to_owned(),
                };
                if stop.is_cancelled() {
                    return tell(name, &ComponentStatus { state: ComponentState::Stopped, ..status });
                }
                status.restarts += 1;
                if error.is_empty() {
                    tracing::info!(component = name, "restarted as asked");
                    continue;
                }
                tracing::error!(component = name, %error, "a component ended; it is started again");
                failures = if began.elapsed() > SOUND { 0 } else { failures + 1 };
                status.error = error;
                tell(name, &ComponentStatus { state: ComponentState::Failed, ..status.clone() });
                let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = asked.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        })
    }
}

impl Restart for Components {
    fn restart(&self, component: &str) -> Result<String, String> {
        let known = self.known();
        match known.get(component) {
            Some(asked) => {
                asked.notify_one();
                Ok(format!("{component} is being restarted"))
            }
            None => {
                let names: Vec<&str> = known.keys().copied().collect();
                Err(format!("there is no component `{component}`; there are {}", names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn components() -> (Components, Arc<Mutex<Vec<ComponentStatus>>>) {
        let told: Arc<Mutex<Vec<ComponentStatus>>> = Arc::default();
        let tell = Arc::clone(&told);
        let tell: Tell = Arc::new(move |_, status| tell.lock().unwrap().push(status.clone()));
        (Components::new(tell), told)
    }

    #[tokio::test]
    async fn a_component_that_panics_is_started_again_and_its_error_is_told() {
        let (components, told) = components();
        let (runs, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let counted = Arc::clone(&runs);
        let task = components.supervise("link", stop.clone(), move |token| {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(run > 0, "the first run fails");
                token.cancelled().await;
                Ok(())
            }
        });
        while told.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Asking does not wait for the pause.
        components.restart("link").unwrap();
        while runs.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        task.await.unwrap();
        let states: Vec<_> = told.lock().unwrap().iter().map(|status| (status.state, status.restarts)).collect();
        use ComponentState::{Failed, Running, Stopped};
        assert_eq!(states, [(Running, 0), (Failed, 1), (Running, 1), (Stopped, 1)]);
        assert!(components.restart("lnk").unwrap_err().contains("there are link"));
    }
}
