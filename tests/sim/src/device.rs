//! One simulated device over real sockets, in one task: the agent's link and session, the agent's machine, a scripted body.

use crate::download::Downloads;
use crate::ports::{Gauges, NoCommands, NoNeighbours, Replica, Wishes};
use crate::script::{Pace, Releases, Script, Temper};
use crate::sockets::Sockets;
use crate::updater::{Deed, Happened, Remains, Updater};
use aidos_agent::clock;
use aidos_agent::identity::Identity;
use aidos_agent::link::{self, LinkError, LinkHandle, Ports};
use aidos_agent::twin::StatusMap;
use aidos_agent::update::{Effect, Event, Slot, Trouble};
use aidos_protocol::ModelName;
use aidos_protocol::artifact::Digest;
use aidos_protocol::inventory::Inventory;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DesiredModel, SignedHealth, path};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a device holds one of the places for its first session.
const FIRST_SESSION: Duration = Duration::from_secs(20);

/// What all devices share.
pub(crate) struct Shared {
    pub(crate) sockets: Sockets,
    pub(crate) downloads: Downloads,
    pub(crate) releases: Releases,
    pub(crate) pace: Pace,
    /// Places for devices that connect for the first time, so that a fleet's start does not take its own handshakes' time.
    pub(crate) starting: Semaphore,
    pub(crate) processes: AtomicU64,
    pub(crate) truth: Mutex<Truth>,
}

/// What is so on the devices, whatever they say.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// The version that answers.
    pub(crate) answers: BTreeMap<usize, u64>,
    /// By version, the devices on which it ever answered.
    pub(crate) answered: BTreeMap<u64, BTreeSet<usize>>,
    /// By version, the devices that were ever asked to run it.
    pub(crate) asked: BTreeMap<u64, BTreeSet<usize>>,
    /// The devices that ever had a session.
    pub(crate) met: BTreeSet<usize>,
}

impl Shared {
    pub(crate) fn truth(&self) -> std::sync::MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device: what outlives its process.
pub(crate) struct Device {
    pub(crate) index: usize,
    pub(crate) identity: Identity,
    pub(crate) script: Script,
    pub(crate) shared: Arc<Shared>,
    wishes: Arc<Wishes>,
    gauges: Arc<Gauges>,
    /// By model, the ledger's row.
    ledger: Mutex<BTreeMap<ModelName, Remains>>,
}

/// The process has ended over what it did.
struct Ended;

impl Device {
    pub(crate) fn new(index: usize, identity: Identity, script: Script, shared: Arc<Shared>) -> Self {
        let (wishes, gauges) = (Arc::default(), Arc::default());
        Self { index, identity, script, shared, wishes, gauges, ledger: Mutex::default() }
    }

    /// Lives, process after process, until `stop`; then it leaves in order.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut boot_id = 0;
        while !stop.is_cancelled() {
            boot_id += 1;
            self.shared.processes.fetch_add(1, Ordering::Relaxed);
            let process = Process::new(&self, boot_id);
            let ended = tokio::select! {
                () = process.keep_link(&stop) => false,
                Ended = process.follow() => true,
            };
            if ended {
                self.shared.truth().answers.remove(&self.index);
                let _ = timeout(self.shared.pace.restart, stop.cancelled()).await;
            }
        }
    }
}

/// One start of a device's agent.
struct Process<'a> {
    device: &'a Device,
    boot_id: u64,
    status: StatusMap,
    link: watch::Sender<Option<LinkHandle>>,
    /// What the process before is suspected to have ended over.
    charged: Option<Slot>,
}

impl<'a> Process<'a> {
    fn new(device: &'a Device, boot_id: u64) -> Self {
        let status = StatusMap::new(boot_id);
        status.set(path::AGENT_VERSION, &env!("CARGO_PKG_VERSION"));
        status.set(path::INVENTORY, &inventory(device));
        let rows = device.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let charged = rows.values().filter_map(Remains::suspect).max().map(|(_, slot)| slot);
        drop(rows);
        Self { device, boot_id, status, link: watch::Sender::new(None), charged }
    }

    /// Keeps the link, where the script lets it have one.
    async fn keep_link(&self, stop: &CancellationToken) {
        let first = if let Temper::Absent(first, away) = self.device.script.temper
            && self.boot_id == 1
        {
            Some((first, away))
        } else {
            None
        };
        if let Some((first, away)) = first {
            let leave = stop.child_token();
            let mut linked = pin!(self.linked(leave.clone()));
            tokio::select! {
                () = &mut linked => return,
                () = sleep(first) => leave.cancel(),
            }
            linked.await;
            if timeout(away, stop.cancelled()).await.is_ok() {
                return;
            }
        }
        self.linked(stop.clone()).await;
    }

