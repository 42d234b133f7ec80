//! Deltas: patches between two artifacts of a tenant, made in the background for the pairs that devices ask for, and kept within
//! a budget of bytes.
//!
//! A pair's way: devices ask ([`Artifacts::delta_of`], counted in memory) → the counts are written down → from [`POPULAR`] on it
//! is due → it is claimed, which is written before the work begins → made on a thread of its own → `ready`, or `useless` where
//! it saves nothing. Nothing waits for a delta: until there is one, devices fetch chunks or the whole file.

use super::artifacts::Artifacts;
use super::builds::{GIVEN_UP_AFTER, MAKER, again_after, on_thread, stale_before};
use super::error::RegistryError;
use super::store::artifacts::ArtifactRow;
use super::store::chunks::Standing;
use super::store::deltas::{self as store, Made, Pair};
use aidos_optimizer::delta::{self, MAX_DELTA_BYTES};
use aidos_protocol::artifact::{Digest, Recipe};
use aidos_protocol::delta::MAX_WINDOW_LOG;
use aidos_protocol::{TenantId, frame};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Files from this size on are worth a patch: a smaller one is one round trip.
const WORTH_FROM: u64 = 64 << 10;
/// How often a pair is asked for before its patch is made: one device alone has fetched otherwise by the time it is there.
const POPULAR: u64 = 2;
/// Bytes of patches that are kept of one tenant: sixteen of the largest, hundreds of usual ones.
pub(super) const BUDGET_BYTES: u64 = 2 << 30;
/// Pairs that are kept of one tenant: a year's versions of many models.
const MAX_PAIRS: u64 = 4_096;
/// Pairs without a patch are forgotten after a month without a question.
const FORGOTTEN_AFTER_SECONDS: i64 = 30 * 24 * 60 * 60;
/// Pairs that are counted in memory between two writes; beyond them a question is not counted.
const MAX_COUNTED: usize = 4_096;
/// The windows that patches are made with, the largest first: eight of them are the memory that applying takes, so 64 MiB for
/// most devices, 8 MiB for small ones.
const WINDOWS: [u8; 2] = [MAX_WINDOW_LOG, 20];

/// What a device holds to make an artifact from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Artifacts, the likeliest base first.
    pub(crate) bases: Vec<Digest>,
    /// The largest window that it has memory for; 0: it takes no deltas.
    pub(crate) window_log: u8,
}

/// Questions that are not written down yet.
#[derive(Default)]
pub(super) struct Asked(Mutex<BTreeMap<(TenantId, Pair), u64>>);

