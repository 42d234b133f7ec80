//! Expiry dates, and the time that a device may rely on.

use crate::time::Micros;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};
use time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// The specification's form: UTC, whole seconds.
const FORM: &[BorrowedFormatItem<'static>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// When a file stops being valid, in whole seconds UTC; written `2030-01-31T12:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Expires(i64);

/// A text that is not such a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time like 2030-01-31T12:00:00Z")]
pub struct ExpiresError(String);

impl Expires {
    /// At that time, cut to whole seconds; years beyond 9999 become its last second.
    pub fn at(time: Micros) -> Self {
        const LAST: i64 = 253_402_300_799;
        Self(time.0.div_euclid(1_000_000).clamp(0, LAST))
    }
    /// As a point in time.
    pub fn micros(self) -> Micros {
        Micros(self.0.saturating_mul(1_000_000))
    }
    /// Whether it is over at `now`: the second itself is the first invalid one.
    pub fn is_past(self, now: Micros) -> bool {
        self.micros() <= now
    }
}

impl fmt::Display for Expires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp(self.0).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(FORM).map_err(|_| fmt::Error)?)
    }
}
impl FromStr for Expires {
    type Err = ExpiresError;
    fn from_str(text: &str) -> Result<Self, ExpiresError> {
        let time = PrimitiveDateTime::parse(text, FORM).map_err(|_| ExpiresError(text.chars().take(40).collect()))?;
        Ok(Self(time.assume_utc().unix_timestamp()))
    }
}
impl From<Expires> for String {
    fn from(time: Expires) -> String {
        time.to_string()
    }
}
impl TryFrom<String> for Expires {
    type Error = ExpiresError;
    fn try_from(text: String) -> Result<Self, ExpiresError> {
        text.parse()
    }
}

/// The time that a device decides with: the later of when its program was built and when the newest thing it trusts was
/// signed (`seen`), and what has passed since on a clock that nobody can set. A wall clock at 1970 or 2038 changes nothing.
pub fn trusted_now(built: Micros, seen: Option<Micros>, since: Duration) -> Micros {
    let floor = seen.map_or(built, |seen| seen.max(built));
    Micros(floor.0.saturating_add(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_reads_back_and_other_forms_are_refused() {
        for text in ["2030-01-31T12:00:00Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            assert_eq!(text.parse::<Expires>().unwrap().to_string(), text);
        }
        for text in ["2030-01-31", "2030-01-31T12:00:00+01:00", "2030-01-31T12:00:00.5Z", "2030-02-30T00:00:00Z", "", "soon"] {
            assert!(text.parse::<Expires>().unwrap_err().to_string().contains("2030-01-31T12:00:00Z"));
        }
    }

    #[test]
    fn the_second_of_expiry_is_the_first_invalid_one() {
        let expires: Expires = "2030-01-31T12:00:00Z".parse().unwrap();
        assert!(!expires.is_past(Micros(expires.micros().0 - 1)));
        assert!(expires.is_past(expires.micros()));
    }

    #[test]
    fn trusted_time_is_the_later_of_build_and_last_signed_and_never_goes_back() {
        let (built, second) = (Micros(100_000_000), Duration::from_secs(1));
        assert_eq!(trusted_now(built, None, second), Micros(101_000_000));
        assert_eq!(trusted_now(built, Some(Micros(5)), Duration::ZERO), built);
        assert_eq!(trusted_now(built, Some(Micros(200_000_000)), second), Micros(201_000_000));
        assert_eq!(trusted_now(Micros(i64::MAX), None, Duration::MAX), Micros(i64::MAX));
    }
}
