//! `aidos tenant`: tenants, for owners of the root tenant.

use super::client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use aidos_protocol::api::tenants::{CreateTenant, TenantCreated, TenantName, TenantView};
use clap::Subcommand;

/// Tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Make a tenant and print its first owner's key; it cannot be shown again
    Create {
        /// Its name
        name: TenantName,
    },
    /// List tenants
    #[command(visible_alias = "ls")]
    List,
}

impl Tenant {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        match self {
            Tenant::Create { name } => {
                let created: TenantCreated = client.post("tenants", &CreateTenant { name }).await?;
                say(&format!("Tenant `{}`. Keep its owner's key now; it is not shown again:", created.tenant.name));
                output::one(global.output, &created, || created.owner_key.clone())
            }
            Tenant::List => output::list(global.output, &client.list::<TenantView>("tenants", &[]).await?),
        }
    }
}

impl Row for TenantView {
    const COLUMNS: &'static [&'static str] = &["ID", "NAME", "ROOT", "AGE"];
    const NARROW: usize = 4;
    fn cells(&self) -> Vec<String> {
        let root = if self.root { "yes" } else { "no" };
        vec![self.id.to_string(), self.name.to_string(), root.into(), output::age(self.created_at)]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for TenantCreated {
    const COLUMNS: &'static [&'static str] = &["OWNER KEY"];
    const NARROW: usize = 1;
    fn cells(&self) -> Vec<String> {
        vec![self.owner_key.clone()]
    }
    fn name(&self) -> String {
        self.owner_key.clone()
    }
}
