//! Labels of devices and models: what a key and a value may be. One rule for the command line, the API, the twin and selectors.
//!
//! The rule is Kubernetes', so that labels travel between the two without translation. Nothing here changes a label: it is
//! valid or it is refused.

use std::fmt;

/// The longest name part of a key, and the longest value, in bytes.
pub const MAX_PART: usize = 63;
/// The longest prefix of a key (`example.com` in `example.com/site`), in bytes: a DNS name's limit.
pub const MAX_PREFIX: usize = 253;
/// How many labels one thing may carry. Labels are for selecting; whatever needs more belongs in notes.
pub const MAX_LABELS: usize = 64;

/// A label that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The key breaks the rule.
    #[error(
        "`{0}` is not a label key: use 1 to 63 letters, digits, `-`, `_` or `.`, beginning and ending with a letter or digit; \
         a prefix such as `example.com/` may stand before it"
    )]
    Key(Shortened),
    /// The value breaks the rule.
    #[error(
        "`{value}` is not a value for label `{key}`: use up to 63 letters, digits, `-`, `_` or `.`, beginning and ending with \
         a letter or digit; it may be empty"
    )]
    Value {
        /// The key, which is valid.
        key: Shortened,
        /// The refused value.
        value: Shortened,
    },
    /// There are too many.
    #[error("{0} labels: at most {MAX_LABELS} are kept; put what is not selected by into notes")]
    TooMany(usize),
    /// Not `key=value`.
    #[error("`{0}` is not a label: write `key=value`")]
    Pair(Shortened),
}

/// Text from outside, cut to what a message can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortened(String);

impl Shortened {
    /// Room for any valid key and a bit more.
    const CHARS: usize = 80;
}
impl From<&str> for Shortened {
    fn from(text: &str) -> Self {
        let mut short: String = text.chars().take(Self::CHARS).map(|c| if c.is_control() { '·' } else { c }).collect();
        if text.chars().nth(Self::CHARS).is_some() {
            short.push('…');
        }
        Self(short)
    }
}
impl fmt::Display for Shortened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Refuses what is not a label key.
pub fn check_key(key: &str) -> Result<(), LabelError> {
    let valid = match key.split_once('/') {
        Some((prefix, name)) => is_prefix(prefix) && is_part(name),
        None => is_part(key),
    };
    if valid { Ok(()) } else { Err(LabelError::Key(key.into())) }
}

/// Refuses what is not a value; `key` is for the message.
pub fn check_value(key: &str, value: &str) -> Result<(), LabelError> {
    if value.is_empty() || is_part(value) { Ok(()) } else { Err(LabelError::Value { key: key.into(), value: value.into() }) }
}

/// Refuses a set of labels in which any is invalid, or that is too large.
pub fn check_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<(), LabelError> {
    let mut count = 0;
    for (key, value) in labels {
        check_key(key)?;
        check_value(key, value)?;
        count += 1;
    }
    if count > MAX_LABELS { Err(LabelError::TooMany(count)) } else { Ok(()) }
}

/// Reads `key=value`, as it is typed on a command line.
pub fn parse_pair(text: &str) -> Result<(String, String), LabelError> {
    let (key, value) = text.split_once('=').ok_or_else(|| LabelError::Pair(text.into()))?;
    check_key(key)?;
    check_value(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

fn is_part(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_PART
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_prefix(text: &str) -> bool {
    let segment = |s: &str| {
        let bytes = s.as_bytes();
        let edge = |byte: Option<&u8>| byte.is_some_and(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'));
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    text.len() <= MAX_PREFIX && text.split('.').all(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_rule_of_kubernetes() {
        for good in ["site", "a", "GPU.model_2", "example.com/site", "x-1.y/z"] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "-a", "a-", "a b", "é", "/a", "a/", "A.com/x", "a/b/c", "a..b/x", "a,b", long.as_str()] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_may_be_empty_but_not_odd() {
        assert_eq!(check_value("site", ""), Ok(()));
        assert!(check_value("site", "a b").unwrap_err().to_string().contains("label `site`"));
        assert!(check_value("site", &"x".repeat(64)).is_err());
    }

    #[test]
    fn a_pair_is_split_at_the_first_equals_sign() {
        assert_eq!(parse_pair("site=lab"), Ok(("site".into(), "lab".into())));
        assert_eq!(parse_pair("site="), Ok(("site".into(), String::new())));
        assert!(parse_pair("site").unwrap_err().to_string().contains("key=value"));
        assert!(parse_pair("a=b=c").is_err());
    }

    #[test]
    fn a_hostile_text_is_cut_in_the_message() {
        let message = check_key(&"\n".repeat(10_000)).unwrap_err().to_string();
        assert!(message.len() < 500 && !message.contains('\n'));
    }
}
