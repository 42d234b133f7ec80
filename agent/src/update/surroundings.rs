//! Reads how the device fares: the local minute of the week, its battery, its heat. Behind a trait, so that tests set them.

use super::{Conditions, HouseRules};
use crate::clock;
use aidos_protocol::time::Micros;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use std::path::Path;
use std::sync::Arc;
use sysinfo::{Component, Components};
use tokio::sync::watch;

/// Where Linux tells of batteries and chargers.
const POWER: &str = "/sys/class/power_supply";

/// How the device fares.
pub trait Surroundings: Send + Sync + 'static {
    /// At this moment. Blocks for as long as reading the sensors takes.
    fn now(&self) -> Conditions;

    /// What time it is, as far as it is known.
    fn time(&self) -> Micros {
        clock::now()
    }
}

/// This device: by `clock`, since somebody may know the time better than its own does, and under the rules of the house.
#[derive(Clone)]
pub struct Here {
    /// What time it is.
    pub clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    /// What holds for every update.
    pub rules: watch::Receiver<HouseRules>,
}

impl Default for Here {
    fn default() -> Self {
        Self { clock: Arc::new(clock::now), rules: watch::channel(HouseRules::default()).1 }
    }
}

impl Surroundings for Here {
    fn time(&self) -> Micros {
        (self.clock)()
    }

    fn now(&self) -> Conditions {
        let time = Timestamp::from_microsecond(self.time().0).unwrap_or_default();
        Conditions {
            minute_of_week: minute_of_week(&time.to_zoned_datetime(TimeZone::system())),
            battery_percent: battery(Path::new(POWER)),
            temperature_c: hottest(),
            rules: *self.rules.borrow(),
        }
    }
}

fn minute_of_week(now: &ZonedDateTime) -> u32 {
    let day = u32::from(now.weekday().to_monday_zero_offset().unsigned_abs());
    day * 24 * 60 + u32::from(now.hour().unsigned_abs()) * 60 + u32::from(now.minute().unsigned_abs())
}

/// The emptiest battery that runs this device; those of a mouse or a pen say `Device`.
fn battery(power: &Path) -> Option<u8> {
    let read = |path: &Path, file: &str| std::fs::read_to_string(path.join(file)).ok().map(|text| text.trim().to_owned());
    let supplies = std::fs::read_dir(power).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let own = supplies
        .filter(|path| read(path, "type").as_deref() == Some("Battery") && read(path, "scope").as_deref() != Some("Device"));
    own.filter_map(|path| read(&path, "capacity")?.parse().ok()).min()
}

fn hottest() -> Option<f64> {
    let components = Components::new_with_refreshed_list().ok()?;
    let readings = components.iter().filter_map(Component::temperature).filter(|reading| reading.is_finite());
    readings.map(f64::from).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minute_is_that_of_the_local_week_also_where_clocks_are_ahead() {
        let at = |text: &str| minute_of_week(&text.parse::<ZonedDateTime>().unwrap());
        assert_eq!(at("2026-11-23T00:00[UTC]"), 0);
        assert_eq!(at("2026-11-29T23:59[Etc/GMT-14]"), 7 * 24 * 60 - 1);
    }

    #[test]
    fn the_emptiest_battery_of_the_device_counts_and_a_mouse_does_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(battery(dir.path()), None);
        for (name, kind, scope, capacity) in [
            ("BAT0", "Battery", "System", "80"),
            ("BAT1", "Battery", "System", "40"),
            ("mouse", "Battery", "Device", "3"),
            ("AC", "Mains", "", ""),
        ] {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            for (file, text) in [("type", kind), ("scope", scope), ("capacity", capacity)] {
                std::fs::write(folder.join(file), format!("{text}\n")).unwrap();
            }
        }
        assert_eq!(battery(dir.path()), Some(40));
    }
}
