//! The device's replica of its intent.
//!
//! Two layers: `base` is what the plane is known to hold, and on it stand the edits made here that it may not hold yet. The
//! position told to the plane is that of `base`, so the plane always knows it; what components see is both together. A refused
//! edit disappears by building the upper layer anew. The ledger is written before anything is shown or acknowledged.

use super::site_edits::{self as rows, MAX_PENDING, RefusedEdit, SiteEdit};
use super::status::StatusMap;
use crate::link::{IntentPort, IntentPosition, PortError};
use crate::state::{Ledger, LedgerError};
use aidos_protocol::frame::{IntentAck, IntentChanges, IntentDocument, MAX_SITE_CHANGES, SiteAck, SiteChanges};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::sign::site_change_message;
use aidos_protocol::twin::{
    ApplyError, Author, Authority, ChangeHash, Edit, FIRST_EPOCH, Intent, IntentError, IntentStatus, IntentView, path,
};
use aidos_protocol::{DeviceId, TenantId};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Bytes of changes in one frame: half of the most a frame may have, as each carries a signature and names.
const MAX_SENT_BYTES: usize = aidos_protocol::frame::MAX_FRAME_BYTES / 2;

/// Signs with the device's key: SHA-256 of the public key (32 bytes), and the signature (ASN.1).
pub type Signer = Arc<dyn Fn(&[u8]) -> Result<(Vec<u8>, Vec<u8>), String> + Send + Sync>;

