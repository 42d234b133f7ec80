//! `aidos rollout`: versions of models, of the agent and of its settings that go out in waves.

use super::client;
use super::rollout_plan::PlanArgs;
use super::watch::{Watch, watch};
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Format, Row};
use crate::progress::say;
use aidos_protocol::DeploymentId;
use aidos_protocol::api::activity::ActivityView;
use aidos_protocol::api::rollouts::{
    AbortRollout, Because, CreateRollout, ForecastWave, GateView, Outcome, PromoteRollout, RolloutDeviceView, RolloutForecast,
    RolloutPhase, RolloutStage, RolloutView, UndoRollout, WaveView,
};
use aidos_protocol::rollout::Verdict;
use aidos_protocol::selector::Selector;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How often a waiting command looks: a person's patience, and no load.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Cells of a picture: more than this is a bar for each wave only.
const MAX_CELLS: u64 = 2_000;
/// Cells of one line.
const LINE: usize = 80;

/// What is rolled out where, wave by wave.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Roll out a version of a model, of the agent or of its settings in waves
    Create {
        #[command(flatten)]
        what: What,
        /// Say who would get it, and when, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Wait until it is over; exit with 3 when gates or failures stop it
        #[arg(long)]
        wait: bool,
        /// How long to wait
        #[arg(long, default_value = "24h", value_parser = super::seconds, requires = "wait")]
        timeout: u64,
    },
    /// Say who would get it, how many bytes and how long it takes; change nothing
    Plan(What),
    /// List rollouts
    #[command(visible_alias = "ls")]
    List {
        /// Only those in these phases: running, paused, finished, aborted, superseded; more with commas between
        #[arg(long)]
        phase: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show one: waves, a cell for each device, gates, why it stopped
    #[command(visible_alias = "show")]
    Status {
        /// The rollout
        id: DeploymentId,
        #[command(flatten)]
        watch: Watch,
    },
    /// List the devices of one
    Devices {
        /// The rollout
        id: DeploymentId,
        /// Only of this wave, from 1
        #[arg(long)]
        wave: Option<u32>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Tell no further device
    Pause(Steer),
    /// Go on after a pause
    Resume(Steer),
    /// Approve the next wave, or go on in spite of failures and gates
    Promote {
        #[command(flatten)]
        steer: Steer,
        /// To everyone now, without soaks and gates
        #[arg(long)]
        all: bool,
    },
    /// End one before everyone has it
    Abort {
        #[command(flatten)]
        steer: Steer,
        /// Bring its devices back
        #[arg(long, conflicts_with = "keep")]
        revert: bool,
        /// Leave its devices as they are
        #[arg(long)]
        keep: bool,
    },
    /// Bring back the version before
    Undo {
        #[command(flatten)]
        steer: Steer,
        /// The version to go back to [default: the one before]
        #[arg(long)]
        to: Option<String>,
    },
    /// Show what was done to one, by whom and why
    History {
        /// The rollout
        id: DeploymentId,
    },
}

/// What, where and how.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// `name@2`, `name@alias`, or `name` for the latest; `agent.release@1.4.0` for the agent itself, `agent.config@3` for its settings
    #[arg(value_name = "WHAT")]
    subject: String,
    /// The devices, in kubectl's selector syntax: `site=lab,gpu!=none`; `all` for every one
    #[arg(long = "to", value_name = "SELECTOR")]
    selector: String,
    #[command(flatten)]
    plan: PlanArgs,
}

/// Something that was done to a rollout, with its reason first.
#[derive(Serialize)]
struct Step(ActivityView);

impl Row for Step {
    const COLUMNS: &'static [&'static str] = &["TIME", "ACTOR", "ACTION", "WHY", "FROM", "DETAIL"];
    const NARROW: usize = 5;
    fn cells(&self) -> Vec<String> {
        let Self(entry) = self;
        let why = entry.detail["reason"].as_str().filter(|why| !why.is_empty()).unwrap_or("-");
        vec![
            output::time(entry.at),
            entry.actor.clone(),
            entry.action.clone(),
            why.to_owned(),
            entry.from.clone().unwrap_or_else(|| "-".into()),
            entry.detail.to_string(),
        ]
    }
    fn name(&self) -> String {
        self.0.id.to_string()
    }
}

