//! `aidos top`: the fleet and its rollouts, live, for those who stay in the shell.
//!
//! [`screen`] holds what is shown and what keys do to it, without a terminal; [`draw`] draws it; [`feed`] reads the live events.
//! Here is the loop that joins them. What it asks of the control plane is bounded: one round each [`PATIENCE`] at most, and one each
//! [`QUIET`] when nothing happens.

mod draw;
mod feed;
mod screen;
#[cfg(test)]
mod tests;

use super::client;
use crate::client::{Client, Page};
use crate::error::CliError;
use crate::global::Global;
use clap::Args;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt as _;
use ratatui::DefaultTerminal;
use reqwest::Method;
use screen::{Act, Screen, Snapshot};
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::Instant;

/// The least time between two rounds.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most.
const QUIET: Duration = Duration::from_secs(10);
/// Devices that are shown; `aidos device list` has all.
const DEVICES: usize = 200;
/// Rollouts that are shown.
const ROLLOUTS: usize = 20;

/// Watch the fleet and its rollouts, live.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Only the devices of this selector
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
}

impl Top {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(CliError::Usage("`aidos top` needs a terminal; `aidos status -o json` is for programs".into()));
        }
        let client = client(global)?;
        let mut screen = Screen::new(client.url(), self.selector);
        // Before the screen is taken, so that a wrong key or address is told as ever.
        screen.fetched(fetch(&client, &screen).await?);
        let mut terminal = ratatui::try_init().map_err(unusable)?;
        let ended = watch(&client, &mut screen, &mut terminal).await;
        ratatui::restore();
        ended
    }
}

fn unusable(error: std::io::Error) -> CliError {
    CliError::failed(format!("the terminal: {error}"), "use a terminal that can move its cursor, or `aidos status --watch`")
}

async fn watch(client: &Client, screen: &mut Screen, terminal: &mut DefaultTerminal) -> Result<(), CliError> {
    let mut keys = EventStream::new();
    let mut told = feed::listen(client.clone());
    let mut last = Instant::now();
    loop {
        terminal.draw(|frame| draw::draw(frame, screen)).map_err(unusable)?;
        let due = last + if screen.is_stale() { PATIENCE } else { QUIET };
        tokio::select! {
            key = keys.next() => match key {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if let Some(Act::Quit) = screen.key(key) {
                        return Ok(());
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(unusable(error)),
                None => return Ok(()),
            },
            Some(told) = told.recv() => screen.told(told),
            () = tokio::time::sleep_until(due) => {
                match fetch(client, screen).await {
                    Ok(snapshot) => screen.fetched(snapshot),
                    Err(error) => screen.lost(&error.to_string()),
                }
                last = Instant::now();
            }
        }
    }
}

/// All that is shown, anew.
async fn fetch(client: &Client, screen: &Screen) -> Result<Snapshot, CliError> {
    let overview = client.get("overview").await?;
    let rollouts = client.request(Method::GET, "rollouts").query(&[("limit", ROLLOUTS)]);
    let rollouts: Page<_> = client.json(rollouts).await?;
    let devices = client.request(Method::GET, "devices").query(&[("limit", DEVICES)]).query(&screen.query());
    let devices: Page<_> = client.json(devices).await?;
    Ok(Snapshot { overview, rollouts: rollouts.items, devices: devices.items })
}
