//! How the link's connection fares: its round trip and its bytes, to be read at any time.
//!
//! It only tells. Nothing here decides anything, and whoever reads it never waits for the session.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What has gone over the link since its loop began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The newest round trip to the control plane; `None` before one was measured on the present connection.
    pub round_trip: Option<Duration>,
    /// Bytes towards the control plane: of datagrams over QUIC, of frames over MQTT.
    pub sent: u64,
    /// Bytes from the control plane, counted alike.
    pub received: u64,
}

/// A transport's own reading of one connection. Cheap, and still answered when the connection is lost.
pub type Gauge = Box<dyn Fn() -> Traffic + Send + Sync>;

/// The figures of the connection that carries the session. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Meter(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Of the connections before the present one.
    past: Traffic,
    present: Option<Present>,
}

enum Present {
    /// The transport measures.
    Gauge(Gauge),
    /// The session counts its frames and times its pings.
    Counted(Traffic),
}

impl Present {
    fn traffic(&self) -> Traffic {
        match self {
            Self::Gauge(gauge) => gauge(),
            Self::Counted(traffic) => *traffic,
        }
    }
}

/// A connection is being measured until this is dropped.
pub(super) struct Measuring(Meter);

impl Drop for Measuring {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(present) = state.present.take() {
            state.past = Traffic { round_trip: None, ..state.past.and(present.traffic()) };
        }
    }
}

impl Meter {
    /// Begins with a new connection: what its transport measures itself, or else what is told here.
    pub(super) fn begin(&self, gauge: Option<Gauge>) -> Measuring {
        self.state().present = Some(gauge.map_or(Present::Counted(Traffic::default()), Present::Gauge));
        Measuring(self.clone())
    }

    /// A frame of so many bytes was handed over.
    pub(super) fn sent(&self, bytes: usize) {
        self.count(|traffic| traffic.sent += bytes as u64);
    }

    /// A frame of so many bytes came.
    pub(super) fn received(&self, bytes: usize) {
        self.count(|traffic| traffic.received += bytes as u64);
    }

    /// A ping was answered after this long.
    pub(super) fn round_trip(&self, took: Duration) {
        self.count(|traffic| traffic.round_trip = Some(took));
    }

    /// What has gone over the link; `None` while there is no connection.
    pub(super) fn read(&self) -> Option<Traffic> {
        let state = self.state();
        state.present.as_ref().map(|present| state.past.and(present.traffic()))
    }

    fn count(&self, change: impl FnOnce(&mut Traffic)) {
        if let Some(Present::Counted(traffic)) = &mut self.state().present {
            change(traffic);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Traffic {
    /// The bytes of both, and the round trip of the later one.
    fn and(self, later: Self) -> Self {
        let Self { round_trip, sent, received } = later;
        Self { round_trip, sent: self.sent + sent, received: self.received + received }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.read()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_add_up_over_connections_and_a_round_trip_is_that_of_the_present_one() {
        let meter = Meter::default();
        assert_eq!(meter.read(), None);
        meter.sent(7);
        let first = meter.begin(None);
        meter.sent(100);
        meter.received(10);
        assert_eq!(meter.read(), Some(Traffic { round_trip: None, sent: 100, received: 10 }));
        meter.round_trip(Duration::from_millis(3));
        assert_eq!(meter.read().unwrap().round_trip, Some(Duration::from_millis(3)));
        drop(first);
        assert_eq!(meter.read(), None, "without a connection there is no reading");
        let _second = meter.begin(None);
        assert_eq!(meter.read(), Some(Traffic { round_trip: None, sent: 100, received: 10 }));
    }

    #[test]
    fn a_transport_that_measures_itself_is_believed_alone() {
        let meter = Meter::default();
        let own = Traffic { round_trip: Some(Duration::from_millis(9)), sent: 1_500, received: 800 };
        let measuring = meter.begin(Some(Box::new(move || own)));
        meter.sent(100);
        meter.round_trip(Duration::from_millis(1));
        assert_eq!(meter.read(), Some(own));
        drop(measuring);
        let _counted = meter.begin(None);
        assert_eq!(meter.read(), Some(Traffic { round_trip: None, ..own }));
    }
}
