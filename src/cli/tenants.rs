use clap::{Args, Subcommand};
use serde_json::json;

use super::desk::{ConfigArg, Desk};
use super::exit::Failure;
use super::output::{self, Format};
use crate::storage::ChangeTenant;

/// Tenants, as storage knows them
#[derive(Debug, Args)]
pub(super) struct Tenants {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tenants. One without an issuer is not in the configuration and not served; so is
    /// `default`, which comes with the schema for SQL written by hand, unless it is configured
    List {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Suspend a tenant: every endpoint answers 404, its tokens are revoked, its data stays
    Suspend {
        /// The tenant's name
        tenant: String,
    },
    /// Let a suspended tenant serve again
    Resume {
        /// The tenant's name
        tenant: String,
    },
    /// Delete a tenant with its users, keys, clients and grants; this cannot be undone
    Delete {
        /// The tenant's name
        tenant: String,
        /// The name again, to confirm
        #[arg(long, value_name = "TENANT")]
        confirm: String,
    },
}

impl Tenants {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let desk = Desk::open(&self.config).await?;
        let result = self.command.run(&desk).await;
        desk.close().await;
        result
    }
}

impl Command {
    async fn run(self, desk: &Desk) -> Result<(), Failure> {
        match self {
            Self::List { output } => {
                let records: Vec<_> = desk
                    .store
                    .list_tenants()
                    .await?
                    .into_iter()
                    .map(|tenant| {
                        let settings = desk.settings.tenants.get(&tenant.slug);
                        json!({
                            "name": tenant.slug, "uid": tenant.uid, "status": tenant.status.as_str(),
                            "issuer": settings.map(|settings| settings.issuer.clone()),
                            "created": tenant.created_at.to_string(),
                        })
                    })
                    .collect();
                output::list(output, &["name", "status", "issuer", "uid", "created"], &records);
                Ok(())
            }
            Self::Suspend { tenant } => {
                let (record, _) = desk.tenant(&tenant).await?;
                let change = desk.change(&record.slug);
                done(desk.store.suspend_tenant(&record.uid, &change).await?, "suspended")
            }
            Self::Resume { tenant } => {
                let (record, _) = desk.tenant(&tenant).await?;
                done(
                    desk.store.resume_tenant(&record.uid, desk.now, &desk.audit).await?,
                    "serves again",
                )
            }
            Self::Delete { tenant, confirm } => {
                if tenant != confirm {
                    return Err(Failure::because(format!(
                        "nothing was deleted: say `--confirm {tenant}` to delete `{tenant}`"
                    )));
                }
                let (record, _) = desk.tenant(&tenant).await?;
                let change = desk.change(&record.slug);
                done(desk.store.delete_tenant(&record.uid, &change).await?, "deleted")?;
                if desk.settings.tenants.contains_key(&record.slug) {
                    output::talk(&format!(
                        "`{tenant}` is in the configuration: take it out there, or the next start \
                         makes it anew, empty and with new keys"
                    ));
                }
                Ok(())
            }
        }
    }
}

fn done(outcome: ChangeTenant, changed: &str) -> Result<(), Failure> {
    match outcome {
        ChangeTenant::Changed => output::talk(changed),
        ChangeTenant::Unchanged => output::talk("it was so already"),
        ChangeTenant::Unknown => return Err(Failure::because("the tenant is gone")),
    }
    Ok(())
}
