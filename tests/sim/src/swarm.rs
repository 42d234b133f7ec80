//! Many devices in one process: enrolled once over HTTP, then run together.

use crate::device::{Device, Shared, Truth};
use crate::download::Downloads;
use crate::script::{Mix, Pace, Releases, Script};
use crate::sockets::Sockets;
use aidos_agent::identity::{Identity, JoinError, JoinOptions, join};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Devices that enrol at a time; the plane takes 64.
const JOINS: usize = 32;
/// Devices that connect for the first time at a time: below what the plane answers with a Retry.
const STARTS: usize = 24;
/// Sockets; each has its own buffers in the kernel, and one alone would lose packets of thousands.
const SOCKETS: usize = 16;

/// Why a swarm could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// A device could not enrol.
    #[error("device {index} could not join: {source}")]
    Join {
        /// Which.
        index: usize,
        /// Why.
        source: Box<JoinError>,
    },
    /// The sockets.
    #[error("the simulated devices' sockets: {0}")]
    Sockets(#[from] std::io::Error),
    /// The HTTP client.
    #[error("the simulated devices' HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// How a swarm is made.
#[derive(Debug, Clone)]
pub struct SwarmOptions {
    /// Base address of the control plane.
    pub url: String,
    /// A join token with enough uses.
    pub token: String,
    /// How many devices.
    pub devices: usize,
    /// Stands for the whole fleet's behaviour.
    pub seed: u64,
    /// How many are of which temper.
    pub mix: Mix,
    /// What the versions are like.
    pub releases: Releases,
    /// How fast devices are.
    pub pace: Pace,
    /// The labels of the device `index`, beside those of the token.
    pub labels: fn(usize) -> BTreeMap<String, String>,
    /// An empty folder for keys and certificates, which are small.
    pub folder: PathBuf,
}

/// How the devices are, in truth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By version, the devices where it answers.
    pub answers: BTreeMap<u64, usize>,
    /// By version, the devices where it ever answered.
    pub answered: BTreeMap<u64, usize>,
    /// By version, the devices that were ever asked to run it.
    pub asked: BTreeMap<u64, usize>,
    /// Devices that ever had a session.
    pub met: usize,
    /// Starts of agents.
    pub processes: u64,
    /// Bytes of artifacts that came.
    pub bytes: u64,
}

/// The devices. Dropping ends them at once, [`Swarm::stop`] in order.
pub struct Swarm {
    shared: Arc<Shared>,
    scripts: Vec<Script>,
    waiting: Vec<Device>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Swarm {
    /// Enrols the devices. None of them runs yet.
    pub async fn join(options: SwarmOptions) -> Result<Self, SwarmError> {
        let shared = Arc::new(Shared {
            sockets: Sockets::bind(SOCKETS.min(options.devices))?,
            downloads: Downloads::new()?,
            releases: options.releases.clone(),
            pace: options.pace,
            starting: Semaphore::new(STARTS),
            processes: AtomicU64::new(0),
            truth: Mutex::new(Truth::default()),
        });
        let scripts: Vec<Script> = (0..options.devices).map(|index| Script::draw(options.seed, index, &options.mix)).collect();
        let joins = (0..options.devices).map(|index| enrol(&options, index));
        let identities: Vec<(usize, Identity)> = stream::iter(joins).buffer_unordered(JOINS).try_collect().await?;
        let waiting = identities
            .into_iter()
            .map(|(index, identity)| Device::new(index, identity, scripts[index], Arc::clone(&shared)))
            .collect();
        Ok(Self { shared, scripts, waiting, tasks: TaskTracker::new(), stop: CancellationToken::new() })
    }

    /// Starts every device that does not run yet.
    pub fn start(&mut self) {
        for device in self.waiting.drain(..) {
            self.tasks.spawn(device.run(self.stop.clone()));
        }
    }

    /// Each device's script, by its number.
    pub fn scripts(&self) -> &[Script] {
        &self.scripts
    }

    /// How the devices are.
    pub fn counts(&self) -> Counts {
        let truth = self.shared.truth();
        let sizes = |sets: &BTreeMap<u64, std::collections::BTreeSet<usize>>| {
            sets.iter().map(|(version, devices)| (*version, devices.len())).collect()
        };
        let mut answers = BTreeMap::new();
        for version in truth.answers.values() {
            *answers.entry(*version).or_default() += 1;
        }
        Counts {
            answers,
            answered: sizes(&truth.answered),
            asked: sizes(&truth.asked),
            met: truth.met.len(),
            processes: self.shared.processes.load(Ordering::Relaxed),
            bytes: self.shared.downloads.bytes(),
        }
    }

    /// Lets every device say goodbye, and returns when all have.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn enrol(options: &SwarmOptions, index: usize) -> Result<(usize, Identity), SwarmError> {
    let name = format!("sim-{index}");
    let joining = JoinOptions {
        url: options.url.clone(),
        token: options.token.clone(),
        dir: options.folder.join(&name),
        labels: (options.labels)(index),
        name,
        insecure_http: false,
        force: false,
    };
    let identity = join(&joining).await.map_err(|source| SwarmError::Join { index, source: Box::new(source) })?;
    Ok((index, identity))
}
