//! One kind of data that is read from a port, sent, and acknowledged: at most one frame of it is in flight. Pure.

use std::time::Duration;

/// An acknowledgement follows one write to the plane's store. After this long the plane, or a broker between, has lost the frame;
/// it is also how soon a busy device notices that its link is silent.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);

/// One kind of data that is read from a port, sent, and acknowledged.
#[derive(Debug)]
pub(super) struct Flow<T> {
    flight: Flight<T>,
    /// There may be more to read once this flight has landed.
    more: bool,
}

#[derive(Debug)]
enum Flight<T> {
    None,
    Reading,
    Sent { what: T, deadline: Duration },
}

impl<T> Flow<T> {
    pub(super) fn new() -> Self {
        Self { flight: Flight::None, more: false }
    }
    /// Whether the port is to be read now; otherwise that is made up for later.
    pub(super) fn wants_read(&mut self) -> bool {
        let idle = matches!(self.flight, Flight::None);
        if idle {
            self.flight = Flight::Reading;
        }
        self.more = !idle;
        idle
    }
    /// The port had nothing. Says whether to read it again, since news came meanwhile.
    pub(super) fn nothing(&mut self) -> bool {
        self.flight = Flight::None;
        self.more && self.wants_read()
    }
    pub(super) fn sent(&mut self, what: T, now: Duration) {
        self.flight = Flight::Sent { what, deadline: now + ACK_TIMEOUT };
    }
    pub(super) fn in_flight(&self) -> Option<&T> {
        match &self.flight {
            Flight::Sent { what, .. } => Some(what),
            _ => None,
        }
    }
    pub(super) fn deadline(&self) -> Option<Duration> {
        match &self.flight {
            Flight::Sent { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }
    /// Acknowledged: the port is read for what follows.
    pub(super) fn landed(&mut self) {
        self.flight = Flight::Reading;
        self.more = false;
    }
}
