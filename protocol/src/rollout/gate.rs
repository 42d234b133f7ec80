//! Gates: what the devices' own measurements must be for a rollout to go on.
//!
//! ```text
//! gate   = metric ("<" | "<=" | ">" | ">=" | "=") value [ "else" ("pause" | "abort") ]
//! metric = "error_rate" | "p50" | "p95" | "p99" | "self_test" | "drift" | "memory" | "custom." name
//! value  = number [ "%" | "x" | "us" | "ms" | "s" | "KiB" | "MiB" | "GiB" ] | "pass"
//! ```
//! `1.2x` is relative: of the same measurement of the version before. A gate that fails aborts the rollout unless it says
//! `else pause`.

use crate::syntax::{Cursor, SyntaxError};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The most gates of one rollout.
pub const MAX_GATES: usize = 16;
/// Bytes of one gate: the longest custom name and some.
const MAX_LENGTH: usize = 160;
/// Bytes of a custom metric's name.
const MAX_NAME: usize = 64;

/// What is measured on the device, of one version of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Failed requests of all, 0 to 1.
    ErrorRate,
    /// Median latency, in microseconds.
    P50,
    /// 95th percentile, in microseconds.
    P95,
    /// 99th percentile, in microseconds.
    P99,
    /// Whether the golden inputs gave the golden outputs.
    SelfTest,
    /// Population stability index of the outputs' distribution against the version before; 0 is the same.
    Drift,
    /// Resident memory of the agent, in bytes.
    Memory,
    /// A measurement of the application's own, by name.
    Custom(String),
}

/// How the measurement is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `=`
    Equal,
}

/// What it is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// A number in the metric's unit.
    Value(f64),
    /// So many times the measurement of the version before.
    Ratio(f64),
    /// The self-test passed.
    Pass,
}

/// What a failed gate does to the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Breach {
    /// It ends; with auto-revert, devices go back.
    #[default]
    Abort,
    /// It waits for a person.
    Pause,
}

/// What became of one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// There is nothing to compare yet.
    Unknown,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Gate {
    /// What is measured.
    pub metric: Metric,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub threshold: Threshold,
    /// What happens when it fails.
    pub breach: Breach,
}

impl Gate {
    /// Compares a measurement with the threshold; `baseline` is the same measurement of the version before. The self-test is
    /// 1 when it passed and 0 when it failed.
    pub fn judge(&self, candidate: Option<f64>, baseline: Option<f64>) -> Verdict {
        let limit = match self.threshold {
            Threshold::Value(value) => Some(value),
            Threshold::Ratio(ratio) => baseline.map(|baseline| baseline * ratio),
            Threshold::Pass => Some(1.0),
        };
        let (Some(is), Some(limit)) = (candidate, limit) else { return Verdict::Unknown };
        let holds = match self.comparison {
            Comparison::Less => is < limit,
            Comparison::AtMost => is <= limit,
            Comparison::Greater => is > limit,
            Comparison::AtLeast => is >= limit,
            Comparison::Equal => is == limit,
        };
        // A measurement that is not a number fails: it compares with nothing.
        if holds { Verdict::Holds } else { Verdict::Fails }
    }
}

impl FromStr for Gate {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > MAX_LENGTH {
            let cut = text.floor_char_boundary(MAX_LENGTH);
            return Err(SyntaxError::new(&text[..cut], cut, format!("a gate has at most {MAX_LENGTH} bytes")));
        }
        let mut cursor = Cursor::new(text);
        cursor.skip_space();
        let metric = cursor.metric()?;
        cursor.skip_space();
        let comparison = cursor.comparison()?;
        cursor.skip_space();
        let threshold = cursor.threshold(&metric, comparison)?;
        cursor.skip_space();
        let breach = cursor.breach()?;
        cursor.skip_space();
        if !cursor.at_end() {
            return Err(cursor.expected("`else pause`, `else abort` or the end"));
        }
        Ok(Self { metric, comparison, threshold, breach })
    }
}

const METRICS: &str = "error_rate, p50, p95, p99, self_test, drift, memory or custom.<name>";

