use super::*;
use aidos_protocol::artifact::Digest;
use aidos_protocol::twin::{Health, Measures, SelfTestReport};
use aidos_protocol::{DeviceId, TenantId};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;

fn plan(waves: &str, gates: &[&str]) -> Plan {
    Plan {
        waves: waves.parse().unwrap(),
        soak_s: 10,
        gates: gates.iter().map(|text| text.parse().unwrap()).collect(),
        ..Plan::default()
    }
}

fn seen(waves: &[Tally], gates: Vec<Reading>) -> Seen {
    Seen { waves: waves.to_vec(), unavailable: 0, gates }
}

fn report(requests: u64, errors: u64, p95: Option<u64>, baseline: Option<(u64, u64, Option<u64>)>) -> HealthReport {
    let measures = |requests, errors, p95_us| Measures { requests, errors, p95_us, ..Measures::default() };
    HealthReport {
        tenant: TenantId::new(1),
        device: DeviceId::new(1),
        subject: "m".parse().unwrap(),
        version: 2,
        digest: Digest::of(b"2"),
        deployment: None,
        boot_id: 1,
        health: Health::Watching,
        reason: String::new(),
        self_test: Some(SelfTestReport { passed: true, cases: 1, ..SelfTestReport::default() }),
        candidate: measures(requests, errors, p95),
        baseline: baseline.map(|(requests, errors, p95)| measures(requests, errors, p95)),
        at_us: Micros(0),
    }
}

fn one(gate: &str, reports: &[HealthReport]) -> Reading {
    read(&[gate.parse().unwrap()], reports, 20).remove(0)
}

#[test]
fn a_good_rollout_goes_wave_by_wave_and_ends() {
    let plan = plan("1,100%", &[]);
    let course = Course::new(&plan);
    let waiting = [Tally { waiting: 1, ..Tally::default() }, Tally { waiting: 9, ..Tally::default() }];
    let (course, acts) = course.look(&plan, &seen(&waiting, vec![]), Micros(0));
    assert_eq!(acts, [Act::Change { wave: 0, most: 1 }]);
    let done = [Tally { succeeded: 1, ..Tally::default() }, waiting[1]];
    let (course, acts) = course.look(&plan, &seen(&done, vec![]), Micros(SECOND));
    assert!(course.stage == Stage::Soak && acts.is_empty(), "the first wave is looked at");
    assert_eq!(course.due(&plan, Micros(SECOND)), Some(Micros(11 * SECOND)));
    let (course, acts) = course.look(&plan, &seen(&done, vec![]), Micros(11 * SECOND));
    assert_eq!((course.wave, acts), (1, vec![Act::Change { wave: 1, most: 9 }]));
    let all = [done[0], Tally { succeeded: 9, ..Tally::default() }];
    let (course, _) = course.look(&plan, &seen(&all, vec![]), Micros(12 * SECOND));
    let (course, _) = course.look(&plan, &seen(&all, vec![]), Micros(22 * SECOND));
    assert_eq!(course.phase, Phase::Finished);
}

#[test]
fn failures_beyond_what_may_fail_end_it_in_the_first_wave() {
    let plan = Plan { auto_revert: true, ..plan("1%,100%", &[]) };
    let waves = [Tally { failed: 1, ..Tally::default() }, Tally { waiting: 99, ..Tally::default() }];
    let (course, acts) = Course::new(&plan).look(&plan, &seen(&waves, vec![]), Micros(0));
    assert!(course.phase == Phase::Aborted && course.reverted && acts.is_empty());
    assert_eq!(course.reason, "1 of 1 devices of wave 1 failed, 0 may");
    let plan = Plan { on_failure: Breach::Pause, ..plan };
    let (course, _) = Course::new(&plan).look(&plan, &seen(&waves, vec![]), Micros(0));
    assert_eq!((course.phase, course.reverted), (Phase::Paused, false));
}

