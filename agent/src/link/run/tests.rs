use super::super::ports::{LinkError, LinkHandle, channel};
use super::super::testing::{Device, Pipe, Plane};
use super::*;
use crate::identity::testing::TestCa;
use crate::link::keep_certificate_fresh;
use aidos_protocol::artifact::Digest;
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::frame::{Body, Command, Refused, refused};
use aidos_protocol::{DeviceId, TenantId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DAY: Duration = Duration::from_secs(86_400);

struct World {
    quic: Arc<AtomicBool>,
    mqtt: Arc<AtomicBool>,
    plane: Arc<Plane>,
    device: Arc<Device>,
    link: LinkHandle,
    ca: TestCa,
    identity: Identity,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl World {
    fn start(quic: bool, mqtt: bool, plane: Arc<Plane>) -> Self {
        let (dir, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
        let (tenant, device) = (TenantId::new(1), DeviceId::new(2));
        // Old enough for renewal to be due.
        let identity = ca.joined_with(dir.path(), EndpointsView::default(), tenant, device, 25 * DAY, 30 * DAY);
        let (quic, mqtt) = (Arc::new(AtomicBool::new(quic)), Arc::new(AtomicBool::new(mqtt)));
        let pipe = |name, up: &Arc<AtomicBool>| -> Box<dyn Transport> {
            Box::new(Pipe { name, up: Arc::clone(up), plane: Arc::clone(&plane) })
        };
        let transports = vec![pipe("quic", &quic), pipe("mqtt", &mqtt)];
        let (device, (link, control), shutdown) = (Device::new(), channel(), CancellationToken::new());
        let task = tokio::spawn(run(transports, device.ports(), identity.clone(), control, shutdown.clone()));
        Self { quic, mqtt, plane, device, link, ca, identity, shutdown, task, dir }
    }

    async fn until(&self, transport: Option<&'static str>) -> LinkState {
        self.link.state().wait_for(|state| state.transport == transport && state.since != Micros(0)).await.unwrap().clone()
    }

    async fn until_seen(&self, what: impl Fn(&Body) -> bool) {
        while self.plane.saw(&what) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_link_falls_back_and_returns_without_ever_having_two_sessions() {
    let world = World::start(false, true, Arc::default());
    let state = world.until(Some("mqtt")).await;
    assert_eq!((state.note.as_str(), state.failovers), ("quic: no answer", 0));
    world.quic.store(true, Ordering::SeqCst);
    let state = world.until(Some("quic")).await;
    assert_eq!((state.note.as_str(), state.failovers, state.sessions), ("", 1, 2));
    world.quic.store(false, Ordering::SeqCst);
    assert_eq!(world.until(Some("mqtt")).await.failovers, 2);
    world.mqtt.store(false, Ordering::SeqCst);
    assert!(world.until(None).await.note.contains("mqtt"));
    assert_eq!(world.plane.most_sessions.load(Ordering::SeqCst), 1);
    let left = |b: &Body| matches!(b, Body::Goodbye(_));
    assert_eq!(world.plane.saw(left), 1, "moving to the preferred transport is a proper goodbye");
}

#[tokio::test(start_paused = true)]
async fn what_was_gathered_offline_is_delivered_on_return_and_later_news_too() {
    let world = World::start(false, false, Arc::default());
    (1..=5).for_each(|seq| world.device.sample(seq));
    world.device.report();
    world.until(None).await;
    assert_eq!(world.link.request_artifact(Digest::of(b"m")).await, Err(LinkError::Offline));
    world.quic.store(true, Ordering::SeqCst);
    world.link.poke();
    world.until(Some("quic")).await;
    world.until_seen(|b| matches!(b, Body::Telemetry(t) if t.samples.last().unwrap().seq == 5)).await;
    world.until_seen(|b| matches!(b, Body::StatusDelta(d) if d.full && d.seq == 1)).await;
    world.device.sample(6);
    world.until_seen(|b| matches!(b, Body::Telemetry(t) if t.samples[0].seq == 6)).await;
    while !world.device.samples.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.link.request_artifact(Digest::of(b"m")).await.unwrap().url, "https://x");
}

#[tokio::test(start_paused = true)]
async fn over_a_transport_that_measures_nothing_frames_are_counted_and_a_ping_is_timed() {
    let world = World::start(false, true, Arc::default());
    assert_eq!(world.link.traffic(), None);
    world.until(Some("mqtt")).await;
    let opened = world.link.traffic().unwrap();
    assert!(opened.sent > 0 && opened.received > 0 && opened.round_trip.is_none(), "{opened:?}");
    world.device.sample(1);
    while world.link.traffic().unwrap().round_trip.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.until_seen(|b| matches!(b, Body::Telemetry(_))).await;
    assert!(world.link.traffic().unwrap().sent > opened.sent);
    world.mqtt.store(false, Ordering::SeqCst);
    world.until(None).await;
    assert_eq!(world.link.traffic(), None);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_comes_again_in_the_next_session_is_answered_but_not_repeated() {
    let plane = Arc::new(Plane::default());
    plane.greet.lock().unwrap().push(Body::Command(Command { id: "cmd".into(), ..Command::default() }));
    let world = World::start(true, false, plane);
    let results = |b: &Body| matches!(b, Body::CommandResult(r) if r.id == "cmd");
    world.until_seen(results).await;
    world.quic.store(false, Ordering::SeqCst);
    world.until(None).await;
    world.quic.store(true, Ordering::SeqCst);
    world.until(Some("quic")).await;
    while world.plane.saw(results) < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.device.executions.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_device_asks_again_hourly_only() {
    let plane = Arc::new(Plane::default());
    let refused = Refused { code: refused::Code::Revoked.into(), message: "revoked".into(), retry_after_ms: 0 };
    plane.refuse.lock().unwrap().push(Body::Refused(refused));
    let world = World::start(true, true, plane);
    assert!(world.until(None).await.note.contains("revoked"));
    let begun = Instant::now();
    world.until(Some("quic")).await;
    assert!(begun.elapsed() >= Duration::from_secs(40 * 60), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn shutdown_says_goodbye_and_ends_the_loop() {
    let world = World::start(true, true, Arc::default());
    world.until(Some("quic")).await;
    world.shutdown.cancel();
    world.task.await.unwrap();
    assert_eq!(world.plane.saw(|b| matches!(b, Body::Goodbye(_))), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_over_the_link_where_there_is_one() {
    let plane = Arc::new(Plane::default());
    let world = World::start(true, false, Arc::clone(&plane));
    let (tenant, device) = (world.identity.tenant_id(), world.identity.device_id());
    let old = world.identity.validity();
    let chain = world.ca.issue(&world.identity.csr_der().unwrap(), tenant, device, Duration::ZERO, 30 * DAY);
    *plane.issue.lock().unwrap() = Some(Box::new(move |_| chain.clone()));
    world.until(Some("quic")).await;
    let renewed = world.identity.changed();
    let task = tokio::spawn(keep_certificate_fresh(world.identity.clone(), world.link.clone(), world.shutdown.clone()));
    renewed.await;
    assert!(world.identity.validity().1 > old.1);
    assert_eq!(Identity::load(world.dir.path()).unwrap().unwrap().validity(), world.identity.validity());
    world.shutdown.cancel();
    task.await.unwrap();
}
