//! Merging what people edited at a device into its intent.
//!
//! Each change is bounded, named by its hash, checked against its author's quarantine, authorised operation by operation, and
//! its signature verified, in this order; only then it is merged. One refusal quarantines the author for the rest of the epoch,
//! since what follows a refused change cannot be merged either. A change that was made on an earlier epoch is merged into that
//! epoch's document and then replayed onto the present one. Everything of one frame takes effect together.

use super::store::DeviceKey;
use super::twins::{Held, TwinError, Twins, What, store_error};
use super::twins_store as store;
use crate::platform::db::StoreError;
use crate::tenants::Caller;
use aidos_protocol::frame::{SiteAck, SiteChange as Sent, SiteChanges, site_ack::Rejected};
use aidos_protocol::twin::sign::{site_change_message, verify};
use aidos_protocol::twin::{ApplyError, Authority, ChangeHash, Edit, Intent};
use aidos_protocol::{DeviceId, TenantId};
use bytes::Bytes;
use serde_json::json;
use std::collections::BTreeMap;

/// Authors in quarantine that a device may have at once; more are a device gone mad, and refused without a record.
const MAX_QUARANTINE: usize = 64;
/// Times a merge is made anew because an edit came first.
const ATTEMPTS: usize = 16;

/// What becomes of one frame of changes.
#[derive(Default)]
struct Outcome {
    merged: Vec<ChangeHash>,
    rejected: Vec<(Bytes, String)>,
    /// The changes that are new here.
    accepted: Vec<Accepted>,
}

struct Accepted {
    user: String,
    edits: Vec<Edit>,
    /// Those of `edits` that had lost already on the epoch they were made on.
    lost: Vec<Edit>,
}

impl Twins {
    /// Merges edits made at the site and signed by one of `keys`. What is not merged is named in the answer with the reason.
    pub(crate) async fn merge_site(
        &self,
        tenant: TenantId,
        device: DeviceId,
        changes: &SiteChanges,
        keys: &[DeviceKey],
    ) -> Result<SiteAck, StoreError> {
        for _ in 0..ATTEMPTS {
            if let Some(ack) = self.try_merge(tenant, device, changes, keys).await.map_err(store_error)? {
                return Ok(ack);
            }
        }
        Err(StoreError::Conflict(
            "the device's intent is edited too often at this moment; the device sends its edits again".into(),
        ))
    }

    async fn try_merge(
        &self,
        tenant: TenantId,
        device: DeviceId,
        changes: &SiteChanges,
        keys: &[DeviceKey],
    ) -> Result<Option<SiteAck>, TwinError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let held = self.hold(tenant, device, store::twin(&mut *tx, tenant, device).await?)?;
        let site = Site { tenant, device, epoch: changes.epoch, keys };
        let mut quarantine = held.row.quarantine.clone();
        let mut intent = held.intent.clone();
        let mut outcome;
        if changes.epoch == held.row.epoch {
            outcome = site.merge(&mut intent, &changes.changes, &mut quarantine);
        } else {
            let old = match changes.epoch {
                newer if newer > held.row.epoch => None,
                older => store::epoch(&mut tx, tenant, device, older).await?,
            };
            let Some(old) = old else {
                let reason =
                    format!("it was made on epoch {}, which the control plane does not keep; make the edit again", changes.epoch);
                return Ok(Some(ack(&held, site.all_refused(&changes.changes, &reason))));
            };
            let mut old = Intent::load(&old).map_err(|e| StoreError::Corrupt(format!("twin of {device}: {e}")))?;
            outcome = site.merge(&mut old, &changes.changes, &mut BTreeMap::new());
            for accepted in &mut outcome.accepted {
                let replay = intent.replay(&old, device, &accepted.user, &accepted.edits, now).map_err(TwinError::Edit)?;
                accepted.lost = replay.lost;
            }
            if !outcome.accepted.is_empty() {
                store::put_epoch(&mut tx, tenant, device, changes.epoch, old.save(), held.row.needed_epoch, now).await?;
            }
        }

