//! Looks at everything that can go wrong on a device and says what to do about each finding.
//!
//! Pure: it judges what it is given, so that the same judgement holds for a running agent and for one that does not run.

use crate::link::Reached;
use crate::neighbours;
use crate::state::SpoolStats;
use aidos_protocol::ModelName;
use aidos_protocol::api::commands::{Check, CheckLevel};
use aidos_protocol::artifact::Digest;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{ModelState, ModelStatus, TrustState, TrustStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Free bytes below which the disk is a problem: twice what downloads leave free.
const LEAST_FREE: u64 = 128 << 20;
/// A clock further off than this from the control plane's makes certificates and expiries unreliable, in microseconds.
const CLOCK_TOLERANCE: i64 = 300_000_000;
const DAY: i64 = 86_400_000_000;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, and will not for long or not fully.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What: `certificate`, `clock`, `disk`, …
    pub what: String,
    /// How it is.
    pub level: Level,
    /// In words.
    pub detail: String,
    /// What to do; empty when all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl From<Finding> for Check {
    fn from(finding: Finding) -> Self {
        let level = match finding.level {
            Level::Ok => CheckLevel::Ok,
            Level::Warn => CheckLevel::Warn,
            Level::Fail => CheckLevel::Fail,
        };
        Self { check: finding.what, level, detail: finding.detail, advice: finding.hint }
    }
}

/// How it goes with inference.
#[derive(Debug, Clone)]
pub struct Inference {
    /// Where requests are answered.
    pub address: SocketAddr,
    /// Since when no new ones are taken, if they are not.
    pub drained: Option<Micros>,
    /// What hangs in the engine, if anything does.
    pub stuck: Option<String>,
}

/// What the judgement is made from. `None`: not known, or not there.
#[derive(Debug, Default)]
pub struct Health {
    /// Now, by the device's clock.
    pub now: Micros,
    /// Beginning and end of the certificate, once the device has joined.
    pub certificate: Option<(Micros, Micros)>,
    /// Why the identity cannot be read, if it cannot.
    pub identity_error: Option<String>,
    /// The plane's clock minus this one, in microseconds.
    pub clock_offset_us: Option<i64>,
    /// Bytes free for the agent's state.
    pub disk_free: Option<u64>,
    /// Why nothing can be written where the agent's state is, if nothing can.
    pub write_error: Option<String>,
    /// The control plane's addresses as they were tried.
    pub reached: Vec<Reached>,
    /// How it goes with inference, once the agent runs.
    pub inference: Option<Inference>,
    /// What carries the link; `None` while there is none or no agent runs.
    pub transport: Option<String>,
    /// Why there is no link, or not the preferred one.
    pub link_note: String,
    /// What is wrong with the ledger, if anything.
    pub ledger_error: Option<String>,
    /// Where a damaged ledger was put at the last start.
    pub ledger_set_aside: Option<String>,
    /// Where each model stands.
    pub models: BTreeMap<ModelName, ModelStatus>,
    /// By whose word this device installs.
    pub trust: Option<TrustStatus>,
    /// Model files that had rotted and were removed.
    pub rotten: Vec<Digest>,
    /// The telemetry that waits.
    pub spool: Option<SpoolStats>,
    /// How it goes with the neighbours.
    pub neighbours: Option<neighbours::View>,
    /// Whether the agent itself answered.
    pub running: bool,
}

/// Judges. The order is that in which a person would mend things.
pub fn findings(health: &Health) -> Vec<Finding> {
    let mut all = vec![agent(health), identity(health), clock(health), disk(health), ledger(health)];
    if health.running && health.certificate.is_some() {
        all.push(link(health));
    }
    all.extend(health.reached.iter().map(|one| endpoint(one, health.transport.is_some())));
    all.extend(health.inference.as_ref().map(|all| inference(all, health.now)));
    all.extend(health.trust.as_ref().map(trust));
    all.extend(health.neighbours.map(near));
    all.extend(health.spool.map(telemetry));
    all.extend(health.models.iter().map(|(name, status)| model(name, status)));
    all.extend(health.rotten.iter().map(|digest| {
        finding(
            "model file",
            Level::Fail,
            format!("{digest} had rotted on disk and was removed"),
            "it is fetched again; check the disk (`smartctl -H`)",
        )
    }));
    all
}

fn finding(what: &str, level: Level, detail: impl Into<String>, hint: &str) -> Finding {
    Finding { what: what.to_owned(), level, detail: detail.into(), hint: hint.to_owned() }
}

