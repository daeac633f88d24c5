use clap::{Args, Subcommand};
use serde_json::json;

use super::desk::{ConfigArg, Desk};
use super::exit::Failure;
use super::output::{self, Format};
use crate::config::settings::Settings;
use crate::identity::{self, Password, PasswordCost, Passwords};
use crate::model::user::{LoginName, PasswordHash};
use crate::model::{TenantSlug, User, UserId};
use crate::storage::{ChangeUser, CreateUser, NewUser, TenantHandle};

/// Local users of a tenant
#[derive(Debug, Args)]
pub(super) struct Users {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a user; the password comes from a prompt or from stdin
    Create {
        #[command(flatten)]
        tenant: TenantArg,
        /// E-mail address, unique within the tenant
        email: String,
        /// User name, unique within the tenant
        #[arg(long)]
        username: Option<String>,
        /// Full name
        #[arg(long)]
        name: Option<String>,
        /// Create without a password: the user cannot sign in until one is set
        #[arg(long)]
        no_password: bool,
    },
    /// List the users
    List {
        #[command(flatten)]
        tenant: TenantArg,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Set a password, from a prompt or from stdin; ends every session and grant of the user
    SetPassword(Who),
    /// Disable a user; ends every session and grant at once
    Disable(Who),
    /// Let a disabled user sign in again
    Enable(Who),
    /// Delete a user and their personal data
    Delete(Who),
}

#[derive(Debug, Args)]
struct TenantArg {
    /// The tenant's name
    #[arg(short, long)]
    tenant: String,
}

#[derive(Debug, Args)]
struct Who {
    #[command(flatten)]
    tenant: TenantArg,
    /// E-mail, user name or id
    user: String,
}

impl Users {
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
            Self::Create { tenant, email, username, name, no_password } => {
                let (_, store) = desk.tenant(&tenant.tenant).await?;
                if !email.contains('@') {
                    return Err(Failure::because(format!("`{email}` is no e-mail address")));
                }
                let password_hash = if no_password {
                    None
                } else {
                    let names = [Some(email.as_str()), username.as_deref(), name.as_deref()];
                    Some(new_password(desk, &names).await?)
                };
                let id = UserId(desk.entropy.uuid());
                let new = NewUser {
                    id,
                    username,
                    email,
                    email_verified: true, // the operator says so
                    name,
                    given_name: None,
                    family_name: None,
                    password_hash,
                };
                match store.create_user(&new, desk.now, &desk.audit).await? {
                    CreateUser::Created => output::data(&id.to_string()),
                    CreateUser::Exists => {
                        return Err(Failure::because("that e-mail or user name is taken"));
                    }
                }
                Ok(())
            }
            Self::List { tenant, output } => list(desk, &tenant.tenant, output).await,
            Self::SetPassword(who) => {
                let (slug, store, user) = find(desk, &who).await?;
                let names =
                    [Some(user.email.as_str()), user.username.as_deref(), user.name.as_deref()];
                let hash = new_password(desk, &names).await?;
                let change = desk.change(&slug);
                let outcome = store.set_password(user.id, &hash, None, &change).await?;
                done(outcome, "the password is set; every session and grant has ended")
            }
            Self::Disable(who) => {
                let (slug, store, user) = find(desk, &who).await?;
                let change = desk.change(&slug);
                let outcome = store.set_user_disabled(user.id, true, &change).await?;
                done(outcome, "disabled; every session and grant has ended")
            }
            Self::Enable(who) => {
                let (slug, store, user) = find(desk, &who).await?;
                let change = desk.change(&slug);
                let outcome = store.set_user_disabled(user.id, false, &change).await?;
                done(outcome, "enabled")
            }
            Self::Delete(who) => {
                let (slug, store, user) = find(desk, &who).await?;
                let outcome = store.delete_user(user.id, &desk.change(&slug)).await?;
                done(outcome, "deleted")?;
                if stands_in(&desk.settings, &slug, &user) {
                    output::talk(&format!(
                        "`{}` is in the configuration: take it out there, or the next start makes it anew",
                        user.username.as_deref().unwrap_or(&user.email),
                    ));
                }
                Ok(())
            }
        }
    }
}

fn done(outcome: ChangeUser, changed: &str) -> Result<(), Failure> {
    match outcome {
        ChangeUser::Changed => output::talk(changed),
        ChangeUser::Unchanged => output::talk("it was so already"),
        ChangeUser::Unknown => return Err(Failure::because("the user is gone")),
    }
    Ok(())
}

/// Whether the configuration names a user as it names this one.
fn stands_in(settings: &Settings, slug: &TenantSlug, user: &User) -> bool {
    let names = |username: Option<&str>, email: &str| {
        [username, Some(email)].map(|name| name.map(LoginName::canonical))
    };
    let own = names(user.username.as_deref(), &user.email);
    let seeds = settings.tenants.get(slug).map(|tenant| tenant.users.as_slice());
    seeds.unwrap_or_default().iter().any(|seed| {
        let named = names(seed.username.as_deref(), &seed.email);
        own.iter().flatten().any(|name| named.iter().flatten().any(|other| other == name))
    })
}

/// Asks for the new password of whoever has these names.
async fn new_password(desk: &Desk, names: &[Option<&str>]) -> Result<PasswordHash, Failure> {
    let password = Password::typed(&output::secret("New password: ")?)?;
    let names: Vec<&str> = names.iter().flatten().copied().collect();
    identity::check_password(&password, &names)?;
    let entropy = std::sync::Arc::clone(&desk.entropy);
    let pool = Passwords::with_permits(PasswordCost::DEFAULT, 1, entropy)?;
    Ok(pool.hash(password).await?)
}

async fn find(desk: &Desk, who: &Who) -> Result<(TenantSlug, TenantHandle, User), Failure> {
    let (record, store) = desk.tenant(&who.tenant.tenant).await?;
    let user = match who.user.parse::<UserId>() {
        Ok(id) => store.find_user(id).await?,
        Err(_) => store.find_user_by_login(&LoginName::canonical(&who.user)).await?,
    };
    let user = user.ok_or_else(|| Failure::because(format!("there is no user `{}`", who.user)))?;
    Ok((record.slug, store, user))
}

async fn list(desk: &Desk, tenant: &str, format: Format) -> Result<(), Failure> {
    let (_, store) = desk.tenant(tenant).await?;
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_users(after, 500).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        records.extend(page.iter().map(|user| {
            json!({
                "id": user.id, "email": user.email, "username": user.username, "name": user.name,
                "state": if user.disabled { "disabled" } else { "enabled" },
                "created": user.created_at.to_string(),
                "last_login": user.last_login_at.map(|at| at.to_string()),
            })
        }));
    }
    output::list(format, &["id", "email", "username", "name", "state", "last_login"], &records);
    Ok(())
}
