//! The selector's parser. It never allocates more than the bounded text it was given, and each error says where and what.

use super::{MAX_LENGTH, MAX_REQUIREMENTS, Requirement, Test};
use crate::label;
use std::collections::BTreeSet;
use std::fmt;

/// A selector with a syntax error: where it is and what was expected there.
///
/// It prints in two lines, the text and below it a caret at the place:
/// ```text
/// site=lab,gpu!none
///              ^ expected `=` after `!`
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError {
    /// The part of the text around the error, without control characters.
    excerpt: String,
    /// Where in the excerpt, in characters from 0.
    caret: usize,
    /// Where in the text, in characters from 1.
    column: usize,
    message: String,
}

impl SelectorError {
    /// How much of the text stands before and after the caret: one line of a terminal.
    const AROUND: usize = 36;

    fn new(text: &str, byte: usize, message: impl Into<String>) -> Self {
        let before = text[..byte].chars().count();
        let skipped = before.saturating_sub(Self::AROUND);
        let chars = text.chars().skip(skipped).take(before - skipped + Self::AROUND);
        let mut excerpt: String = chars.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut caret = before - skipped;
        if skipped > 0 {
            excerpt.insert(0, '…');
            caret += 1;
        }
        if text.chars().nth(before + Self::AROUND).is_some() {
            excerpt.push('…');
        }
        Self { excerpt, caret, column: before + 1, message: message.into() }
    }
    /// Where in the text, in characters from 1.
    pub fn column(&self) -> usize {
        self.column
    }
    /// What was expected there, without the picture.
    pub fn message(&self) -> &str {
        &self.message
    }
}
impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{:caret$}^ {}", self.excerpt, "", self.message, caret = self.caret)
    }
}
impl std::error::Error for SelectorError {}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    if text.len() > MAX_LENGTH {
        let cut = text.floor_char_boundary(MAX_LENGTH);
        return Err(SelectorError::new(&text[..cut], cut, format!("a selector has at most {MAX_LENGTH} bytes")));
    }
    if matches!(text.trim(), "" | "*" | "all") {
        return Ok(Vec::new());
    }
    let mut cursor = Cursor { text, at: 0 };
    let mut requirements = Vec::new();
    loop {
        cursor.skip_space();
        if requirements.len() == MAX_REQUIREMENTS {
            return Err(cursor.error(format!("a selector has at most {MAX_REQUIREMENTS} requirements")));
        }
        requirements.push(cursor.requirement()?);
        cursor.skip_space();
        if cursor.at_end() {
            return Ok(requirements);
        }
        if !cursor.eat(',') {
            return Err(cursor.expected("`,` or the end"));
        }
    }
}

struct Cursor<'a> {
    text: &'a str,
    /// A byte offset, always on a character's border.
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
    fn at_end(&self) -> bool {
        self.rest().is_empty()
    }
    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }
    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }
    /// The longest run of characters that keys, values and words are made of.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c))).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
    fn error(&self, message: impl Into<String>) -> SelectorError {
        SelectorError::new(self.text, self.at, message)
    }
    fn expected(&self, what: &str) -> SelectorError {
        match self.rest().chars().next() {
            Some(found) => self.error(format!("expected {what}, found `{found}`")),
            None => self.error(format!("expected {what}, found the end")),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.eat('!') {
            self.skip_space();
            return Ok(Requirement { key: self.key()?, test: Test::Absent });
        }
        let key = self.key()?;
        self.skip_space();
        let test = self.test(&key)?;
        Ok(Requirement { key, test })
    }

    fn test(&mut self, key: &str) -> Result<Test, SelectorError> {
        if self.at_end() || self.rest().starts_with(',') {
            return Ok(Test::Exists);
        }
        if self.eat('!') {
            if !self.eat('=') {
                return Err(self.error("expected `=` after `!`"));
            }
            return Ok(Test::Differs(self.single_value(key)?));
        }
        if self.eat('=') {
            self.eat('=');
            return Ok(Test::Equals(self.single_value(key)?));
        }
        let start = self.at;
        match self.word() {
            "in" => Ok(Test::In(self.values(key)?)),
            "notin" => Ok(Test::NotIn(self.values(key)?)),
            _ => {
                self.at = start;
                Err(self.expected("`=`, `==`, `!=`, `in`, `notin`, `,` or the end"))
            }
        }
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected("a label key"));
        }
        label::check_key(word).map_err(|error| SelectorError::new(self.text, start, error.to_string()))?;
        Ok(word.to_owned())
    }

    fn value(&mut self, key: &str) -> Result<String, SelectorError> {
        self.skip_space();
        let start = self.at;
        let word = self.word();
        label::check_value(key, word).map_err(|error| SelectorError::new(self.text, start, error.to_string()))?;
        Ok(word.to_owned())
    }

    fn single_value(&mut self, key: &str) -> Result<String, SelectorError> {
        let value = self.value(key)?;
        self.skip_space();
        if self.at_end() || self.rest().starts_with(',') { Ok(value) } else { Err(self.expected("a value, `,` or the end")) }
    }

    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, SelectorError> {
        self.skip_space();
        if !self.eat('(') {
            return Err(self.expected("`(`"));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value(key)?);
            self.skip_space();
            if self.eat(')') {
                return Ok(values);
            }
            if !self.eat(',') {
                return Err(self.expected("`,` or `)`"));
            }
        }
    }
}
