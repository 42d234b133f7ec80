//! `aidos open`: a link that signs a browser in, once.

use super::client;
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Format};
use crate::progress::say;
use aidos_protocol::api::sessions::LoginLinkView;
use clap::Args;
use std::process::{Command, Stdio};

/// Open the dashboard, signed in with the key of this context.
#[derive(Debug, Args)]
pub(crate) struct Open {
    /// Print the link only; it works once, for ten minutes
    #[arg(long)]
    print: bool,
}

impl Open {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        let link: LoginLinkView = client.post("login-links", &()).await?;
        let url = address(&client, &link);
        match global.output {
            Format::Json | Format::Yaml => {
                return output::value(global.output, &serde_json::json!({ "url": url, "expires_at": link.expires_at }));
            }
            Format::Table | Format::Wide | Format::Name => output::line(&url)?,
        }
        if !self.print && has_screen() && !started(&url) {
            say("no browser could be started; open the link above in one: it works once, for ten minutes");
        }
        Ok(())
    }
}

/// A link that signs whoever opens it in, once.
pub(super) async fn link(client: &Client) -> Result<String, CliError> {
    Ok(address(client, &client.post("login-links", &()).await?))
}

fn address(client: &Client, link: &LoginLinkView) -> String {
    format!("{}{}", client.url().trim_end_matches('/'), link.path)
}

/// On a server reached by SSH there is none.
fn has_screen() -> bool {
    cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some())
}

fn started(url: &str) -> bool {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut browser = Command::new(program);
    browser.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    browser.spawn().is_ok()
}
