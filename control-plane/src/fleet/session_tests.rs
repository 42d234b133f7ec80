//! The session machine without any I/O: each frame, each refusal, and what must hold whatever comes.

use super::*;
use aidos_protocol::frame::refused::Code;
use proptest::prelude::*;

const NOW: Micros = Micros(1_700_000_000_000_000);

fn session() -> Session {
    Session::new(Settings { keepalive_s: 60, endpoints: frame::Endpoints::default() }, NOW)
}
fn bytes(body: Body) -> Event {
    Event::Received(frame::encode(1, body).unwrap())
}
fn hello() -> Hello {
    Hello { min_version: 1, max_version: 1, intent_epoch: 1, intent_heads: vec![vec![7; 32].into()], ..Default::default() }
}
fn open() -> Session {
    let mut session = session();
    session.step(bytes(Body::Hello(hello())), NOW);
    session.step(Event::Admitted(Position::default()), NOW);
    session.step(Event::IntentPulled(None), NOW);
    session
}
fn command(id: CommandId) -> Command {
    Command { id: id.to_string(), expires_us: NOW.plus_seconds(60).0, ..Default::default() }
}
fn changes() -> Option<Body> {
    Some(Body::IntentChanges(frame::IntentChanges { epoch: 1, changes: vec![1].into() }))
}
fn refusal_in(effects: &[Effect]) -> Option<Code> {
    match effects {
        [Effect::Send(Body::Refused(refused)), Effect::Close] => Some(refused.code()),
        _ => None,
    }
}

#[test]
fn hello_leads_to_welcome_then_to_what_the_device_lacks() {
    let mut session = session();
    assert_eq!(session.step(bytes(Body::Hello(hello())), NOW), [Effect::Admit(hello())]);
    let twin = TwinPosition { status_boot_id: 3, status_seq: 4, ..Default::default() };
    let position = Position { telemetry_seq: 9, twin };
    let effects = session.step(Event::Admitted(position), NOW);
    let [Effect::Send(Body::Welcome(welcome)), Effect::PullIntent(from), Effect::FetchCommands] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((welcome.telemetry_seq, welcome.status_boot_id, welcome.status_seq), (9, 3, 4));
    assert_eq!((welcome.version, welcome.server_time_us, welcome.keepalive_s), (1, NOW.0, 60));
    assert_eq!(from.heads, [vec![7; 32]]);
}

#[test]
fn a_device_that_takes_revocations_is_sent_each_list_once_and_an_older_agent_none() {
    let mut older = open();
    assert_eq!(older.step(Event::RevocationsChanged, NOW), []);
    let mut session = session();
    let held = Bytes::from(vec![5; 32]);
    session.step(bytes(Body::Hello(Hello { revocations: held.clone(), ..hello() })), NOW);
    let effects = session.step(Event::Admitted(Position::default()), NOW);
    assert_eq!(effects[1], Effect::PullRevocations(held.clone()));
    assert_eq!(session.step(Event::RevocationsPulled(None), NOW), []);
    assert_eq!(session.step(Event::RevocationsChanged, NOW), [Effect::PullRevocations(held)]);
    let list = frame::Revocations { devices: vec![vec![1; 16].into()] };
    let sent = session.step(Event::RevocationsPulled(Some(list.clone())), NOW);
    assert_eq!(sent, [Effect::Send(Body::Revocations(list))]);
    let now_held = Bytes::from(frame::revocations_digest([&[1; 16][..]]).to_vec());
    assert_eq!(session.step(Event::RevocationsChanged, NOW), [Effect::PullRevocations(now_held)]);
}

#[test]
fn nothing_is_acted_on_before_hello() {
    for body in [Body::Ping(frame::Ping { nonce: 1 }), Body::Telemetry(frame::Telemetry::default())] {
        assert_eq!(refusal_in(&session().step(bytes(body), NOW)), Some(Code::Malformed));
    }
}

#[test]
fn a_peer_without_a_common_version_learns_both_ranges_in_its_own_version() {
    let mut session = session();
    let effects = session.step(bytes(Body::Hello(Hello { min_version: 7, max_version: 9, ..hello() })), NOW);
    assert_eq!((refusal_in(&effects), session.version()), (Some(Code::Version), 9));
    let Effect::Send(Body::Refused(refused)) = &effects[0] else { unreachable!() };
    assert!(refused.message.contains("7 to 9"), "{}", refused.message);
}

