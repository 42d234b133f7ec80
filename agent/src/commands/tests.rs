//! Commands on a real inbox.

use super::tail::WAITING;
use super::*;
use crate::serve::Traffic;
use crate::state::Ledger;
use aidos_protocol::api::commands::LogTail;
use aidos_protocol::frame::{Probe, RestartComponent, SelfTest, TailLogs, Undrain};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing_subscriber::layer::SubscriberExt as _;

#[derive(Default)]
struct Counter(AtomicUsize);
impl Restart for Counter {
    fn restart(&self, component: &str) -> Result<String, String> {
        if component != "telemetry" {
            return Err(format!("there is no component `{component}`"));
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok("restarted".into())
    }
}

struct Examined;
#[async_trait]
impl Examine for Examined {
    async fn examine(&self) -> Vec<Check> {
        let check = |level| Check { check: "disk".into(), level, detail: "full".into(), advice: "free some space".into() };
        vec![check(CheckLevel::Fail), check(CheckLevel::Warn), check(CheckLevel::Ok)]
    }
}

fn with_logs(dir: &Path, boot: u64, logs: Logs) -> (Commands, Arc<Counter>) {
    let ledger = Ledger::open(dir).unwrap();
    let inbox = Inbox::open(ledger.clone(), boot).unwrap();
    let restart = Arc::new(Counter::default());
    let models = infer::Models::new(infer::Settings::default());
    let drain = Drain::open(ledger, Traffic::default(), Arc::new(|_| ())).unwrap();
    let means = Means { models, logs, restart: restart.clone(), drain, examine: Arc::new(Examined) };
    (Commands::new(inbox, means, Arc::new(|| Micros(100))), restart)
}
fn commands(dir: &Path, boot: u64) -> (Commands, Arc<Counter>) {
    with_logs(dir, boot, Logs::default())
}
fn command(id: &str, kind: Kind) -> Command {
    Command { id: id.into(), expires_us: 200, kind: Some(kind) }
}
fn restart(component: &str) -> Kind {
    Kind::RestartComponent(RestartComponent { component: component.into() })
}

#[tokio::test]
async fn a_command_that_comes_again_is_answered_and_not_carried_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, counter) = commands(dir.path(), 1);
    let result = first.execute(command("a", restart("telemetry"))).await;
    assert_eq!(result.outcome(), Outcome::Ok);
    assert_eq!(first.execute(command("a", restart("telemetry"))).await, result);
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    // After its time and after a restart of the agent the answer still stands.
    let (second, counter) = commands(dir.path(), 2);
    let late = Command { expires_us: 50, ..command("a", restart("telemetry")) };
    assert_eq!(second.execute(late).await, result);
    assert_eq!(counter.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_expired_command_is_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, counter) = commands(dir.path(), 1);
    let late = Command { expires_us: 100, ..command("a", restart("telemetry")) };
    assert_eq!(commands.execute(late).await.outcome(), Outcome::Expired);
    assert_eq!(counter.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_not_known_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, _) = commands(dir.path(), 1);
    let newer = Command { kind: None, ..command("a", restart("x")) };
    let result = commands.execute(newer).await;
    assert_eq!(result.outcome(), Outcome::Refused);
    assert!(result.message.contains("update the agent"));
    assert!(commands.execute(command("b", restart("x"))).await.message.contains("no component `x`"));
    assert_eq!(commands.execute(command("", restart("telemetry"))).await.outcome(), Outcome::Refused);
}

#[tokio::test]
async fn models_that_are_not_there_and_bodies_that_are_no_request_fail_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, _) = commands(dir.path(), 1);
    let test = Kind::SelfTest(SelfTest { model: "digits".into() });
    assert!(commands.execute(command("a", test)).await.message.contains("does not run"));
    let infer = Kind::Infer(Infer { model: "digits".into(), body: Bytes::from_static(b"{}"), ..Infer::default() });
    assert_eq!(commands.execute(command("b", infer)).await.outcome(), Outcome::Failed);
    let logs = Kind::TailLogs(TailLogs { lines: 10, level: "info".into(), ..TailLogs::default() });
    let result = commands.execute(command("c", logs)).await;
    assert_eq!((result.outcome(), &result.payload[..]), (Outcome::Ok, &b"[]"[..]));
}