fn agent(health: &Health) -> Finding {
    if health.running {
        finding("agent", Level::Ok, "runs", "")
    } else {
        finding("agent", Level::Fail, "does not run", "start it with `aidos-agent run`")
    }
}

fn identity(health: &Health) -> Finding {
    const WHAT: &str = "certificate";
    if let Some(error) = &health.identity_error {
        return finding(WHAT, Level::Fail, error, "join again with `aidos-agent join … --force`");
    }
    let Some((not_before, not_after)) = health.certificate else {
        return finding(WHAT, Level::Fail, "this device has not joined", "join with the line that `aidos token create` prints");
    };
    let left = (not_after.0 - health.now.0) / DAY;
    if health.now < not_before {
        let detail = "the certificate is not valid yet, so the clock is behind";
        return finding(WHAT, Level::Fail, detail, "set the clock (`timedatectl set-ntp true`)");
    }
    match left {
        ..0 | 0 if health.now > not_after => {
            let hint = "it is renewed as soon as the control plane can be reached; check the network";
            finding(WHAT, Level::Fail, "the certificate has expired", hint)
        }
        ..7 => finding(WHAT, Level::Warn, format!("expires in {left} days and was not renewed"), "check the link below"),
        _ => finding(WHAT, Level::Ok, format!("valid for {left} days"), ""),
    }
}

fn clock(health: &Health) -> Finding {
    match health.clock_offset_us {
        Some(offset) if offset.abs() > CLOCK_TOLERANCE => {
            let detail = format!("{} s away from the control plane's", offset / 1_000_000);
            finding("clock", Level::Warn, detail, "set the clock (`timedatectl set-ntp true`)")
        }
        Some(offset) => finding("clock", Level::Ok, format!("{} ms away from the control plane's", offset / 1_000), ""),
        None => finding("clock", Level::Ok, "not compared yet: there was no link", ""),
    }
}

fn disk(health: &Health) -> Finding {
    if let Some(error) = &health.write_error {
        let hint = "check who owns the data directory and whether its file system is mounted read-only or broken (`dmesg`)";
        return finding("disk", Level::Fail, format!("nothing can be written: {error}"), hint);
    }
    match health.disk_free {
        Some(free) if free < LEAST_FREE => {
            let hint = "free some space; until then no model is fetched and telemetry is dropped";
            finding("disk", Level::Fail, format!("{} MiB free", free >> 20), hint)
        }
        Some(free) => finding("disk", Level::Ok, format!("{} MiB free", free >> 20), ""),
        None => finding("disk", Level::Warn, "free space is not known", "check that the data directory exists"),
    }
}

fn ledger(health: &Health) -> Finding {
    if let Some(error) = &health.ledger_error {
        return finding("ledger", Level::Fail, error, "restart the agent; a damaged ledger is set aside and a new one begun");
    }
    match &health.ledger_set_aside {
        Some(path) => {
            finding("ledger", Level::Warn, format!("was damaged and is now {path}"), "check the disk, then remove that file")
        }
        None => finding("ledger", Level::Ok, "whole", ""),
    }
}

fn link(health: &Health) -> Finding {
    match &health.transport {
        None => {
            let detail = if health.link_note.is_empty() { "no link" } else { &health.link_note };
            finding("link", Level::Fail, detail, "check the network and that the control plane runs; models go on answering")
        }
        Some(transport) if !health.link_note.is_empty() => {
            finding("link", Level::Warn, format!("{transport}: {}", health.link_note), "open 7070/udp towards the control plane")
        }
        Some(transport) => finding("link", Level::Ok, transport, ""),
    }
}

fn endpoint(Reached { endpoint, address, outcome }: &Reached, linked: bool) -> Finding {
    let what = format!("endpoint {endpoint}");
    match outcome {
        Ok(took) => finding(&what, Level::Ok, format!("{address} answers in {} ms", took.as_millis()), ""),
        Err(error) => {
            // One way of two may be closed; models are fetched over the API alone.
            let level = if linked && *endpoint != "api" { Level::Warn } else { Level::Fail };
            let port = if *endpoint == "quic" { "UDP" } else { "TCP" };
            let hint = format!("let {port} through to {address}, and check that the control plane runs there");
            finding(&what, level, format!("{address} cannot be reached: {error}"), &hint)
        }
    }
}

