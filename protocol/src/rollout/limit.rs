//! Limits of a rollout: how many devices may be away at once, how many may fail.

use crate::syntax::{Cursor, SyntaxError};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Bytes of one limit: more is no number.
const MAX_LENGTH: usize = 32;

/// So many devices of a number of devices; none is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Limit {
    /// Hundredths of a percent, 0 to 10 000; rounded down to whole devices.
    Percent(u16),
    /// So many.
    Count(u32),
}

impl Limit {
    /// How many of `total` devices it allows.
    pub fn of(&self, total: u64) -> u64 {
        match self {
            Self::Percent(hundredths) => total.saturating_mul(u64::from(*hundredths)) / 10_000,
            Self::Count(count) => u64::from(*count),
        }
    }
}

impl FromStr for Limit {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > MAX_LENGTH {
            let cut = text.floor_char_boundary(MAX_LENGTH);
            return Err(SyntaxError::new(&text[..cut], cut, format!("a limit has at most {MAX_LENGTH} bytes")));
        }
        let mut cursor = Cursor::new(text);
        cursor.skip_space();
        let start = cursor.at;
        let word = cursor.word();
        let percent = cursor.eat('%');
        cursor.skip_space();
        if !cursor.at_end() || word.is_empty() {
            return Err(cursor.expected("a limit: `5%` or `3`"));
        }
        let wrong = || SyntaxError::new(text, start, "a limit is 0% to 100%, or a number of devices");
        if percent {
            let hundredths = word.parse::<f64>().map_err(|_| wrong())? * 100.0;
            return if (0.0..=10_000.0).contains(&hundredths) {
                Ok(Self::Percent(hundredths.round() as u16))
            } else {
                Err(wrong())
            };
        }
        word.parse().map(Self::Count).map_err(|_| wrong())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(hundredths) => write!(f, "{}%", f64::from(*hundredths) / 100.0),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}
impl From<Limit> for String {
    fn from(limit: Limit) -> String {
        limit.to_string()
    }
}
impl TryFrom<String> for Limit {
    type Error = SyntaxError;
    fn try_from(text: String) -> Result<Self, SyntaxError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_rounds_down_and_prints_back() {
        for (text, of_150) in [("5%", 7), ("0%", 0), ("0", 0), ("3", 3), ("100%", 150), ("0.5%", 0)] {
            let limit: Limit = text.parse().unwrap();
            assert_eq!((limit.to_string().as_str(), limit.of(150)), (text, of_150));
        }
    }

    #[test]
    fn what_is_no_limit_shows_where() {
        for (text, column) in [("", 1), ("five", 1), ("101%", 1), ("5%x", 3), ("-1", 1), ("NaN%", 1)] {
            assert_eq!(text.parse::<Limit>().unwrap_err().column(), column, "{text}");
        }
    }
}
