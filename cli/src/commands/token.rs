//! `aidos token`: join tokens.

use super::{client, pair, seconds};
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use aidos_agent::identity::is_loopback;
use aidos_protocol::TokenId;
use aidos_protocol::api::tokens::{CreateToken, CreatedToken, TokenState, TokenView};
use clap::Subcommand;
use reqwest::Url;

/// Join tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print the one line to run on each device
    Create {
        /// How many devices may join with it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it is good for
        #[arg(long, default_value = "1h", value_parser = seconds)]
        ttl: u64,
        /// A label that each device gets; may be given more than once
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
        labels: Vec<(String, String)>,
    },
    /// List tokens
    #[command(visible_alias = "ls")]
    List,
    /// Make a token useless from now on; devices that joined with it stay
    #[command(visible_alias = "rm")]
    Delete {
        /// The token's id
        id: TokenId,
    },
}

impl Token {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        match self {
            Token::Create { uses, ttl, labels } => {
                let body = CreateToken { uses, ttl_s: ttl, labels: labels.into_iter().collect() };
                let created: CreatedToken = client.post("tokens", &body).await?;
                say("Run this on each device (the token is shown only now):");
                if on_this_machine_only(&created.command) {
                    say("note: this address reaches the control plane from this machine only. For other devices start it with \
                         --listen 0.0.0.0:7070 --tls and --public-url https://HOST:7070, then make a token there.");
                }
                output::one(global.output, &created, || created.command.clone())
            }
            Token::List => output::list(global.output, &client.list::<TokenView>("tokens", &[]).await?),
            Token::Delete { id } => {
                client.delete(&format!("tokens/{id}")).await?;
                say(&format!("{id} deleted"));
                Ok(())
            }
        }
    }
}

/// Whether the line to run names an address of loopback.
fn on_this_machine_only(command: &str) -> bool {
    let url = command.split_whitespace().find_map(|word| Url::parse(word).ok());
    url.is_some_and(|url| is_loopback(&url))
}

impl Row for TokenView {
    const COLUMNS: &'static [&'static str] = &["ID", "STATE", "USED", "EXPIRES", "LABELS", "CREATED BY", "AGE"];
    const NARROW: usize = 5;
    fn cells(&self) -> Vec<String> {
        let state = match self.state {
            TokenState::Active => "active",
            TokenState::UsedUp => "used up",
            TokenState::Expired => "expired",
        };
        vec![
            self.id.to_string(),
            state.into(),
            format!("{}/{}", self.used, self.uses),
            output::time(self.expires_at),
            output::labels(&self.labels),
            self.created_by.clone(),
            output::age(self.created_at),
        ]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for CreatedToken {
    const COLUMNS: &'static [&'static str] = &["COMMAND"];
    const NARROW: usize = 1;
    fn cells(&self) -> Vec<String> {
        vec![self.command.clone()]
    }
    fn name(&self) -> String {
        self.token.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loopback_address_is_noted() {
        for (host, noted) in [
            ("http://127.0.0.1:7070", true),
            ("https://[::1]:7070", true),
            ("https://localhost:7070", true),
            ("https://plane.example.org:7070", false),
        ] {
            assert_eq!(on_this_machine_only(&format!("aidos-agent join {host} --token aidos1.x")), noted, "{host}");
        }
    }
}
