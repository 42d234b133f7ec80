//! Who is being served: a few neighbours at a time, each until it has all it came for. Pure.
//!
//! A neighbour takes a file in many requests; one that has begun keeps its seat between them, since a file that comes from one
//! neighbour can be judged as that neighbour's, and half-served ones help nobody.

use aidos_protocol::DeviceId;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a seat is kept for a neighbour that is between two requests: writing a piece to a slow card.
const KEPT: Duration = Duration::from_secs(2);

/// The seats.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    taken: BTreeMap<DeviceId, Seat>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seat {
    requests: usize,
    until: Duration,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: BTreeMap::new() }
    }

    /// Takes or keeps a seat for one request, if there is one.
    pub(super) fn take(&mut self, device: DeviceId, now: Duration) -> bool {
        self.taken.retain(|_, seat| seat.requests > 0 || seat.until > now);
        if !self.taken.contains_key(&device) && self.taken.len() >= self.most {
            return false;
        }
        self.taken.entry(device).or_default().requests += 1;
        true
    }

    /// The request has ended.
    pub(super) fn leave(&mut self, device: DeviceId, now: Duration) {
        if let Some(seat) = self.taken.get_mut(&device) {
            seat.requests = seat.requests.saturating_sub(1);
            seat.until = now + KEPT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_has_begun_keeps_its_seat_and_one_that_went_away_gives_it_back() {
        let (a, b) = (DeviceId::from_bytes([1; 16]), DeviceId::from_bytes([2; 16]));
        let mut seats = Seats::new(1);
        assert!(seats.take(a, Duration::ZERO));
        seats.leave(a, Duration::from_secs(1));
        assert!(!seats.take(b, Duration::from_secs(2)));
        assert!(seats.take(a, Duration::from_secs(2)));
        assert!(!seats.take(b, Duration::from_secs(60)), "a request that runs holds its seat however long it takes");
        seats.leave(a, Duration::from_secs(60));
        assert!(seats.take(b, Duration::from_secs(63)));
    }
}