impl Asked {
    fn note(&self, tenant: TenantId, pair: Pair) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < MAX_COUNTED || asked.contains_key(&(tenant, pair)) {
            *asked.entry((tenant, pair)).or_default() += 1;
        }
    }

    fn take(&self) -> BTreeMap<(TenantId, Pair), u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Artifacts {
    /// A patch to `target` from something that the device holds, where there is one; the likeliest pair is counted.
    pub(super) async fn delta_of(
        &self,
        tenant: TenantId,
        target: &ArtifactRow,
        held: &Held,
    ) -> Result<Option<frame::ArtifactDelta>, RegistryError> {
        let possible = |size: u64| (WORTH_FROM..=MAX_DELTA_BYTES as u64).contains(&size);
        let Some(window_log) = WINDOWS.into_iter().find(|window| *window <= held.window_log) else { return Ok(None) };
        if !possible(target.size) {
            return Ok(None);
        }
        let (mut best, mut likeliest) = (None, None);
        for base in held.bases.iter().take(frame::MAX_BASES).filter(|base| **base != target.digest) {
            let pair = Pair { base: *base, target: target.digest, window_log };
            match store::patch(self.db.pool(), tenant, &pair).await? {
                Standing::Ready(row) if best.is_none_or(|(_, best): (_, store::PatchRow)| row.size < best.size) => {
                    best = Some((pair, row));
                }
                Standing::Unknown if likeliest.is_none() && best.is_none() => {
                    // Told apart only by whether the tenant has it: a device may hold what was deleted here long ago.
                    match self.get(tenant, base).await {
                        Ok(row) if possible(row.size) => likeliest = Some(pair),
                        Ok(_) | Err(RegistryError::NotFound(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Standing::Absent if likeliest.is_none() => likeliest = Some(pair),
                _ => {}
            }
        }
        if let Some(pair) = best.map(|(pair, _)| pair).or(likeliest) {
            self.builds.asked.note(tenant, pair);
            self.builds.wake();
        }
        let Some((pair, row)) = best else { return Ok(None) };
        Ok(Some(frame::ArtifactDelta {
            base: Bytes::copy_from_slice(pair.base.as_bytes()),
            digest: Bytes::copy_from_slice(row.patch.as_bytes()),
            size: row.size,
            url: self.locate(tenant, &row.patch).await?.0,
        }))
    }

    /// Writes down what was asked for since the last time.
    pub(super) async fn write_down_questions(&self) -> Result<(), RegistryError> {
        let asked = self.builds.asked.take();
        if asked.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let mut tenants = HashSet::new();
        for ((tenant, pair), times) in asked {
            if tenants.insert(tenant) {
                store::forget(&mut tx, tenant, now.plus_seconds(-FORGOTTEN_AFTER_SECONDS)).await?;
            }
            store::asked(&mut tx, tenant, &pair, (times, POPULAR, MAX_PAIRS), now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Makes the patch that was asked for most. Returns whether there was one to make.
    pub(super) async fn patch_one(&self) -> Result<bool, RegistryError> {
        let now = self.clock.now();
        let stale = stale_before(now);
        let Some(tenant) = store::waiting(self.db.pool(), now, stale).await? else { return Ok(false) };
        let mut tx = self.db.begin().await?;
        let claimed = store::claim(&mut tx, tenant, now, stale, GIVEN_UP_AFTER).await?;
        tx.commit().await?;
        let Some(pair) = claimed else { return Ok(true) };
        let patch = self.make_patch(tenant, &pair).await;
        let reason = patch.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let now = self.clock.now();
        let made = match &patch {
            Ok(Ok((patch, size, algorithm))) => {
                tracing::info!(%tenant, base = %pair.base, target = %pair.target, size, algorithm, "a delta is there");
                Made::Patch { patch: *patch, size: *size, algorithm }
            }
            Ok(Err(useless)) => Made::Useless(useless),
            Err(error) => {
                tracing::warn!(%tenant, base = %pair.base, target = %pair.target, %error, "a delta was not made");
                Made::Failed { reason: &reason, again: again_after(now) }
            }
        };
        let mut tx = self.db.begin().await?;
        store::made(&mut tx, tenant, &pair, made, now).await?;
        let evicted = match &patch {
            Ok(Ok((patch, ..))) => store::evict(&mut tx, tenant, patch, self.builds.budget).await?,
            _ => Vec::new(),
        };
        tx.commit().await?;
        self.discard_made(tenant, &evicted).await?;
        Ok(true)
    }

    /// Makes and stores a patch: its digest, size and algorithm; or why it would save nothing.
    async fn make_patch(
        &self,
        tenant: TenantId,
        pair: &Pair,
    ) -> Result<Result<(Digest, u64, &'static str), String>, RegistryError> {
        let (base_size, target_size) = (self.get(tenant, &pair.base).await?.size, self.get(tenant, &pair.target).await?.size);
        let base = self.whole(tenant, &pair.base, base_size).await?;
        let target = self.whole(tenant, &pair.target, target_size).await?;
        let window_log = pair.window_log;
        let patch = on_thread("delta", move || {
            delta::create(&base, &target, window_log).map_err(|error| RegistryError::Build(error.to_string()))
        })
        .await?;
        let size = patch.bytes.len() as u64;
        if size >= target_size {
            return Ok(Err(format!("the patch would have {size} bytes, the artifact has {target_size}")));
        }
        if let (Some(old), Some(new)) = (self.recipe(tenant, &pair.base).await?, self.recipe(tenant, &pair.target).await?) {
            let missing = missing(&old, &new);
            if size >= missing {
                return Ok(Err(format!("the patch would have {size} bytes, the chunks that are new have {missing}")));
            }
        }
        let digest = self.put(tenant, MAKER, &patch.bytes, self.clock.now()).await?;
        Ok(Ok((digest, size, patch.algorithm.name())))
    }
}

/// Bytes of the chunks that a device with `old` lacks of `new`, with their list.
fn missing(old: &Recipe, new: &Recipe) -> u64 {
    let held: HashSet<_> = old.chunks().iter().map(|chunk| chunk.digest).collect();
    let lacking = new.chunks().iter().filter(|chunk| !held.contains(&chunk.digest));
    lacking.map(|chunk| u64::from(chunk.packed)).sum::<u64>() + new.encode().len() as u64
}