        if intent.heads() == held.intent.heads() && quarantine == held.row.quarantine && outcome.accepted.is_empty() {
            return Ok(Some(ack(&held, outcome)));
        }
        // What cannot be read again must not be written, whatever of automerge's an attacker found.
        if let Err(error) = Intent::load(&intent.save()) {
            let reason = format!("the merged document could not be read again: {error}");
            return Ok(Some(ack(&held, site.all_refused(&changes.changes, &reason))));
        }
        let Some(next) = self.write(&mut tx, (tenant, device), &held, intent, quarantine, false, now).await? else {
            return Ok(None);
        };
        for Accepted { user, edits, lost } in &outcome.accepted {
            let mut detail = json!({ "edits": edits, "epoch": changes.epoch });
            if !lost.is_empty() {
                detail["lost"] = json!(lost);
            }
            self.activity.record(&mut tx, &Caller::site(tenant, user), "device.edit", &device.to_string(), detail).await?;
        }
        for (hash, reason) in &outcome.rejected {
            let change = hex::encode(hash);
            tracing::warn!(%device, %change, %reason, "a site's edit was refused");
            let detail = json!({ "change": change, "reason": reason });
            let caller = Caller::device(tenant, device);
            self.activity.record(&mut tx, &caller, "device.edit.refuse", &device.to_string(), detail).await?;
        }
        tx.commit().await?;
        let next = self.publish(tenant, device, next, What::Intent);
        Ok(Some(ack(&next, outcome)))
    }
}

fn ack(held: &Held, outcome: Outcome) -> SiteAck {
    let rejected = outcome.rejected.into_iter().map(|(hash, reason)| Rejected { hash, reason });
    SiteAck {
        epoch: held.row.epoch,
        heads: held.intent.wire_heads(),
        rejected: rejected.collect(),
        merged: outcome.merged.iter().map(|hash| Bytes::copy_from_slice(&hash.0)).collect(),
    }
}

/// Whose changes, and of which document.
struct Site<'a> {
    tenant: TenantId,
    device: DeviceId,
    epoch: u32,
    keys: &'a [DeviceKey],
}

impl Site<'_> {
    fn merge(&self, intent: &mut Intent, sent: &[Sent], quarantine: &mut BTreeMap<String, String>) -> Outcome {
        let mut outcome = Outcome::default();
        for sent in sent {
            let (hash, actor) = match Intent::identify(&sent.change) {
                Ok(named) => named,
                Err(error) => {
                    outcome.rejected.push((Bytes::new(), error.to_string()));
                    continue;
                }
            };
            if intent.has(&hash) {
                outcome.merged.push(hash);
                continue;
            }
            match self.judge(intent, sent, &hash, quarantine.get(&actor)) {
                Ok((user, edits)) => {
                    outcome.merged.push(hash);
                    outcome.accepted.push(Accepted { user, edits, lost: Vec::new() });
                }
                Err(reason) => {
                    if quarantine.len() < MAX_QUARANTINE {
                        quarantine.entry(actor).or_insert_with(|| reason.clone());
                    }
                    outcome.rejected.push((Bytes::copy_from_slice(&hash.0), reason));
                }
            }
        }
        outcome
    }

    fn judge(
        &self,
        intent: &mut Intent,
        sent: &Sent,
        hash: &ChangeHash,
        refused: Option<&String>,
    ) -> Result<(String, Vec<Edit>), String> {
        if let Some(reason) = refused {
            return Err(format!("an earlier change of the same author was refused: {reason}"));
        }
        let change = intent.authorise(&sent.change, &Authority::Site(self.device)).map_err(|error| match error {
            ApplyError::Refused(refusal) => refusal.reason,
            other => other.to_string(),
        })?;
        if change.user() != sent.user {
            return Err("it is not by the user that it was sent for".into());
        }
        let key_id = hex::encode(&sent.key_id);
        let Some(key) = self.keys.iter().find(|key| key.key_id == key_id) else {
            return Err("it is signed by a key that this device never had".into());
        };
        let message = site_change_message(self.tenant, self.device, self.epoch, &sent.user, hash);
        if !verify(&key.spki, &message, &sent.signature) {
            return Err("its signature is wrong".into());
        }
        let user = change.user().to_owned();
        let edits = intent.apply_site(change).map_err(|error| error.to_string())?;
        Ok((user, edits))
    }

    fn all_refused(&self, sent: &[Sent], reason: &str) -> Outcome {
        let hash = |sent: &Sent| {
            Intent::identify(&sent.change).map_or_else(|_| Bytes::new(), |(hash, _)| Bytes::copy_from_slice(&hash.0))
        };
        Outcome { rejected: sent.iter().map(|sent| (hash(sent), reason.to_owned())).collect(), ..Default::default() }
    }
}
