//! The sessions that are open in this process: who is connected, and how to reach its driver.
//!
//! A mailbox holds flags, not messages: however often a device is poked while its driver is busy, the driver looks once, so
//! nothing queues up and no caller ever waits. At most one session per device: a newer one ends the older. This must never
//! touch the database.

use super::refusal;
use super::twins::What;
use aidos_protocol::{DeviceId, TenantId, frame::Refused};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, broadcast};

/// A cheap handle to the sessions of this process.
#[derive(Clone, Default)]
pub(crate) struct Live {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    sessions: Mutex<HashMap<DeviceId, Arc<Mailbox>>>,
    closing: AtomicBool,
    next: AtomicI64,
    /// Told whenever a session leaves.
    left: Notify,
}

/// What waits for a session's driver.
pub(super) struct Mailbox {
    /// Names the session in the database, so that an old session cannot mark a new one offline.
    pub(super) session: i64,
    intent: AtomicBool,
    commands: AtomicBool,
    revocations: AtomicBool,
    end: Mutex<Option<Refused>>,
    wake: Notify,
}

/// What a driver finds in its mailbox.
#[derive(Debug, PartialEq)]
pub(super) enum Note {
    End(Refused),
    IntentChanged,
    CommandsWaiting,
    RevocationsChanged,
}

impl Mailbox {
    fn new(session: i64) -> Self {
        Self {
            session,
            intent: AtomicBool::new(false),
            commands: AtomicBool::new(false),
            revocations: AtomicBool::new(false),
            end: Mutex::new(None),
            wake: Notify::new(),
        }
    }

    fn end(&self, refused: Refused) {
        // The first reason stands.
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(refused);
        self.wake.notify_one();
    }

    /// Until the session is to end. Cancel-safe, and takes no other note away.
    pub(super) async fn ended(&self) {
        while self.end.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.wake.notified().await;
        }
    }

    /// The next thing to attend to, the end first. Cancel-safe.
    pub(super) async fn next(&self) -> Note {
        loop {
            if let Some(refused) = self.end.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return Note::End(refused);
            }
            if self.intent.swap(false, SeqCst) {
                return Note::IntentChanged;
            }
            if self.commands.swap(false, SeqCst) {
                return Note::CommandsWaiting;
            }
            if self.revocations.swap(false, SeqCst) {
                return Note::RevocationsChanged;
            }
            self.wake.notified().await;
        }
    }
}

impl Live {
    /// The device's intent was edited: its session sends what is new.
    pub(crate) fn notify_intent(&self, device: DeviceId) {
        self.with(device, |mailbox| {
            mailbox.intent.store(true, SeqCst);
            mailbox.wake.notify_one();
        });
    }

    /// As [`Self::notify_intent`], for every device: when it is not known which ones were edited.
    fn notify_all_intents(&self) {
        for mailbox in self.sessions().values() {
            mailbox.intent.store(true, SeqCst);
            mailbox.wake.notify_one();
        }
    }