#[test]
fn silent_devices_hold_up_nobody_but_all_silent_asks_a_person() {
    let plan = plan("10%,100%", &[]);
    let rest = Tally { waiting: 90, ..Tally::default() };
    let some = [Tally { succeeded: 8, silent: 2, ..Tally::default() }, rest];
    let (course, _) = Course::new(&plan).look(&plan, &seen(&some, vec![]), Micros(0));
    let (course, _) = course.look(&plan, &seen(&some, vec![]), Micros(10 * SECOND));
    assert_eq!((course.phase, course.wave), (Phase::Running, 1));
    let none = [Tally { silent: 10, ..Tally::default() }, rest];
    let (course, _) = Course::new(&plan).look(&plan, &seen(&none, vec![]), Micros(0));
    let (course, _) = course.look(&plan, &seen(&none, vec![]), Micros(10 * SECOND));
    assert_eq!((course.phase, course.reason.as_str()), (Phase::Paused, "no device of wave 1 runs it"));
}

#[test]
fn a_failed_gate_ends_or_pauses_and_promote_waives_it() {
    let plan = plan("10%,100%", &["error_rate<1%", "p95<1.2x else pause"]);
    let slow = one("p95<1.2x else pause", &[report(50, 0, Some(2_000), Some((50, 0, Some(1_000))))]);
    let wrong = one("error_rate<1%", &[report(50, 10, Some(1_000), None)]);
    let waves = [Tally { running: 10, ..Tally::default() }, Tally { waiting: 90, ..Tally::default() }];
    let (ended, _) = Course::new(&plan).look(&plan, &seen(&waves, vec![slow.clone(), wrong]), Micros(0));
    assert_eq!(ended.phase, Phase::Aborted);
    assert_eq!(ended.reason, "the gate error_rate<0.01 fails: 0.2000 over 1 devices");
    let found = seen(&waves, vec![slow.clone()]);
    let (paused, acts) = Course::new(&plan).look(&plan, &found, Micros(0));
    assert!(paused.phase == Phase::Paused && acts.is_empty(), "{paused:?}");
    let (again, _) = paused.clone().command(&plan, &Command::Resume).unwrap().look(&plan, &found, Micros(1));
    assert_eq!(again.phase, Phase::Paused, "nothing is better");
    let promoted = paused.command(&plan, &Command::Promote { all: false }).unwrap();
    let done = seen(&[Tally { succeeded: 10, ..Tally::default() }, waves[1]], vec![slow]);
    let (course, _) = promoted.look(&plan, &done, Micros(2));
    let (course, acts) = course.look(&plan, &done, Micros(2 + 10 * SECOND));
    assert_eq!((course.phase, course.wave), (Phase::Paused, 1), "the next wave is judged again: {acts:?}");
}

#[test]
fn a_gate_without_measurements_waits_and_then_asks() {
    let plan = Plan { deadline_s: 60, ..plan("100%", &["error_rate<1%"]) };
    let unknown = one("error_rate<1%", &[report(3, 0, None, None)]);
    assert_eq!(unknown.verdict, Verdict::Unknown);
    let found = seen(&[Tally { succeeded: 3, ..Tally::default() }], vec![unknown]);
    let (course, _) = Course::new(&plan).look(&plan, &found, Micros(0));
    let (course, _) = course.look(&plan, &found, Micros(11 * SECOND));
    assert_eq!(course.phase, Phase::Running);
    assert_eq!(course.due(&plan, Micros(11 * SECOND)), Some(Micros(70 * SECOND)));
    let (course, _) = course.look(&plan, &found, Micros(70 * SECOND));
    assert_eq!(course.phase, Phase::Paused);
    assert!(course.reason.contains("nothing to judge"), "{}", course.reason);
}

#[test]
fn an_experiment_comes_before_the_change() {
    let plan = Plan {
        experiment: Some(aidos_protocol::rollout::Experiment::Shadow { percent: 10 }),
        experiment_s: 60,
        ..plan("100%", &[])
    };
    let (course, acts) = Course::new(&plan).look(&plan, &seen(&[Tally { waiting: 5, ..Tally::default() }], vec![]), Micros(0));
    assert_eq!((course.stage, acts), (Stage::Trial, vec![Act::Try { wave: 0, most: 5 }]));
    let trying = seen(&[Tally { trying: 5, ..Tally::default() }], vec![]);
    let (course, acts) = course.look(&plan, &trying, Micros(0));
    assert!(course.stage == Stage::Trial && acts.is_empty());
    let (course, acts) = course.look(&plan, &trying, Micros(60 * SECOND));
    assert_eq!((course.stage, acts), (Stage::Change, vec![Act::Change { wave: 0, most: 5 }]));
}

