//! Waves: how many of a rollout's devices may have the new version, step by step.
//!
//! ```text
//! waves = share { "," share }
//! share = number "%" | number | key "=" value
//! ```
//! Shares are of all devices of the rollout and cumulative: `1%,10%,100%` adds 9 % in its second wave. A label takes whatever
//! carries it. The last share must be `100%`, since a rollout that never reaches everyone never ends.

use crate::label;
use crate::syntax::{Cursor, SyntaxError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::{fmt, str::FromStr};

/// The most waves of one rollout; more than a person follows.
pub const MAX_WAVES: usize = 32;
/// Bytes of the text: [`MAX_WAVES`] labels of middling length.
const MAX_LENGTH: usize = 1_024;

/// The devices that have the new version when a wave is done, of all devices of the rollout.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Share {
    /// Hundredths of a percent, 1 to 10 000; rounded down to whole devices and at least one, so that a share is never nobody
    /// and only with few devices more than it says.
    Percent(u16),
    /// So many devices, at least 1.
    Count(u32),
    /// Every device with this label.
    Label {
        /// The label.
        key: String,
        /// Its value.
        value: String,
    },
}

impl Share {
    /// How many of `total` devices it allows; `None` for a label, which is not a number.
    pub fn devices(&self, total: u64) -> Option<u64> {
        match self {
            Self::Percent(hundredths) => Some((total * u64::from(*hundredths) / 10_000).max(1).min(total)),
            Self::Count(count) => Some(u64::from(*count).min(total)),
            Self::Label { .. } => None,
        }
    }

    /// Whether a device with these labels is in it by its label; `false` for numbers.
    pub fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        matches!(self, Self::Label { key, value } if labels.get(key) == Some(value))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(hundredths) => write!(f, "{}%", f64::from(*hundredths) / 100.0),
            Self::Count(count) => write!(f, "{count}"),
            Self::Label { key, value } => write!(f, "{key}={value}"),
        }
    }
}

/// One or more waves, the last of them everyone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Waves(Vec<Share>);

impl Waves {
    /// Everyone at once.
    pub fn all_at_once() -> Self {
        Self(vec![Share::Percent(10_000)])
    }
    /// In order.
    pub fn shares(&self) -> &[Share] {
        &self.0
    }
}

impl FromStr for Waves {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > MAX_LENGTH {
            let cut = text.floor_char_boundary(MAX_LENGTH);
            return Err(SyntaxError::new(&text[..cut], cut, format!("waves have at most {MAX_LENGTH} bytes")));
        }
        let mut cursor = Cursor::new(text);
        let mut shares: Vec<Share> = Vec::new();
        loop {
            cursor.skip_space();
            let start = cursor.at;
            if shares.len() == MAX_WAVES {
                return Err(cursor.error(format!("a rollout has at most {MAX_WAVES} waves")));
            }
            let share = cursor.share()?;
            if let Some(before) = shares.iter().rev().find(|before| smaller(&share, before)) {
                let message = format!("shares are of all devices and grow from wave to wave: `{share}` follows `{before}`");
                return Err(SyntaxError::new(text, start, message));
            }
            shares.push(share);
            cursor.skip_space();
            if cursor.at_end() {
                break;
            }
            if !cursor.eat(',') {
                return Err(cursor.expected("`,` or the end"));
            }
        }
        match shares.last() {
            Some(Share::Percent(10_000)) => Ok(Self(shares)),
            _ => Err(cursor.error("the last wave must be `100%`, or the rollout would never end: append `,100%`")),
        }
    }
}

/// Whether `next` is of the same kind as `before` and not larger.
fn smaller(next: &Share, before: &Share) -> bool {
    match (next, before) {
        (Share::Percent(next), Share::Percent(before)) => next <= before,
        (Share::Count(next), Share::Count(before)) => next <= before,
        (next, before) => next == before,
    }
}

impl Cursor<'_> {
    fn share(&mut self) -> Result<Share, SyntaxError> {
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected("a share: `10%`, `25` or `label=value`"));
        }
        if self.eat('%') {
            let percent: f64 = word.parse().map_err(|_| SyntaxError::new(self.text, start, "not a number before `%`"))?;
            let hundredths = percent * 100.0;
            if !(1.0..=10_000.0).contains(&hundredths) {
                return Err(SyntaxError::new(self.text, start, "a share is 0.01% to 100%"));
            }
            return Ok(Share::Percent(hundredths.round() as u16));
        }
        if self.eat('=') {
            label::check_key(word).map_err(|error| SyntaxError::new(self.text, start, error.to_string()))?;
            let at = self.at;
            let value = self.word();
            label::check_value(word, value).map_err(|error| SyntaxError::new(self.text, at, error.to_string()))?;
            return Ok(Share::Label { key: word.to_owned(), value: value.to_owned() });
        }
        match word.parse() {
            Ok(0) | Err(_) => Err(SyntaxError::new(self.text, start, "a share is `10%`, a number of devices, or `label=value`")),
            Ok(count) => Ok(Share::Count(count)),
        }
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> = self.0.iter().map(Share::to_string).collect();
        f.write_str(&shares.join(","))
    }
}
impl From<Waves> for String {
    fn from(waves: Waves) -> String {
        waves.to_string()
    }
}
impl TryFrom<String> for Waves {
    type Error = SyntaxError;
    fn try_from(text: String) -> Result<Self, SyntaxError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waves_read_as_people_write_them_and_print_back() {
        for text in ["100%", "1%,10%,50%,100%", "5,50,100%", "canary=true,2.5%,100%"] {
            let waves: Waves = text.parse().unwrap();
            assert_eq!(waves.to_string(), text);
        }
        assert_eq!(" 1% , 100% ".parse::<Waves>().unwrap().shares().len(), 2);
    }

    #[test]
    fn an_error_shows_where_and_what_to_do() {
        let message = |text: &str| {
            let error = text.parse::<Waves>().unwrap_err();
            (error.column(), error.message().to_owned())
        };
        assert!(message("1%,10%").1.contains("append `,100%`"));
        assert_eq!(message("10%,5%,100%").0, 5);
        assert_eq!(message("1%;100%").0, 3);
        assert!(message("0%,100%").1.contains("0.01%"));
        assert!(message("101%").1.contains("0.01%"));
        assert!(message("0,100%").1.contains("number of devices"));
        assert!(message("").1.contains("a share"));
        assert!(message(&format!("{}100%", "1,".repeat(600))).1.contains("at most"));
    }

    #[test]
    fn a_share_of_few_devices_is_at_least_one() {
        assert_eq!(Share::Percent(100).devices(3), Some(1));
        assert_eq!(Share::Percent(100).devices(1_000), Some(10));
        assert_eq!((Share::Percent(100).devices(199), Share::Percent(100).devices(0)), (Some(1), Some(0)));
        assert_eq!(Share::Count(5).devices(3), Some(3));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,64}") {
            if let Ok(waves) = text.parse::<Waves>() {
                prop_assert_eq!(waves.to_string().parse::<Waves>().unwrap(), waves);
            }
        }
    }
}
