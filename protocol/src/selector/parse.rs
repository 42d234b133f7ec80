//! The selector's parser. It never allocates more than the bounded text it was given, and each error says where and what.

use super::{MAX_LENGTH, MAX_REQUIREMENTS, Requirement, Test};
use crate::label;
use crate::syntax::{Cursor, SyntaxError};
use std::collections::BTreeSet;

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SyntaxError> {
    if text.len() > MAX_LENGTH {
        let cut = text.floor_char_boundary(MAX_LENGTH);
        return Err(SyntaxError::new(&text[..cut], cut, format!("a selector has at most {MAX_LENGTH} bytes")));
    }
    if matches!(text.trim(), "" | "*" | "all") {
        return Ok(Vec::new());
    }
    let mut cursor = Cursor::new(text);
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

impl Cursor<'_> {
    fn requirement(&mut self) -> Result<Requirement, SyntaxError> {
        if self.eat('!') {
            self.skip_space();
            return Ok(Requirement { key: self.key()?, test: Test::Absent });
        }
        let key = self.key()?;
        self.skip_space();
        let test = self.test(&key)?;
        Ok(Requirement { key, test })
    }

    fn test(&mut self, key: &str) -> Result<Test, SyntaxError> {
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

    fn key(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected("a label key"));
        }
        label::check_key(word).map_err(|error| SyntaxError::new(self.text, start, error.to_string()))?;
        Ok(word.to_owned())
    }

    fn value(&mut self, key: &str) -> Result<String, SyntaxError> {
        self.skip_space();
        let start = self.at;
        let word = self.word();
        label::check_value(key, word).map_err(|error| SyntaxError::new(self.text, start, error.to_string()))?;
        Ok(word.to_owned())
    }

    fn single_value(&mut self, key: &str) -> Result<String, SyntaxError> {
        let value = self.value(key)?;
        self.skip_space();
        if self.at_end() || self.rest().starts_with(',') { Ok(value) } else { Err(self.expected("a value, `,` or the end")) }
    }

    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, SyntaxError> {
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
