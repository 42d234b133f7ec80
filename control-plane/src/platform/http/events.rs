//! Live events: what happens in a tenant, as server-sent events.
//!
//! Events are for showing, not for keeping: a ring per tenant bridges a short break of the connection. A client that was away
//! for longer, or that reads too slowly, gets one [`RESET`] and reads anew what it shows. Each control plane tells what
//! happened in itself only.

use super::ApiError;
use crate::platform::clock::Clock;
use aidos_protocol::TenantId;
use aidos_protocol::api::events::{EventView, RESET};
use aidos_protocol::time::Micros;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

/// Events per tenant that a returning client may catch up on: minutes of a busy fleet, under 1 MiB.
const RING: usize = 1_000;
/// Events that a slow reader may lag behind before it is reset.
const LAG: usize = 1_024;
/// Streams at once: each holds a connection and a task.
const STREAMS: usize = 1_000;
/// The longest `data` of an event, in bytes of JSON; events say what changed, not all of it.
const MAX_DATA: usize = 8 << 10;
/// How often a silent stream says that it lives; proxies cut silent connections after 30 to 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The events of all tenants; a clone shares them.
#[derive(Clone)]
pub(crate) struct Events(Arc<Shared>);

struct Shared {
    clock: Clock,
    /// Names this process in event ids: sequence numbers begin anew with each.
    epoch: String,
    rings: Mutex<Rings>,
    live: broadcast::Sender<(TenantId, Arc<Entry>)>,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Rings {
    last: u64,
    by_tenant: HashMap<TenantId, Ring>,
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// The highest number that fell out.
    forgotten: u64,
}

struct Entry {
    number: u64,
    view: EventView,
}

impl Events {
    /// Events of this process; `stop` ends all streams.
    pub(crate) fn new(clock: Clock, stop: CancellationToken) -> Self {
        let epoch = format!("{:x}", clock.now().as_millis());
        let (live, _) = broadcast::channel(LAG);
        let streams = Arc::new(Semaphore::new(STREAMS));
        Self(Arc::new(Shared { clock, epoch, rings: Mutex::default(), live, streams, stop }))
    }

    /// Tells those who watch `tenant` that `kind` (`noun.verb`) happened to `resource`. Never waits. Call it after the commit.
    pub(crate) fn publish(&self, tenant: TenantId, kind: &str, resource: &str, data: serde_json::Value) {
        let data = if data.to_string().len() > MAX_DATA { serde_json::json!({ "omitted": true }) } else { data };
        let view = EventView { kind: kind.to_owned(), resource: resource.to_owned(), at: self.0.clock.now(), data };
        let mut rings = self.rings();
        rings.last += 1;
        let entry = Arc::new(Entry { number: rings.last, view });
        let ring = rings.by_tenant.entry(tenant).or_default();
        ring.entries.push_back(entry.clone());
        if ring.entries.len() > RING
            && let Some(oldest) = ring.entries.pop_front()
        {
            ring.forgotten = oldest.number;
        }
        // Within the lock, so that a subscriber sees each event in the ring or live, never twice and never not at all.
        // Nobody watching is fine.
        let _ = self.0.live.send((tenant, entry));
    }

    /// The stream of `tenant`'s events after `last_id` (the client's `Last-Event-ID`), only of `kinds` unless that is empty.
    pub(crate) fn stream(
        &self,
        tenant: TenantId,
        last_id: Option<&str>,
        kinds: Vec<String>,
    ) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
        let permit = self.0.streams.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::unavailable(format!("{STREAMS} streams of events are open already"), 30))?;
        let watch = self.watch(tenant, last_id, kinds, permit);
        Ok(Sse::new(events(watch)).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
    }