fn inference(Inference { address, drained, stuck }: &Inference, now: Micros) -> Finding {
    const WHAT: &str = "inference";
    match (stuck, drained) {
        (Some(stuck), _) => finding(WHAT, Level::Fail, stuck, "restart the agent, and deploy a version of the model that ends"),
        (None, Some(since)) => {
            let minutes = (now.0 - since.0).max(0) / 60_000_000;
            let detail = format!("drained {minutes} min ago: no new requests are taken");
            finding(WHAT, Level::Warn, detail, "when the work on it is done: `aidos device undrain ID`")
        }
        (None, None) => finding(WHAT, Level::Ok, format!("answers at {address}"), ""),
    }
}

fn trust(status: &TrustStatus) -> Finding {
    const WHAT: &str = "trust";
    match status.state {
        // As it was set up, so nothing is wrong with the device.
        TrustState::Unsigned => {
            let detail = "no root: what is installed rests on the control plane's word alone";
            finding(WHAT, Level::Ok, detail, "let the tenant's people make one: `aidos trust init`")
        }
        TrustState::Verified => finding(WHAT, Level::Ok, format!("root {}, only what is signed is installed", status.root), ""),
        TrustState::Stale => {
            let hint = "what is installed goes on; check the link, and `aidos trust status` for what has expired";
            finding(WHAT, Level::Warn, format!("root {}: {}", status.root, status.error), hint)
        }
    }
}

fn near(view: neighbours::View) -> Finding {
    const WHAT: &str = "neighbours";
    let neighbours::View { enabled, sited, known, met, shunned, totals } = view;
    let detail = format!(
        "{met} of {known} answered, {} MiB from them, {} MiB from afar, {} MiB given",
        totals.near >> 20,
        totals.afar >> 20,
        totals.given >> 20
    );
    match () {
        () if !enabled => finding(WHAT, Level::Ok, "not used", ""),
        () if !sited => {
            let hint = "say where the device is: `aidos-agent labels set site=NAME`, or switch `neighbours.enabled` off";
            finding(WHAT, Level::Warn, "used, but this device is at no site", hint)
        }
        () if shunned > 0 => {
            let hint = "its disk may be failing: see which one in the log, and run `aidos-agent doctor` there";
            finding(WHAT, Level::Warn, format!("{detail}; {shunned} gave wrong bytes and are not asked for a while"), hint)
        }
        () => finding(WHAT, Level::Ok, detail, ""),
    }
}

fn telemetry(spool: SpoolStats) -> Finding {
    let detail = format!("{} samples wait, {} were dropped in all", spool.waiting, spool.lost_samples);
    finding("telemetry", Level::Ok, detail, "")
}

