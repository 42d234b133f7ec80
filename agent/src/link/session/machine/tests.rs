use super::*;
use aidos_protocol::frame::{Refused, TelemetryAck, command_result::Outcome};
use proptest::prelude::*;

const T0: Duration = Duration::from_secs(100);

fn begin() -> Event {
    let intent = IntentPosition { epoch: 1, heads: vec![vec![1; 32]] };
    Event::Begin { status: StatusPosition { boot_id: 3, seq: 9 }, intent, revocations: [7; 32], note: "n".into() }
}

fn opened(welcome: Welcome) -> (Session, Vec<Effect>) {
    let mut session = Session::new(false);
    session.step(begin(), T0);
    let effects = session.step(Event::Frame(Body::Welcome(Welcome { version: 1, ..welcome })), T0);
    (session, effects)
}

fn delta(seq: u64, full: bool) -> StatusDelta {
    StatusDelta { boot_id: 3, seq, full, ..StatusDelta::default() }
}

fn ack(seq: u64, resync: bool) -> Event {
    Event::Frame(Body::StatusAck(StatusAck { boot_id: 3, seq, resync }))
}

fn ended(effects: &[Effect]) -> Option<&End> {
    effects.iter().find_map(|e| if let Effect::End(end) = e { Some(end) } else { None })
}

fn command(id: usize) -> Event {
    Event::Frame(Body::Command(Command { id: format!("c{id}"), ..Command::default() }))
}

#[test]
fn welcome_opens_and_reads_from_where_the_plane_stands() {
    let held = Welcome { status_boot_id: 3, status_seq: 7, telemetry_seq: 40, ..Welcome::default() };
    let (session, effects) = opened(held);
    assert!(session.is_open());
    let acked = Some(StatusPosition { boot_id: 3, seq: 7 });
    let expected = [Effect::SpoolAcked(40), Effect::ReadStatus(acked), Effect::ReadSite, Effect::ReadBatch { after: 40 }];
    assert_eq!(effects[1..], expected);
    let (_, effects) = opened(Welcome::default());
    assert_eq!(effects[1], Effect::ReadStatus(None), "a plane that holds nothing gets the full map");
}

#[test]
fn one_status_frame_is_in_flight_and_news_meanwhile_follow_its_acknowledgement() {
    let (mut session, _) = opened(Welcome::default());
    assert_eq!(session.step(Event::Status(Some(delta(9, true))), T0), [Effect::Send(Body::StatusDelta(delta(9, true)))]);
    assert_eq!(session.step(Event::StatusChanged, T0), []);
    assert_eq!(session.step(ack(8, false), T0), [], "an acknowledgement of an earlier frame lands nothing");
    let effects = session.step(ack(9, false), T0);
    assert_eq!(effects[1], Effect::ReadStatus(Some(StatusPosition { boot_id: 3, seq: 9 })));
    assert_eq!(session.step(Event::Status(None), T0), []);
    assert_eq!(session.step(Event::StatusChanged, T0).len(), 1);
}

#[test]
fn news_while_a_port_is_read_are_not_lost() {
    let (mut session, _) = opened(Welcome::default());
    assert_eq!(session.step(Event::SpoolChanged, T0), []);
    assert_eq!(session.step(Event::Batch(None), T0), [Effect::ReadBatch { after: 0 }]);
}

#[test]
fn resync_sends_the_full_map_once_and_does_not_loop() {
    let (mut session, _) = opened(Welcome { status_boot_id: 3, status_seq: 7, ..Welcome::default() });
    session.step(Event::Status(Some(delta(9, false))), T0);
    assert_eq!(session.step(ack(0, true), T0)[1], Effect::ReadStatus(None));
    session.step(Event::Status(Some(delta(9, true))), T0);
    assert!(ended(&session.step(ack(0, true), T0)).is_some());
}

#[test]
fn telemetry_acknowledged_twice_is_acknowledged_once() {
    let (mut session, _) = opened(Welcome::default());
    session.step(Event::Batch(Some(Telemetry::default())), T0);
    let ack = || Event::Frame(Body::TelemetryAck(TelemetryAck { seq: 5 }));
    assert_eq!(session.step(ack(), T0), [Effect::SpoolAcked(5), Effect::ReadBatch { after: 5 }]);
    assert_eq!(session.step(ack(), T0), []);
}

#[test]
fn what_is_not_acknowledged_ends_the_session_at_its_deadline() {
    let (mut session, _) = opened(Welcome::default());
    session.step(Event::Batch(Some(Telemetry::default())), T0);
    let deadline = session.deadline().unwrap();
    assert_eq!(session.step(Event::Tick, deadline - Duration::from_millis(1)), []);
    assert!(ended(&session.step(Event::Tick, deadline)).unwrap().reason.contains("telemetry"));
    assert_eq!(session.step(command(1), deadline), [], "nothing happens after the end");
}

