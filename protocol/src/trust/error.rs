//! Why metadata or a target was not believed, and what to do about it.

use super::Expires;

/// Why metadata or a target was not believed. What was trusted before stays trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// More bytes than the file may have.
    #[error("{file} is larger than the {max} bytes it may have; the repository or something before it sends endless data")]
    TooLarge {
        /// Which file.
        file: String,
        /// Its limit.
        max: u64,
    },
    /// Not metadata of the role that was asked for.
    #[error("{file} is not valid metadata: {why}; sign and publish it again")]
    Malformed {
        /// Which file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Too few valid signatures by distinct keys.
    #[error("{file} has {valid} valid signatures by keys of {delegator}, {threshold} are needed; sign it with the missing keys")]
    Threshold {
        /// Which file.
        file: String,
        /// Who names the keys: root, or a targets role.
        delegator: String,
        /// Valid signatures by distinct keys.
        valid: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// Its time is over: a repository that is not kept, or somebody who withholds newer files.
    #[error(
        "{role} version {version} expired at {expires} and there is no newer one; \
         publish a fresh one, or look for what withholds it from this device"
    )]
    Expired {
        /// Which role.
        role: String,
        /// Its version.
        version: u64,
        /// When it expired.
        expires: Expires,
    },
    /// Older than what is trusted already.
    #[error(
        "the repository offers {role} version {offered}, this device already trusts {trusted}; \
         an older copy is being served, or its keys were stolen and must be rotated"
    )]
    Rollback {
        /// Which role.
        role: String,
        /// Offered.
        offered: u64,
        /// Trusted.
        trusted: u64,
    },
    /// A snapshot that lacks a role which the trusted one has.
    #[error("the new snapshot no longer lists {role}; restore it, or rotate the snapshot key if this is a recovery")]
    RoleGone {
        /// Which role.
        role: String,
    },
    /// Another version than the one that its address or the file above it names.
    #[error("{file} holds version {found} where {wanted} belongs; the repository mixes versions, publish it anew")]
    WrongVersion {
        /// Which file.
        file: String,
        /// In the file.
        found: u64,
        /// Asked for.
        wanted: u64,
    },
    /// Length or hash differ from what the signed file above it says.
    #[error("{file} does not have the {what} that its signed description names; it was altered or cut off on the way")]
    Mismatch {
        /// Which file.
        file: String,
        /// `length`, `sha256`, `sha512`.
        what: &'static str,
    },
    /// No hash that this version can compute.
    #[error("{file} is described without a SHA-256 or SHA-512 hash; sign it with one")]
    NoHash {
        /// Which file.
        file: String,
    },
    /// A role that the snapshot does not list.
    #[error("{role} is delegated to but not listed in the snapshot; publish a snapshot that lists it")]
    NotListed {
        /// Which role.
        role: String,
    },
    /// A file that must be there is not.
    #[error("the repository has no {file}; publish it, or check the repository's address")]
    Missing {
        /// Which file.
        file: String,
    },
    /// More new roots than one refresh takes.
    #[error("more than {max} new roots; they are kept so far, refresh again to go on")]
    TooManyRoots {
        /// The limit.
        max: u32,
    },
    /// More delegations than a search follows.
    #[error("no answer for `{path}` within {max} delegated roles; make the tree of delegations smaller")]
    TooManyDelegations {
        /// The path looked for.
        path: String,
        /// The limit.
        max: usize,
    },
    /// A step before the one that it rests on.
    #[error("there is no trusted {lacks} yet; refresh first")]
    TooEarly {
        /// Which role is missing.
        lacks: &'static str,
    },
}

impl TrustError {
    pub(super) fn malformed(file: &str, why: impl ToString) -> Self {
        Self::Malformed { file: file.into(), why: why.to_string() }
    }
}
