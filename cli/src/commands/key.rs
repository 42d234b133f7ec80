//! `aidos key`: API keys.

use super::{client, seconds};
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use aidos_protocol::ApiKeyId;
use aidos_protocol::api::keys::{CreateKey, KeyCreated, KeyView, Role};
use clap::Subcommand;

/// API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key and print it; it cannot be shown again
    Create {
        /// What it is for
        name: String,
        /// viewer, operator or owner
        #[arg(long, default_value_t = Role::Viewer)]
        role: Role,
        /// How long it is good for [default: until revoked]
        #[arg(long, value_parser = seconds)]
        ttl: Option<u64>,
    },
    /// List keys
    #[command(visible_alias = "ls")]
    List,
    /// Make a key useless from now on
    #[command(visible_alias = "rm")]
    Revoke {
        /// The key's id
        id: ApiKeyId,
    },
}

impl Key {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        match self {
            Key::Create { name, role, ttl } => {
                let created: KeyCreated = client.post("keys", &CreateKey { name, role, ttl_s: ttl }).await?;
                say("Keep this key now; it is not shown again:");
                output::one(global.output, &created, || created.secret.clone())
            }
            Key::List => output::list(global.output, &client.list::<KeyView>("keys", &[]).await?),
            Key::Revoke { id } => {
                client.delete(&format!("keys/{id}")).await?;
                say(&format!("{id} revoked"));
                Ok(())
            }
        }
    }
}

impl Row for KeyView {
    const COLUMNS: &'static [&'static str] = &["ID", "NAME", "ROLE", "STARTS WITH", "STATE", "LAST USED", "CREATED BY", "AGE"];
    const NARROW: usize = 6;
    fn cells(&self) -> Vec<String> {
        let state = match (self.revoked_at, self.expires_at) {
            (Some(_), _) => "revoked".into(),
            (None, Some(end)) => format!("until {}", output::time(end)),
            (None, None) => "active".into(),
        };
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.role.to_string(),
            self.hint.clone(),
            state,
            self.last_used_at.map_or("never".into(), output::age),
            self.created_by.clone(),
            output::age(self.created_at),
        ]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for KeyCreated {
    const COLUMNS: &'static [&'static str] = &["KEY"];
    const NARROW: usize = 1;
    fn cells(&self) -> Vec<String> {
        vec![self.secret.clone()]
    }
    fn name(&self) -> String {
        self.secret.clone()
    }
}