#[test]
fn bad_bytes_are_refused_by_their_fault() {
    let oversized = Event::Received(Bytes::from(vec![0; frame::MAX_FRAME_BYTES + 1]));
    assert_eq!(refusal_in(&open().step(oversized, NOW)), Some(Code::TooLarge));
    assert_eq!(refusal_in(&open().step(Event::Received(Bytes::from_static(&[0xff; 40])), NOW)), Some(Code::Malformed));
    let newer = frame::encode(99, Body::Ping(frame::Ping { nonce: 1 })).unwrap();
    assert_eq!(refusal_in(&open().step(Event::Received(newer), NOW)), Some(Code::Version));
    let forged = Body::Welcome(frame::Welcome::default());
    assert_eq!(refusal_in(&open().step(bytes(forged), NOW)), Some(Code::Forbidden));
}

#[test]
fn each_frame_of_a_device_has_its_effect() {
    let mut session = open();
    let mut of = |body: Body| session.step(bytes(body), NOW);
    assert!(matches!(of(Body::StatusDelta(Default::default()))[..], [Effect::ApplyStatus(_)]));
    assert!(matches!(of(Body::SiteChanges(Default::default()))[..], [Effect::MergeSite(_)]));
    assert!(matches!(of(Body::Telemetry(Default::default()))[..], [Effect::StoreTelemetry(_)]));
    assert!(matches!(of(Body::RenewRequest(Default::default()))[..], [Effect::Renew(_)]));
    assert!(matches!(of(Body::Ping(frame::Ping { nonce: 5 }))[..], [Effect::Send(Body::Pong(frame::Pong { nonce: 5 }))]));
    let digest = Digest::of(b"x");
    let base = Digest::of(b"base");
    let asked = Body::ArtifactRequest(frame::ArtifactRequest {
        digest: digest.as_bytes().to_vec().into(),
        bases: vec![vec![1].into(), base.as_bytes().to_vec().into()],
        window_log: 20,
    });
    assert_eq!(of(asked), [Effect::Grant(Wish { digest, bases: vec![base], window_log: 20 })], "what is no digest is no base");
    let effects = of(Body::ArtifactRequest(frame::ArtifactRequest { digest: vec![1].into(), ..Default::default() }));
    assert!(matches!(&effects[..], [Effect::Send(Body::ArtifactGrant(grant))] if !grant.error.is_empty()));
    let ack = frame::IntentAck { epoch: 2, heads: vec![vec![1; 32].into()], resync: false, pending_epoch: 1 };
    assert_eq!(
        of(Body::IntentAck(ack)),
        [Effect::AckIntent { at: IntentPosition { epoch: 2, heads: vec![vec![1; 32].into()] }, pending: 1 }]
    );
    assert!(matches!(of(Body::Goodbye(Default::default()))[..], [Effect::Send(Body::Goodbye(_)), Effect::Close]));
}

#[test]
fn edits_made_while_an_update_is_in_flight_follow_its_acknowledgement_as_one() {
    let mut session = open();
    assert!(matches!(session.step(Event::IntentChanged, NOW)[..], [Effect::PullIntent(_)]));
    assert!(matches!(session.step(Event::IntentPulled(changes()), NOW)[..], [Effect::Send(_)]));
    assert!(session.step(Event::IntentChanged, NOW).is_empty());
    assert!(session.step(Event::IntentChanged, NOW).is_empty());
    let effects = session.step(bytes(Body::IntentAck(frame::IntentAck { epoch: 1, ..Default::default() })), NOW);
    assert!(matches!(effects[..], [Effect::AckIntent { .. }, Effect::PullIntent(_)]), "{effects:?}");
}

#[test]
fn a_device_that_cannot_apply_gets_a_document_and_is_not_asked_for_ever() {
    let mut session = open();
    session.step(Event::IntentPulled(changes()), NOW);
    let resync = || bytes(Body::IntentAck(frame::IntentAck { epoch: 1, resync: true, ..Default::default() }));
    assert_eq!(session.step(resync(), NOW), [Effect::PullIntent(IntentPosition::default())]);
    session.step(Event::IntentPulled(changes()), NOW);
    session.step(resync(), NOW);
    session.step(Event::IntentPulled(changes()), NOW);
    assert_eq!(refusal_in(&session.step(resync(), NOW)), Some(Code::Malformed));
}

