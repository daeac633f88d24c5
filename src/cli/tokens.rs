use std::sync::Arc;

use clap::{Args, Subcommand};

use super::desk::{ConfigArg, Desk};
use super::exit::Failure;
use super::output;
use crate::keys::Ring;
use crate::storage::RevokeGrant;
use crate::token::access::{self, Read};
use crate::token::refresh;

/// Tokens of a tenant
#[derive(Debug, Args)]
pub(super) struct Tokens {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Revoke an access or refresh token, read from a prompt or from stdin; a refresh token takes
    /// everything of its grant with it
    Revoke {
        /// The tenant's name
        #[arg(short, long)]
        tenant: String,
    },
}

impl Tokens {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let desk = Desk::open(&self.config).await?;
        let Command::Revoke { tenant } = self.command;
        let result = revoke(&desk, &tenant).await;
        desk.close().await;
        result
    }
}

async fn revoke(desk: &Desk, name: &str) -> Result<(), Failure> {
    let token = output::secret("Token: ")?;
    let tenant = desk.running(name).await?;
    if let Some(presented) = refresh::parse(&token) {
        let grant = tenant.store.find_grant(presented.grant).await?;
        let ring = Arc::new(Ring::new(desk.settings.server.secret_keys.clone()));
        let ours = grant.as_ref().is_some_and(|grant| {
            grant.refresh.as_ref().is_some_and(|head| {
                let check =
                    refresh::verify(&ring, &tenant.uid, &grant.client, &head.salt, &presented);
                check == refresh::MacCheck::Good
            })
        });
        if !ours {
            return Err(Failure::because("that is no refresh token of this tenant"));
        }
        let outcome = tenant.store.revoke_grant(presented.grant, desk.now, &desk.audit).await?;
        output::talk(match outcome {
            RevokeGrant::Revoked => "revoked, with everything of its grant",
            RevokeGrant::AlreadyRevoked => "it was revoked already",
            RevokeGrant::Unknown => return Err(Failure::because("its grant is gone")),
        });
        return Ok(());
    }
    let claims = match access::read(&tenant, &token, desk.now).await? {
        Read::Jwt { claims, .. } | Read::Opaque(claims) => claims,
        Read::Invalid(_) => {
            return Err(Failure::because("that is no live token of this tenant"));
        }
    };
    let change = desk.change(&tenant.slug);
    tenant.store.revoke_access_token(&claims, &change).await?;
    output::talk("revoked");
    Ok(())
}
