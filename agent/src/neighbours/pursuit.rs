//! One piece that this agent is after: the hunt in real time.
//!
//! As long as the value lives, neighbours that ask hear that the piece is wanted here, or how far it is.

use super::counts::Counts;
use super::hunt::{Act, Answer, Hunt};
use super::{RANGE, Shared, lock};
use aidos_protocol::DeviceId;
use aidos_protocol::artifact::Digest;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// One piece on its way. The caller asks for its bytes in order, and says how its verification ended.
pub struct Pursuit {
    near: Option<Near>,
    counts: Arc<Counts>,
    digest: Digest,
    size: u64,
    afar: Option<u64>,
}

struct Near {
    shared: Arc<Shared>,
    hunt: Hunt,
    site: String,
    addresses: BTreeMap<DeviceId, SocketAddr>,
    givers: BTreeSet<DeviceId>,
}

impl std::fmt::Debug for Pursuit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pursuit").field("digest", &self.digest).field("afar", &self.afar).finish_non_exhaustive()
    }
}

impl Pursuit {
    pub(super) async fn begin(shared: Option<Arc<Shared>>, counts: Arc<Counts>, digest: Digest, size: u64) -> Self {
        let mut pursuit = Self { near: None, counts, digest, size, afar: None };
        let Some((shared, site)) = shared.and_then(|shared| (shared.site)().map(|site| (shared, site))) else { return pursuit };
        // Before anybody is asked: whoever looks around at the same moment hears that this agent is after it, too.
        lock(&shared.wanted).entry(digest).or_default().hunters += 1;
        let me = shared.identity.device_id();
        let hunt = Hunt::new(&digest, size, me, [], shared.now());
        pursuit.near = Some(Near { shared, hunt, site, addresses: BTreeMap::new(), givers: BTreeSet::new() });
        if let Some(near) = &mut pursuit.near {
            near.shared.look_around(&near.site).await;
            near.addresses = lock(&near.shared.roster).present(near.shared.now());
            // Its handshake may have been before it was revoked.
            near.addresses.retain(|device, _| !(near.shared.refused)(*device));
            near.hunt = Hunt::new(&digest, size, me, near.addresses.keys().copied(), near.shared.now());
        }
        pursuit
    }

    /// The next bytes from `offset` on, as soon as a neighbour gives them. `None`: it is this agent's turn to fetch the rest from
    /// afar; say with [`Pursuit::came_from_afar`] how that goes.
    pub async fn next(&mut self, offset: u64) -> Option<Bytes> {
        let near = self.near.as_mut().filter(|_| self.afar.is_none())?;
        loop {
            match near.hunt.next(near.shared.now()) {
                Act::Afar => {
                    self.came_from_afar(offset, 0);
                    return None;
                }
                Act::Wait(until) => tokio::time::sleep_until(near.shared.began + until).await,
                Act::Ask(device) => {
                    let address = near.addresses[&device];
                    let until = self.size.min(offset + RANGE);
                    let asked = near.shared.dialler.ask(address, device, &near.site, &self.digest, offset..until, self.size);
                    let (answer, bytes) = asked.await;
                    near.hunt.heard(device, answer, near.shared.now());
                    if answer == Answer::Bytes {
                        near.givers.insert(device);
                        Counts::add(&self.counts.near, bytes.len() as u64);
                        return Some(bytes);
                    }
                }
            }
        }
    }

    /// `offset` bytes of the piece are here, for which `bytes` more came over the site's line: of the piece, or of what it is made
    /// from.
    pub fn came_from_afar(&mut self, offset: u64, bytes: u64) {
        self.afar = Some(offset);
        Counts::add(&self.counts.afar, bytes);
        if let Some(near) = &self.near
            && let Some(wanted) = lock(&near.shared.wanted).get_mut(&self.digest)
        {
            wanted.afar = Some(offset);
        }
    }

    /// The whole was not what it should be: whoever gave some of it is not asked for a while, and the pursuit begins anew.
    /// Returns whether a neighbour had a part in it.
    pub fn wrong(&mut self) -> bool {
        let Some(near) = &mut self.near else { return false };
        let (now, givers) = (near.shared.now(), std::mem::take(&mut near.givers));
        for device in &givers {
            tracing::warn!(%device, digest = %self.digest, "bytes of a neighbour were wrong; it is not asked for a while");
            near.hunt.heard(*device, Answer::Wrong, now);
            lock(&near.shared.roster).shun(*device, now);
        }
        if !givers.is_empty() {
            Counts::add(&self.counts.wrong, 1);
        }
        self.afar = None;
        if let Some(wanted) = lock(&near.shared.wanted).get_mut(&self.digest) {
            wanted.afar = None;
        }
        !givers.is_empty()
    }
}

impl Drop for Pursuit {
    fn drop(&mut self) {
        let Some(near) = &self.near else { return };
        let mut all = lock(&near.shared.wanted);
        if let Some(wanted) = all.get_mut(&self.digest) {
            wanted.hunters -= 1;
            if wanted.hunters == 0 {
                all.remove(&self.digest);
            }
        }
    }
}