#[tokio::test]
async fn a_probe_answers_every_check_and_says_how_many_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, _) = commands(dir.path(), 1);
    let result = commands.execute(command("a", Kind::Probe(Probe {}))).await;
    assert_eq!((result.outcome(), result.message.as_str()), (Outcome::Ok, "3 checks: 1 failed, 1 to look at"));
    let checks: Vec<Check> = serde_json::from_slice(&result.payload).unwrap();
    assert_eq!((checks.len(), checks[0].level, checks[0].advice.as_str()), (3, CheckLevel::Fail, "free some space"));
}

#[tokio::test]
async fn a_drain_says_what_still_runs_and_both_ways_may_be_asked_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, _) = commands(dir.path(), 1);
    let drain = || Kind::Drain(aidos_protocol::frame::Drain { wait_s: 1 });
    for id in ["a", "b"] {
        let result = commands.execute(command(id, drain())).await;
        let drained: Drained = serde_json::from_slice(&result.payload).unwrap();
        assert_eq!((result.outcome(), drained), (Outcome::Ok, Drained { since_us: Micros(100), running: 0 }));
    }
    let undrained = commands.execute(command("c", Kind::Undrain(Undrain {}))).await;
    assert!(undrained.message.contains("again"), "{}", undrained.message);
    let twice = commands.execute(command("d", Kind::Undrain(Undrain {}))).await;
    assert_eq!((twice.outcome(), twice.message.as_str()), (Outcome::Ok, "the device was not drained"));
}

fn on(after: u64, boot_id: Option<u64>, wait_s: u32) -> Kind {
    Kind::TailLogs(TailLogs { lines: 10, level: "info".into(), after: Some(after), boot_id, wait_s })
}
fn tail(result: &CommandResult) -> (LogTail, Vec<String>) {
    let tail: LogTail = serde_json::from_slice(&result.payload).unwrap();
    let texts = tail.lines.iter().map(|line| line.text.clone()).collect();
    (tail, texts)
}

#[tokio::test]
async fn a_follower_gets_each_line_as_it_is_written_and_learns_of_a_restart() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::default());
    let _within = tracing::subscriber::set_default(tracing_subscriber::registry().with(logs.clone()));
    let (first, _) = with_logs(dir.path(), 4, logs.clone());
    tracing::info!("one");
    let (read, texts) = tail(&first.execute(command("a", on(0, None, 30))).await);
    assert_eq!((read.boot_id, texts), (4, vec!["one".to_owned()]));
    let waiting = {
        let first = first.clone();
        tokio::spawn(async move { first.execute(command("b", on(read.next, Some(4), 30))).await })
    };
    tokio::task::yield_now().await;
    tracing::debug!("of no matter");
    tracing::info!("two");
    let (read, texts) = tail(&waiting.await.unwrap());
    assert_eq!(texts, ["two"]);

    let (second, _) = with_logs(dir.path(), 5, logs);
    let (again, texts) = tail(&second.execute(command("c", on(read.next, Some(4), 30))).await);
    assert_eq!((again.boot_id, texts.len()), (5, 2), "all lines are of another start");
}

#[tokio::test(start_paused = true)]
async fn waits_are_bounded_in_time_and_number_and_keep_no_other_command_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, counter) = commands(dir.path(), 1);
    let waits: Vec<_> = (0..WAITING)
        .map(|n| {
            let commands = commands.clone();
            tokio::spawn(async move { commands.execute(command(&format!("wait-{n}"), on(0, None, 999))).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    let (read, texts) = tail(&commands.execute(command("one-more", on(0, None, 30))).await);
    assert_eq!((read.next, texts.len(), began.elapsed()), (0, 0, Duration::ZERO), "there is no place to wait");
    for n in 0..AT_ONCE {
        commands.execute(command(&format!("r{n}"), restart("telemetry"))).await;
    }
    assert_eq!(counter.0.load(Ordering::SeqCst), AT_ONCE);
    for wait in waits {
        assert_eq!(tail(&wait.await.unwrap()).1.len(), 0);
    }
    assert!(began.elapsed() >= Duration::from_secs(30) && began.elapsed() < Duration::from_secs(60));
}