fn model(name: &ModelName, status: &ModelStatus) -> Finding {
    let what = format!("model {name}");
    let active = status.active_version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    match status.state {
        ModelState::Failed | ModelState::RolledBack => {
            let hint = if status.active_version.is_some() {
                "the version that answers goes on; deploy one that works"
            } else {
                "deploy a version that works"
            };
            finding(&what, Level::Fail, &status.error, hint)
        }
        ModelState::Ready => finding(&what, Level::Ok, format!("version {active} answers"), ""),
        ModelState::Watching => finding(&what, Level::Ok, format!("version {active} answers and is being watched"), ""),
        ModelState::Trial => finding(
            &what,
            Level::Ok,
            format!("version {active} answers, another is tried beside it until the rollout goes on"),
            "",
        ),
        ModelState::Waiting => {
            let detail = format!("version {active} answers; waiting: {}", status.error);
            finding(
                &what,
                Level::Ok,
                detail,
                "it goes on by itself; a window, a battery, a full disk or a signature is waited for",
            )
        }
        _ if status.error.is_empty() => finding(&what, Level::Ok, format!("version {active} answers, another is on its way"), ""),
        _ => finding(&what, Level::Warn, format!("version {active} answers; waiting: {}", status.error), "check the link"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn healthy() -> Health {
        Health {
            now: Micros(10 * DAY),
            certificate: Some((Micros(0), Micros(30 * DAY))),
            clock_offset_us: Some(5_000),
            disk_free: Some(1 << 40),
            transport: Some("quic".into()),
            running: true,
            ..Health::default()
        }
    }
    fn wrong(health: &Health) -> Vec<Finding> {
        findings(health).into_iter().filter(|finding| finding.level != Level::Ok).collect()
    }

    fn reached(endpoint: &'static str, outcome: Result<Duration, String>) -> Vec<Reached> {
        vec![Reached { endpoint, address: "plane:7070".into(), outcome }]
    }

    fn answering() -> Inference {
        Inference { address: "127.0.0.1:7080".parse().unwrap(), drained: None, stuck: None }
    }

    fn sited(sited: bool, shunned: usize) -> neighbours::View {
        neighbours::View { enabled: true, sited, known: 3, met: 2, shunned, ..neighbours::View::default() }
    }

    fn trusting(state: TrustState) -> TrustStatus {
        TrustStatus { state, root: 1, error: "the timestamp has expired".into(), ..TrustStatus::default() }
    }

    #[test]
    fn nothing_is_wrong_with_a_healthy_device() {
        assert_eq!(wrong(&healthy()), []);
        for state in [TrustState::Unsigned, TrustState::Verified] {
            assert_eq!(wrong(&Health { trust: Some(trusting(state)), ..healthy() }), []);
        }
        assert_eq!(wrong(&Health { reached: reached("api", Ok(Duration::ZERO)), ..healthy() }), []);
        assert_eq!(wrong(&Health { inference: Some(answering()), ..healthy() }), []);
        for neighbours in [neighbours::View::default(), sited(true, 0)] {
            assert_eq!(wrong(&Health { neighbours: Some(neighbours), ..healthy() }), []);
        }
    }

    #[test]
    fn everything_that_is_wrong_comes_with_what_to_do() {
        let failed = ModelStatus { state: ModelState::Failed, error: "no".into(), ..ModelStatus::default() };
        let cases: Vec<(&str, Health)> = vec![
            ("agent", Health { running: false, ..healthy() }),
            ("certificate", Health { certificate: None, ..healthy() }),
            ("certificate", Health { now: Micros(31 * DAY), ..healthy() }),
            ("certificate", Health { now: Micros(26 * DAY), ..healthy() }),
            ("certificate", Health { now: Micros(-DAY), ..healthy() }),
            ("certificate", Health { identity_error: Some("damaged".into()), ..healthy() }),
            ("clock", Health { clock_offset_us: Some(-DAY), ..healthy() }),
            ("disk", Health { disk_free: Some(1), ..healthy() }),
            ("disk", Health { disk_free: None, ..healthy() }),
            ("disk", Health { write_error: Some("read-only".into()), ..healthy() }),
            ("endpoint api", Health { reached: reached("api", Err("no answer".into())), ..healthy() }),
            ("endpoint mqtt", Health { reached: reached("mqtt", Err("no answer".into())), ..healthy() }),
            ("inference", Health { inference: Some(Inference { drained: Some(Micros(0)), ..answering() }), ..healthy() }),
            ("inference", Health { inference: Some(Inference { stuck: Some("hangs".into()), ..answering() }), ..healthy() }),
            ("ledger", Health { ledger_error: Some("page 7".into()), ..healthy() }),
            ("ledger", Health { ledger_set_aside: Some("/x".into()), ..healthy() }),
            ("link", Health { transport: None, ..healthy() }),
            ("link", Health { link_note: "QUIC is blocked".into(), ..healthy() }),
            ("model digits", Health { models: BTreeMap::from([("digits".parse().unwrap(), failed)]), ..healthy() }),
            ("trust", Health { trust: Some(trusting(TrustState::Stale)), ..healthy() }),
            ("neighbours", Health { neighbours: Some(sited(false, 0)), ..healthy() }),
            ("neighbours", Health { neighbours: Some(sited(true, 1)), ..healthy() }),
            ("model file", Health { rotten: vec![Digest::of(b"x")], ..healthy() }),
        ];
        for (what, health) in cases {
            let found = wrong(&health);
            assert_eq!(found.iter().map(|finding| finding.what.as_str()).collect::<Vec<_>>(), [what], "{health:?}");
            assert!(!found[0].hint.is_empty() && !found[0].detail.is_empty());
        }
    }

    #[test]
    fn a_second_way_that_is_closed_is_less_than_the_only_one() {
        let level = |endpoint, transport: Option<&str>| {
            let reached = reached(endpoint, Err("no answer".into()));
            let health = Health { reached, transport: transport.map(str::to_owned), ..healthy() };
            wrong(&health).into_iter().find(|finding| finding.what.starts_with("endpoint")).unwrap().level
        };
        assert_eq!(level("mqtt", Some("quic")), Level::Warn);
        assert_eq!((level("mqtt", None), level("api", Some("quic"))), (Level::Fail, Level::Fail));
    }
}
