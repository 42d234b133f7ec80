//! What the agent says to the launcher, in the words of systemd's notification socket: so the agent speaks one language with
//! or without a launcher, and the launcher can pass the words on.

/// The key with which an agent on trial says that it is healthy; the value is the trial's id.
pub const HEALTHY: &str = "X_AIDOS_HEALTHY";

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It answers requests.
    Ready,
    /// It is alive.
    Alive,
    /// The trial of this id is healthy.
    Healthy(String),
}

impl Said {
    /// Reads a datagram; what is not known is passed over.
    pub fn read(datagram: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(datagram);
        let line = |line: &str| match line.split_once('=')? {
            ("READY", "1") => Some(Self::Ready),
            ("WATCHDOG", "1") => Some(Self::Alive),
            (HEALTHY, id) => Some(Self::Healthy(id.to_owned())),
            _ => None,
        };
        text.lines().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_read_and_others_passed_over() {
        let said = Said::read(b"READY=1\nSTATUS=well\nWATCHDOG=1\nX_AIDOS_HEALTHY=ab\nWATCHDOG=trigger\n\xff\xfe");
        assert_eq!(said, [Said::Ready, Said::Alive, Said::Healthy("ab".into())]);
    }
}
