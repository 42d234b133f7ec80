//! Why a link is ended and when to come back, in one place, so that every transport and every version says the same.
//!
//! Never reveals whether another tenant's device exists.

use aidos_protocol::frame::{FrameError, Refused, refused::Code};

/// A device that sends what this plane cannot read has to be repaired; it looks again now and then, since the repair may
/// be the plane's.
const BROKEN_RETRY_MS: u64 = 5 * 60 * 1_000;
/// Versions change with an update of either side, which takes hours at best.
const VERSION_RETRY_MS: u64 = 60 * 60 * 1_000;
/// Long enough for a database to fail over, short enough that nobody notices.
const INTERNAL_RETRY_MS: u64 = 5_000;
/// A plane at its limit needs sessions to end, not more handshakes.
const OVERLOADED_RETRY_MS: u64 = 30_000;

fn refused(code: Code, message: impl Into<String>, retry_after_ms: u64) -> Refused {
    Refused { code: code.into(), message: message.into(), retry_after_ms }
}

pub(super) fn revoked() -> Refused {
    refused(Code::Revoked, "this device was revoked; enrol it again with a new join token", 0)
}

pub(super) fn unknown_device() -> Refused {
    // Not 0: a control plane restored from a backup may learn of the device again.
    refused(
        Code::UnknownDevice,
        "this control plane does not know this device; enrol it again with a join token",
        VERSION_RETRY_MS,
    )
}

pub(super) fn replaced() -> Refused {
    refused(Code::Replaced, "a newer session of this device took over", 0)
}

pub(super) fn forbidden(message: impl Into<String>) -> Refused {
    refused(Code::Forbidden, message, BROKEN_RETRY_MS)
}

pub(super) fn malformed(message: impl Into<String>) -> Refused {
    refused(Code::Malformed, message, BROKEN_RETRY_MS)
}

pub(super) fn version(message: impl Into<String>) -> Refused {
    refused(Code::Version, message, VERSION_RETRY_MS)
}

pub(super) fn overloaded() -> Refused {
    refused(Code::Overloaded, "the control plane has as many sessions as it takes", jittered(OVERLOADED_RETRY_MS))
}

pub(super) fn internal() -> Refused {
    refused(Code::Internal, "the control plane could not finish this; its log says why", jittered(INTERNAL_RETRY_MS))
}

/// `within_ms` bounds the time over which the fleet comes back, so that it does not come all at once.
pub(super) fn shutting_down(within_ms: u64) -> Refused {
    refused(Code::ShuttingDown, "the control plane is restarting", jittered(within_ms))
}

/// What a frame that could not be read is answered with.
pub(super) fn frame(error: &FrameError) -> Refused {
    match error {
        FrameError::TooLarge(_) | FrameError::Limit { .. } => refused(Code::TooLarge, error.to_string(), BROKEN_RETRY_MS),
        FrameError::Malformed(_) => malformed(error.to_string()),
        FrameError::Version(_) => version(error.to_string()),
    }
}

/// Between half of `ms` and `ms`, so that devices refused together do not return together; never 0, which means "never".
fn jittered(ms: u64) -> u64 {
    let ms = ms.max(2);
    ms / 2 + rand::random_range(0..=ms / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_refused_together_return_at_different_times_and_never_never() {
        let waits: std::collections::BTreeSet<u64> = (0..50).map(|_| shutting_down(10_000).retry_after_ms).collect();
        assert!(waits.len() > 10 && waits.iter().all(|w| (5_000..=10_000).contains(w)), "{waits:?}");
        assert!(shutting_down(0).retry_after_ms > 0);
    }
}
