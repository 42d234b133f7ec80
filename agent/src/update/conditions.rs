//! Whether an update may go on now: too late, out of its window, too little power, too hot. Pure.

use aidos_protocol::rollout::UpdatePolicy;
use aidos_protocol::time::Micros;

/// What the device's owner asks of every update, whatever its own policy says. 0 is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HouseRules {
    /// Percent of the battery below which it waits.
    pub min_battery_percent: u64,
    /// Degrees Celsius above which it waits.
    pub max_temperature_c: u64,
}

/// How the device fares at this moment. What it does not have (a battery, a sensor) constrains nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Conditions {
    /// Minute of the local week; 0 is Monday 00:00.
    pub minute_of_week: u32,
    /// Of the emptiest battery.
    pub battery_percent: Option<u8>,
    /// Of the hottest sensor, degrees Celsius.
    pub temperature_c: Option<f64>,
    /// What holds for every update here.
    pub rules: HouseRules,
}

/// What follows from the conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Go on.
    Go,
    /// Not now; for people, why.
    Wait(String),
    /// Never: its time is over.
    TooLate,
}

/// Whether it may begin (`window` false) or take the place of what answers (`window` true).
pub fn judge(policy: &UpdatePolicy, now: Micros, conditions: &Conditions, window: bool) -> Admission {
    if !window && policy.not_after_us.is_some_and(|last| now > last) {
        return Admission::TooLate;
    }
    let HouseRules { min_battery_percent, max_temperature_c } = conditions.rules;
    let least = policy.min_battery_percent.map_or(0, u64::from).max(min_battery_percent);
    if let Some(is) = conditions.battery_percent
        && u64::from(is) < least
    {
        return Admission::Wait(format!("the battery has {is} %, the update waits for {least} %"));
    }
    // Degrees are few: an f64 holds them exactly.
    #[allow(clippy::cast_precision_loss)]
    let house = Some(max_temperature_c as f64).filter(|most| *most > 0.0);
    let most = policy.max_temperature_c.into_iter().chain(house).reduce(f64::min);
    if let (Some(most), Some(is)) = (most, conditions.temperature_c)
        && is > most
    {
        return Admission::Wait(format!("the device has {is:.0} °C, the update waits for {most:.0} °C"));
    }
    if let (true, Some(open)) = (window, &policy.window) {
        let minutes = open.opens_in(conditions.minute_of_week);
        if minutes > 0 {
            return Admission::Wait(format!("its window {open} opens in {} h {} min", minutes / 60, minutes % 60));
        }
    }
    Admission::Go
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_device_does_not_have_constrains_nothing() {
        let policy = UpdatePolicy { min_battery_percent: Some(50), max_temperature_c: Some(60.0), ..Default::default() };
        let bare = Conditions::default();
        assert_eq!(judge(&policy, Micros(0), &bare, true), Admission::Go);
        let low = Conditions { battery_percent: Some(49), ..bare };
        assert!(matches!(judge(&policy, Micros(0), &low, false), Admission::Wait(why) if why.contains("49 %")));
        let hot = Conditions { temperature_c: Some(71.0), ..bare };
        assert!(matches!(judge(&policy, Micros(0), &hot, true), Admission::Wait(why) if why.contains("71 °C")));
    }

    #[test]
    fn the_stricter_of_the_policy_and_the_house_holds() {
        let rules = HouseRules { min_battery_percent: 40, max_temperature_c: 70 };
        let fares = |battery: u8, degrees: f64| Conditions {
            battery_percent: Some(battery),
            temperature_c: Some(degrees),
            rules,
            ..Conditions::default()
        };
        let lax = UpdatePolicy { min_battery_percent: Some(10), max_temperature_c: Some(90.0), ..Default::default() };
        let strict = UpdatePolicy { min_battery_percent: Some(60), max_temperature_c: Some(50.0), ..Default::default() };
        let waits =
            |policy: &UpdatePolicy, conditions| matches!(judge(policy, Micros(0), &conditions, false), Admission::Wait(_));
        for policy in [&lax, &UpdatePolicy::default()] {
            assert!(waits(policy, fares(39, 20.0)) && waits(policy, fares(90, 71.0)) && !waits(policy, fares(40, 70.0)));
        }
        assert!(waits(&strict, fares(59, 20.0)) && waits(&strict, fares(90, 51.0)) && !waits(&strict, fares(60, 50.0)));
    }

    #[test]
    fn the_window_holds_the_swap_and_not_the_beginning_and_the_deadline_the_beginning_only() {
        let policy = UpdatePolicy {
            window: Some("Mon 22:00-23:00".parse().unwrap()),
            not_after_us: Some(Micros(5)),
            ..Default::default()
        };
        let monday_noon = Conditions { minute_of_week: 12 * 60, ..Default::default() };
        assert_eq!(judge(&policy, Micros(5), &monday_noon, false), Admission::Go);
        assert_eq!(judge(&policy, Micros(6), &monday_noon, false), Admission::TooLate);
        let waits = judge(&policy, Micros(6), &monday_noon, true);
        assert!(matches!(waits, Admission::Wait(why) if why.contains("10 h 0 min")));
        let open = Conditions { minute_of_week: 22 * 60 + 59, ..Default::default() };
        assert_eq!(judge(&policy, Micros(6), &open, true), Admission::Go);
    }
}
