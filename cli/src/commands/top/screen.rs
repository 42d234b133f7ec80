//! What `aidos top` shows, and what keys and events do to it. Pure: no terminal, no network.

use super::feed::Told;
use aidos_protocol::api::devices::DeviceView;
use aidos_protocol::api::events::{EventView, RESET};
use aidos_protocol::api::overview::OverviewView;
use aidos_protocol::api::rollouts::RolloutView;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::VecDeque;

/// Events that are kept.
const EVENTS: usize = 100;

/// What one round fetched.
pub(super) struct Snapshot {
    pub(super) overview: OverviewView,
    pub(super) rollouts: Vec<RolloutView>,
    pub(super) devices: Vec<DeviceView>,
}

/// What follows from a key, beside what is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Quit,
}

/// Which devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    All,
    Online,
    Offline,
}

impl Show {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::All => Self::Online,
            Self::Online => Self::Offline,
            Self::Offline => Self::All,
        }
    }
}

/// The order of the devices, as the API names it.
pub(super) const ORDERS: [&str; 3] = ["name", "last_seen", "newest"];

/// All that is shown.
pub(super) struct Screen {
    pub(super) url: String,
    pub(super) selector: String,
    pub(super) snapshot: Option<Snapshot>,
    /// Newest first.
    pub(super) events: VecDeque<EventView>,
    /// Whether events arrive.
    pub(super) live: bool,
    /// Why the last round failed; what is shown is of the one before.
    pub(super) lost: Option<String>,
    pub(super) show: Show,
    pub(super) order: usize,
    /// The first device that is shown.
    pub(super) offset: usize,
    stale: bool,
}

impl Screen {
    pub(super) fn new(url: &str, selector: String) -> Self {
        Self {
            url: url.to_owned(),
            selector,
            snapshot: None,
            events: VecDeque::new(),
            live: false,
            lost: None,
            show: Show::All,
            order: 0,
            offset: 0,
            stale: false,
        }
    }

    /// What the list of devices is asked for.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("sort", ORDERS[self.order].to_owned())];
        if !self.selector.is_empty() {
            query.push(("selector", self.selector.clone()));
        }
        if self.show != Show::All {
            query.push(("state", self.show.word().to_owned()));
        }
        query
    }

    /// Whether something changed since what is shown was fetched.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(super) fn fetched(&mut self, snapshot: Snapshot) {
        self.offset = self.offset.min(snapshot.devices.len().saturating_sub(1));
        self.snapshot = Some(snapshot);
        self.lost = None;
        self.stale = false;
    }

    /// A round failed. What was shown stays; the next round is not hurried.
    pub(super) fn lost(&mut self, why: &str) {
        self.lost = Some(why.to_owned());
        self.stale = false;
    }

    pub(super) fn told(&mut self, told: Told) {
        match told {
            Told::Connected => (self.live, self.stale) = (true, true),
            Told::Ended => self.live = false,
            Told::Event(event) => {
                self.stale = true;
                if event.kind != RESET {
                    self.events.push_front(*event);
                    self.events.truncate(EVENTS);
                }
            }
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Act> {
        let most = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.devices.len().saturating_sub(1));
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Some(Act::Quit),
            KeyCode::Char('q') | KeyCode::Esc => return Some(Act::Quit),
            KeyCode::Down | KeyCode::Char('j') => self.offset = (self.offset + 1).min(most),
            KeyCode::Up | KeyCode::Char('k') => self.offset = self.offset.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.offset = (self.offset + 10).min(most),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(10),
            KeyCode::Home => self.offset = 0,
            KeyCode::End => self.offset = most,
            KeyCode::Char('f') => (self.show, self.offset, self.stale) = (self.show.next(), 0, true),
            KeyCode::Char('s') => (self.order, self.offset, self.stale) = ((self.order + 1) % ORDERS.len(), 0, true),
            KeyCode::Char('r') => self.stale = true,
            _ => {}
        }
        None
    }
}