impl Cursor<'_> {
    fn metric(&mut self) -> Result<Metric, SyntaxError> {
        let start = self.at;
        let metric = match self.word() {
            "error_rate" => Metric::ErrorRate,
            "p50" => Metric::P50,
            "p95" => Metric::P95,
            "p99" => Metric::P99,
            "self_test" => Metric::SelfTest,
            "drift" => Metric::Drift,
            "memory" => Metric::Memory,
            word => match word.strip_prefix("custom.") {
                Some(name) if (1..=MAX_NAME).contains(&name.len()) && !name.contains('/') => Metric::Custom(name.to_owned()),
                _ => return Err(SyntaxError::new(self.text, start, format!("not a metric: use {METRICS}"))),
            },
        };
        Ok(metric)
    }

    fn comparison(&mut self) -> Result<Comparison, SyntaxError> {
        if self.eat('<') {
            return Ok(if self.eat('=') { Comparison::AtMost } else { Comparison::Less });
        }
        if self.eat('>') {
            return Ok(if self.eat('=') { Comparison::AtLeast } else { Comparison::Greater });
        }
        if self.eat('=') {
            self.eat('=');
            return Ok(Comparison::Equal);
        }
        Err(self.expected("`<`, `<=`, `>`, `>=` or `=`"))
    }

    fn threshold(&mut self, metric: &Metric, comparison: Comparison) -> Result<Threshold, SyntaxError> {
        let start = self.at;
        let word = self.word();
        let fail = |message: &str| Err(SyntaxError::new(self.text, start, message));
        if *metric == Metric::SelfTest {
            let right = word == "pass" && comparison == Comparison::Equal;
            return if right { Ok(Threshold::Pass) } else { fail("the self-test passes or fails: write `self_test=pass`") };
        }
        let digits = word.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(word.len());
        let (number, unit) = word.split_at(digits);
        let Ok(number) = number.parse::<f64>() else { return fail("expected a number, as in `1%`, `1.2x` or `250ms`") };
        let latency = matches!(metric, Metric::P50 | Metric::P95 | Metric::P99);
        let percent = unit.is_empty() && self.eat('%');
        let factor = match unit {
            "x" if matches!(metric, Metric::Drift) => return fail("drift is a comparison with the version before already"),
            "x" => return Ok(Threshold::Ratio(number)),
            "" if percent => 0.01,
            "" if latency => {
                return fail("a latency needs its unit: `us`, `ms` or `s`, or `x` for a multiple of the version before");
            }
            "" => 1.0,
            "us" if latency => 1.0,
            "ms" if latency => 1e3,
            "s" if latency => 1e6,
            "KiB" if *metric == Metric::Memory => 1024.0,
            "MiB" if *metric == Metric::Memory => 1024.0 * 1024.0,
            "GiB" if *metric == Metric::Memory => 1024.0 * 1024.0 * 1024.0,
            _ => return fail("this unit does not fit the metric: `%`, `x`, `us`, `ms`, `s`, `KiB`, `MiB` and `GiB` are known"),
        };
        Ok(Threshold::Value(number * factor))
    }

    fn breach(&mut self) -> Result<Breach, SyntaxError> {
        if self.at_end() {
            return Ok(Breach::default());
        }
        let start = self.at;
        let word = self.word();
        self.skip_space();
        match (word, self.word()) {
            ("else", "pause") => Ok(Breach::Pause),
            ("else", "abort") => Ok(Breach::Abort),
            _ => Err(SyntaxError::new(self.text, start, "expected `else pause`, `else abort` or the end")),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ErrorRate => "error_rate",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::SelfTest => "self_test",
            Self::Drift => "drift",
            Self::Memory => "memory",
            Self::Custom(name) => return write!(f, "custom.{name}"),
        })
    }
}

/// The canonical text: it parses to the same gate.
impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comparison = match self.comparison {
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::Greater => ">",
            Comparison::AtLeast => ">=",
            Comparison::Equal => "=",
        };
        write!(f, "{}{comparison}", self.metric)?;
        match (self.threshold, &self.metric) {
            (Threshold::Pass, _) => f.write_str("pass")?,
            (Threshold::Ratio(ratio), _) => write!(f, "{ratio}x")?,
            (Threshold::Value(us), Metric::P50 | Metric::P95 | Metric::P99) => write!(f, "{us}us")?,
            (Threshold::Value(value), _) => write!(f, "{value}")?,
        }
        if self.breach == Breach::Pause { f.write_str(" else pause") } else { Ok(()) }
    }
}
impl From<Gate> for String {
    fn from(gate: Gate) -> String {
        gate.to_string()
    }
}
impl TryFrom<String> for Gate {
    type Error = SyntaxError;
    fn try_from(text: String) -> Result<Self, SyntaxError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gate(text: &str) -> Gate {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn gates_read_as_people_write_them() {
        assert_eq!(gate("error_rate<1%").threshold, Threshold::Value(0.01));
        assert_eq!(gate("p95 < 1.2x").threshold, Threshold::Ratio(1.2));
        assert_eq!(gate("p99<=250ms").threshold, Threshold::Value(250_000.0));
        assert_eq!(gate("memory<200MiB").threshold, Threshold::Value(209_715_200.0));
        assert_eq!(gate("self_test=pass").threshold, Threshold::Pass);
        assert_eq!(gate("custom.yield>=0.9 else pause").breach, Breach::Pause);
        for text in ["error_rate<0.01", "p95<1.2x", "p99<=250000us", "self_test=pass", "custom.a.b>3 else pause"] {
            assert_eq!(gate(text).to_string(), text);
        }
    }

    #[test]
    fn an_error_shows_where_and_what_to_do() {
        let column = |text: &str| text.parse::<Gate>().unwrap_err().column();
        assert_eq!(column("eror_rate<1%"), 1);
        assert_eq!(column("error_rate!1%"), 11);
        assert_eq!(column("p95<fast"), 5);
        assert_eq!(column("p95<10"), 5);
        assert_eq!(column("self_test=fail"), 11);
        assert_eq!(column("p95<1.2x or so"), 10);
        assert_eq!(column("error_rate<5ms"), 12);
    }

    #[test]
    fn a_gate_judges_only_what_is_known() {
        let relative = gate("p95<1.2x");
        assert_eq!(relative.judge(Some(110.0), Some(100.0)), Verdict::Holds);
        assert_eq!(relative.judge(Some(130.0), Some(100.0)), Verdict::Fails);
        assert_eq!(relative.judge(Some(130.0), None), Verdict::Unknown);
        assert_eq!(gate("error_rate<1%").judge(None, None), Verdict::Unknown);
        assert_eq!(gate("error_rate<1%").judge(Some(f64::NAN), None), Verdict::Fails);
        assert_eq!(gate("self_test=pass").judge(Some(0.0), None), Verdict::Fails);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in "(error_rate|p95|custom\\.a|memory|\\PC{0,9})[<>=! ]{0,3}[0-9.]{0,5}(%|x|ms|MiB)?\\PC{0,12}") {
            if let Ok(gate) = text.parse::<Gate>() {
                prop_assert_eq!(gate.to_string().parse::<Gate>().unwrap(), gate);
            }
        }
    }
}
