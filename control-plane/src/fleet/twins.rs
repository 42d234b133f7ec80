//! Devices' twins: what is wanted of each device, and what it reports.
//!
//! Invariants. The database holds the truth; documents in memory are copies that are used only at the revision and epoch they
//! were read at. A change takes effect together with its activity entry and the mirrored labels, or not at all. Nothing that a
//! device sends reaches a document but through [`super::twins_merge`]. It must never send anything to a device: who wants to
//! know of changes listens to [`Twins::changes`].

use super::twins_status::statuses;
use super::twins_store::{self as store, TwinRow};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError, Tx};
use crate::tenants::{Activity, Caller};
use aidos_protocol::frame::{Body, IntentChanges, IntentDocument};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{Author, Edit, FIRST_EPOCH, Intent, IntentError, IntentView, StatusMirror};
use aidos_protocol::{DeviceId, TenantId};
use moka::sync::Cache;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Bytes of documents kept in memory: about 2,000 devices that are being edited now.
const HOT_BYTES: u64 = 64 << 20;
/// Heap of a document without history, and of each change of its history (measured with automerge 0.12).
const HEAP_BYTES: usize = 17 << 10;
const HEAP_PER_CHANGE: usize = 190;
/// Times an edit is made anew because another one came first. Each time someone else got ahead, so work was done.
const ATTEMPTS: usize = 16;
/// Changes that a slow listener may be behind before it misses some and has to read everything.
const LISTENER_LAG: usize = 16_384;

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TwinError {
    /// The intent is not what the caller saw.
    #[error("the device's intent was changed by someone else and is at revision {now}")]
    Stale {
        /// The present revision.
        now: u64,
    },
    /// The edit itself.
    #[error(transparent)]
    Edit(IntentError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What changed about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Its intent.
    Intent,
    /// Its intent, by a deployment.
    Told,
    /// Its status, at these paths.
    Status(Arc<[String]>),
}

/// A device's intent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IntentState {
    /// What it says.
    pub(crate) view: IntentView,
    /// Counts its changes, for If-Match.
    pub(crate) revision: u64,
    /// The newest changes, hexadecimal.
    pub(crate) heads: Vec<String>,
}

/// The twins of all devices; a clone shares them.
#[derive(Clone)]
pub(crate) struct Twins {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) activity: Activity,
    hot: Cache<(TenantId, DeviceId), Arc<Held>>,
    pub(super) statuses: Cache<(TenantId, DeviceId), Arc<StatusMirror>>,
    changes: broadcast::Sender<(TenantId, DeviceId, What)>,
}

/// A document as it was read.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) row: TwinRow,
    pub(super) intent: Intent,
}

impl Held {
    fn state(&self) -> IntentState {
        let heads = self.intent.heads().iter().map(hex::encode).collect();
        IntentState { view: self.intent.view(), revision: self.row.revision, heads }
    }
}

