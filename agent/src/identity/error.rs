//! What can go wrong with an identity, each with what to do about it.

use aidos_protocol::{DeviceId, TenantId};
use std::path::{Path, PathBuf};

/// The identity on this device cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file or folder refused.
    #[error("{}: {source}; check that the disk has space and that this user owns the folder", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged ({detail}); restore it, or join again with `aidos-agent join … --force`", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A certificate is not this device's, not the deployment's, or not a certificate.
    #[error("certificate not accepted: {0}")]
    Certificate(String),
    /// Key, signature or TLS settings failed.
    #[error("cryptography failed: {0}")]
    Crypto(String),
}

impl IdentityError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
    pub(super) fn damaged(path: &Path, detail: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), detail: detail.to_string() }
    }
}

/// Why a device could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has an identity.
    #[error("this device already is {device} of {tenant} at {url}; to join anew as another device, add --force")]
    AlreadyJoined {
        /// Which device.
        device: DeviceId,
        /// Whose.
        tenant: TenantId,
        /// Of which control plane.
        url: String,
    },
    /// Another process is joining with the same data folder.
    #[error("another join is running on {}; wait for it to end", .0.display())]
    Busy(PathBuf),
    /// The text is not a token.
    #[error(transparent)]
    Malformed(#[from] aidos_protocol::enrol::TokenFormatError),
    /// The address is not one.
    #[error("`{url}` is not an address of a control plane: {detail}; write it as https://host:7070")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// http to another machine.
    #[error("{0} is not encrypted; use https, or add --insecure-http if the network between is trusted")]
    PlainHttp(String),
    /// No connection, no answer, or not an answer of a control plane.
    #[error("{url} could not be reached: {detail}; check the address, that the control plane runs, and the firewall")]
    Unreachable {
        /// As given.
        url: String,
        /// What the network said.
        detail: String,
    },
    /// The CA's fingerprint is not the one in the token.
    #[error(
        "{url} is not the control plane that made this token: its CA is {found}, the token is for {expected}; check the \
         address, and if it is right make a new token there with `aidos token create`"
    )]
    WrongPin {
        /// As given.
        url: String,
        /// Hexadecimal SHA-256 of the CA that answered.
        found: String,
        /// The same, in the token.
        expected: String,
    },
    /// All its uses are gone.
    #[error("this token is used up: all its uses are spent; make another with `aidos token create --uses N`")]
    UsedUp,
    /// Its time is over.
    #[error("this token has expired; make another with `aidos token create --ttl 1h`")]
    Expired,
    /// The control plane does not know it.
    #[error("the control plane does not know this token: it was deleted, or made elsewhere; make one with `aidos token create`")]
    Foreign,
    /// Any other refusal.
    #[error("the control plane refused (HTTP {status}): {detail}")]
    Refused {
        /// The status code.
        status: u16,
        /// What it said.
        detail: String,
    },
    /// The answer does not fit what was asked.
    #[error("the control plane's answer cannot be used: {0}; its version may not fit this agent's")]
    BadAnswer(String),
    /// This side failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Why a certificate was not renewed. It is tried again by itself.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// No connection or no usable answer.
    #[error("the control plane could not be reached for renewal: {0}")]
    Unreachable(String),
    /// It said no.
    #[error(
        "the control plane does not renew this certificate: {0}; if the device was not revoked on purpose, join again with --force"
    )]
    Refused(String),
    /// This side failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}
