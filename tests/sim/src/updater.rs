//! One model on one simulated device: the agent's own machine, with a body that acts by script instead of an engine. Pure: what
//! is to be done, and how long it takes, comes out; whoever drives it waits.
//!
//! What a real device writes to its ledger is kept as text here, and is all that outlives the end of the process.

use crate::script::{Lie, Pace, Quality, Releases, Script, Temper};
use aidos_agent::update::{Conditions, Effect, Event, Measured, Slot, State, Trouble, WaitKind, step};
use aidos_protocol::artifact::Digest;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DesiredModel, Health, HealthReport, Measures, ModelState, ModelStatus, SelfTestReport};
use aidos_protocol::{DeploymentId, DeviceId, ModelName, TenantId};
use std::time::Duration;

/// Half of the answers of a model that is neither slow nor new come within this.
const P50_US: f64 = 4_000.0;
/// Golden cases of a model that brings some.
const CASES: u32 = 8;
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A version's measures are kept fresh for so long after a verdict, as the agent does.
const FRESH: Duration = Duration::from_secs(3_600);
/// What a simulated process weighs in its reports.
const MEMORY_BYTES: u64 = 24 << 20;

/// What came of something that was to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// It led to this.
    Event(Event),
    /// The process ended over it.
    Ended,
}

/// What the body does about an effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// After so long, this has happened.
    Takes(Duration, Happened),
    /// The files are to be fetched, by whatever there is to fetch them with.
    Fetch(Vec<(Digest, Option<u64>)>),
}

/// What the device says of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// For its status.
    pub status: ModelStatus,
    /// What it vouches for; absent while there is nothing.
    pub health: Option<HealthReport>,
    /// The health report is not signed with the device's key.
    pub forged: bool,
}

type Verdict = (Slot, Option<DeploymentId>, Health, String);

#[derive(Debug, Clone)]
struct Said {
    verdict: Verdict,
    since: Micros,
    report: HealthReport,
}

/// One model on one device, from the start of a process to its end.
#[derive(Debug)]
pub struct Updater {
    name: ModelName,
    who: (TenantId, DeviceId),
    boot_id: u64,
    script: Script,
    releases: Releases,
    pace: Pace,
    state: State,
    /// The ledger's row.
    disk: Box<str>,
    /// Steps of the device's life, kept like the ledger.
    steps: u32,
    /// Since when the version that answers does, and what the one before it had measured.
    answering_since: Micros,
    standing: (ModelState, String),
    since: Micros,
    said: Option<Said>,
    /// What a liar pretends to have.
    pretended: Option<DesiredModel>,
}

/// What is left of an [`Updater`] when its process has ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remains {
    disk: Box<str>,
    steps: u32,
}

impl Remains {
    /// The version that is suspected to have ended the process, and how much it is so.
    pub(crate) fn suspect(&self) -> Option<((bool, Micros), Slot)> {
        read(&self.disk).suspect()
    }
}

