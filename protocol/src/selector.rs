//! Label selectors as kubectl writes them: which devices are meant.
//!
//! ```text
//! selector    = "" | "*" | "all" | requirement { "," requirement }
//! requirement = key | "!" key | key ("=" | "==" | "!=") value | key ("in" | "notin") "(" value { "," value } ")"
//! ```
//! All requirements must hold. As in kubectl, `!=` and `notin` also match what does not carry the key at all.
//! Text is bounded before it is parsed; a selector that parsed holds only valid keys and values.

mod parse;

pub use crate::syntax::SyntaxError as SelectorError;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, str::FromStr};

/// The longest selector, in bytes; it is part of URLs and of one SQL statement.
pub const MAX_LENGTH: usize = 1_024;
/// The most requirements of one selector; each is one subquery.
pub const MAX_REQUIREMENTS: usize = 32;

/// Which things, by their labels. The empty selector means everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Selector(Vec<Requirement>);

/// One condition on the label `key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key; valid.
    pub key: String,
    /// What must hold for it.
    pub test: Test,
}

/// What must hold for a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// It is there.
    Exists,
    /// It is not there.
    Absent,
    /// It is there with this value.
    Equals(String),
    /// It is not there, or has another value.
    Differs(String),
    /// It is there with one of these values.
    In(BTreeSet<String>),
    /// It is not there, or has none of these values.
    NotIn(BTreeSet<String>),
}

impl Selector {
    /// The selector that matches everything.
    pub fn everything() -> Self {
        Self(Vec::new())
    }
    /// Whether it matches everything.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
    /// What must hold; all of it.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }
    /// Whether something with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels.get(&requirement.key).map(String::as_str)))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Equals(wanted) => value == Some(wanted),
            Test::Differs(unwanted) => value != Some(unwanted),
            Test::In(wanted) => value.is_some_and(|v| wanted.contains(v)),
            Test::NotIn(unwanted) => value.is_none_or(|v| !unwanted.contains(v)),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text).map(Self)
    }
}

/// The canonical text: it parses to the same selector.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("*");
        }
        for (index, requirement) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let set = |f: &mut fmt::Formatter<'_>, word: &str, values: &BTreeSet<String>| {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            write!(f, "{key} {word} ({})", values.join(","))
        };
        match &self.test {
            Test::Exists => f.write_str(key),
            Test::Absent => write!(f, "!{key}"),
            Test::Equals(value) => write!(f, "{key}={value}"),
            Test::Differs(value) => write!(f, "{key}!={value}"),
            Test::In(values) => set(f, "in", values),
            Test::NotIn(values) => set(f, "notin", values),
        }
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.to_string()
    }
}
impl TryFrom<String> for Selector {
    type Error = SelectorError;
    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}
impl utoipa::PartialSchema for Selector {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A label selector as in kubectl; `*` means everything"))
            .max_length(Some(MAX_LENGTH))
            .examples([serde_json::json!("site=lab,gpu!=none")])
            .build()
            .into()
    }
}
impl utoipa::ToSchema for Selector {}

#[cfg(test)]
mod tests;