    async fn linked(&self, stop: CancellationToken) {
        let (device, shared) = (self.device, &self.device.shared);
        let (handle, control) = link::channel();
        let ports = Ports {
            intent: Arc::new(Replica {
                wishes: Arc::clone(&device.wishes),
                status: self.status.clone(),
                never: watch::Sender::new(0),
            }),
            status: Arc::new(self.status.clone()),
            spool: Arc::clone(&device.gauges) as _,
            commands: Arc::new(NoCommands),
            revocations: Arc::new(NoNeighbours),
        };
        let place = tokio::select! {
            place = shared.starting.acquire() => place,
            () = stop.cancelled() => return,
        };
        let mut state = handle.state();
        let first = async move {
            if let Ok(Ok(_)) = timeout(FIRST_SESSION, state.wait_for(|state| state.transport.is_some())).await {
                shared.truth().met.insert(device.index);
            }
            drop(place);
            std::future::pending::<()>().await;
        };
        let transports = vec![shared.sockets.transport(device.index, device.identity.clone())];
        self.link.send_replace(Some(handle));
        let run = link::run(transports, ports, device.identity.clone(), control, stop);
        tokio::select! {
            () = run => {}
            () = first => {}
        }
        self.link.send_replace(None);
    }

    /// Follows intent, model by model, until the process ends over one of them.
    async fn follow(&self) -> Ended {
        let mut wanted = self.device.wishes.wanted();
        let mut names: BTreeSet<ModelName> =
            self.device.ledger.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let pace = &self.device.shared.pace;
        // Devices that all began at once would all sample at once for ever after, which no fleet does.
        let phase = pace.sample.mul_f64((self.device.script.seed % 1_000) as f64 / 1_000.0);
        let mut samples = interval_at(Instant::now() + phase, pace.sample);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut models: FuturesUnordered<_> = names.iter().cloned().map(|name| self.model(name)).collect();
        loop {
            let known: Vec<ModelName> = wanted.borrow_and_update().keys().cloned().collect();
            for name in known {
                if names.insert(name.clone()) {
                    models.push(self.model(name));
                }
            }
            tokio::select! {
                changed = wanted.changed() => changed.expect("the device holds its wishes"),
                Some(ended) = models.next() => return ended,
                _ = samples.tick() => {
                    self.device.gauges.sample(clock::now(), f64::from(pace.requests_per_s) * pace.sample.as_secs_f64());
                }
            }
        }
    }

    async fn model(&self, name: ModelName) -> Ended {
        let (device, shared) = (self.device, &self.device.shared);
        let who = (device.identity.tenant_id(), device.identity.device_id());
        let mut updater = Updater::new(name.clone(), who, self.boot_id, device.script, &shared.releases, shared.pace);
        let remains = device.ledger.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(remains) = remains {
            updater.restart(remains, self.charged, clock::now());
        }
        let mut said = Said::default();
        let mut wanted = device.wishes.wanted();
        loop {
            let wish = wanted.borrow_and_update().get(&name).cloned();
            if let Some(wish) = &wish {
                shared.truth().asked.entry(wish.version).or_default().insert(device.index);
            }
            let mut effect = self.tell(&mut updater, Event::Desire(wish.clone().map(Box::new)), &name, &mut said);
            loop {
                let happened = match &effect {
                    Some(next) => {
                        // What has begun to change the memory is not left half done.
                        let whole = matches!(next, Effect::Load(_) | Effect::Unload(_) | Effect::Activate(_));
                        let deed = updater.deed(next, clock::now());
                        let mut act = pin!(self.act(&updater, deed));
                        let mut happened = None;
                        while happened.is_none() {
                            tokio::select! {
                                biased;
                                () = other(&mut wanted, &name, wish.as_ref()), if !whole => break,
                                came = &mut act => happened = Some(came),
                            }
                        }
                        happened
                    }
                    None => {
                        let due = updater.due().map(until);
                        tokio::select! {
                            () = other(&mut wanted, &name, wish.as_ref()) => None,
                            () = sleep(due.unwrap_or_default()), if due.is_some() => Some(Happened::Event(Event::Tick)),
                        }
                    }
                };
                match happened {
                    None => break,
                    Some(Happened::Ended) => {
                        // The machine's row is as it was told last; what the script has done of the device's life is the
                        // world's, and goes on.
                        self.keep(&name, &updater);
                        return Ended;
                    }
                    Some(Happened::Event(event)) => effect = self.tell(&mut updater, event, &name, &mut said),
                }
            }
        }
    }