/// Why an edit was not made or the intent not kept.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The edit itself.
    #[error(transparent)]
    Edit(#[from] IntentError),
    /// The user may not make it.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It touches what only the control plane writes.
    #[error("{0} are set by the control plane only; use `aidos` there")]
    NotHere(&'static str),
    /// Too many edits wait.
    #[error("{MAX_PENDING} edits wait for the control plane already; connect the device first")]
    Waiting,
    /// The user's name cannot stand in an author.
    #[error("`{0}` is not a user name that an edit can carry: use 1 to 64 visible characters without `:`")]
    User(String),
    /// The device's key is not usable.
    #[error("the edit could not be signed: {0}")]
    Sign(String),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

struct State {
    base: Intent,
    run: u32,
    pending: Vec<SiteEdit>,
    /// `base` with the pending edits of its epoch; `None` when there are none.
    upper: Option<Intent>,
}

struct Inner {
    tenant: TenantId,
    device: DeviceId,
    ledger: Ledger,
    signer: Signer,
    status: StatusMap,
    state: Mutex<State>,
    view: watch::Sender<Arc<IntentView>>,
    news: watch::Sender<u64>,
}

/// The replica. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Replica(Arc<Inner>);

impl Replica {
    /// Opens the replica kept in `ledger`, or begins one. A document that cannot be read is left to the plane to send again.
    /// Blocks for the disk.
    pub fn open(
        ledger: Ledger,
        tenant: TenantId,
        device: DeviceId,
        signer: Signer,
        status: StatusMap,
    ) -> Result<Self, LedgerError> {
        ledger.declare(rows::SCHEMA)?;
        let (stored, pending) = ledger.transaction(|tx| Ok((rows::document(tx)?, rows::pending(tx)?)))?;
        let (base, run) = match stored {
            None => (Intent::genesis(FIRST_EPOCH), 0),
            Some((document, run)) => match Intent::load(&document) {
                Ok(intent) => (intent, run),
                Err(error) => {
                    tracing::error!(%error, "the stored intent cannot be read; the control plane is asked for it anew");
                    (Intent::genesis(FIRST_EPOCH), run + 1)
                }
            },
        };
        let mut state = State { base, run, pending, upper: None };
        state.build_upper();
        let inner = Inner {
            tenant,
            device,
            ledger,
            signer,
            view: watch::channel(Arc::new(state.view())).0,
            news: watch::channel(0).0,
            state: Mutex::new(state),
            status,
        };
        let replica = Self(Arc::new(inner));
        replica.report(&replica.0.state.try_lock().expect("nobody else has it yet"));
        Ok(replica)
    }

    /// What is wanted of this device, site edits included; changes with every edit.
    pub fn view(&self) -> watch::Receiver<Arc<IntentView>> {
        self.0.view.subscribe()
    }

    /// Makes `edits` one change by `user` of this machine. Returns once it is in the ledger; the plane gets it when there is a
    /// link. `false`: all of it was so already.
    pub async fn edit(&self, user: &str, edits: &[Edit], now: Micros) -> Result<bool, TwinError> {
        if !aidos_protocol::twin::valid_user(user) {
            return Err(TwinError::User(user.chars().take(80).collect()));
        }
        let inner = &self.0;
        let authority = Authority::Site(inner.device);
        if let Some(edit) = edits.iter().find(|edit| !authority.may_make(edit)) {
            return Err(TwinError::NotHere(if edit.is_reserved() { "`agent.` settings" } else { edit.room().name() }));
        }
        let mut state = inner.state.lock().await;
        if state.pending.len() >= MAX_PENDING {
            return Err(TwinError::Waiting);
        }
        let before = state.upper.as_ref().unwrap_or(&state.base);
        let mut upper = before.clone();
        let author = Author::Site { device: inner.device, run: state.run, user: user.to_owned() };
        let Some(hash) = upper.edit(&author, edits, now)? else { return Ok(false) };
        let change = upper.change(&hash).expect("the change was made a line above");
        // The plane judges it likewise: what it would refuse is refused here, where the person is.
        before.authorise(&change, &authority)?;
        let epoch = upper.epoch();
        let message = site_change_message(inner.tenant, inner.device, epoch, user, &hash);
        let (key_id, signature) = (inner.signer)(&message).map_err(TwinError::Sign)?;
        let edit = SiteEdit { hash, epoch, change, key_id, signature, user: user.to_owned(), edits: edits.to_vec(), made: now };
        let row = edit.clone();
        inner.ledger.run(move |tx| rows::insert(tx, &row)).await?;
        state.pending.push(edit);
        state.upper = Some(upper);
        self.show(&state);
        Ok(true)
    }

    /// The edits that wait for the plane, oldest first.
    pub async fn pending(&self) -> Vec<SiteEdit> {
        self.0.state.lock().await.pending.clone()
    }

    /// The edits that the plane refused, newest first.
    pub async fn refused(&self) -> Result<Vec<RefusedEdit>, LedgerError> {
        self.0.ledger.run(rows::refused).await
    }

    /// Makes `base` the base, durably; edits that it holds no longer wait.
    async fn rebase(&self, state: &mut State, base: Intent) -> Result<(), LedgerError> {
        let held: Vec<ChangeHash> = state.pending.iter().map(|edit| edit.hash).filter(|hash| base.has(hash)).collect();
        let (document, run, gone) = (base.save(), state.run, held.clone());
        let write = move |tx: &rusqlite::Transaction<'_>| {
            gone.iter().try_for_each(|hash| rows::remove(tx, hash))?;
            rows::put_document(tx, &document, run)
        };
        self.0.ledger.run(write).await?;
        state.pending.retain(|edit| !held.contains(&edit.hash));
        state.base = base;
        state.build_upper();
        self.show(state);
        Ok(())
    }

    fn show(&self, state: &State) {
        let view = Arc::new(state.view());
        self.0.view.send_if_modified(|shown| {
            let changed = **shown != *view;
            if changed {
                *shown = Arc::clone(&view);
            }
            changed
        });
        self.report(state);
        self.0.news.send_modify(|count| *count += 1);
    }

    fn report(&self, state: &State) {
        let heads = state.base.heads().iter().map(hex::encode).collect();
        let pending = state.pending.len() as u64;
        self.0.status.set(path::INTENT, &IntentStatus { epoch: state.base.epoch(), heads, pending });
    }
}

impl State {
    fn build_upper(&mut self) {
        let mut upper: Option<Intent> = None;
        for edit in self.pending.iter().filter(|edit| edit.epoch == self.base.epoch()) {
            // What does not apply follows a refused edit; the plane says so when it gets it.
            let _ = upper.get_or_insert_with(|| self.base.clone()).apply(&edit.change);
        }
        self.upper = upper;
    }

    /// What components see: edits of earlier epochs hold until the plane has replayed them, unless made anew since.
    fn view(&self) -> IntentView {
        let mut view = self.upper.as_ref().unwrap_or(&self.base).view();
        let (old, present): (Vec<_>, Vec<_>) = self.pending.iter().partition(|edit| edit.epoch != self.base.epoch());
        let made_anew: BTreeSet<String> = present.iter().flat_map(|edit| edit.edits.iter().map(Edit::path)).collect();
        for edit in old.iter().flat_map(|edit| &edit.edits).filter(|edit| !made_anew.contains(&edit.path())) {
            view.overlay(edit);
        }
        view
    }

    fn ack(&self, resync: bool) -> IntentAck {
        let pending_epoch = self.pending.iter().map(|edit| edit.epoch).min().unwrap_or_default();
        IntentAck { epoch: self.base.epoch(), heads: self.base.wire_heads(), resync, pending_epoch }
    }
}

#[async_trait]
impl IntentPort for Replica {
    async fn position(&self) -> Result<IntentPosition, PortError> {
        let state = self.0.state.lock().await;
        Ok(IntentPosition { epoch: state.base.epoch(), heads: state.base.heads().iter().map(|hash| hash.0.to_vec()).collect() })
    }

    async fn apply_changes(&self, changes: IntentChanges) -> Result<IntentAck, PortError> {
        let mut state = self.0.state.lock().await;
        let mut base = state.base.clone();
        if changes.epoch != base.epoch() {
            return Ok(state.ack(true));
        }
        if let Err(error) = base.apply(&changes.changes) {
            tracing::warn!(%error, "the control plane's changes do not apply; the whole document is asked for");
            return Ok(state.ack(true));
        }
        if base.heads() != state.base.heads() {
            self.rebase(&mut state, base).await.map_err(PortError::new)?;
        }
        Ok(state.ack(false))
    }

    async fn apply_document(&self, document: IntentDocument) -> Result<IntentAck, PortError> {
        // Unreadable: the session ends, since asking again would bring the same bytes.
        let base = Intent::load(&document.document).map_err(PortError::new)?;
        if base.epoch() != document.epoch {
            return Err(PortError::new(format!("a document of epoch {} sent as epoch {}", base.epoch(), document.epoch)));
        }
        let mut state = self.0.state.lock().await;
        self.rebase(&mut state, base).await.map_err(PortError::new)?;
        Ok(state.ack(false))
    }

    async fn pending_site_changes(&self) -> Result<Option<SiteChanges>, PortError> {
        let state = self.0.state.lock().await;
        let Some(epoch) = state.pending.first().map(|edit| edit.epoch) else { return Ok(None) };
        let mut bytes = 0;
        let fits = |edit: &&SiteEdit| {
            bytes += edit.change.len();
            edit.epoch == epoch && bytes <= MAX_SENT_BYTES
        };
        let changes = state.pending.iter().take(MAX_SITE_CHANGES).take_while(fits).map(SiteEdit::frame).collect();
        Ok(Some(SiteChanges { epoch, changes }))
    }

    async fn site_ack(&self, ack: SiteAck) -> Result<(), PortError> {
        let mut state = self.0.state.lock().await;
        let merged = Intent::read_heads(&ack.merged).unwrap_or_default();
        let rejected: Vec<(ChangeHash, String)> = ack
            .rejected
            .into_iter()
            .filter_map(|one| Some((ChangeHash(one.hash.as_ref().try_into().ok()?), one.reason)))
            .filter(|(hash, _)| state.pending.iter().any(|edit| edit.hash == *hash))
            .collect();
        if rejected.is_empty() && !state.pending.iter().any(|edit| merged.contains(&edit.hash)) {
            return Ok(());
        }
        let mut base = state.base.clone();
        let epoch = base.epoch();
        for edit in state.pending.iter().filter(|edit| edit.epoch == epoch && merged.contains(&edit.hash)) {
            // What does not follow from the base comes with the plane's next changes.
            let _ = base.apply(&edit.change);
        }
        // A refused change leaves a hole in its author's sequence: the next edits are by a new one.
        let run = state.run + u32::from(!rejected.is_empty());
        let (document, gone, refused) = (base.save(), merged.clone(), rejected.clone());
        let write = move |tx: &rusqlite::Transaction<'_>| {
            gone.iter().try_for_each(|hash| rows::remove(tx, hash))?;
            refused.iter().try_for_each(|(hash, reason)| rows::refuse(tx, hash, reason))?;
            rows::put_document(tx, &document, run)
        };
        self.0.ledger.run(write).await.map_err(PortError::new)?;
        for (hash, reason) in &rejected {
            tracing::warn!(change = %hash, %reason, "the control plane refused an edit made here");
        }
        state.pending.retain(|edit| !merged.contains(&edit.hash) && !rejected.iter().any(|(hash, _)| *hash == edit.hash));
        (state.base, state.run) = (base, run);
        state.build_upper();
        self.show(&state);
        Ok(())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }
}
