//! Small texts that people write (selectors, gates, waves, windows): a cursor over them, and errors that show the place.
//!
//! Nothing here allocates more than the text it was given; bounding the text is the caller's work.

use std::fmt;

/// A text with a syntax error: where it is and what was expected there.
///
/// It prints in two lines, the text and below it a caret at the place:
/// ```text
/// site=lab,gpu!none
///              ^ expected `=` after `!`
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// The part of the text around the error, without control characters.
    excerpt: String,
    /// Where in the excerpt, in characters from 0.
    caret: usize,
    /// Where in the text, in characters from 1.
    column: usize,
    message: String,
}

impl SyntaxError {
    /// How much of the text stands before and after the caret: one line of a terminal.
    const AROUND: usize = 36;

    pub(crate) fn new(text: &str, byte: usize, message: impl Into<String>) -> Self {
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
impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{:caret$}^ {}", self.excerpt, "", self.message, caret = self.caret)
    }
}
impl std::error::Error for SyntaxError {}

/// Reads a text from left to right.
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a str,
    /// A byte offset, always on a character's border.
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }
    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
    pub(crate) fn at_end(&self) -> bool {
        self.rest().is_empty()
    }
    pub(crate) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }
    /// Reads `wanted` if it is next.
    pub(crate) fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }
    /// Reads the longest run of characters that keys, values and words are made of.
    pub(crate) fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c))).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
    pub(crate) fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.text, self.at, message)
    }
    pub(crate) fn expected(&self, what: &str) -> SyntaxError {
        match self.rest().chars().next() {
            Some(found) => self.error(format!("expected {what}, found `{found}`")),
            None => self.error(format!("expected {what}, found the end")),
        }
    }
}