#[test]
fn a_hello_without_an_answer_ends() {
    let mut session = Session::new(false);
    session.step(begin(), T0);
    let effects = session.step(Event::Tick, session.deadline().unwrap());
    assert_eq!(ended(&effects).unwrap().retry, Retry::Backoff);
}

#[test]
fn each_refusal_has_its_own_patience() {
    use refused::Code;
    let retry = |code: Code, retry_after_ms| {
        let mut session = Session::new(false);
        session.step(begin(), T0);
        let refused = Refused { code: code.into(), message: String::new(), retry_after_ms };
        ended(&session.step(Event::Frame(Body::Refused(refused)), T0)).unwrap().retry
    };
    assert_eq!(retry(Code::Revoked, 0), Retry::Slow);
    assert_eq!(retry(Code::UnknownDevice, 500), Retry::Slow);
    assert_eq!(retry(Code::Overloaded, 500), Retry::After(Duration::from_millis(500)));
    assert_eq!(retry(Code::ShuttingDown, 0), Retry::Backoff);
    assert_eq!(retry(Code::Replaced, 1), Retry::After(REPLACED_PAUSE));
    assert_eq!(retry(Code::Malformed, 0), Retry::After(DEFECT_PAUSE));
}

#[test]
fn a_single_frame_that_is_refused_does_not_end_the_session() {
    let (mut session, _) = opened(Welcome::default());
    let refused = Refused { code: refused::Code::Forbidden.into(), ..Refused::default() };
    assert_eq!(session.step(Event::Frame(Body::Refused(refused)), T0), []);
    assert!(session.is_open());
}

#[test]
fn commands_beyond_the_places_wait_and_beyond_that_are_refused() {
    let (mut session, _) = opened(Welcome::default());
    let started = (0..MAX_RUNNING).map(|id| session.step(command(id), T0).len()).sum::<usize>();
    assert_eq!(started, MAX_RUNNING);
    assert_eq!(session.step(command(0), T0), [], "the same command again is on its way");
    (MAX_RUNNING..MAX_RUNNING + MAX_WAITING).for_each(|id| assert_eq!(session.step(command(id), T0), []));
    let refused = session.step(command(999), T0);
    assert!(matches!(&refused[..], [Effect::Send(Body::CommandResult(r))] if r.outcome() == Outcome::Refused));
    let done = CommandResult { id: "c3".into(), ..CommandResult::default() };
    let effects = session.step(Event::Executed(done), T0);
    assert!(matches!(&effects[..], [Effect::Send(_), Effect::Execute(next)] if next.id == "c8"));
    assert_eq!(session.step(Event::Tick, T0 + COMMAND_SLOT).len(), MAX_RUNNING, "hung commands give their places away");
}

#[test]
fn an_answer_that_fits_no_frame_becomes_a_failure_that_says_so() {
    let (mut session, _) = opened(Welcome::default());
    let payload = vec![0; frame::MAX_FRAME_BYTES].into();
    let effects = session.step(Event::Executed(CommandResult { id: "c".into(), payload, ..CommandResult::default() }), T0);
    assert!(
        matches!(&effects[..], [Effect::Send(Body::CommandResult(r))] if r.outcome() == Outcome::Failed && r.payload.is_empty())
    );
}

#[test]
fn silence_is_pinged_only_when_the_plane_asks_and_any_frame_answers() {
    let (session, _) = opened(Welcome::default());
    assert_eq!(session.deadline(), None);
    let (mut session, _) = opened(Welcome { keepalive_s: 25, ..Welcome::default() });
    let at = session.deadline().unwrap();
    assert_eq!(at, T0 + Duration::from_secs(25));
    assert!(matches!(session.step(Event::Tick, at)[..], [Effect::Send(Body::Ping(_))]));
    session.step(Event::Frame(Body::Pong(Pong { nonce: 1 })), at);
    let at = session.deadline().unwrap();
    session.step(Event::Tick, at);
    assert!(ended(&session.step(Event::Tick, session.deadline().unwrap())).unwrap().reason.contains("ping"));
}

