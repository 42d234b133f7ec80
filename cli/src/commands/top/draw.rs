//! Draws a [`Screen`]. It decides nothing but places and colours.

use super::screen::{ORDERS, Screen, Snapshot};
use crate::commands::device;
use crate::output::{age, labels, printable};
use aidos_protocol::api::devices::{DeviceState, DeviceView};
use aidos_protocol::api::rollouts::{RolloutPhase, RolloutView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

/// Rows of events.
const EVENTS: u16 = 5;
/// Columns of a bar.
const BAR: usize = 20;

pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let rollouts = screen.snapshot.as_ref().map_or(0, |snapshot| snapshot.rollouts.len()).min(6);
    let rollouts = u16::try_from(rollouts).unwrap_or(u16::MAX) + 2;
    let rows = [Constraint::Length(4), Constraint::Length(rollouts), Constraint::Min(3), Constraint::Length(EVENTS + 1)];
    let [head, middle, devices, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(heading(screen)), head);
    if let Some(snapshot) = &screen.snapshot {
        draw_rollouts(frame, middle, snapshot);
        draw_devices(frame, devices, screen, snapshot);
    }
    draw_events(frame, foot, screen);
}

fn heading(screen: &Screen) -> Vec<Line<'static>> {
    let state = match (&screen.lost, screen.live) {
        (Some(why), _) => format!("not connected: {}", printable(why).replace('\n', " ")).fg(Color::Yellow),
        (None, true) => "live".fg(Color::Green),
        (None, false) => "connecting".fg(Color::Blue),
    };
    let mut lines = vec![Line::from(vec!["AI-DOS ".bold(), printable(&screen.url).into(), "  ".into(), state])];
    if let Some(Snapshot { overview, .. }) = &screen.snapshot {
        let counts = &overview.devices;
        let all = counts.online + counts.offline;
        lines.push(Line::from(vec![
            bar(counts.online, all).fg(Color::Green),
            format!(" {} online", counts.online).into(),
            format!("  {} offline", counts.offline).fg(if counts.offline > 0 { Color::Yellow } else { Color::Reset }),
            format!("  {} revoked  {} never seen", counts.revoked, overview.never_seen).into(),
        ]));
        let versions = overview.agent_versions.iter().take(3);
        let versions: Vec<String> = versions.map(|count| format!("{} × {}", count.devices, printable(&count.version))).collect();
        lines.push(Line::from(format!(
            "{} models  {} rollouts under way, {} paused  agents: {}  {} certificates end within a week",
            overview.models,
            overview.rollouts.running,
            overview.rollouts.paused,
            if versions.is_empty() { "-".to_owned() } else { versions.join(", ") },
            overview.certificates_expiring
        )));
    }
    lines
}

/// A bar of what part `part` is of `whole`.
fn bar(part: u64, whole: u64) -> String {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of 20 columns
    let full = if whole == 0 { 0 } else { (part as f64 / whole as f64 * BAR as f64).round() as usize }.min(BAR);
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

fn titles<'a>(words: impl IntoIterator<Item = &'a str>) -> Row<'a> {
    Row::new(words.into_iter().map(Cell::from)).style(Style::new().bold().underlined())
}

fn draw_rollouts(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(10),
        Constraint::Length(7),
        Constraint::Length(33),
        Constraint::Fill(3),
    ];
    let rows = snapshot.rollouts.iter().map(rollout);
    frame.render_widget(Table::new(rows, widths).header(titles(["ROLLOUT", "TO", "PHASE", "WAVE", "DONE", "WHY"])), area);
}

fn rollout(rollout: &RolloutView) -> Row<'static> {
    let sum = |count: fn(&aidos_protocol::api::rollouts::WaveView) -> u64| rollout.waves.iter().map(count).sum::<u64>();
    let (devices, done, failed) = (sum(|wave| wave.devices), sum(|wave| wave.succeeded), sum(|wave| wave.failed + wave.silent));
    let colour = match rollout.phase {
        RolloutPhase::Running => Color::Blue,
        RolloutPhase::Paused => Color::Yellow,
        RolloutPhase::Finished => Color::Green,
        RolloutPhase::Aborted => Color::Red,
        RolloutPhase::Superseded => Color::Reset,
    };
    let mut progress = vec![bar(done, devices).fg(colour), format!(" {done}/{devices}").into()];
    if failed > 0 {
        progress.push(format!(" {failed} failed").fg(Color::Red));
    }
    Row::new([
        Cell::from(printable(&format!("{}@{}", rollout.subject, rollout.version))),
        Cell::from(printable(&rollout.selector.to_string())),
        Cell::from(Span::from(crate::commands::rollout::phase(rollout.phase)).fg(colour)),
        Cell::from(format!("{}/{}", rollout.wave, rollout.waves.len())),
        Cell::from(Line::from(progress)),
        Cell::from(printable(&rollout.reason).replace('\n', " ")),
    ])
}

fn draw_devices(frame: &mut Frame<'_>, area: Rect, screen: &Screen, snapshot: &Snapshot) {
    let widths = [
        Constraint::Fill(3),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Fill(4),
    ];
    let rows = snapshot.devices.iter().skip(screen.offset).map(device_row);
    frame.render_widget(
        Table::new(rows, widths).header(titles(["DEVICE", "STATE", "LINK", "AGENT", "LAST SEEN", "LABELS"])),
        area,
    );
}

fn device_row(device: &DeviceView) -> Row<'static> {
    let colour = match device.state {
        DeviceState::Online => Color::Green,
        DeviceState::Offline => Color::Yellow,
        DeviceState::Revoked => Color::Red,
    };
    let text = |text: &Option<String>| printable(text.as_deref().unwrap_or("-"));
    Row::new([
        Cell::from(printable(&device.name)),
        Cell::from(Span::from(device::state(device.state)).fg(colour)),
        Cell::from(text(&device.transport)),
        Cell::from(text(&device.agent_version)),
        Cell::from(device.last_seen_at.map_or("never".to_owned(), |at| format!("{} ago", age(at)))),
        Cell::from(printable(&labels(&device.labels))),
    ])
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let keys = format!(
        "q quit   ↑↓ scroll   f devices: {}   s order: {}   r refresh{}",
        screen.show.word(),
        ORDERS[screen.order],
        if screen.selector.is_empty() { String::new() } else { format!("   of {}", printable(&screen.selector)) }
    );
    let mut lines: Vec<Line<'_>> = screen
        .events
        .iter()
        .take(EVENTS.into())
        .map(|event| {
            Line::from(format!("{:>5} ago  {}  {}", age(event.at), printable(&event.kind), printable(&event.resource))).dim()
        })
        .collect();
    lines.resize(EVENTS.into(), Line::default());
    lines.push(Line::from(keys).reversed());
    frame.render_widget(Paragraph::new(lines), area);
}