    fn watch(&self, tenant: TenantId, last_id: Option<&str>, kinds: Vec<String>, permit: OwnedSemaphorePermit) -> Watch {
        let rings = self.rings();
        let live = self.0.live.subscribe();
        let mut backlog = VecDeque::new();
        let mut reset = false;
        if let Some(last_id) = last_id {
            let seen = last_id.split_once('.').filter(|(epoch, _)| *epoch == self.0.epoch);
            let seen = seen.and_then(|(_, number)| number.parse::<u64>().ok());
            let ring = rings.by_tenant.get(&tenant);
            match seen {
                Some(seen) if ring.is_none_or(|ring| ring.forgotten <= seen) => {
                    let entries = ring.into_iter().flat_map(|ring| &ring.entries);
                    backlog.extend(entries.filter(|entry| entry.number > seen).cloned());
                }
                _ => reset = true,
            }
        }
        Watch { shared: self.0.clone(), tenant, kinds, last: rings.last, reset, backlog, live, _permit: permit }
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.0.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client's place in the events.
struct Watch {
    shared: Arc<Shared>,
    tenant: TenantId,
    kinds: Vec<String>,
    last: u64,
    reset: bool,
    backlog: VecDeque<Arc<Entry>>,
    live: broadcast::Receiver<(TenantId, Arc<Entry>)>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// The next number and event; `None` when the control plane stops.
    async fn next(&mut self) -> Option<(u64, EventView)> {
        loop {
            if self.reset {
                self.reset = false;
                return Some((self.last, self.reset_view()));
            }
            if let Some(entry) = self.backlog.pop_front() {
                if self.wants(&entry) {
                    return Some((entry.number, entry.view.clone()));
                }
                continue;
            }
            let received = tokio::select! {
                () = self.shared.stop.cancelled() => return None,
                received = self.live.recv() => received,
            };
            match received {
                Ok((tenant, entry)) => {
                    self.last = entry.number;
                    if tenant == self.tenant && self.wants(&entry) {
                        return Some((entry.number, entry.view.clone()));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => self.reset = true,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn wants(&self, entry: &Entry) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&entry.view.kind)
    }

    fn reset_view(&self) -> EventView {
        let at: Micros = self.shared.clock.now();
        EventView { kind: RESET.into(), resource: String::new(), at, data: serde_json::Value::Null }
    }
}

fn events(watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    // What stands between may hold the answer back until its first byte: the client is to know at once that it is connected.
    let begin = futures::stream::once(std::future::ready(Ok(Event::default().comment("connected"))));
    begin.chain(futures::stream::unfold(watch, |mut watch| async move {
        let (number, view) = watch.next().await?;
        let json = serde_json::to_string(&view).expect("a struct of strings and JSON serialises");
        let event = Event::default().id(format!("{}.{number}", watch.shared.epoch)).event(view.kind).data(json);
        Some((Ok(event), watch))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::testing::clock;

    fn watch(events: &Events, tenant: TenantId, last: Option<&str>, kinds: &[&str]) -> Watch {
        let permit = events.0.streams.clone().try_acquire_owned().unwrap();
        events.watch(tenant, last, kinds.iter().map(|kind| (*kind).to_owned()).collect(), permit)
    }

    async fn resources(watch: &mut Watch, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(watch.next().await.unwrap().1.resource);
        }
        seen
    }

    #[tokio::test]
    async fn a_client_that_returns_gets_what_it_missed_then_what_is_live() {
        let events = Events::new(clock(), CancellationToken::new());
        let (mine, other) = (TenantId::new(1), TenantId::new(2));
        for name in ["a", "b", "c"] {
            events.publish(mine, "device.online", name, serde_json::Value::Null);
            events.publish(other, "device.online", "theirs", serde_json::Value::Null);
        }
        let mut returned = watch(&events, mine, Some(&format!("{}.1", events.0.epoch)), &[]);
        events.publish(mine, "device.offline", "d", serde_json::Value::Null);
        assert_eq!(resources(&mut returned, 3).await, ["b", "c", "d"]);
        let mut fresh = watch(&events, mine, None, &["device.revoke"]);
        events.publish(mine, "device.offline", "e", serde_json::Value::Null);
        events.publish(mine, "device.revoke", "f", serde_json::Value::Null);
        assert_eq!(resources(&mut fresh, 1).await, ["f"]);
    }

    #[tokio::test]
    async fn who_was_away_too_long_or_reads_too_slowly_is_reset() {
        let events = Events::new(clock(), CancellationToken::new());
        let tenant = TenantId::new(1);
        let mut slow = watch(&events, tenant, None, &[]);
        for n in 0..=RING.max(LAG) {
            events.publish(tenant, "x.y", &n.to_string(), serde_json::Value::Null);
        }
        assert_eq!(slow.next().await.unwrap().1.kind, RESET);
        for stale in [format!("{}.1", events.0.epoch), "other.5".into(), "nonsense".into()] {
            assert_eq!(watch(&events, tenant, Some(&stale), &[]).next().await.unwrap().1.kind, RESET, "{stale}");
        }
        assert!(events.rings().by_tenant[&tenant].entries.len() <= RING);
    }

    #[tokio::test]
    async fn streams_end_when_the_control_plane_stops() {
        let stop = CancellationToken::new();
        let events = Events::new(clock(), stop.clone());
        let mut open = watch(&events, TenantId::new(1), None, &[]);
        stop.cancel();
        assert!(open.next().await.is_none());
    }
}