/// Which, and why.
#[derive(Debug, Args)]
pub(crate) struct Steer {
    /// The rollout
    id: DeploymentId,
    /// For those who read its history
    #[arg(long, default_value = "")]
    reason: String,
}

impl What {
    fn request(self) -> Result<CreateRollout, CliError> {
        // Checked here first: the errors show the place in what was typed.
        self.selector.parse::<Selector>().map_err(|e| CliError::Usage(e.to_string()))?;
        Ok(CreateRollout { subject: self.subject, selector: self.selector, plan: self.plan.plan()? })
    }
}

impl Rollout {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        match self {
            Rollout::Plan(what) => forecast(&client, global, &what.request()?).await,
            Rollout::Create { what, dry_run: true, .. } => forecast(&client, global, &what.request()?).await,
            Rollout::Create { what, wait, timeout, .. } => {
                let made: RolloutView = client.post("rollouts", &what.request()?).await?;
                if wait {
                    return wait_for(&client, global, made.id, Duration::from_secs(timeout)).await;
                }
                print(global, &made)
            }
            Rollout::List { phase, watch: flags } => {
                let query: Vec<(&str, String)> = phase.map(|phase| ("phase", phase)).into_iter().collect();
                watch(flags, async || output::list(global.output, &client.list::<RolloutView>("rollouts", &query).await?)).await
            }
            Rollout::Status { id, watch: flags } => watch(flags, async || status(&client, global, id).await).await,
            Rollout::Devices { id, wave, watch: flags } => {
                let query: Vec<(&str, String)> = wave.map(|wave| ("wave", wave.to_string())).into_iter().collect();
                let path = format!("rollouts/{id}/devices");
                watch(flags, async || output::list(global.output, &client.list::<RolloutDeviceView>(&path, &query).await?)).await
            }
            Rollout::Pause(Steer { id, reason }) => steer(&client, global, id, "pause", &Because { reason }).await,
            Rollout::Resume(Steer { id, reason }) => steer(&client, global, id, "resume", &Because { reason }).await,
            Rollout::Promote { steer: Steer { id, reason }, all } => {
                steer(&client, global, id, "promote", &PromoteRollout { all, reason }).await
            }
            Rollout::Abort { steer: Steer { id, reason }, revert, keep } => {
                let revert = (revert || keep).then_some(revert);
                steer(&client, global, id, "abort", &AbortRollout { revert, reason }).await
            }
            Rollout::Undo { steer: Steer { id, reason }, to } => {
                steer(&client, global, id, "undo", &UndoRollout { to, reason }).await
            }
            Rollout::History { id } => {
                let done = client.list::<ActivityView>(&format!("rollouts/{id}/history"), &[]).await?;
                output::list(global.output, &done.into_iter().map(Step).collect::<Vec<_>>())
            }
        }
    }
}

async fn steer(client: &Client, global: &Global, id: DeploymentId, verb: &str, body: &impl Serialize) -> Result<(), CliError> {
    print(global, &client.post::<RolloutView>(&format!("rollouts/{id}/{verb}"), body).await?)
}

async fn forecast(client: &Client, global: &Global, request: &CreateRollout) -> Result<(), CliError> {
    let request = client.request(Method::POST, "rollouts").query(&[("dry_run", "true")]).json(request);
    let forecast: RolloutForecast = client.json(request).await?;
    if matches!(global.output, Format::Json | Format::Yaml) {
        return output::value(global.output, &forecast);
    }
    output::line(&output::pairs(&[
        ("what", format!("{}@{}", forecast.subject, forecast.version)),
        ("selector", forecast.selector.to_string()),
        ("devices", format!("{} match, {} of them do not fit", forecast.matching, forecast.unfit)),
        ("present", format!("{} have it", forecast.present)),
        ("bytes", format!("at most {}", output::bytes(forecast.bytes_at_most))),
        ("time", format!("at least {}", output::duration(i128::from(forecast.seconds_at_least)))),
    ]))?;
    for reason in &forecast.unfit_reasons {
        output::line(&format!("  {}", output::printable(reason)))?;
    }
    output::list(global.output, &forecast.waves)?;
    output::list(global.output, &forecast.devices)
}

