//! What time it is. Everything that needs the time holds a [`Clock`]; nothing else may ask the system, so that tests can
//! make years pass.

use aidos_protocol::time::Micros;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of time; a clone shares it.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Source>);

enum Source {
    System,
    #[cfg(test)]
    Manual(AtomicI64),
}

impl Clock {
    /// The machine's clock.
    pub(crate) fn system() -> Self {
        Self(Arc::new(Source::System))
    }

    /// A clock that stands at `at` until it is moved.
    #[cfg(test)]
    pub(crate) fn manual(at: Micros) -> Self {
        Self(Arc::new(Source::Manual(AtomicI64::new(at.0))))
    }

    /// Now.
    pub(crate) fn now(&self) -> Micros {
        match &*self.0 {
            Source::System => {
                // Before 1970 or after 294,000 AD the clock is broken: such a time reads as the epoch or as the end.
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            #[cfg(test)]
            Source::Manual(at) => Micros(at.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock; the system's cannot be moved.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: std::time::Duration) {
        match &*self.0 {
            Source::System => panic!("only a manual clock can be advanced"),
            Source::Manual(at) => {
                at.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
            }
        }
    }
}