#[test]
fn an_update_that_is_not_acknowledged_is_sent_again() {
    let mut session = open();
    session.step(Event::IntentPulled(changes()), NOW);
    let later = session.deadline().unwrap();
    assert_eq!(later, NOW.plus_seconds(INTENT_ACK_TIMEOUT_S));
    assert!(matches!(session.step(Event::Tick, later)[..], [Effect::PullIntent(_)]));
}

#[test]
fn commands_are_bounded_sent_once_and_make_room_when_answered_or_expired() {
    let mut session = open();
    let ids: Vec<CommandId> = (1..=20).map(CommandId::new).collect();
    let all: Vec<Command> = ids.iter().copied().map(command).collect();
    let sent = session.step(Event::CommandsPending(all.clone()), NOW);
    assert_eq!(sent.len(), 2 * MAX_COMMANDS);
    assert!(session.step(Event::CommandsPending(all.clone()), NOW).is_empty());
    assert!(session.step(Event::CommandsWaiting, NOW).is_empty());
    let result = frame::CommandResult { id: ids[0].to_string(), ..Default::default() };
    let effects = session.step(bytes(Body::CommandResult(result)), NOW);
    assert!(matches!(effects[..], [Effect::FinishCommand(_), Effect::FetchCommands]));
    let end = NOW.plus_seconds(60 + COMMAND_GRACE_S);
    assert_eq!(session.step(Event::Tick, end).last(), Some(&Effect::FetchCommands));
    assert!(session.step(Event::CommandsPending(all), end).is_empty(), "expired commands are not sent");
}

#[test]
fn a_silent_device_is_let_go_and_one_that_never_says_hello_too() {
    let mut quiet = open();
    let end = quiet.deadline().unwrap();
    assert_eq!(quiet.step(Event::Tick, end), [Effect::Close]);
    let mut mute = session();
    let end = mute.deadline().unwrap();
    assert_eq!(refusal_in(&mute.step(Event::Tick, end)), Some(Code::Malformed));
}

#[test]
fn a_second_hello_admits_again() {
    assert!(matches!(open().step(bytes(Body::Hello(hello())), NOW)[..], [Effect::Admit(_)]));
}

fn any_event() -> impl Strategy<Value = Event> {
    let ids: Vec<CommandId> = (1..=12).map(CommandId::new).collect();
    let results = ids.clone();
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64).prop_map(|b| Event::Received(b.into())),
        Just(bytes(Body::Hello(hello()))),
        Just(Event::Admitted(Position::default())),
        any::<bool>().prop_map(|resync| bytes(Body::IntentAck(frame::IntentAck { resync, ..Default::default() }))),
        any::<bool>().prop_map(|some| Event::IntentPulled(if some { changes() } else { None })),
        Just(Event::CommandsPending(ids.iter().copied().map(command).collect())),
        (0..12usize).prop_map(move |i| {
            bytes(Body::CommandResult(frame::CommandResult { id: results[i].to_string(), ..Default::default() }))
        }),
        Just(Event::IntentChanged),
        Just(Event::CommandsWaiting),
        Just(Event::Tick),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_the_invariants_hold(events in proptest::collection::vec((any_event(), 0..40i64), 0..60)) {
        let mut session = session();
        let (mut now, mut admitted, mut unacknowledged) = (NOW, false, 0);
        for (event, seconds) in events {
            now = now.plus_seconds(seconds);
            let closed = session.is_closed();
            // Commands finish, and updates are acknowledged or given up, only by these.
            if matches!(&event, Event::Received(_) | Event::Tick | Event::Admitted(_)) {
                unacknowledged = 0;
            }
            let effects = session.step(event.clone(), now);
            prop_assert!(!closed || effects.is_empty());
            for effect in &effects {
                match effect {
                    Effect::Send(Body::Welcome(_)) => admitted = true,
                    Effect::Send(Body::IntentChanges(_)) => unacknowledged += 1,
                    Effect::Admit(_) | Effect::Close | Effect::Send(Body::Refused(_)) => {}
                    _ => prop_assert!(admitted, "{effect:?} before the device was admitted"),
                }
                prop_assert!(unacknowledged <= 1);
            }
            if let State::Open(open) = &session.state {
                prop_assert!(open.commands.len() <= MAX_COMMANDS);
                prop_assert!(session.deadline().is_some());
            }
        }
    }
}