#[test]
fn no_more_are_away_than_may_be() {
    let plan = Plan { max_unavailable: Some("5%".parse().unwrap()), ..plan("100%", &[]) };
    let waves = [Tally { waiting: 97, changing: 3, ..Tally::default() }];
    let (_, acts) = Course::new(&plan).look(&plan, &Seen { unavailable: 3, ..seen(&waves, vec![]) }, Micros(0));
    assert_eq!(acts, [Act::Change { wave: 0, most: 2 }]);
    let few = [Tally { waiting: 3, ..Tally::default() }];
    let (_, acts) = Course::new(&plan).look(&plan, &seen(&few, vec![]), Micros(0));
    assert_eq!(acts, [Act::Change { wave: 0, most: 1 }], "one at least, or it would never begin");
}

#[test]
fn approval_is_asked_for_before_each_wave_but_the_first() {
    let plan = Plan { approve: true, soak_s: 0, ..plan("1,100%", &[]) };
    let waves = [Tally { succeeded: 1, ..Tally::default() }, Tally { waiting: 9, ..Tally::default() }];
    let (course, acts) = Course::new(&plan).look(&plan, &seen(&waves, vec![]), Micros(0));
    assert!(course.phase == Phase::Paused && course.approval && acts.is_empty());
    assert!(course.clone().command(&plan, &Command::Resume).is_err(), "a pause is not an approval");
    let course = course.command(&plan, &Command::Promote { all: false }).unwrap();
    let (_, acts) = course.look(&plan, &seen(&waves, vec![]), Micros(0));
    assert_eq!(acts, [Act::Change { wave: 1, most: 9 }]);
}

#[test]
fn promote_all_reaches_everyone_at_once() {
    let plan = plan("1,10%,100%", &["error_rate<1%"]);
    let waiting = |waiting| Tally { waiting, ..Tally::default() };
    let course = Course::new(&plan).command(&plan, &Command::Promote { all: true }).unwrap();
    let (course, mut acts) = course.look(&plan, &seen(&[waiting(1), waiting(9), waiting(90)], vec![]), Micros(0));
    acts.sort_by_key(|act| format!("{act:?}"));
    let all = [(0, 1), (1, 9), (2, 90)].map(|(wave, most)| Act::Change { wave, most });
    assert_eq!((course.phase, acts), (Phase::Running, all.to_vec()));
}

#[test]
fn what_is_over_takes_no_command() {
    let plan = plan("100%", &[]);
    for phase in [Phase::Finished, Phase::Aborted, Phase::Superseded] {
        let over = Course { phase, ..Course::new(&plan) };
        for command in [Command::Resume, Command::Promote { all: true }, Command::Abort { revert: None, reason: String::new() }] {
            assert!(over.clone().command(&plan, &command).is_err(), "{phase:?} {command:?}");
        }
    }
}

#[test]
fn gates_read_errors_together_and_latencies_of_the_median_device() {
    let reports = [
        report(10, 1, Some(1_000), Some((10, 0, Some(1_000)))),
        report(90, 0, Some(1_100), Some((10, 0, Some(1_000)))),
        report(10, 0, Some(9_000), Some((10, 0, Some(8_000)))),
    ];
    let errors = one("error_rate<1%", &reports);
    assert_eq!((errors.candidate, errors.devices, errors.verdict), (Some(1.0 / 110.0), 3, Verdict::Holds));
    let p95 = one("p95<1.2x", &reports);
    assert_eq!((p95.candidate, p95.baseline, p95.verdict), (Some(1_100.0), Some(1_000.0), Verdict::Holds));
    assert_eq!(one("p95<1.2x", &[report(50, 0, Some(5), None)]).verdict, Verdict::Holds, "there was no version before");
    assert_eq!(one("p95<1.2x", &[]).verdict, Verdict::Unknown);
    assert_eq!(one("self_test=pass", &reports).verdict, Verdict::Holds);
    let mut failed = reports.to_vec();
    failed[1].self_test = Some(SelfTestReport::default());
    assert_eq!(one("self_test=pass", &failed).verdict, Verdict::Fails, "one is enough");
}

/// Devices that do what the course's acts tell them, well or badly.
#[derive(Debug, Clone)]
struct Fleet {
    waves: Vec<Tally>,
    bad: bool,
}