    /// Feeds the machine, keeps what it knows, and only then reports.
    fn tell(&self, updater: &mut Updater, event: Event, name: &ModelName, said: &mut Said) -> Option<Effect> {
        let now = clock::now();
        let effect = updater.take(event, now);
        let device = self.device;
        self.keep(name, updater);
        let answers = updater.answers();
        if said.answers != answers {
            said.answers = answers;
            let mut truth = device.shared.truth();
            match answers {
                Some(version) => {
                    truth.answers.insert(device.index, version);
                    truth.answered.entry(version).or_default().insert(device.index);
                }
                None => drop(truth.answers.remove(&device.index)),
            }
        }
        self.say(updater, name, said, now);
        effect
    }

    /// Writes the ledger's row.
    fn keep(&self, name: &ModelName, updater: &Updater) {
        let mut rows = self.device.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert(name.clone(), updater.remains());
    }

    fn say(&self, updater: &mut Updater, name: &ModelName, said: &mut Said, now: Micros) {
        let (status, health) = (format!("{}{name}", path::MODELS), format!("{}{name}", path::HEALTH));
        let Some(report) = updater.report(now) else {
            self.status.remove(&status);
            return self.status.remove(&health);
        };
        self.status.set(&status, &report.status);
        let Some(vouched) = report.health else { return };
        let stamp = (vouched.version, vouched.health as u8, vouched.at_us);
        if said.health == Some(stamp) {
            return;
        }
        let identity = &self.device.identity;
        let signed = SignedHealth::new(&vouched, |message| {
            // A forger has some key, and not this one: the signature is right and of something else.
            let message = if report.forged { b"something else" } else { message };
            identity.sign(message).map(|(_, signature)| signature)
        });
        match signed {
            Ok(signed) => self.status.set(&health, &signed),
            Err(error) => tracing::error!(%error, "a simulated device cannot sign"),
        }
        said.health = Some(stamp);
    }

    async fn act(&self, updater: &Updater, deed: Deed) -> Happened {
        match deed {
            Deed::Takes(time, happened) => {
                sleep(time).await;
                happened
            }
            Deed::Fetch(files) => {
                for (digest, size) in files {
                    if let Err(event) = self.fetch(digest, size).await {
                        return Happened::Event(event);
                    }
                }
                let Deed::Takes(_, fetched) = updater.fetched() else { unreachable!("a fetch that came takes time only") };
                fetched
            }
        }
    }

    async fn fetch(&self, digest: Digest, size: Option<u64>) -> Result<(), Event> {
        let failed = |trouble, reason: String| Event::Failed(trouble, reason);
        let handle = self.link.borrow().clone().ok_or_else(|| failed(Trouble::Link, "there is no link".into()))?;
        let grant = handle.request_artifact(digest).await.map_err(|error| {
            let trouble = match error {
                LinkError::Offline => Trouble::Link,
                LinkError::Refused(_) => Trouble::Final,
                _ => Trouble::Passing,
            };
            failed(trouble, error.to_string())
        })?;
        if size.is_some_and(|size| size != grant.size) {
            return Err(failed(Trouble::Final, format!("{digest} has {} bytes at the control plane", grant.size)));
        }
        // Every other device's first attempt stops half-way.
        let broken = self.device.script.seed.is_multiple_of(2);
        let fetched = self.device.shared.downloads.fetch(&grant.url, digest, grant.size, broken).await;
        fetched.map_err(|error| failed(Trouble::Passing, error.to_string()))
    }
}

/// What was said last of a model, so that nothing is signed twice.
#[derive(Debug, Default)]
struct Said {
    answers: Option<u64>,
    health: Option<(u64, u8, Micros)>,
}

/// Wakes when something else is wanted of the model.
async fn other(wanted: &mut watch::Receiver<Arc<crate::ports::Wanted>>, name: &ModelName, wish: Option<&DesiredModel>) {
    loop {
        if wanted.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if wanted.borrow_and_update().get(name) != wish {
            return;
        }
    }
}

fn until(due: Micros) -> Duration {
    Duration::from_micros(u64::try_from(due.0.saturating_sub(clock::now().0)).unwrap_or_default())
}

fn inventory(device: &Device) -> Inventory {
    Inventory {
        hostname: format!("sim-{}", device.index),
        os: "linux".into(),
        arch: if device.index.is_multiple_of(3) { "aarch64" } else { "x86_64" }.into(),
        cores: 4,
        memory_bytes: 4 << 30,
        disk_bytes: 32 << 30,
        engines: vec!["tract".into()],
        agent_version: env!("CARGO_PKG_VERSION").into(),
        time_zone: format!("Etc/GMT-{}", device.script.zone_minutes / 60 % 13),
        ..Inventory::default()
    }
}
