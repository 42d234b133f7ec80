//! The driver of the agent's own update: follows intent, acts, and reports.

use super::plan::{Standing, Step, plan};
use super::staging::{self, StagingError};
use super::supply::Supply;
use super::witness::Witness;
use super::{Health, Launcher, alive};
use crate::clock;
use crate::models::FetchError;
use crate::trust::Vouch;
use crate::update::{Conditions, Surroundings};
use aidos_launcher::State;
use aidos_protocol::artifact::Digest;
use aidos_protocol::trust::Wanted;
use aidos_protocol::twin::{DesiredRelease, ReleaseBinary, ReleaseState, ReleaseStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a trial's health is judged, and a wait looked at again.
const LOOK: Duration = Duration::from_millis(500);
/// How often a maintenance window is looked at again.
const WINDOW: Duration = Duration::from_secs(30);
/// The pause after a failed attempt; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause: a device that has waited for a day asks every five minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The desired release as it stands in intent; `Err`: it cannot be read.
pub type Desired = Option<Result<DesiredRelease, String>>;

/// What the update needs of the rest of the agent.
pub struct Deed {
    /// The launcher behind this process.
    pub launcher: Option<Launcher>,
    /// Who is asked before anything is fetched.
    pub guard: Arc<dyn Vouch>,
    /// Where binaries come from, and where they are kept.
    pub supply: Supply,
    /// Whether the control plane takes what this device reports.
    pub online: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Seconds of touch after which a new version counts as healthy.
    pub healthy_after_s: watch::Receiver<u64>,
    /// How the device fares, and what time it is.
    pub surroundings: Arc<dyn Surroundings>,
    /// Vouches for the version that runs.
    pub witness: Witness,
    /// Takes the status.
    pub report: Arc<dyn Fn(&ReleaseStatus) + Send + Sync>,
    /// Ends the agent so that the launcher starts the staged version.
    pub switch: Arc<dyn Fn() + Send + Sync>,
}

/// Follows the desired release.
pub struct SelfUpdate {
    deed: Deed,
    shown: Option<ReleaseStatus>,
    /// The attempt that cannot succeed, and why.
    hopeless: Option<(String, String)>,
    /// The attempt that failed last, and how often in a row.
    failed: (String, u32),
    /// The binary of which was told how it came.
    traced: Option<Digest>,
}

impl SelfUpdate {
    /// An update that has not begun.
    pub fn new(deed: Deed) -> Self {
        Self { deed, shown: None, hopeless: None, failed: (String::new(), 0), traced: None }
    }

    /// Follows `desired` until `stop`.
    pub async fn run(mut self, mut desired: watch::Receiver<Desired>, stop: CancellationToken) {
        let mut health = Health::default();
        loop {
            let want = desired.borrow_and_update().clone();
            let conditions = self.conditions(want.as_ref()).await;
            let (step, status) = self.plan(want.as_ref(), conditions);
            let wait = match (step, want) {
                (Step::Update(binary), Some(Ok(release))) => {
                    let attempt = self.update(&release, &binary, status);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        // Another wish: this attempt is given up where it stands, and what has come stays in the store.
                        changed = desired.changed() => if changed.is_err() { return stop.cancelled().await } else { continue },
                        done = attempt => match done {
                            None => return stop.cancelled().await,
                            Some(pause) => Some(pause),
                        },
                    }
                }
                (Step::Prove, want) => {
                    self.vouch(want.as_ref(), &status).await;
                    self.show(status);
                    let watch_s = want.and_then(Result::ok).map_or(0, |release| release.update.watch_s);
                    let span = Duration::from_secs(u64::from(watch_s).max(*self.deed.healthy_after_s.borrow()));
                    if health.judge((self.deed.online)(), span, Instant::now())
                        && let Some(id) = self.deed.launcher.as_ref().and_then(|launcher| launcher.trial.as_deref())
                    {
                        // Said again until the launcher has written it down.
                        alive::healthy(id);
                    }
                    Some(LOOK)
                }
                (Step::Wait, _) => {
                    self.show(status);
                    Some(WINDOW)
                }
                (Step::Rest | Step::Update(_), want) => {
                    self.vouch(want.as_ref(), &status).await;
                    self.show(status);
                    None
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = desired.changed() => if changed.is_err() { return stop.cancelled().await },
                () = pause(wait) => {}
            }
        }
    }

    /// How the device fares, where something may have to wait for it.
    async fn conditions(&self, desired: Option<&Result<DesiredRelease, String>>) -> Conditions {
        let on_trial = self.deed.launcher.as_ref().is_none_or(|launcher| launcher.trial.is_some());
        if on_trial || !matches!(desired, Some(Ok(_))) {
            return Conditions::default();
        }
        let surroundings = Arc::clone(&self.deed.surroundings);
        tokio::task::spawn_blocking(move || surroundings.now()).await.unwrap_or_default()
    }

    fn plan(&self, desired: Option<&Result<DesiredRelease, String>>, conditions: Conditions) -> (Step, ReleaseStatus) {
        let state = self.state();
        let standing = Standing {
            launcher: state.as_ref().map_err(Clone::clone),
            on_trial: self.deed.launcher.as_ref().is_some_and(|launcher| launcher.trial.is_some()),
            own_version: env!("CARGO_PKG_VERSION"),
            arch: std::env::consts::ARCH,
            conditions,
            now: self.deed.surroundings.time(),
        };
        let (step, status) = plan(desired, &standing);
        if let (Step::Update(_), Some(Ok(release)), Some((attempt, why))) = (&step, desired, &self.hopeless)
            && release.attempt() == *attempt
        {
            return (Step::Rest, ReleaseStatus { state: ReleaseState::Failed, error: why.clone(), ..status });
        }
        (step, status)
    }

    fn state(&self) -> Result<State, String> {
        let Some(launcher) = &self.deed.launcher else {
            return Err("this agent was not started by aidos-launcher, so it cannot replace itself; \
                        see the guide to agent updates, or update it by hand"
                .into());
        };
        match launcher.slots.state() {
            Ok(Some(state)) => Ok(state),
            Ok(None) => Err(format!("{} holds no state of the launcher", launcher.slots.dir().display())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// One attempt: `None` once the agent is ending for the new version, else the pause before the next.
    async fn update(&mut self, release: &DesiredRelease, binary: &ReleaseBinary, status: ReleaseStatus) -> Option<Duration> {
        match self.bring(release, binary, &status).await {
            Ok(()) => {
                self.show(ReleaseStatus { state: ReleaseState::Switching, ..status });
                tracing::info!(version = release.version, "the agent ends, so that the launcher starts the new version");
                (self.deed.switch)();
                None
            }
            Err(error) => {
                let why = error.to_string();
                tracing::warn!(version = release.version, error = why, "the agent's update did not come about");
                let attempt = release.attempt();
                if !error.again() {
                    self.hopeless = Some((attempt.clone(), why.clone()));
                }
                let before = if self.failed.0 == attempt { self.failed.1 } else { 0 };
                self.failed = (attempt, before.saturating_add(1));
                let offline = matches!(error, StagingError::Fetch(FetchError::Link(_)));
                let unsigned = matches!(&error, StagingError::Unvouched(why) if !why.is_final());
                let state = if offline || unsigned { ReleaseState::Waiting } else { ReleaseState::Failed };
                self.show(ReleaseStatus { state, error: why, ..status });
                if offline {
                    // It goes on when the link is back; the pause keeps a link that flaps from making it busy.
                    self.deed.supply.source.reachable().await;
                }
                Some(FIRST_PAUSE.saturating_mul(1 << before.min(16)).min(LONGEST_PAUSE))
            }
        }
    }

    async fn bring(
        &mut self,
        release: &DesiredRelease,
        binary: &ReleaseBinary,
        status: &ReleaseStatus,
    ) -> Result<(), StagingError> {
        let slots = match &self.deed.launcher {
            Some(launcher) => launcher.slots.clone(),
            None => return Err(StagingError::Stopping),
        };
        self.show(status.clone());
        self.deed.guard.vouch(&Wanted::release(release, binary)).await?;
        self.deed.supply.bring(binary).await?;
        self.show(ReleaseStatus { state: ReleaseState::Staging, ..status.clone() });
        let request = staging::stage(&self.deed.supply.store, &slots, release, binary).await?;
        self.deed.witness.before(&request.id);
        // Written before the agent ends: a kill between the two is a switch, too.
        tokio::task::spawn_blocking(move || slots.ask(&request)).await.map_err(|_| StagingError::Stopping)??;
        Ok(())
    }

    /// Vouches for what runs, if it is what is wanted, and tells how it came.
    async fn vouch(&mut self, desired: Option<&Result<DesiredRelease, String>>, status: &ReleaseStatus) {
        let Some(Ok(desired)) = desired else { return };
        self.deed.witness.tell(desired, status);
        let binary = desired.binary(std::env::consts::ARCH).filter(|_| status.active_counter == desired.counter);
        if let Some(binary) = binary.filter(|binary| self.traced != Some(binary.digest)) {
            self.deed.supply.tell(desired, binary).await;
            self.traced = Some(binary.digest);
        }
    }

    fn show(&mut self, status: ReleaseStatus) {
        let since_us = match &self.shown {
            Some(shown) if shown.state == status.state && shown.desired == status.desired => shown.since_us,
            _ => clock::now(),
        };
        let status = ReleaseStatus { since_us, ..status };
        if self.shown.as_ref() != Some(&status) {
            (self.deed.report)(&status);
            self.shown = Some(status);
        }
    }
}

async fn pause(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}
