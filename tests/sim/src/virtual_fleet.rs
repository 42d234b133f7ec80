//! A fleet in virtual time: the same devices without sockets and clocks, as fast as the machine steps. For tests that need
//! hundreds of runs.

use crate::script::{Mix, Pace, Releases, Script, Temper};
use crate::updater::{Deed, Happened, Report, Updater};
use aidos_agent::update::Event;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::DesiredModel;
use aidos_protocol::{DeviceId, ModelName, TenantId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a device told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Which device, from 0.
    pub device: usize,
    /// When.
    pub at: Micros,
    /// What it says of the model.
    pub report: Option<Report>,
}

#[derive(Debug)]
enum Due {
    /// Something that was begun before the `u64`th wish has happened.
    Happened(u64, Happened),
    /// The process begins again.
    Begin,
    /// The link goes or comes.
    Link(bool),
    /// There may be more to say.
    Say,
}

#[derive(Debug)]
struct Device {
    id: DeviceId,
    script: Script,
    updater: Updater,
    boot_id: u64,
    /// Whether there is a process.
    runs: bool,
    online: bool,
    /// What the plane wants, known here or not.
    wanted: Option<DesiredModel>,
    /// What of it is known here.
    wish: Option<DesiredModel>,
    wishes: u64,
    told: Option<Report>,
}

/// Devices that follow wishes for one model.
#[derive(Debug)]
pub struct VirtualFleet {
    model: ModelName,
    tenant: TenantId,
    releases: Releases,
    pace: Pace,
    now: Micros,
    devices: Vec<Device>,
    queue: BTreeMap<(Micros, u64), (usize, Due)>,
    count: u64,
    told: Vec<Told>,
    answered: BTreeMap<u64, BTreeSet<usize>>,
}

impl VirtualFleet {
    /// `count` devices of the fleet that `seed` stands for, at `now`.
    pub fn new(model: ModelName, seed: u64, count: usize, mix: &Mix, releases: Releases, pace: Pace, now: Micros) -> Self {
        let tenant = TenantId::new(1);
        let mut fleet = Self {
            model,
            tenant,
            releases,
            pace,
            now,
            devices: Vec::new(),
            queue: BTreeMap::new(),
            count: 0,
            told: Vec::new(),
            answered: BTreeMap::new(),
        };
        for index in 0..count {
            let (id, script) = (DeviceId::new(index as u64 + 1), Script::draw(seed, index, mix));
            let updater = Updater::new(fleet.model.clone(), (tenant, id), 1, script, &fleet.releases, pace);
            fleet.devices.push(Device {
                id,
                script,
                updater,
                boot_id: 1,
                runs: true,
                online: true,
                wanted: None,
                wish: None,
                wishes: 0,
                told: None,
            });
            if let Temper::Absent(first, long) = script.temper {
                fleet.later(first, index, Due::Link(false));
                fleet.later(first + long, index, Due::Link(true));
            }
        }
        fleet
    }

    /// The present time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// The devices' tenant.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Each device's id.
    pub fn ids(&self) -> impl Iterator<Item = DeviceId> {
        self.devices.iter().map(|device| device.id)
    }

    /// Whether a device has a link.
    pub fn is_online(&self, device: usize) -> bool {
        self.devices[device].online
    }

    /// The version that truly answers on a device.
    pub fn answers(&self, device: usize) -> Option<u64> {
        self.devices[device].updater.answers()
    }

    /// The devices on which `version` has ever answered.
    pub fn answered(&self, version: u64) -> usize {
        self.answered.get(&version).map_or(0, BTreeSet::len)
    }

    /// Wants a version, or none, of a device; it learns so when it has a link.
    pub fn want(&mut self, device: usize, wanted: Option<DesiredModel>) {
        self.devices[device].wanted = wanted;
        self.sync(device);
    }

    /// Goes on to the next thing that happens, by `until` at the latest, and gives what the devices told by then.
    pub fn advance(&mut self, until: Micros) -> Vec<Told> {
        match self.queue.first_key_value() {
            Some(((at, _), _)) if *at <= until => {
                let ((at, _), (device, due)) = self.queue.pop_first().expect("looked at above");
                self.now = self.now.max(at);
                self.happen(device, due);
            }
            _ => self.now = self.now.max(until),
        }
        std::mem::take(&mut self.told)
    }

    fn later(&mut self, after: Duration, device: usize, due: Due) {
        let after = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
        self.at(Micros(self.now.0.saturating_add(after)), device, due);
    }

    fn at(&mut self, at: Micros, device: usize, due: Due) {
        self.count += 1;
        self.queue.insert((at, self.count), (device, due));
    }

