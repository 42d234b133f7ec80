//! Who wrote a change of an intent document, in the few bytes that stand in each change as its automerge actor.
//!
//! An author never writes from two places at once: the plane serialises a document's edits, a device is the only one that
//! writes as its site's people, and what the plane replays for them it writes under [`Author::Replayed`].

use crate::{ApiKeyId, DeviceId};
use automerge::ActorId;
use std::fmt;

/// The author of a change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Author {
    /// The first change of an epoch, the same bytes for every device.
    Genesis {
        /// The epoch that it begins.
        epoch: u32,
    },
    /// The control plane itself: enrolment, deployments, compaction.
    System,
    /// A person or program with an API key.
    Key(ApiKeyId),
    /// A person at the device, through its admin socket.
    Site {
        /// The device.
        device: DeviceId,
        /// Begun anew whenever a change was refused, since the refused one's place in the actor's sequence is lost.
        run: u32,
        /// The operating system's user name.
        user: String,
    },
    /// The plane, carrying a site edit that was made on an old epoch over to the present one.
    Replayed {
        /// The device.
        device: DeviceId,
        /// The operating system's user name.
        user: String,
    },
}

/// The longest user name an author may have, in bytes: Linux allows 32, directory services more.
pub const MAX_USER_BYTES: usize = 64;

impl Author {
    /// The automerge actor: one byte of kind, then what names the author.
    pub fn actor(&self) -> ActorId {
        let mut bytes = Vec::with_capacity(24);
        match self {
            Self::Genesis { epoch } => {
                bytes.push(0);
                bytes.extend(epoch.to_be_bytes());
            }
            Self::System => bytes.push(1),
            Self::Key(key) => {
                bytes.push(2);
                bytes.extend(key.as_bytes());
            }
            Self::Site { device, run, user } => {
                bytes.push(3);
                bytes.extend(device.as_bytes());
                bytes.extend(run.to_be_bytes());
                bytes.extend(user.as_bytes());
            }
            Self::Replayed { device, user } => {
                bytes.push(4);
                bytes.extend(device.as_bytes());
                bytes.extend(user.as_bytes());
            }
        }
        ActorId::from(bytes)
    }

    /// Reads an actor; `None` for one that no version up to this one writes.
    pub fn of(actor: &ActorId) -> Option<Self> {
        let (kind, rest) = actor.to_bytes().split_first()?;
        let user = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?;
            valid_user(text).then(|| text.to_owned())
        };
        match kind {
            0 => Some(Self::Genesis { epoch: u32::from_be_bytes(rest.try_into().ok()?) }),
            1 => rest.is_empty().then_some(Self::System),
            2 => Some(Self::Key(ApiKeyId::from_bytes(rest.try_into().ok()?))),
            3 => {
                let (device, rest) = rest.split_first_chunk::<16>()?;
                let (run, name) = rest.split_first_chunk::<4>()?;
                let run = u32::from_be_bytes(*run);
                Some(Self::Site { device: DeviceId::from_bytes(*device), run, user: user(name)? })
            }
            4 => {
                let (device, name) = rest.split_first_chunk::<16>()?;
                Some(Self::Replayed { device: DeviceId::from_bytes(*device), user: user(name)? })
            }
            _ => None,
        }
    }

    /// The author behind the name that the control plane gives an actor: `key:<id>`; anything else is the plane itself.
    pub fn of_plane(name: &str) -> Self {
        name.strip_prefix("key:").and_then(|id| id.parse().ok()).map_or(Self::System, Self::Key)
    }
}

/// As people read it: `key:key_…`, `system`, `site:alice`.
impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Genesis { .. } => f.write_str("genesis"),
            Self::System => f.write_str("system"),
            Self::Key(key) => write!(f, "key:{key}"),
            Self::Site { user, .. } | Self::Replayed { user, .. } => write!(f, "site:{user}"),
        }
    }
}

/// Whether `user` may stand in an author: 1 to [`MAX_USER_BYTES`] bytes of visible text without `:`.
pub fn valid_user(user: &str) -> bool {
    (1..=MAX_USER_BYTES).contains(&user.len()) && user.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_author_reads_back_from_its_actor() {
        let device = DeviceId::new(1);
        for author in [
            Author::Genesis { epoch: 7 },
            Author::System,
            Author::Key(ApiKeyId::new(2)),
            Author::Site { device, run: 3, user: "alice".into() },
            Author::Replayed { device, user: "bob".into() },
        ] {
            assert_eq!(Author::of(&author.actor()), Some(author));
        }
    }

    #[test]
    fn a_foreign_actor_is_no_author() {
        for bytes in [&b""[..], b"\x09", b"\x02short", b"\x01extra", b"\x03aaaaaaaaaaaaaaaa\0\0\0\0"] {
            assert_eq!(Author::of(&ActorId::from(bytes)), None);
        }
    }

    #[test]
    fn the_planes_names_become_authors() {
        let key = ApiKeyId::new(9);
        assert_eq!(Author::of_plane(&format!("key:{key}")), Author::Key(key));
        assert_eq!(Author::of_plane("system"), Author::System);
    }
}