impl Fleet {
    fn act(&mut self, acts: &[Act]) {
        for act in acts {
            match *act {
                Act::Try { wave, most } => {
                    let tally = &mut self.waves[wave];
                    assert!(most <= tally.waiting);
                    (tally.waiting, tally.trying) = (tally.waiting - most, tally.trying + most);
                }
                Act::Change { wave, most } => {
                    let tally = &mut self.waves[wave];
                    assert!(most <= tally.waiting + tally.trying);
                    let trying = most.min(tally.trying);
                    tally.trying -= trying;
                    tally.waiting -= most - trying;
                    tally.changing += most;
                }
            }
        }
    }
    /// Half of those that change come to an end; `silent` of ten by never answering.
    fn live(&mut self, silent: u64) {
        for tally in &mut self.waves {
            let ended = tally.changing.div_ceil(2);
            let quiet = ended * silent / 10;
            tally.silent += quiet;
            *if self.bad { &mut tally.failed } else { &mut tally.succeeded } += ended - quiet;
            tally.changing -= ended;
        }
    }
    fn changing(&self) -> u64 {
        self.waves.iter().map(|tally| tally.changing).sum()
    }
    fn told(&self) -> u64 {
        self.waves.iter().map(|tally| tally.total() - tally.waiting).sum()
    }
}

proptest! {
    /// Whatever its waves, its limits and what people do meanwhile: a rollout to good devices ends with everyone, one to bad
    /// devices ends in its first wave, and neither ever tells more devices than its open wave allows.
    #[test]
    fn a_rollout_ends_well_or_early(
        sizes in prop::collection::vec(0u64..20, 1..5),
        bad: bool,
        silent in 0u64..4,
        unavailable in prop::option::of(1u32..4),
        trial: bool,
        approve: bool,
        pauses in prop::collection::vec(0usize..40, 0..4),
    ) {
        let text: Vec<String> = (1..sizes.len()).map(|wave| wave.to_string()).chain(["100%".into()]).collect();
        let plan = Plan {
            waves: text.join(",").parse().unwrap(),
            max_unavailable: unavailable.map(aidos_protocol::rollout::Limit::Count),
            max_failed: "0".parse().unwrap(),
            experiment: trial.then_some(aidos_protocol::rollout::Experiment::Shadow { percent: 50 }),
            experiment_s: u32::from(trial),
            approve,
            soak_s: 1,
            auto_revert: true,
            ..Plan::default()
        };
        let mut fleet = Fleet { waves: sizes.iter().map(|waiting| Tally { waiting: *waiting, ..Tally::default() }).collect(), bad };
        let total: u64 = sizes.iter().sum();
        let mut course = Course::new(&plan);
        let mut now = 0;
        for turn in 0..2_000 {
            if pauses.contains(&turn) && course.phase == Phase::Running {
                course = course.command(&plan, &Command::Pause { reason: String::new() }).unwrap();
            }
            if course.phase == Phase::Paused && !pauses.contains(&turn) {
                let command = if course.approval || course.reason.contains("no device") { Command::Promote { all: false } } else { Command::Resume };
                course = course.command(&plan, &command).unwrap();
            }
            let before = course.clone();
            let seen = Seen { waves: fleet.waves.clone(), unavailable: fleet.changing(), gates: vec![] };
            let (next, acts) = course.look(&plan, &seen, Micros(now));
            prop_assert!(next.wave >= before.wave && next.wave < sizes.len());
            fleet.act(&acts);
            if let Some(limit) = unavailable {
                prop_assert!(fleet.changing() <= u64::from(limit), "{} of {limit} are away", fleet.changing());
            }
            let open: u64 = sizes[..=next.wave].iter().sum();
            prop_assert!(fleet.told() <= open, "{} told, {open} may be", fleet.told());
            course = next;
            if course.phase.is_over() {
                break;
            }
            fleet.live(silent);
            now += SECOND / 2;
        }
        prop_assert!(course.phase.is_over(), "it ends: {course:?} {fleet:?}");
        let failed: u64 = fleet.waves.iter().map(|tally| tally.failed).sum();
        if failed > 0 {
            prop_assert_eq!(course.phase, Phase::Aborted);
            prop_assert!(course.reverted);
            let touched = fleet.waves.iter().filter(|tally| tally.failed > 0).count();
            prop_assert_eq!(touched, 1, "no wave after the first bad one is opened");
        } else {
            prop_assert_eq!(course.phase, Phase::Finished);
            prop_assert_eq!(fleet.told(), total);
        }
    }
}