    fn happen(&mut self, index: usize, due: Due) {
        let now = self.now;
        let device = &mut self.devices[index];
        match due {
            Due::Link(online) => {
                device.online = online;
                self.sync(index);
                self.say(index);
            }
            Due::Say => self.say(index),
            Due::Begin => {
                let remains = device.updater.remains();
                let charged = remains.suspect().map(|(_, slot)| slot);
                device.boot_id += 1;
                let who = (self.tenant, device.id);
                device.updater = Updater::new(self.model.clone(), who, device.boot_id, device.script, &self.releases, self.pace);
                device.updater.restart(remains, charged, now);
                device.runs = true;
                self.desire(index);
            }
            Due::Happened(wishes, _) if wishes != device.wishes => {}
            Due::Happened(_, Happened::Ended) => {
                device.runs = false;
                self.later(self.pace.restart, index, Due::Begin);
            }
            Due::Happened(_, Happened::Event(event)) => {
                let effect = device.updater.take(event, now);
                self.follow(index, effect);
            }
        }
    }

    /// Brings the wish to the device, if it has a link and does not know it.
    fn sync(&mut self, index: usize) {
        let device = &mut self.devices[index];
        if device.online && device.wish != device.wanted {
            device.wish = device.wanted.clone();
            if device.runs {
                self.desire(index);
            }
        }
    }

    fn desire(&mut self, index: usize) {
        let device = &mut self.devices[index];
        device.wishes += 1;
        let wish = device.wish.clone().map(Box::new);
        let effect = device.updater.take(Event::Desire(wish), self.now);
        self.follow(index, effect);
    }

    fn follow(&mut self, index: usize, effect: Option<aidos_agent::update::Effect>) {
        let device = &mut self.devices[index];
        if let Some(version) = device.updater.answers() {
            self.answered.entry(version).or_default().insert(index);
        }
        let Some(effect) = effect else { return self.say(index) };
        let deed = match device.updater.deed(&effect, self.now) {
            Deed::Fetch(_) => device.updater.fetched(),
            deed => deed,
        };
        let wishes = device.wishes;
        match deed {
            Deed::Takes(time, happened) => self.later(time, index, Due::Happened(wishes, happened)),
            Deed::Fetch(_) => unreachable!("a fetch was turned into a wait"),
        }
        self.say(index);
    }

    /// Tells what the device says, if it has a link and it is news.
    fn say(&mut self, index: usize) {
        let device = &mut self.devices[index];
        if !device.online || !device.runs {
            return;
        }
        let report = device.updater.report(self.now);
        if report != device.told {
            device.told.clone_from(&report);
            self.told.push(Told { device: index, at: self.now, report });
            if let Some(due) = self.devices[index].updater.due() {
                self.at(due.max(Micros(self.now.0 + 1)), index, Due::Say);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Quality;
    use aidos_protocol::artifact::Digest;
    use aidos_protocol::twin::Health;

    fn wish(version: u64) -> Option<DesiredModel> {
        let mut wish = DesiredModel::new(version, Digest::of(&version.to_be_bytes()), 10);
        wish.update.watch_s = 3;
        wish.update.max_error_rate = Some(0.05);
        wish.update.max_p95_ratio = Some(1.5);
        Some(wish)
    }

    /// Wants `version` of all and lets a while pass; the last health that each told.
    fn all(fleet: &mut VirtualFleet, version: u64) -> BTreeMap<usize, (Health, u64)> {
        let mut last = BTreeMap::new();
        for device in 0..fleet.devices.len() {
            fleet.want(device, wish(version));
        }
        let end = Micros(fleet.now().0 + 300_000_000);
        while fleet.now() < end {
            for told in fleet.advance(end) {
                if let Some(health) = told.report.and_then(|report| report.health) {
                    last.insert(told.device, (health.health, health.version));
                }
            }
        }
        last
    }

    #[test]
    fn an_honest_fleet_arrives_with_all_its_absences_and_power_cuts() {
        let model: ModelName = "digits".parse().unwrap();
        let mix = Mix { slow: 0.2, absent: 0.2, killed: 0.2, ..Mix::default() };
        let mut fleet = VirtualFleet::new(model, 11, 100, &mix, Releases::default(), Pace::default(), Micros(0));
        for version in [1, 2] {
            let last = all(&mut fleet, version);
            assert_eq!(last.len(), 100);
            assert!(last.values().all(|said| *said == (Health::Healthy, version)), "{last:?}");
            assert!((0..100).all(|device| fleet.answers(device) == Some(version)));
        }
    }

    #[test]
    fn a_bad_version_leaves_every_device_on_the_old_one() {
        for seed in 0..20 {
            let model: ModelName = "digits".parse().unwrap();
            let releases = Releases::default().with(2, Quality::bad(seed));
            let mut fleet = VirtualFleet::new(model, seed, 20, &Mix::HONEST, releases.clone(), Pace::default(), Micros(0));
            all(&mut fleet, 1);
            let last = all(&mut fleet, 2);
            assert!((0..20).all(|device| fleet.answers(device) == Some(1)), "{releases:?}");
            assert!(last.values().all(|said| *said == (Health::Unhealthy, 2)), "{releases:?}: {last:?}");
        }
    }
}
