use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::desk::{ConfigArg, Desk};
use super::exit::Failure;
use super::output::{self, Format};
use crate::model::client::SigningAlg;
use crate::model::key::KeyState;
use crate::storage::RotateKey;

/// Signing keys of a tenant
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the keys and where they are in their lives
    List {
        /// The tenant's name
        #[arg(short, long)]
        tenant: String,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Make a new key; it is published at once and signs after the lead, the old one stays
    /// published until its last token has ended and the grace of the configuration has passed
    Rotate {
        /// The tenant's name
        #[arg(short, long)]
        tenant: String,
        /// Which algorithm; all that have a key when left out
        #[arg(long, value_enum)]
        alg: Option<Alg>,
        /// Hours between publishing the new key and signing with it, so that verifiers that keep a
        /// key set that long have it
        #[arg(long, default_value_t = 24, value_name = "HOURS")]
        lead: u64,
    },
    /// Declare a key compromised: nothing it signed is believed any more, and it is replaced
    Compromise {
        /// The tenant's name
        #[arg(short, long)]
        tenant: String,
        /// The key's `kid`
        kid: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[expect(clippy::upper_case_acronyms, reason = "the registered names")]
enum Alg {
    #[value(name = "ES256")]
    ES256,
    #[value(name = "RS256")]
    RS256,
    #[value(name = "PS256")]
    PS256,
    #[value(name = "EdDSA")]
    EDDSA,
}

impl From<Alg> for SigningAlg {
    fn from(alg: Alg) -> Self {
        match alg {
            Alg::ES256 => Self::ES256,
            Alg::RS256 => Self::RS256,
            Alg::PS256 => Self::PS256,
            Alg::EDDSA => Self::EdDSA,
        }
    }
}

impl Keys {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let desk = Desk::open(&self.config).await?;
        let result = match self.command {
            Command::List { tenant, output } => list(&desk, &tenant, output).await,
            Command::Rotate { tenant, alg, lead } => {
                rotate(&desk, &tenant, alg, Duration::from_secs(lead.saturating_mul(3600))).await
            }
            Command::Compromise { tenant, kid } => compromise(&desk, &tenant, &kid).await,
        };
        desk.close().await;
        result
    }
}

async fn list(desk: &Desk, tenant: &str, format: Format) -> Result<(), Failure> {
    let tenant = desk.running(tenant).await?;
    let records: Vec<_> = tenant
        .keys
        .list(desk.now)
        .await?
        .into_iter()
        .map(|key| {
            json!({
                "kid": key.kid, "alg": key.alg.as_str(), "state": key.state.as_str(),
                "created": key.created_at.to_string(), "signs_from": key.activates_at.to_string(),
                "published_until": key
                    .expires_at
                    .filter(|_| key.state != KeyState::Compromised)
                    .map(|at| at.to_string()),
            })
        })
        .collect();
    output::list(format, &["kid", "alg", "state", "signs_from", "published_until"], &records);
    Ok(())
}

async fn rotate(desk: &Desk, name: &str, alg: Option<Alg>, lead: Duration) -> Result<(), Failure> {
    let tenant = desk.running(name).await?;
    let have = tenant.keys.list(desk.now).await?;
    let wanted = alg.map(SigningAlg::from);
    let algs: Vec<SigningAlg> = SigningAlg::ALL
        .into_iter()
        .filter(|alg| wanted.map_or_else(|| have.iter().any(|key| key.alg == *alg), |w| w == *alg))
        .collect();
    if algs.is_empty() {
        return Err(Failure::because("the tenant has no keys yet; they are made at first use"));
    }
    for alg in algs {
        match tenant.keys.rotate(alg, lead, desk.now, &desk.audit).await? {
            RotateKey::Rotated => output::talk(&format!(
                "{}: a new key is published and signs from {}",
                alg.as_str(),
                desk.now.plus(lead)
            )),
            RotateKey::AlreadyPending => output::talk(&format!(
                "{}: a new key is waiting already; `keys list` shows since when",
                alg.as_str()
            )),
            RotateKey::NoActiveKey(alg) => {
                return Err(Failure::because(format!(
                    "there is no {} key to rotate",
                    alg.as_str()
                )));
            }
        }
    }
    Ok(())
}

async fn compromise(desk: &Desk, name: &str, kid: &str) -> Result<(), Failure> {
    let tenant = desk.running(name).await?;
    if tenant.keys.compromise(kid, desk.now, &desk.audit).await? {
        output::talk(
            "nothing that key signed is believed any more, and another key signs; running servers follow \
             within seconds, verifiers that keep the key set within its max-age (5 minutes)",
        );
        Ok(())
    } else {
        Err(Failure::because(format!("there is no key `{kid}`; `keys list` shows those there are")))
    }
}