/// Waits until a rollout is over, or waits for a person.
async fn wait_for(client: &Client, global: &Global, id: DeploymentId, limit: Duration) -> Result<(), CliError> {
    let start = Instant::now();
    let mut told = String::new();
    loop {
        let rollout: RolloutView = client.get(&format!("rollouts/{id}")).await?;
        let line = headline(&rollout);
        if line != told {
            say(&line);
            told = line;
        }
        match rollout.phase {
            RolloutPhase::Running if start.elapsed() > limit => {
                let text = format!("after {}s it is still going on; `aidos rollout status {id}` tells where", limit.as_secs());
                return Err(CliError::Timeout(text));
            }
            RolloutPhase::Running => tokio::time::sleep(LOOK_EVERY).await,
            RolloutPhase::Finished => return print(global, &rollout),
            RolloutPhase::Paused | RolloutPhase::Aborted => {
                print(global, &rollout)?;
                return Err(CliError::Gate(format!("{id} is {}: {}", phase(rollout.phase), output::printable(&rollout.reason))));
            }
            RolloutPhase::Superseded => {
                print(global, &rollout)?;
                return Err(CliError::failed(format!("{id} was superseded"), "look at the one that took its place"));
            }
        }
    }
}

async fn status(client: &Client, global: &Global, id: DeploymentId) -> Result<(), CliError> {
    let rollout: RolloutView = client.get(&format!("rollouts/{id}")).await?;
    if !matches!(global.output, Format::Table | Format::Wide) {
        return print(global, &rollout);
    }
    output::line(&describe(&rollout))?;
    output::list(global.output, &rollout.waves)?;
    let devices: u64 = rollout.waves.iter().map(|wave| wave.devices).sum();
    if devices > 0 && devices <= MAX_CELLS {
        let devices: Vec<RolloutDeviceView> = client.list(&format!("rollouts/{id}/devices"), &[]).await?;
        output::line(&cells(&devices))?;
    }
    if rollout.gates.is_empty() { Ok(()) } else { output::list(global.output, &rollout.gates) }
}

pub(super) fn print(global: &Global, rollout: &RolloutView) -> Result<(), CliError> {
    output::one(global.output, rollout, || describe(rollout))
}

/// A cell for each device, wave by wave.
fn cells(devices: &[RolloutDeviceView]) -> String {
    let waves = devices.iter().map(|device| device.wave).max().unwrap_or(0);
    let mut lines = Vec::new();
    for wave in 1..=waves {
        let of: Vec<char> = devices.iter().filter(|device| device.wave == wave).map(|device| cell(device.outcome)).collect();
        for (place, part) in of.chunks(LINE).enumerate() {
            let head = if place == 0 { format!("wave {wave}") } else { String::new() };
            lines.push(format!("{head:>7}  {}", part.iter().collect::<String>()));
        }
    }
    lines.push(format!(
        "         {} waiting  {} changing  {} trying  {} running  {} succeeded  {} failed  {} silent",
        cell(Outcome::Waiting),
        cell(Outcome::Changing),
        cell(Outcome::Trying),
        cell(Outcome::Running),
        cell(Outcome::Succeeded),
        cell(Outcome::Failed),
        cell(Outcome::Silent)
    ));
    lines.join("\n")
}

fn cell(outcome: Outcome) -> char {
    match outcome {
        Outcome::Waiting => '·',
        Outcome::Changing => '░',
        Outcome::Trying => '▒',
        Outcome::Running => '▓',
        Outcome::Succeeded => '█',
        Outcome::Failed => '✗',
        Outcome::Silent => '?',
    }
}

fn headline(rollout: &RolloutView) -> String {
    let done: u64 = rollout.waves.iter().map(|wave| wave.succeeded).sum();
    let all: u64 = rollout.waves.iter().map(|wave| wave.devices).sum();
    let doing = match (rollout.phase, rollout.stage) {
        (RolloutPhase::Running, RolloutStage::Trial) => "in its experiment",
        (RolloutPhase::Running, RolloutStage::Change) => "changing devices",
        (RolloutPhase::Running, RolloutStage::Soak) => "soaking",
        (over, _) => phase(over),
    };
    format!("wave {} of {} {doing}, {done} of {all} devices done", rollout.wave, rollout.waves.len())
}

