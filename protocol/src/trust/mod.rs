//! Which files may be believed: TUF 1.0 metadata, the client workflow that verifies it, and the signing of it.
//!
//! Nothing here opens a connection or a file or asks a clock: `now` comes in, bytes come in, and what was accepted goes out
//! to be stored. Whoever drives it fetches what [`Refresh::want`] and [`Search::step`] name, never more bytes than they allow,
//! gives the answer back, and stores [`Trusted::files`] in one transaction before it goes on.
//!
//! The order of a refresh, which is the specification's (5.3 to 5.6):
//! 1. roots one by one, each signed by the one before it and by itself, until the repository has no next one;
//! 2. the timestamp: never older than the one known;
//! 3. the snapshot that it names, by version and hash: no role in it older than known, none gone;
//! 4. the targets that the snapshot names; then, for one path, the delegations that lead to it.
//!
//! A role whose key a new root takes away loses its remembered versions, which is how a repository recovers after a stolen
//! key has signed absurdly high ones.

mod canonical;
mod envelope;
mod error;
mod key;
mod metadata;
mod model;
mod pattern;
mod refresh;
mod release;
mod search;
mod sign;
mod target;
#[cfg(test)]
mod tests;
mod time;
mod trusted;
mod vouch;

pub use canonical::{CanonicalError, canonical};
pub use envelope::{Envelope, Signature};
pub use error::TrustError;
pub use key::{Key, KeyId, KeyValue};
pub use metadata::{
    DelegatedRole, Delegations, MetaFile, Metadata, Role, Root, RootRoles, SPEC_VERSION, Snapshot, Targets, Timestamp,
};
pub use model::ModelTarget;
pub use refresh::{Answer, Refresh, Want};
pub use release::ReleaseTarget;
pub use search::{Found, Search, Step};
pub use sign::{SigningError, SigningKey, add_signature, sign};
pub use target::{Target, TargetCheck, quote};
pub use time::{Expires, ExpiresError, trusted_now};
pub use trusted::Trusted;
pub use vouch::{Refusal, Wanted};

/// The largest root: a root with 100 keys takes 40 KB.
pub const MAX_ROOT_BYTES: u64 = 512 << 10;
/// The largest timestamp: it names one file.
pub const MAX_TIMESTAMP_BYTES: u64 = 16 << 10;
/// The largest snapshot, unless the timestamp names its length: some 20,000 roles.
pub const MAX_SNAPSHOT_BYTES: u64 = 2 << 20;
/// The largest targets file, unless the snapshot names its length: some 10,000 targets with custom fields. A device's memory
/// is what bounds it.
pub const MAX_TARGETS_BYTES: u64 = 5 << 20;
/// New roots that one refresh takes: a root a month for twenty years. The next refresh goes on from there.
pub const MAX_NEW_ROOTS: u32 = 256;
/// Roles that a search for one target looks into, so that a deep or wide tree of delegations ends.
pub const MAX_DELEGATIONS: usize = 32;
