//! `aidos activity`: who did what to what, and from where.

use super::client;
use super::watch::{Watch, watch};
use crate::client::Page;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use aidos_protocol::api::activity::ActivityView;
use clap::Args;
use reqwest::Method;

/// Who did what to what, from where.
#[derive(Debug, Args)]
pub(crate) struct Activity {
    /// How many of the newest entries
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    #[command(flatten)]
    watch: Watch,
}

impl Activity {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        watch(self.watch, async || {
            let request = client.request(Method::GET, "activity").query(&[("limit", self.limit)]);
            let page: Page<ActivityView> = client.json(request).await?;
            output::list(global.output, &page.items)
        })
        .await
    }
}

impl Row for ActivityView {
    const COLUMNS: &'static [&'static str] = &["TIME", "ACTOR", "ACTION", "TARGET", "FROM", "DETAIL"];
    const NARROW: usize = 5;
    fn cells(&self) -> Vec<String> {
        vec![
            output::time(self.at),
            self.actor.clone(),
            self.action.clone(),
            self.target.clone(),
            self.from.clone().unwrap_or_else(|| "-".into()),
            self.detail.to_string(),
        ]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}
