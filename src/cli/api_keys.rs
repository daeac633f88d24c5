use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::desk::{ConfigArg, Desk};
use super::exit::Failure;
use super::output::{self, Format};
use crate::keys::Peppers;
use crate::model::api_key::{ApiKey, ApiKeyId, Owner};
use crate::model::tenant::TenantRecord;
use crate::model::user::LoginName;
use crate::model::{ClientId, UserId};
use crate::oauth::api_keys::{self, Bounds, Maker, Rotation, Wanted, WantedRate};
use crate::storage::{Change, CreateApiKey, OwnerId, RevokeApiKey, TenantHandle};
use crate::token::api_key::ApiKeys as Keys;

/// API keys of users and clients, and the peppers that they are stored under
#[derive(Debug, Args)]
pub(super) struct ApiKeys {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key for a client, or for a user through a client; the key is printed once
    Create(Box<Create>),
    /// List keys, newest first; never the keys themselves
    List {
        #[command(flatten)]
        owner: OwnerArg,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Make a successor of a key; the old one goes on for a while
    Rotate {
        #[command(flatten)]
        which: Which,
        /// Seconds that the old key goes on: 0, or 60 to 604800
        #[arg(long, default_value_t = api_keys::GRACE.as_secs(), value_name = "SECONDS")]
        grace: u64,
    },
    /// Revoke a key, and what was exchanged for it
    Revoke(Which),
    /// Show which peppers there are, and how many live keys are stored under each, tenant by tenant
    PepperStatus {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Refuse every key that is still stored under a pepper, on every server
    RetirePepper {
        /// The pepper's id
        id: u8,
        /// Even if live keys are stored under it: they end
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
struct Create {
    #[command(flatten)]
    owner: OwnerArg,
    /// What it is called
    #[arg(long)]
    name: String,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// What it allows, again for each scope
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Where it is good, again for each audience; the tenant's default when left out
    #[arg(long = "audience", value_name = "URI")]
    audiences: Vec<String>,
    /// Days until it ends, at most 366
    #[arg(long, default_value_t = 90, value_name = "DAYS")]
    days: u32,
    /// Address or network that it may be used from, again for each; anywhere when left out
    #[arg(long = "allowed-ip", value_name = "NETWORK")]
    allowed_ips: Vec<String>,
    /// How often it may be used in a minute
    #[arg(long, value_name = "TIMES")]
    rate: Option<u32>,
    /// Let it be exchanged for a JWT even though it is bound to addresses
    #[arg(long)]
    exchange: bool,
}

#[derive(Debug, Args)]
struct OwnerArg {
    /// The tenant's name
    #[arg(short, long)]
    tenant: String,
    /// The client: whose key it is, or through which the user has it
    #[arg(long)]
    client: Option<String>,
    /// The user whose key it is: e-mail, user name or id
    #[arg(long)]
    user: Option<String>,
}

#[derive(Debug, Args)]
struct Which {
    /// The tenant's name
    #[arg(short, long)]
    tenant: String,
    /// The key's id, as `list` shows it
    id: String,
}

impl ApiKeys {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let desk = Desk::open(&self.config).await?;
        let result = match self.command {
            Command::Create(create) => create.run(&desk).await,
            Command::List { owner, output } => list(&desk, &owner, output).await,
            Command::Rotate { which, grace } => rotate(&desk, &which, grace).await,
            Command::Revoke(which) => revoke(&desk, &which).await,
            Command::PepperStatus { output } => pepper_status(&desk, output).await,
            Command::RetirePepper { id, force } => retire(&desk, id, force).await,
        };
        desk.close().await;
        result
    }
}

/// Keys under the peppers of the configuration, as a server would make them.
async fn keys(desk: &Desk) -> Result<Arc<Keys>, Failure> {
    let peppers = Peppers::new(desk.settings.server.api_key_peppers.clone());
    peppers.check(&*desk.store, desk.now).await?;
    Ok(Keys::new(peppers))
}

impl Create {
    async fn run(&self, desk: &Desk) -> Result<(), Failure> {
        let keys = keys(desk).await?;
        let tenant = desk.running(&self.owner.tenant).await?;
        let named = self.owner.client.as_deref().ok_or_else(|| {
            Failure::because("name a `--client`: whose key it is, or through which the user has it")
        })?;
        let client = tenant.client(&ClientId::new(named)).await?;
        let client =
            client.ok_or_else(|| Failure::because(format!("there is no client `{named}`")))?;
        let bounds = Bounds::of_client(&tenant.settings, &client);
        let owner = match &self.owner.user {
            Some(user) => Owner::User {
                user: find_user(&tenant.store, user).await?,
                client: Some(client.id.clone()),
            },
            None => Owner::Client(client.id.clone()),
        };
        let ends = desk.now.plus(Duration::from_hours(24 * u64::from(self.days)));
        let wanted = Wanted {
            name: self.name.clone(),
            description: self.description.clone(),
            scopes: self.scopes.clone(),
            audiences: (!self.audiences.is_empty()).then(|| self.audiences.clone()),
            expires_at: ends.to_string(),
            allowed_ips: self.allowed_ips.clone(),
            rate: self.rate.map(|limit| WantedRate { limit, window_seconds: 60 }),
            exchange: self.exchange,
        };
        let maker =
            Maker { keys: &keys, tenant: &tenant.uid, entropy: &*desk.entropy, now: desk.now };
        let (new, text) = maker.make(&owner, &bounds, &wanted)?;
        let created = tenant.store.create_api_key(&new, api_keys::MOST_KEYS, desk.now, &desk.audit);
        match created.await? {
            CreateApiKey::Created => {}
            CreateApiKey::TooMany => return Err(api_keys::ApiKeyError::TooMany.into()),
            CreateApiKey::OwnerNotLive => return Err(Failure::because("its owner is disabled")),
        }
        tell(&new.key);
        output::data(text.reveal());
        Ok(())
    }
}

fn tell(key: &ApiKey) {
    let ends = key.expires_at;
    output::talk(&format!("key {} ends at {ends}; keep it now, it is not shown again:", key.id));
}

async fn find_user(store: &TenantHandle, user: &str) -> Result<UserId, Failure> {
    let found = match user.parse::<UserId>() {
        Ok(id) => store.find_user(id).await?,
        Err(_) => store.find_user_by_login(&LoginName::canonical(user)).await?,
    };
    let found = found.ok_or_else(|| Failure::because(format!("there is no user `{user}`")))?;
    Ok(found.id)
}

async fn find(desk: &Desk, which: &Which) -> Result<(TenantRecord, TenantHandle, ApiKey), Failure> {
    let (record, store) = desk.tenant(&which.tenant).await?;
    let found = match which.id.parse::<ApiKeyId>() {
        Ok(id) => store.find_api_key(id).await?,
        Err(_) => None,
    };
    let found = found.ok_or_else(|| {
        Failure::because(format!("there is no key `{}`; `api-keys list` shows them", which.id))
    })?;
    Ok((record, store, found.key))
}

async fn list(desk: &Desk, owner: &OwnerArg, format: Format) -> Result<(), Failure> {
    let (_, store) = desk.tenant(&owner.tenant).await?;
    let id = match (&owner.user, &owner.client) {
        (Some(user), _) => Some(OwnerId::User(find_user(&store, user).await?)),
        (None, Some(client)) => Some(OwnerId::Client(ClientId::new(client))),
        (None, None) => None,
    };
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_api_keys(id.as_ref(), after, 500).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        records.extend(page.iter().map(|key| api_keys::shown(key, desk.now)));
    }
    let columns =
        ["id", "prefix", "name", "user", "client_id", "live", "expires_at", "last_used_at"];
    output::list(format, &columns, &records);
    Ok(())
}

async fn rotate(desk: &Desk, which: &Which, grace: u64) -> Result<(), Failure> {
    let keys = keys(desk).await?;
    let (record, store, old) = find(desk, which).await?;
    let maker = Maker { keys: &keys, tenant: &record.uid, entropy: &*desk.entropy, now: desk.now };
    let how = Rotation { grace_seconds: Some(grace), expires_at: None };
    let made = maker.rotate(&store, &old, &how, &desk.audit).await?;
    tell(&made.key);
    output::data(made.text.reveal());
    Ok(())
}

async fn revoke(desk: &Desk, which: &Which) -> Result<(), Failure> {
    let (_, store, key) = find(desk, which).await?;
    let not_after = key.expires_at.plus(Duration::from_mins(1));
    let change = Change { now: desk.now, not_after, audit: &desk.audit };
    output::talk(match store.revoke_api_key(key.id, &change).await? {
        RevokeApiKey::Revoked => "revoked; running servers follow within a second",
        RevokeApiKey::AlreadyRevoked => "it was revoked already",
        RevokeApiKey::Unknown => return Err(Failure::because("the key is gone")),
    });
    Ok(())
}

/// Under which peppers there are live keys.
async fn in_use(desk: &Desk) -> Result<Vec<(TenantRecord, u8, u64)>, Failure> {
    let mut all = Vec::new();
    for tenant in desk.store.list_tenants().await? {
        let counts = desk.store.tenant(&tenant.uid).count_api_keys_by_pepper(desk.now).await?;
        all.extend(counts.into_iter().map(|(pepper, keys)| (tenant.clone(), pepper, keys)));
    }
    Ok(all)
}

async fn pepper_status(desk: &Desk, format: Format) -> Result<(), Failure> {
    let configured = &desk.settings.server.api_key_peppers;
    let mut ids: Vec<u8> = configured.iter().map(|pepper| pepper.id).collect();
    let known = desk.store.known_peppers().await?;
    let in_use = in_use(desk).await?;
    let others = known.iter().map(|one| one.id).chain(in_use.iter().map(|(_, id, _)| *id));
    for id in others {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let records: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let retired = known.iter().find(|one| one.id == id).and_then(|one| one.retired_at);
            let place = configured.iter().position(|pepper| pepper.id == id);
            let under = || in_use.iter().filter(|(_, pepper, _)| *pepper == id);
            let tenants = under().map(|(tenant, _, keys)| format!("{}={keys}", tenant.slug));
            json!({
                "pepper": id,
                "state": match (retired, place) {
                    (Some(_), _) => "retired",
                    (None, Some(0)) => "newest",
                    (None, Some(_)) => "older",
                    (None, None) => "missing here",
                },
                "retired_at": retired.map(|at| at.to_string()),
                "keys": under().map(|(_, _, keys)| keys).sum::<u64>(),
                "tenants": tenants.collect::<Vec<_>>().join(" "),
            })
        })
        .collect();
    output::list(format, &["pepper", "state", "retired_at", "keys", "tenants"], &records);
    Ok(())
}

async fn retire(desk: &Desk, id: u8, force: bool) -> Result<(), Failure> {
    if desk.settings.server.api_key_peppers.first().is_some_and(|newest| newest.id == id) {
        return Err(Failure::because(
            "this is the pepper of new keys; put another one before it in `server.api_key_peppers`, \
             and restart the servers, first",
        ));
    }
    let keys: u64 =
        in_use(desk).await?.iter().filter(|(_, pepper, _)| *pepper == id).map(|(_, _, n)| n).sum();
    if keys > 0 && !force {
        return Err(Failure::because(format!(
            "{keys} live keys are still stored under pepper {id}: each moves to the newest when it \
             is used; rotate or revoke those that are not, or end them with `--force`"
        )));
    }
    if !desk.store.retire_pepper(id, desk.now).await? {
        return Err(Failure::because(format!("storage knows no pepper {id}")));
    }
    output::talk("retired; running servers refuse its keys within seconds, and the secret can go");
    Ok(())
}