#[test]
fn a_ping_goes_along_with_telemetry_now_and_then_and_its_answer_alone_is_a_round_trip() {
    let pong = |nonce| Event::Frame(Body::Pong(Pong { nonce }));
    let telemetry = || Event::Batch(Some(Telemetry::default()));
    let acked = |seq| Event::Frame(Body::TelemetryAck(TelemetryAck { seq }));
    let mut session = Session::new(true);
    session.step(begin(), T0);
    session.step(Event::Frame(Body::Welcome(Welcome { version: 1, ..Welcome::default() })), T0);
    let effects = session.step(telemetry(), T0);
    assert!(
        matches!(effects[..], [Effect::Send(Body::Ping(Ping { nonce: 1 })), Effect::Send(Body::Telemetry(_))]),
        "{effects:?}"
    );
    let took = Duration::from_millis(40);
    assert_eq!(session.step(pong(7), T0 + took), []);
    assert_eq!(session.step(pong(1), T0 + took), [Effect::RoundTrip(took)]);
    assert_eq!(session.step(pong(1), T0 + took * 2), [], "what a broker delivers twice is measured once");
    session.step(acked(1), T0 + took);
    assert_eq!(session.step(telemetry(), T0 + TIME_EVERY / 2).len(), 1);
    session.step(acked(2), T0 + TIME_EVERY);
    assert_eq!(session.step(telemetry(), T0 + TIME_EVERY).len(), 2);
    // One that is never answered ends nothing: the plane need not ask for pings.
    assert_eq!(session.step(acked(3), T0 + TIME_EVERY).len(), 2);
    assert_eq!(session.deadline(), None);
    let (mut own, _) = opened(Welcome::default());
    assert_eq!(own.step(telemetry(), T0).len(), 1, "a transport that measures itself needs no ping");
}

#[test]
fn an_artifact_is_asked_for_once_and_given_up_in_time() {
    let (mut session, _) = opened(Welcome::default());
    let digest = Digest::of(b"x");
    assert_eq!(session.step(Event::Artifact(digest, Held::default()), T0).len(), 1);
    assert_eq!(session.step(Event::Artifact(digest, Held::default()), T0), []);
    assert_eq!(session.step(Event::Tick, T0 + ANSWER_TIMEOUT), [Effect::GrantTimedOut(digest)]);
}

fn any_frame() -> impl Strategy<Value = Body> {
    (0u8..14, 0u64..6).prop_map(|(kind, n)| match kind {
        0 => Body::Welcome(Welcome { version: u32::from(n > 0), telemetry_seq: n, keepalive_s: 3, ..Welcome::default() }),
        1 => Body::StatusAck(StatusAck { boot_id: 3, seq: n, resync: n == 0 }),
        2 => Body::TelemetryAck(TelemetryAck { seq: n }),
        3 => Body::SiteAck(SiteAck::default()),
        4 => Body::IntentChanges(IntentChanges::default()),
        5 => Body::IntentDocument(IntentDocument::default()),
        6 | 7 => Body::Command(Command { id: n.to_string(), ..Command::default() }),
        8 => Body::ArtifactGrant(ArtifactGrant { digest: vec![u8::try_from(n).unwrap(); 32].into(), ..ArtifactGrant::default() }),
        9 => Body::RenewResponse(RenewResponse::default()),
        10 => Body::Ping(Ping { nonce: n }),
        11 => Body::Pong(Pong { nonce: n }),
        12 => Body::Refused(Refused { code: i32::try_from(n).unwrap() + 4, ..Refused::default() }),
        _ => Body::Hello(Hello::default()),
    })
}

proptest! {
    /// Frames of any kind in any order, ports that answer each read, time that passes: reads and flights never overlap, the
    /// places for commands are kept, and after the end there is silence.
    #[test]
    fn whatever_comes_flights_never_overlap(steps in proptest::collection::vec((any_frame(), 0u8..8, 0u64..20), 1..120)) {
        let mut session = Session::new(false);
        let mut now = T0;
        let mut over = session.step(begin(), now).is_empty();
        let (mut reads, mut running) = ([0usize; 3], std::collections::BTreeSet::new());
        for (body, kind, pass) in steps {
            now += Duration::from_secs(pass);
            let event = match kind {
                0 => Event::StatusChanged,
                1 => Event::SpoolChanged,
                2 => Event::Tick,
                3 if reads[0] > 0 => { reads[0] -= 1; Event::Status((pass > 3).then(|| delta(pass, false))) }
                4 if reads[1] > 0 => { reads[1] -= 1; Event::Site((pass > 3).then(SiteChanges::default)) }
                5 if reads[2] > 0 => { reads[2] -= 1; Event::Batch((pass > 3).then(Telemetry::default)) }
                _ => Event::Frame(body),
            };
            let ticked = matches!(event, Event::Tick);
            let effects = session.step(event, now);
            prop_assert!(!over || effects.is_empty(), "{effects:?} after the end");
            for effect in effects {
                match effect {
                    Effect::ReadStatus(_) => reads[0] += 1,
                    Effect::ReadSite => reads[1] += 1,
                    Effect::ReadBatch { .. } => reads[2] += 1,
                    Effect::Execute(command) => { prop_assert!(running.insert(command.id) || ticked); }
                    Effect::End(_) => over = true,
                    _ => {}
                }
                prop_assert!(reads.iter().all(|n| *n <= 1), "a port is read twice at once");
            }
        }
    }
}