fn read(disk: &str) -> State {
    // Only what this module wrote.
    if disk.is_empty() { State::default() } else { serde_json::from_str(disk).expect("a state that was written can be read") }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The minute of the week at a place whose clocks are `ahead` of UTC; 1970 began on a Thursday.
fn minute_of_week(now: Micros, ahead: u32) -> u32 {
    let minutes = now.0.div_euclid(60_000_000) + 3 * 24 * 60 + i64::from(ahead);
    u32::try_from(minutes.rem_euclid(7 * 24 * 60)).unwrap_or_default()
}

impl Updater {
    /// A model on the device `who`, in the process that is its `boot_id`th.
    pub fn new(
        name: ModelName,
        who: (TenantId, DeviceId),
        boot_id: u64,
        script: Script,
        releases: &Releases,
        pace: Pace,
    ) -> Self {
        Self {
            name,
            who,
            boot_id,
            script,
            releases: releases.clone(),
            pace,
            state: State::default(),
            disk: Box::default(),
            steps: 0,
            answering_since: Micros(0),
            standing: (ModelState::Pending, String::new()),
            since: Micros(0),
            said: None,
            pretended: None,
        }
    }

    /// Goes on from what is left of the process before; `charged` is what is suspected to have ended it.
    pub fn restart(&mut self, remains: Remains, charged: Option<Slot>, now: Micros) {
        self.state = read(&remains.disk);
        self.steps = remains.steps;
        self.disk = remains.disk;
        self.take(Event::Restarted { charged }, now);
    }

    /// What the end of the process leaves.
    pub fn remains(&self) -> Remains {
        Remains { disk: self.disk.clone(), steps: self.steps }
    }

    /// Takes in what happened. What is to be done next is only said once the new state is kept.
    pub fn take(&mut self, event: Event, now: Micros) -> Option<Effect> {
        if let Some(pretended) = self.pretends(&event) {
            self.pretended = pretended;
            return None;
        }
        if matches!(event, Event::Activated(..)) {
            self.answering_since = now;
        }
        let (state, effect) = step(std::mem::take(&mut self.state), event, now);
        self.state = state;
        self.disk = serde_json::to_string(&self.state).expect("a state has only text keys").into();
        let standing = self.state.standing();
        if standing != self.standing {
            (self.standing, self.since) = (standing, now);
        }
        effect
    }

    /// Whether a liar takes this wish for done: what it pretends from here on.
    fn pretends(&self, event: &Event) -> Option<Option<DesiredModel>> {
        let Event::Desire(desired) = event else { return None };
        let runs = self.state.answers.as_ref().map(|kept| kept.slot)?;
        match (self.script.temper, desired) {
            (Temper::Lying(_), Some(desired)) if (desired.version, desired.digest) != (runs.version, runs.digest) => {
                Some(Some((**desired).clone()))
            }
            // Back to what it runs: true again.
            (Temper::Lying(_), _) if self.pretended.is_some() => Some(None),
            _ => None,
        }
    }

    /// The version that truly answers.
    pub fn answers(&self) -> Option<u64> {
        self.state.memory.active.map(|slot| slot.version)
    }

    /// Does what the machine says.
    pub fn deed(&mut self, effect: &Effect, now: Micros) -> Deed {
        self.steps += 1;
        if self.script.temper == Temper::Killed(self.steps) {
            return Deed::Takes(self.pace.step, Happened::Ended);
        }
        let times = self.script.slowness();
        let takes = |time: Duration, event| Deed::Takes(time * times, Happened::Event(event));
        let step = self.pace.step;
        match effect {
            Effect::Look => {
                let minute_of_week = minute_of_week(now, self.script.zone_minutes);
                takes(step, Event::Looked(Conditions { minute_of_week, ..Conditions::default() }))
            }
            Effect::Pause(WaitKind::Need, _) => takes(self.pace.look, Event::Tick),
            Effect::Pause(_, tries) => {
                let pause = self.pace.pause.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
                takes(pause, Event::Tick)
            }
            Effect::Fetch => match &self.state.update {
                Some(update) => {
                    let desired = &update.desired;
                    let small = [desired.manifest_digest, desired.golden_digest];
                    let files = small.into_iter().flatten().map(|digest| (digest, None));
                    Deed::Fetch(std::iter::once((desired.digest, Some(desired.size))).chain(files).collect())
                }
                None => takes(step, Event::Failed(Trouble::Passing, "there is nothing to fetch".into())),
            },
            Effect::Verify => takes(step, Event::Verified(Box::default())),
            Effect::Load(kept) => match self.load(kept.slot) {
                Happened::Event(event) => takes(step, event),
                Happened::Ended => Deed::Takes(step, Happened::Ended),
            },
            Effect::Unload(slot) => takes(step, Event::Unloaded(*slot)),
            Effect::Test(slot) => takes(step, Event::Tested(self.test(*slot))),
            Effect::Activate(slot) => {
                let before = self.state.memory.active.filter(|active| active != slot).map(|active| self.measures(active, now));
                takes(step, Event::Activated(*slot, before.filter(|measures| measures.requests > 0)))
            }
            Effect::Measure(slot) => {
                let watch = self.pace.watch;
                let candidate = self.measures(*slot, Micros(now.0.saturating_add(micros(watch))));
                let elapsed_s = u32::try_from(watch.as_secs()).unwrap_or(u32::MAX).max(1);
                Deed::Takes(watch, Happened::Event(Event::Measured(Box::new(Measured { candidate, elapsed_s }))))
            }
            Effect::Settle => Deed::Takes(self.pace.settle, Happened::Event(Event::Settled)),
        }
    }

    /// The files are here, where no network took the time.
    pub fn fetched(&self) -> Deed {
        Deed::Takes(self.pace.fetch * self.script.slowness(), Happened::Event(Event::Fetched))
    }

    fn is_first(&self, slot: Slot) -> bool {
        self.state.answers.as_ref().is_none_or(|kept| kept.slot == slot)
    }

    fn load(&self, slot: Slot) -> Happened {
        let crashes = self.script.temper == Temper::Crashing && !self.is_first(slot);
        match self.releases.quality(slot.version) {
            Quality::EndsTheProcess => Happened::Ended,
            _ if crashes => Happened::Ended,
            Quality::DoesNotLoad => Happened::Event(Event::LoadFailed(slot, "an operator is not known".into(), true)),
            _ => Happened::Event(Event::Loaded(slot, "simulated".into())),
        }
    }

    fn test(&self, slot: Slot) -> Result<Option<SelfTestReport>, String> {
        let wrong = self.releases.quality(slot.version) == Quality::FailsSelfTest;
        let brings_cases = self.state.update.as_ref().is_some_and(|update| update.desired.golden_digest.is_some());
        match (brings_cases, wrong) {
            (false, false) => Ok(None),
            (false, true) => Err("it does not answer a request of zeros".into()),
            (true, _) => Ok(Some(SelfTestReport {
                passed: !wrong,
                cases: if wrong { 1 } else { CASES },
                largest_error: if wrong { 0.7 } else { 1e-6 },
                slowest_us: 9_000,
                failure: if wrong { "case 0: an output differs by 0.700000, 0.001000 is allowed".into() } else { String::new() },
            })),
        }
    }

    /// What a version that answers has done by `now`.
    fn measures(&self, slot: Slot, now: Micros) -> Measures {
        let quality = self.releases.quality(slot.version);
        let seconds = now.0.saturating_sub(self.answering_since.0).max(0) as f64 / 1e6;
        let requests = (seconds * f64::from(self.pace.requests_per_s)) as u64;
        // Devices differ by a tenth, and a device differs from itself as little.
        let scatter = 1.0 + (self.script.seed % 100) as f64 / 1_000.0;
        let micros = |times: f64| (requests > 0).then_some((P50_US * times * scatter * quality.slowness()) as u64);
        Measures {
            requests,
            errors: (requests as f64 * quality.error_rate()) as u64,
            p50_us: micros(1.0),
            p95_us: micros(1.8),
            p99_us: micros(2.5),
            memory_bytes: Some(MEMORY_BYTES),
            ..Measures::default()
        }
    }

    /// What the device says now; `None`: nothing of this model any more.
    pub fn report(&mut self, now: Micros) -> Option<Report> {
        if let (Some(pretended), Temper::Lying(lie)) = (self.pretended.clone(), self.script.temper) {
            return Some(self.lie(&pretended, lie, now));
        }
        if self.state.is_empty() && self.state.memory.loaded.is_empty() {
            self.said = None;
            return None;
        }
        let memory = &self.state.memory;
        let (state, error) = self.standing.clone();
        let status = ModelStatus {
            desired_version: self.state.update.as_ref().map(|update| update.desired.version),
            active_version: memory.active.map(|slot| slot.version),
            previous_version: memory.loaded.iter().rev().find(|slot| Some(**slot) != memory.active).map(|slot| slot.version),
            state,
            error,
            deployment: self.state.update.as_ref().and_then(|update| update.desired.deployment),
            digest: memory.active.map(|slot| slot.digest),
            engine: memory.engine.clone(),
            since_us: self.since,
        };
        Some(Report { status, health: self.vouch(now), forged: false })
    }

    /// When there may be more to say although nothing happened.
    pub fn due(&self) -> Option<Micros> {
        let said = self.said.as_ref().filter(|_| self.pretended.is_none())?;
        let due = said.report.at_us.0.saturating_add(micros(self.pace.report));
        (due < said.since.0.saturating_add(micros(FRESH))).then_some(Micros(due))
    }

    /// The health report: another verdict at once, other measures when they are due.
    fn vouch(&mut self, now: Micros) -> Option<HealthReport> {
        let Some((health, reason)) = self.state.verdict() else { return self.said.as_ref().map(|said| said.report.clone()) };
        let update = self.state.update.as_ref()?;
        let verdict = (update.slot(), update.desired.deployment, health, reason);
        let same = self.said.as_ref().filter(|said| said.verdict == verdict);
        if let Some(said) = same
            && now.0 < said.report.at_us.0.saturating_add(micros(self.pace.report))
        {
            return Some(said.report.clone());
        }
        let slot = verdict.0;
        let candidate = if self.state.memory.active == Some(slot) { self.measures(slot, now) } else { Measures::default() };
        let report = HealthReport {
            self_test: update.self_test.clone(),
            candidate,
            baseline: update.baseline.clone(),
            reason: verdict.3.clone(),
            ..self.blank(&update.desired, slot.digest, health, now)
        };
        let since = same.map_or(now, |said| said.since);
        self.said = Some(Said { verdict, since, report: report.clone() });
        Some(report)
    }

    fn blank(&self, desired: &DesiredModel, digest: Digest, health: Health, now: Micros) -> HealthReport {
        HealthReport {
            tenant: self.who.0,
            device: self.who.1,
            subject: self.name.clone().into(),
            version: desired.version,
            digest,
            deployment: desired.deployment,
            boot_id: self.boot_id,
            health,
            reason: String::new(),
            self_test: None,
            candidate: Measures::default(),
            baseline: None,
            at_us: now,
        }
    }

    fn lie(&self, pretended: &DesiredModel, lie: Lie, now: Micros) -> Report {
        let status = ModelStatus {
            desired_version: Some(pretended.version),
            active_version: Some(pretended.version),
            state: ModelState::Ready,
            deployment: pretended.deployment,
            digest: Some(pretended.digest),
            engine: "simulated".into(),
            since_us: self.since,
            ..ModelStatus::default()
        };
        let runs = self.state.answers.as_ref().map_or(pretended.digest, |kept| kept.slot.digest);
        let candidate = Measures { requests: 1_000, p50_us: Some(1), p95_us: Some(1), p99_us: Some(1), ..Measures::default() };
        let passed = SelfTestReport { passed: true, cases: CASES, ..SelfTestReport::default() };
        let health = |digest| HealthReport {
            candidate: candidate.clone(),
            self_test: Some(passed.clone()),
            ..self.blank(pretended, digest, Health::Healthy, now)
        };
        match lie {
            Lie::NoReport => Report { status, health: None, forged: false },
            Lie::ForgedReport => Report { status, health: Some(health(pretended.digest)), forged: true },
            Lie::OtherDigest => Report { status, health: Some(health(runs)), forged: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ModelName {
        "digits".parse().expect("a name")
    }

    fn wish(version: u64) -> DesiredModel {
        let mut wish = DesiredModel::new(version, Digest::of(&version.to_be_bytes()), 10);
        wish.golden_digest = Some(Digest::of(b"cases"));
        wish.update.watch_s = 2;
        wish.update.max_error_rate = Some(0.05);
        wish.update.max_p95_ratio = Some(1.5);
        wish
    }

    /// Runs it in virtual time until nothing is to do, through ends of the process.
    fn follow(updater: &mut Updater, wish: &DesiredModel, now: &mut Micros) {
        let mut effect = updater.take(Event::Desire(Some(Box::new(wish.clone()))), *now);
        while let Some(next) = effect.take().filter(|effect| *effect != Effect::Settle) {
            let deed = match updater.deed(&next, *now) {
                Deed::Fetch(_) => updater.fetched(),
                deed => deed,
            };
            let Deed::Takes(time, happened) = deed else { unreachable!("a fetch was turned into a wait") };
            now.0 += micros(time);
            effect = match happened {
                Happened::Event(event) => updater.take(event, *now),
                Happened::Ended => {
                    let remains = updater.remains();
                    let charged = remains.suspect().map(|(_, slot)| slot);
                    updater.restart(remains, charged, *now);
                    updater.take(Event::Desire(Some(Box::new(wish.clone()))), *now)
                }
            };
        }
    }

    fn updater(temper: Temper, releases: &Releases) -> Updater {
        let script = Script { temper, seed: 7, zone_minutes: 0 };
        Updater::new(name(), (TenantId::new(1), DeviceId::new(2)), 1, script, releases, Pace::default())
    }

    fn health(updater: &mut Updater, now: Micros) -> (Health, u64) {
        let report = updater.report(now).and_then(|report| report.health).expect("it vouches for something");
        (report.health, report.version)
    }

    #[test]
    fn a_good_version_is_watched_and_vouched_for_with_what_it_measured() {
        let (mut updater, mut now) = (updater(Temper::Steady, &Releases::default()), Micros(0));
        follow(&mut updater, &wish(1), &mut now);
        now.0 += 60_000_000;
        follow(&mut updater, &wish(2), &mut now);
        let report = updater.report(now).unwrap();
        assert_eq!((report.status.state, report.status.active_version), (ModelState::Ready, Some(2)));
        let health = report.health.unwrap();
        assert_eq!((health.health, health.version), (Health::Healthy, 2));
        assert!(health.candidate.requests >= 100 && health.baseline.unwrap().requests >= 3_000);
        assert!(health.self_test.unwrap().passed);
    }

    #[test]
    fn however_a_version_is_bad_the_old_one_answers_in_the_end() {
        let bad = [Quality::DoesNotLoad, Quality::FailsSelfTest, Quality::Errs(0.3), Quality::Slow(3.0), Quality::EndsTheProcess];
        for quality in bad {
            let (mut updater, mut now) = (updater(Temper::Steady, &Releases::default().with(2, quality)), Micros(0));
            follow(&mut updater, &wish(1), &mut now);
            now.0 += 60_000_000;
            follow(&mut updater, &wish(2), &mut now);
            assert_eq!(updater.answers(), Some(1), "{quality:?}");
            assert_eq!(health(&mut updater, now), (Health::Unhealthy, 2), "{quality:?}");
        }
    }

    #[test]
    fn a_liar_says_ready_and_runs_the_old_one() {
        for lie in [Lie::NoReport, Lie::ForgedReport, Lie::OtherDigest] {
            let (mut updater, mut now) = (updater(Temper::Lying(lie), &Releases::default()), Micros(0));
            follow(&mut updater, &wish(1), &mut now);
            assert_eq!(health(&mut updater, now), (Health::Healthy, 1));
            follow(&mut updater, &wish(2), &mut now);
            let report = updater.report(now).unwrap();
            assert_eq!((report.status.state, report.status.active_version), (ModelState::Ready, Some(2)));
            assert_eq!(updater.answers(), Some(1));
            let told = report.health.map(|health| (health.digest == wish(2).digest, report.forged));
            let expected = match lie {
                Lie::NoReport => None,
                Lie::ForgedReport => Some((true, true)),
                Lie::OtherDigest => Some((false, false)),
            };
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn a_device_that_crashes_over_a_version_gives_it_up_and_one_that_lost_its_power_goes_on() {
        let (mut crashing, mut now) = (updater(Temper::Crashing, &Releases::default()), Micros(0));
        follow(&mut crashing, &wish(1), &mut now);
        follow(&mut crashing, &wish(2), &mut now);
        assert_eq!((crashing.answers(), health(&mut crashing, now)), (Some(1), (Health::Unhealthy, 2)));
        for step in 1..24 {
            let (mut killed, mut now) = (updater(Temper::Killed(step), &Releases::default()), Micros(0));
            follow(&mut killed, &wish(1), &mut now);
            follow(&mut killed, &wish(2), &mut now);
            assert_eq!((killed.answers(), health(&mut killed, now)), (Some(2), (Health::Healthy, 2)), "killed at {step}");
        }
    }

    #[test]
    fn the_minute_of_the_week_is_that_of_the_place() {
        assert_eq!(minute_of_week(Micros(0), 0), 3 * 24 * 60);
        // 2026-11-23, a Monday.
        let monday = Micros(1_795_392_000_000_000);
        assert_eq!((minute_of_week(monday, 0), minute_of_week(monday, 90)), (0, 90));
        assert_eq!(minute_of_week(Micros(monday.0 - 1), 0), 7 * 24 * 60 - 1);
    }
}
