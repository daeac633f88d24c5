use std::collections::HashSet;

use clap::{Args, Subcommand};
use serde_json::json;

use super::desk::{ConfigArg, Desk};
use super::exit::Failure;
use super::output::{self, Format};
use crate::model::{Client, ClientId};
use crate::storage::SetClientState;

/// Clients of a tenant, of the configuration and of run time
#[derive(Debug, Args)]
pub(super) struct Clients {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the clients
    List {
        /// The tenant's name
        #[arg(short, long)]
        tenant: String,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Disable a client; its grants and tokens are revoked at once
    Disable(Which),
    /// Let a disabled client work again
    Enable(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// The tenant's name
    #[arg(short, long)]
    tenant: String,
    /// The client's id
    client: String,
}

impl Clients {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let desk = Desk::open(&self.config).await?;
        let result = match self.command {
            Command::List { tenant, output } => list(&desk, &tenant, output).await,
            Command::Disable(which) => set(&desk, &which, true).await,
            Command::Enable(which) => set(&desk, &which, false).await,
        };
        desk.close().await;
        result
    }
}

async fn list(desk: &Desk, tenant: &str, format: Format) -> Result<(), Failure> {
    let (record, store) = desk.tenant(tenant).await?;
    let disabled: HashSet<ClientId> =
        store.client_states().await?.into_iter().map(|state| state.client).collect();
    let describe = |client: &Client, origin: &str| {
        json!({
            "id": client.id, "name": client.name, "origin": origin,
            "type": if client.is_public() { "public" } else { "confidential" },
            "auth_method": client.auth_method.as_str(),
            "grants": client.grants.iter().map(|grant| grant.as_str()).collect::<Vec<_>>().join(" "),
            "state": if disabled.contains(&client.id) || !client.enabled { "disabled" } else { "enabled" },
        })
    };
    let mut records = Vec::new();
    if let Some(settings) = desk.settings.tenants.get(&record.slug) {
        records.extend(settings.clients.iter().map(|client| describe(client, "configuration")));
    }
    records.extend(store.list_clients().await?.iter().map(|client| describe(client, "run time")));
    output::list(
        format,
        &["id", "name", "type", "auth_method", "grants", "origin", "state"],
        &records,
    );
    Ok(())
}

async fn set(desk: &Desk, which: &Which, disabled: bool) -> Result<(), Failure> {
    let (record, store) = desk.tenant(&which.tenant).await?;
    let id = ClientId::new(&which.client);
    let configured = desk
        .settings
        .tenants
        .get(&record.slug)
        .is_some_and(|tenant| tenant.clients.iter().any(|client| client.id == id));
    if !configured && store.find_client(&id).await?.is_none() {
        return Err(Failure::because(format!("there is no client `{id}`")));
    }
    let outcome = store.set_client_disabled(&id, disabled, &desk.change(&record.slug)).await?;
    output::talk(match (outcome, disabled) {
        (SetClientState::Unchanged, _) => "it was so already",
        (SetClientState::Changed, true) => "disabled; its grants and tokens are revoked",
        (SetClientState::Changed, false) => {
            "enabled; right after it was disabled, tokens are issued again within 10 seconds"
        }
    });
    Ok(())
}
