//! What is shown of what was fetched and told, on a terminal of cells.

use super::draw::draw;
use super::feed::Told;
use super::screen::{Act, Screen, Show, Snapshot};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

fn device(name: &str, state: &str) -> Value {
    json!({
        "id": "dev_01890000000070008000000000000001", "name": name, "state": state, "labels": { "site": "lab" },
        "transport": "quic", "address": null, "agent_version": "0.1.0", "created_at": 0, "last_seen_at": null,
        "certificate_expires_at": 0, "revoked_at": null
    })
}

fn rollout(reason: &str) -> Value {
    json!({
        "id": "dep_01890000000070008000000000000002", "subject": "digits", "version": "2", "selector": "site=lab", "plan": {},
        "phase": "aborted", "reason": reason, "wave": 1, "stage": "change", "reverted": true,
        "waves": [{ "share": "100%", "devices": 4, "waiting": 0, "changing": 0, "trying": 0, "running": 0, "succeeded": 3,
            "failed": 1, "silent": 0 }],
        "gates": [], "bytes_fetched": 0, "bytes_saved": 0, "created_at": 0, "created_by": "key_x", "updated_at": 0
    })
}

fn snapshot(devices: &[Value], rollouts: &[Value]) -> Snapshot {
    let overview = json!({
        "devices": { "online": 3, "offline": 1, "revoked": 2 }, "never_seen": 1, "certificates_expiring": 0,
        "agent_versions": [{ "version": "0.1.0", "devices": 4 }], "rollouts": { "running": 0, "paused": 1 }, "models": 5,
        "server_version": "0.1.0", "now": 0
    });
    let read = |values: &[Value]| Value::Array(values.to_vec());
    Snapshot {
        overview: serde_json::from_value(overview).unwrap(),
        rollouts: serde_json::from_value(read(rollouts)).unwrap(),
        devices: serde_json::from_value(read(devices)).unwrap(),
    }
}

fn shown(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    terminal.backend().to_string()
}

fn press(screen: &mut Screen, code: KeyCode) -> Option<Act> {
    screen.key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn the_fleet_its_rollouts_and_what_happens_are_seen_at_once() {
    let mut screen = Screen::new("https://plane:7070", "site=lab".into());
    assert!(shown(&screen, 120, 30).contains("connecting"));
    screen.told(Told::Connected);
    screen.fetched(snapshot(&[device("edge-1", "online"), device("edge-2", "offline")], &[rollout("error_rate is 12 %")]));
    let event = json!({ "kind": "device.online", "resource": "dev_1", "at": 0, "data": {} });
    screen.told(Told::Event(serde_json::from_value(event).unwrap()));
    let text = shown(&screen, 140, 30);
    for part in [
        "https://plane:7070  live",
        "3 online  1 offline  2 revoked  1 never seen",
        "5 models",
        "1 paused",
        "4 × 0.1.0",
        "digits@2",
        "aborted",
        "███████████████░░░░░ 3/4 1 failed",
        "error_rate is 12 %",
        "edge-1",
        "edge-2",
        "site=lab",
        "device.online",
        "q quit",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn what_was_shown_stays_when_the_control_plane_is_gone_and_says_so() {
    let mut screen = Screen::new("https://plane:7070", String::new());
    screen.fetched(snapshot(&[device("edge-1", "online")], &[]));
    screen.told(Told::Ended);
    screen.lost("plane:7070 does not answer");
    let text = shown(&screen, 120, 24);
    assert!(text.contains("not connected: plane:7070 does not answer") && text.contains("edge-1"), "{text}");
    assert!(!screen.is_stale(), "it would ask each second");
}

#[test]
fn keys_scroll_filter_sort_and_end_it() {
    let mut screen = Screen::new("", String::new());
    let devices: Vec<Value> = (0..30).map(|n| device(&format!("edge-{n:02}"), "online")).collect();
    screen.fetched(snapshot(&devices, &[]));
    press(&mut screen, KeyCode::Down);
    let text = shown(&screen, 100, 24);
    assert!(!text.contains("edge-00") && text.contains("edge-01"), "{text}");
    press(&mut screen, KeyCode::End);
    press(&mut screen, KeyCode::Down);
    assert_eq!(screen.offset, 29);
    press(&mut screen, KeyCode::Home);
    press(&mut screen, KeyCode::Up);
    assert_eq!((screen.offset, screen.is_stale()), (0, false));

    press(&mut screen, KeyCode::Char('f'));
    press(&mut screen, KeyCode::Char('s'));
    assert_eq!((screen.show, screen.is_stale()), (Show::Online, true));
    assert_eq!(screen.query(), [("sort", "last_seen".to_owned()), ("state", "online".to_owned())]);
    screen.fetched(snapshot(&devices[..2], &[]));
    assert!(!screen.is_stale());
    for (code, modifiers) in [('q', KeyModifiers::NONE), ('c', KeyModifiers::CONTROL)] {
        assert_eq!(screen.key(KeyEvent::new(KeyCode::Char(code), modifiers)), Some(Act::Quit));
    }
}

#[test]
fn names_from_elsewhere_cannot_steer_the_terminal_and_no_size_is_too_small() {
    let mut screen = Screen::new("https://plane", String::new());
    let evil = "\u{1b}[2J\u{7}evil\nline";
    screen.fetched(snapshot(&[device(evil, "offline"), device(&"w".repeat(10_000), "revoked")], &[rollout(evil)]));
    for (width, height) in [(1, 1), (10, 3), (40, 8), (80, 24), (300, 100)] {
        let text = shown(&screen, width, height);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text}");
    }
    // What happens is kept within bounds.
    let event = json!({ "kind": "device.online", "resource": "dev_1", "at": 0, "data": {} });
    for _ in 0..1_000 {
        screen.told(Told::Event(serde_json::from_value(event.clone()).unwrap()));
    }
    assert_eq!(screen.events.len(), 100);
}
