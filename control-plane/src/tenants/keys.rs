//! The text of an API key: `aidos_`, 32 random characters, and a checksum of six, all of `0-9 A-Z a-z`; and secrets that nobody types.
//!
//! 32 characters hold 190 random bits, so a plain SHA-256 is enough to store. The checksum lets anyone (also a scanner of
//! leaked secrets) tell a key from a typo without asking the database.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// What every key begins with.
pub(crate) const PREFIX: &str = "aidos_";
const RANDOM: usize = 32;
const CHECKSUM: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text of a key. It is shown once and then exists with its owner only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyText(String);

/// A text that cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not an API key: it should begin with `aidos_` and be 44 characters long; see that it was copied whole")]
pub(crate) struct KeyFormatError;

impl KeyText {
    /// A new key.
    pub(crate) fn generate() -> Self {
        let body = random_text();
        Self(format!("{PREFIX}{body}{}", checksum(&body)))
    }

    /// What is stored.
    pub(crate) fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }

    /// Its first characters, for people to recognise it by; too few to guess the rest.
    pub(crate) fn hint(&self) -> String {
        format!("{}…", &self.0[..PREFIX.len() + 4])
    }

    /// The whole text: only for the one answer or file that shows it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyText {
    type Err = KeyFormatError;
    fn from_str(text: &str) -> Result<Self, KeyFormatError> {
        let rest = text.strip_prefix(PREFIX).ok_or(KeyFormatError)?;
        if rest.len() != RANDOM + CHECKSUM || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(KeyFormatError);
        }
        let (body, sum) = rest.split_at(RANDOM);
        if checksum(body) == sum { Ok(Self(text.to_owned())) } else { Err(KeyFormatError) }
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hint())
    }
}

/// What a session or a login link is known by: as hard to guess as a key, and only ever copied by programs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

/// A text that cannot be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a secret of ours")]
pub(super) struct SecretFormatError;

impl Secret {
    /// A new one.
    pub(super) fn generate() -> Self {
        Self(random_text())
    }

    /// What is stored.
    pub(super) fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }

    /// The whole text: only for the cookie or link that carries it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = SecretFormatError;
    fn from_str(text: &str) -> Result<Self, SecretFormatError> {
        let fits = text.len() == RANDOM && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if fits { Ok(Self(text.to_owned())) } else { Err(SecretFormatError) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

fn random_text() -> String {
    (0..RANDOM).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

/// CRC-32 of `body` in six digits to the base 62.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_a_typo_in_it_is_noticed() {
        let key = KeyText::generate();
        assert_eq!(key.reveal().len(), 44);
        assert_eq!(key.reveal().parse::<KeyText>().unwrap().hash(), key.hash());
        let mut typo = key.reveal().to_owned().into_bytes();
        for at in PREFIX.len()..typo.len() {
            let kept = typo[at];
            typo[at] = if kept == b'x' { b'y' } else { b'x' };
            assert_eq!(std::str::from_utf8(&typo).unwrap().parse::<KeyText>(), Err(KeyFormatError), "character {at}");
            typo[at] = kept;
        }
        for bad in ["", "aidos_", "ghp_0000", &key.reveal()[..43], &format!("{}0", key.reveal()), "aidos_ü"] {
            assert!(bad.parse::<KeyText>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_in_a_log_shows_its_hint_only() {
        let key = KeyText::generate();
        assert!(!format!("{key:?}").contains(&key.reveal()[12..]));
    }
}
