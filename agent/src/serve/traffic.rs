//! Whether inference requests over HTTP are taken, and how many are in flight.
//!
//! In memory alone: who closes it keeps that on disk first (`drain`). Each request is either refused or counted, never neither.

use aidos_protocol::time::Micros;
use std::time::Duration;
use tokio::sync::watch;

/// The gate that each request passes. Cheap to clone; open at first.
#[derive(Debug, Clone, Default)]
pub struct Traffic(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when it is closed.
    closed: Option<Micros>,
    running: usize,
}

/// A request that is being answered; it ends with this.
#[derive(Debug)]
pub(super) struct InFlight(Traffic);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.running -= 1);
    }
}

impl Traffic {
    /// Since when no new request is taken; `None` while they are.
    pub fn closed(&self) -> Option<Micros> {
        self.0.borrow().closed
    }

    /// Takes no new request from now on; those in flight go on.
    pub fn close(&self, since: Micros) {
        self.0.send_modify(|state| state.closed = Some(since));
    }

    /// Takes requests again.
    pub fn open(&self) {
        self.0.send_modify(|state| state.closed = None);
    }

    /// A place for a request; `None` while none is taken.
    pub(super) fn enter(&self) -> Option<InFlight> {
        let mut taken = false;
        self.0.send_if_modified(|state| {
            taken = state.closed.is_none();
            state.running += usize::from(taken);
            taken
        });
        taken.then(|| InFlight(self.clone()))
    }

    /// Waits until no request is in flight, or until requests are taken again, for `patience` at most. Returns how many are in
    /// flight then.
    pub async fn settled(&self, patience: Duration) -> usize {
        let mut states = self.0.subscribe();
        let still = states.wait_for(|state| state.running == 0 || state.closed.is_none());
        // The sender is here, so the wait ends by the state or by the time.
        let _ = tokio::time::timeout(patience, still).await;
        self.0.borrow().running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_takes_nobody_and_waits_for_those_within() {
        let traffic = Traffic::default();
        let first = traffic.enter().unwrap();
        traffic.close(Micros(7));
        assert!(traffic.enter().is_none() && traffic.closed() == Some(Micros(7)));
        assert_eq!(traffic.settled(Duration::from_secs(3)).await, 1, "it still runs");
        let waiting = tokio::spawn({
            let traffic = traffic.clone();
            async move { traffic.settled(Duration::from_secs(3_600)).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(waiting.await.unwrap(), 0);
        traffic.open();
        assert!(traffic.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn opening_ends_the_wait() {
        let traffic = Traffic::default();
        let _within = traffic.enter().unwrap();
        traffic.close(Micros(1));
        let waiting = tokio::spawn({
            let traffic = traffic.clone();
            async move { traffic.settled(Duration::MAX).await }
        });
        tokio::task::yield_now().await;
        traffic.open();
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
