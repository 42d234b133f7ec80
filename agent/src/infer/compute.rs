//! The threads that parse and run models: few, bounded in time, and safe from panics.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much may go on at a time, and for how long.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Runs at a time over all models. Two: one long run leaves room for short ones, and idle memory stays small.
    pub parallel: usize,
    /// Requests of one version that run or wait. 32 answered one after another within the run limit is what a caller still waits for.
    pub queue: usize,
    /// The longest run. 30 s is what HTTP clients wait by default.
    pub run_limit: Duration,
    /// The longest load. Planning the largest model that fits takes about a minute on a small board.
    pub load_limit: Duration,
    /// What a model may ask of this device.
    pub limits: super::Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            parallel: 2,
            queue: 32,
            run_limit: Duration::from_secs(30),
            load_limit: Duration::from_secs(120),
            limits: super::Limits::default(),
        }
    }
}

/// Why blocking work gave nothing.
#[derive(Debug)]
pub(super) enum Stopped {
    /// No seat became free within the limit.
    NoSeat,
    /// It ran over its time; its thread goes on until the engine returns.
    TimedOut,
    /// It panicked, and what it said.
    Panicked(String),
}

/// Seats for blocking work.
#[derive(Debug, Clone)]
pub(super) struct Compute {
    seats: Arc<Semaphore>,
    all: usize,
}

/// Runs that were given up but have not returned. A thread cannot be stopped from outside, so whoever owns this counter must
/// refuse new work while it is not zero: then at most `parallel` threads per owner are ever lost.
pub(super) type Overruns = Arc<AtomicUsize>;

enum Seat {
    Held {
        _permit: OwnedSemaphorePermit,
    },
    /// The work was given up: its seat is free again, and its thread counts as an overrun.
    GivenUp,
}

impl Compute {
    pub(super) fn new(parallel: usize) -> Self {
        let all = parallel.max(1);
        Self { seats: Arc::new(Semaphore::new(all)), all }
    }

    /// Whether work that nobody waits for may begin: one more seat stays free for what somebody waits for.
    pub(super) fn has_spare(&self) -> bool {
        let free = self.seats.available_permits();
        free >= 2 || free == self.all
    }

    /// Waits for a seat and does `work` on a blocking thread; returns its result and how long it waited.
    /// `hold` is kept until the work really ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        overruns: &Overruns,
        hold: impl Send + 'static,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Duration, T), Stopped> {
        let asked = tokio::time::Instant::now();
        let permit = tokio::time::timeout(limit, Arc::clone(&self.seats).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(Stopped::NoSeat) };
        let waited = asked.elapsed();

        let seat = Arc::new(Mutex::new(Seat::Held { _permit: permit }));
        let (seat_of_work, overruns_of_work) = (Arc::clone(&seat), Arc::clone(overruns));
        let mut task = tokio::task::spawn_blocking(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            drop(hold);
            let mut seat = seat_of_work.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*seat, Seat::GivenUp) {
                overruns_of_work.fetch_sub(1, Ordering::AcqRel);
            }
            *seat = Seat::GivenUp;
            result
        });
        match tokio::time::timeout(limit, &mut task).await {
            Ok(Ok(Ok(result))) => Ok((waited, result)),
            Ok(Ok(Err(panic))) => Err(Stopped::Panicked(said(panic.as_ref()))),
            Ok(Err(gone)) => Err(Stopped::Panicked(gone.to_string())),
            Err(_) => {
                let mut seat = seat.lock().unwrap_or_else(PoisonError::into_inner);
                if matches!(*seat, Seat::Held { .. }) {
                    overruns.fetch_add(1, Ordering::AcqRel);
                    *seat = Seat::GivenUp;
                }
                Err(Stopped::TimedOut)
            }
        }
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SHORT: Duration = Duration::from_millis(50);
    /// A busy machine may take its time to print a panic's backtrace.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_panic_ends_one_piece_of_work_only() {
        let (compute, overruns) = (Compute::new(1), Overruns::default());
        let panicked = compute.run(LONG, &overruns, (), || panic!("odd graph")).await;
        assert!(matches!(panicked, Err(Stopped::Panicked(said)) if said == "odd graph"));
        assert_eq!(compute.run(LONG, &overruns, (), || 7).await.unwrap().1, 7);
    }

    #[tokio::test]
    async fn work_over_its_time_frees_its_seat_and_is_counted_until_it_returns() {
        let (compute, overruns) = (Compute::new(1), Overruns::default());
        let (release, wait) = mpsc::channel::<()>();
        let late = compute.run(SHORT, &overruns, (), move || wait.recv().is_ok()).await;
        assert!(matches!(late, Err(Stopped::TimedOut)));
        assert_eq!(overruns.load(Ordering::Acquire), 1);
        assert_eq!(compute.run(LONG, &overruns, (), || 7).await.unwrap().1, 7);
        release.send(()).unwrap();
        while overruns.load(Ordering::Acquire) != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn without_a_seat_the_wait_is_bounded() {
        let (compute, overruns) = (Compute::new(1), Overruns::default());
        let (release, wait) = mpsc::channel::<()>();
        let (other, count) = (compute.clone(), overruns.clone());
        let first = tokio::spawn(async move { other.run(LONG, &count, (), move || wait.recv().is_ok()).await.map(|(_, ok)| ok) });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(matches!(compute.run(SHORT, &overruns, (), || 7).await, Err(Stopped::NoSeat)));
        release.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
    }
}