    /// Tells sessions of the intents that are edited, until nobody can edit any more.
    pub(crate) async fn follow_twins(self, mut changes: broadcast::Receiver<(TenantId, DeviceId, What)>) {
        loop {
            match changes.recv().await {
                Ok((_, device, What::Intent | What::Told)) => self.notify_intent(device),
                Ok((_, _, What::Status(_))) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.notify_all_intents(),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// A command was queued for the device: its session fetches it.
    pub(crate) fn notify_command(&self, device: DeviceId) {
        self.with(device, |mailbox| {
            mailbox.commands.store(true, SeqCst);
            mailbox.wake.notify_one();
        });
    }

    /// A device was revoked: every session looks whether its device has to know.
    pub(super) fn notify_revocations(&self) {
        for mailbox in self.sessions().values() {
            mailbox.revocations.store(true, SeqCst);
            mailbox.wake.notify_one();
        }
    }

    /// Ends the device's session, if there is one, and tells it why.
    pub(crate) fn disconnect(&self, device: DeviceId, refused: Refused) {
        self.with(device, |mailbox| mailbox.end(refused));
    }

    /// Whether the device has a session in this process.
    pub(crate) fn is_online(&self, device: DeviceId) -> bool {
        self.sessions().contains_key(&device)
    }

    /// How many devices have one.
    pub(crate) fn count(&self) -> usize {
        self.sessions().len()
    }

    /// Ends every session, spreading the returns over `within_ms`, refuses new ones, and waits until the last has left.
    pub(crate) async fn shutdown(&self, within_ms: u64) {
        self.inner.closing.store(true, SeqCst);
        for mailbox in self.sessions().values() {
            mailbox.end(refusal::shutting_down(within_ms));
        }
        loop {
            let left = self.inner.left.notified();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Opens a session of `device` and ends the one before it. Refuses when `limit` devices are connected already.
    pub(super) fn open(&self, device: DeviceId, limit: usize) -> Result<Arc<Mailbox>, Refused> {
        let mut sessions = self.sessions();
        // Under the lock, so that no session slips in behind a shutdown.
        if self.inner.closing.load(SeqCst) {
            return Err(refusal::shutting_down(10_000));
        }
        if sessions.len() >= limit && !sessions.contains_key(&device) {
            return Err(refusal::overloaded());
        }
        // Random high bits: sessions of an earlier process never look like this one's.
        let number = self.inner.next.fetch_add(1, SeqCst) & 0xffff_ffff;
        let session = (i64::from(rand::random::<u32>() >> 1) << 32) | number;
        let mailbox = Arc::new(Mailbox::new(session));
        if let Some(older) = sessions.insert(device, mailbox.clone()) {
            older.end(refusal::replaced());
        }
        Ok(mailbox)
    }

    /// The session is over. Leaves a newer session of the same device alone.
    pub(super) fn leave(&self, device: DeviceId, mailbox: &Arc<Mailbox>) {
        let mut sessions = self.sessions();
        if sessions.get(&device).is_some_and(|current| Arc::ptr_eq(current, mailbox)) {
            sessions.remove(&device);
        }
        drop(sessions);
        self.inner.left.notify_waiters();
    }

    fn with(&self, device: DeviceId, then: impl FnOnce(&Mailbox)) {
        if let Some(mailbox) = self.sessions().get(&device) {
            then(mailbox);
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, Arc<Mailbox>>> {
        // A panic while holding it leaves a whole map: every change is one insert or remove.
        self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aidos_protocol::frame::refused::Code;

    #[tokio::test]
    async fn many_pokes_are_one_and_the_end_comes_first() {
        let (live, device) = (Live::default(), DeviceId::new(1));
        let mailbox = live.open(device, 10).unwrap();
        for _ in 0..5 {
            live.notify_intent(device);
            live.notify_command(device);
        }
        assert_eq!(mailbox.next().await, Note::IntentChanged);
        live.disconnect(device, refusal::revoked());
        assert!(matches!(mailbox.next().await, Note::End(refused) if refused.code() == Code::Revoked));
    }

    #[tokio::test]
    async fn a_new_session_ends_the_old_one_which_does_not_take_the_new_one_with_it() {
        let (live, device) = (Live::default(), DeviceId::new(1));
        let old = live.open(device, 1).unwrap();
        let new = live.open(device, 1).unwrap();
        assert!(matches!(old.next().await, Note::End(refused) if refused.code() == Code::Replaced));
        live.leave(device, &old);
        assert!(live.is_online(device) && old.session != new.session);
        assert_eq!(live.open(DeviceId::new(2), 1).err().map(|r| r.code()), Some(Code::Overloaded));
        live.leave(device, &new);
        assert_eq!(live.count(), 0);
    }

    #[tokio::test]
    async fn shutdown_ends_all_refuses_more_and_waits_for_the_last() {
        let (live, device) = (Live::default(), DeviceId::new(1));
        let mailbox = live.open(device, 10).unwrap();
        let leaving = {
            let live = live.clone();
            tokio::spawn(async move {
                let note = mailbox.next().await;
                live.leave(device, &mailbox);
                note
            })
        };
        live.shutdown(1_000).await;
        assert!(matches!(leaving.await.unwrap(), Note::End(refused) if refused.retry_after_ms > 0));
        assert_eq!(live.open(device, 10).err().map(|r| r.code()), Some(Code::ShuttingDown));
    }
}