fn describe(rollout: &RolloutView) -> String {
    let mut pairs = vec![
        ("rollout", rollout.id.to_string()),
        ("what", format!("{}@{}", rollout.subject, rollout.version)),
        ("selector", rollout.selector.to_string()),
        ("state", headline(rollout)),
    ];
    if !rollout.reason.is_empty() {
        pairs.push(("why", output::printable(&rollout.reason)));
    }
    if let Some(until) = rollout.soak_until {
        pairs.push(("until", output::time(until)));
    }
    if rollout.reverted {
        pairs.push(("devices", "go back to what they had".into()));
    }
    if rollout.bytes_fetched + rollout.bytes_saved > 0 {
        let (fetched, saved) = (output::bytes(rollout.bytes_fetched), output::bytes(rollout.bytes_saved));
        pairs.push(("bytes", format!("{fetched} fetched, {saved} saved")));
    }
    if let Some(by) = rollout.superseded_by {
        pairs.push(("superseded by", by.to_string()));
    }
    if let Some(undoes) = rollout.undoes {
        pairs.push(("undoes", undoes.to_string()));
    }
    pairs.push(("created", format!("{} by {}", output::time(rollout.created_at), rollout.created_by)));
    output::pairs(&pairs)
}

/// What became of a device, in one word.
pub(super) fn outcome(outcome: Outcome) -> String {
    format!("{outcome:?}").to_lowercase()
}

pub(super) fn phase(phase: RolloutPhase) -> &'static str {
    match phase {
        RolloutPhase::Running => "running",
        RolloutPhase::Paused => "paused",
        RolloutPhase::Finished => "finished",
        RolloutPhase::Aborted => "aborted",
        RolloutPhase::Superseded => "superseded",
    }
}

impl Row for RolloutView {
    const COLUMNS: &'static [&'static str] = &["ID", "WHAT", "SELECTOR", "STATE", "WAVE", "DONE", "AGE", "CREATED BY", "WHY"];
    const NARROW: usize = 7;
    fn cells(&self) -> Vec<String> {
        let done: u64 = self.waves.iter().map(|wave| wave.succeeded).sum();
        let all: u64 = self.waves.iter().map(|wave| wave.devices).sum();
        vec![
            self.id.to_string(),
            format!("{}@{}", self.subject, self.version),
            self.selector.to_string(),
            phase(self.phase).into(),
            format!("{}/{}", self.wave, self.waves.len()),
            format!("{done}/{all}"),
            output::age(self.created_at),
            self.created_by.clone(),
            self.reason.clone(),
        ]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for WaveView {
    const COLUMNS: &'static [&'static str] =
        &["WAVE", "DEVICES", "WAITING", "CHANGING", "TRYING", "RUNNING", "SUCCEEDED", "FAILED", "SILENT"];
    const NARROW: usize = 9;
    fn cells(&self) -> Vec<String> {
        let counts =
            [self.devices, self.waiting, self.changing, self.trying, self.running, self.succeeded, self.failed, self.silent];
        std::iter::once(self.share.clone()).chain(counts.iter().map(u64::to_string)).collect()
    }
    fn name(&self) -> String {
        self.share.clone()
    }
}

impl Row for GateView {
    const COLUMNS: &'static [&'static str] = &["GATE", "BASELINE", "CANDIDATE", "DEVICES", "VERDICT"];
    const NARROW: usize = 5;
    fn cells(&self) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let verdict = match self.verdict {
            Verdict::Holds => "holds",
            Verdict::Fails => "fails",
            Verdict::Unknown => "unknown",
        };
        vec![self.gate.clone(), number(self.baseline), number(self.candidate), self.devices.to_string(), verdict.into()]
    }
    fn name(&self) -> String {
        self.gate.clone()
    }
}

impl Row for ForecastWave {
    const COLUMNS: &'static [&'static str] = &["WAVE", "DEVICES"];
    const NARROW: usize = 2;
    fn cells(&self) -> Vec<String> {
        vec![self.share.clone(), self.devices.to_string()]
    }
    fn name(&self) -> String {
        self.share.clone()
    }
}

impl Row for RolloutDeviceView {
    const COLUMNS: &'static [&'static str] = &["DEVICE", "NAME", "WAVE", "OUTCOME", "ONLINE", "SINCE", "REASON"];
    const NARROW: usize = 7;
    fn cells(&self) -> Vec<String> {
        vec![
            self.device.to_string(),
            self.name.clone(),
            self.wave.to_string(),
            outcome(self.outcome),
            if self.online { "yes" } else { "no" }.into(),
            output::age(self.updated_at),
            self.reason.clone(),
        ]
    }
    fn name(&self) -> String {
        self.device.to_string()
    }
}