impl Twins {
    /// The twins kept in `db`.
    pub(crate) fn new(db: Db, clock: Clock, activity: Activity) -> Self {
        let weight = |_: &(TenantId, DeviceId), held: &Arc<Held>| {
            let bytes = HEAP_BYTES + held.intent.len() * HEAP_PER_CHANGE + 4 * held.row.document.len();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let hot = Cache::builder().max_capacity(HOT_BYTES).weigher(weight).build();
        Self { db, clock, activity, hot, statuses: statuses(), changes: broadcast::channel(LISTENER_LAG).0 }
    }

    /// Everything that changes from now on. Who lags is told so and has to look for itself.
    pub(crate) fn changes(&self) -> broadcast::Receiver<(TenantId, DeviceId, What)> {
        self.changes.subscribe()
    }

    /// The twin of a new device, in the transaction that makes the device.
    pub(crate) async fn create(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        device: DeviceId,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), TwinError> {
        let now = self.clock.now();
        let mut intent = Intent::genesis(FIRST_EPOCH);
        let edits: Vec<_> = labels.iter().map(|(key, value)| Edit::SetLabel { key: key.clone(), value: value.clone() }).collect();
        intent.edit(&Author::System, &edits, now).map_err(TwinError::Edit)?;
        let document = intent.save();
        let row = TwinRow {
            revision: 1,
            epoch: FIRST_EPOCH,
            birth_bytes: document.len(),
            document,
            needed_epoch: FIRST_EPOCH,
            quarantine: BTreeMap::new(),
        };
        store::insert(tx, tenant, device, &row, now).await?;
        store::put_labels(tx, tenant, device, labels).await?;
        Ok(())
    }

    /// What is wanted of the device.
    pub(crate) async fn intent(&self, tenant: TenantId, device: DeviceId) -> Result<IntentState, StoreError> {
        Ok(self.read(tenant, device).await?.state())
    }

    /// What is wanted of those of `devices` that are in the tenant.
    pub(crate) async fn intents(
        &self,
        tenant: TenantId,
        devices: &[DeviceId],
    ) -> Result<BTreeMap<DeviceId, IntentView>, StoreError> {
        let rows = store::twins(self.db.pool(), tenant, devices).await?;
        rows.into_iter().map(|(device, row)| Ok((device, self.hold(tenant, device, row)?.intent.view()))).collect()
    }

    /// Makes `edits` one change by `caller`, if the intent is still at `if_revision` where that is given. What is so already
    /// changes nothing.
    pub(crate) async fn edit(
        &self,
        caller: &Caller,
        device: DeviceId,
        edits: &[Edit],
        if_revision: Option<u64>,
    ) -> Result<IntentState, TwinError> {
        let (tenant, author) = (caller.tenant, Author::of_plane(&caller.actor));
        let mut now_at = 0;
        for _ in 0..ATTEMPTS {
            let mut tx = self.db.begin().await?;
            let held = self.hold(tenant, device, store::twin(&mut *tx, tenant, device).await?)?;
            now_at = held.row.revision;
            if if_revision.is_some_and(|wanted| wanted != now_at) {
                return Err(TwinError::Stale { now: now_at });
            }
            let now = self.clock.now();
            let mut intent = held.intent.clone();
            if intent.edit(&author, edits, now).map_err(TwinError::Edit)?.is_none() {
                return Ok(held.state());
            }
            let quarantine = held.row.quarantine.clone();
            let Some(next) = self.write(&mut tx, (tenant, device), &held, intent, quarantine, false, now).await? else {
                continue;
            };
            // What deployments do to each device follows from the deployment, which has its own entry.
            if author != Author::System {
                let detail = json!({ "edits": edits, "revision": next.row.revision });
                self.activity.record(&mut tx, caller, "device.edit", &device.to_string(), detail).await?;
            }
            tx.commit().await?;
            let what = if author == Author::System { What::Told } else { What::Intent };
            return Ok(self.publish(tenant, device, next, what).state());
        }
        Err(TwinError::Stale { now: now_at })
    }

    /// Epoch and heads of the device's document, as they travel in frames.
    pub(crate) async fn position(&self, tenant: TenantId, device: DeviceId) -> Result<(u32, Vec<bytes::Bytes>), StoreError> {
        let held = self.read(tenant, device).await?;
        Ok((held.row.epoch, held.intent.wire_heads()))
    }

    /// What a device whose document stands at `epoch` and `heads` lacks; `None`: nothing.
    pub(crate) async fn pull<H: AsRef<[u8]>>(
        &self,
        tenant: TenantId,
        device: DeviceId,
        epoch: u32,
        heads: &[H],
    ) -> Result<Option<Body>, StoreError> {
        let held = self.read(tenant, device).await?;
        let known = if epoch == held.row.epoch { Intent::read_heads(heads) } else { None };
        let document = &held.row.document;
        Ok(match known.and_then(|heads| held.intent.changes_since(&heads)) {
            Some(changes) if changes.is_empty() => None,
            Some(changes) if changes.len() <= document.len() => {
                Some(Body::IntentChanges(IntentChanges { epoch, changes: changes.into() }))
            }
            _ => Some(Body::IntentDocument(IntentDocument { epoch: held.row.epoch, document: document.clone().into() })),
        })
    }

    /// The device has everything up to `epoch` and `heads`, and edits to send of no epoch before `pending`, or none where that is 0:
    /// the moment to forget what ended before, and to begin a new epoch, if it is time for one.
    pub(crate) async fn ack<H: AsRef<[u8]>>(
        &self,
        tenant: TenantId,
        device: DeviceId,
        (epoch, heads): (u32, &[H]),
        pending: u32,
    ) -> Result<(), StoreError> {
        let held = self.read(tenant, device).await?;
        if epoch != held.row.epoch {
            return Ok(());
        }
        let mut heads = Intent::read_heads(heads).unwrap_or_default();
        heads.sort();
        let mut own = held.intent.heads();
        own.sort();
        let outgrown = heads == own && held.intent.needs_compaction(held.row.document.len(), held.row.birth_bytes, true);
        let needed = if pending == 0 { epoch } else { pending.min(epoch) };
        if held.row.needed_epoch == needed && !outgrown {
            return Ok(());
        }
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        store::set_needed(&mut tx, tenant, device, epoch, needed).await?;
        if outgrown {
            let held = self.hold(tenant, device, store::twin(&mut *tx, tenant, device).await?)?;
            let same = held.row.epoch == epoch && held.intent.heads().iter().all(|head| own.contains(head));
            let (intent, quarantine) = (held.intent.clone(), held.row.quarantine.clone());
            if same
                && let Some(next) =
                    self.write(&mut tx, (tenant, device), &held, intent, quarantine, true, now).await.map_err(store_error)?
            {
                tx.commit().await?;
                self.publish(tenant, device, next, What::Intent);
                return Ok(());
            }
        }
        tx.commit().await
    }

    pub(super) async fn read(&self, tenant: TenantId, device: DeviceId) -> Result<Arc<Held>, StoreError> {
        let row = store::twin(self.db.pool(), tenant, device).await?;
        self.hold(tenant, device, row)
    }

    /// The document of a row: the one in memory if it is of the same revision, else read anew.
    pub(super) fn hold(&self, tenant: TenantId, device: DeviceId, row: TwinRow) -> Result<Arc<Held>, StoreError> {
        if let Some(held) = self.hot.get(&(tenant, device))
            && (held.row.revision, held.row.epoch) == (row.revision, row.epoch)
        {
            // Small columns change without the revision.
            return Ok(if held.row.needed_epoch == row.needed_epoch && held.row.quarantine == row.quarantine {
                held
            } else {
                Arc::new(Held { row, intent: held.intent.clone() })
            });
        }
        let intent = Intent::load(&row.document).map_err(|e| StoreError::Corrupt(format!("twin of {device}: {e}")))?;
        let held = Arc::new(Held { row, intent });
        self.hot.insert((tenant, device), Arc::clone(&held));
        Ok(held)
    }

    /// Writes `intent` in the place of `held`, as the first document of a new epoch when it is time for one. `None`: someone
    /// else was faster, the transaction has to be dropped.
    #[allow(clippy::too_many_arguments)] // what one row of the table becomes
    pub(super) async fn write(
        &self,
        tx: &mut Tx,
        (tenant, device): (TenantId, DeviceId),
        held: &Held,
        mut intent: Intent,
        quarantine: BTreeMap<String, String>,
        device_has_all: bool,
        now: Micros,
    ) -> Result<Option<Held>, TwinError> {
        let changed = intent.heads() != held.intent.heads();
        let mut row = TwinRow { document: intent.save(), quarantine, ..held.row.clone() };
        row.revision += u64::from(changed);
        let mut ended = None;
        if intent.needs_compaction(row.document.len(), row.birth_bytes, device_has_all) {
            let next = intent.compact(now).map_err(TwinError::Edit)?;
            ended = Some((row.epoch, std::mem::replace(&mut row.document, next.save())));
            (row.epoch, row.birth_bytes) = (next.epoch(), row.document.len());
            row.quarantine.clear();
            intent = next;
        }
        if !store::update(tx, tenant, device, (held.row.revision, held.row.epoch), &row, now).await? {
            return Ok(None);
        }
        if let Some((epoch, document)) = ended {
            store::put_epoch(tx, tenant, device, epoch, document, row.needed_epoch, now).await?;
        }
        if changed {
            let labels = intent.view().labels;
            if labels != held.intent.view().labels {
                store::put_labels(tx, tenant, device, &labels).await?;
            }
        }
        Ok(Some(Held { row, intent }))
    }

    /// What was committed is what is read from now on, and everyone is told.
    pub(super) fn publish(&self, tenant: TenantId, device: DeviceId, held: Held, what: What) -> Arc<Held> {
        let held = Arc::new(held);
        self.hot.insert((tenant, device), Arc::clone(&held));
        self.announce(tenant, device, what);
        held
    }

    pub(super) fn announce(&self, tenant: TenantId, device: DeviceId, what: What) {
        // No listener is no error.
        let _ = self.changes.send((tenant, device, what));
    }
}

/// Where no edit was made, only the database can fail.
pub(super) fn store_error(error: TwinError) -> StoreError {
    match error {
        TwinError::Store(error) => error,
        other => StoreError::Corrupt(other.to_string()),
    }
}
