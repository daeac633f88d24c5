//! The revocation feed as the protocol has it: who may read it, and what its pages and security
//! event tokens (RFC 8417) say.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::Call;
use super::bearer::{self, BearerError};
use super::introspect::{self, Bearer};
use crate::base::{CredentialKind, Secret};
use crate::model::{ClientId, Scope};
use crate::revocation::{Entry, Page, Reader};
use crate::storage::Result as Stored;

/// The `typ` of a signed page.
pub const SIGNED_PAGE: &str = "revocations+jwt";
/// The `typ` of a security event token (RFC 8417 §2.3).
pub const EVENT_TOKEN: &str = "secevent+jwt";

/// The event of every security event token of ours: an entry of the log.
const REVOCATION_EVENT: &str = "urn:pmp-auth:secevent:revocation";
/// CAEP 1.0 §3.1.
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// Who may read the feed.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// The client; for an API key, a name of its own: the key's id.
    pub client: ClientId,
    /// What it sees.
    pub reader: Reader,
}

/// Who presents this token: any live one with the scope `revocations:read`. It sees what concerns
/// the audiences that its client serves, as at introspection. An API key with that scope reads, too,
/// for its own audiences.
pub async fn subscriber(call: &Call<'_>, token: &str) -> Result<Subscriber, BearerError> {
    if token.starts_with(CredentialKind::ApiKey.prefix()) {
        return key_holder(call, token).await;
    }
    let claims = bearer::authorize(call, token, Scope::REVOCATIONS_READ).await?;
    let client = call.tenant.client(&claims.client).await?.ok_or(BearerError::NotLive)?;
    let reader = Reader { tenant: call.tenant.uid.clone(), audiences: client.audiences.clone() };
    Ok(Subscriber { client: client.id.clone(), reader })
}

async fn key_holder(call: &Call<'_>, text: &str) -> Result<Subscriber, BearerError> {
    let key = match introspect::live_bearer(call, text, call.peer()).await? {
        Bearer::ApiKey(key) => key,
        Bearer::TooOften { retry_after } => return Err(BearerError::TooOften { retry_after }),
        Bearer::Token(_) | Bearer::NotLive => return Err(BearerError::NotLive),
    };
    if !key.scope.contains(Scope::REVOCATIONS_READ) {
        return Err(BearerError::Scope(Scope::REVOCATIONS_READ));
    }
    // Where a key is good is what it may call; the feed is for whoever serves that.
    let client = call.tenant.client(&key.client).await?.ok_or(BearerError::NotLive)?;
    let served = key.audience.iter().filter(|one| client.audiences.contains(one)).cloned();
    let reader = Reader { tenant: call.tenant.uid.clone(), audiences: served.collect() };
    // What is delivered to one key is not delivered to its owner, nor to other keys.
    Ok(Subscriber { client: ClientId::new(&key.jti), reader })
}

/// A page as readers get it.
#[derive(Debug, Serialize)]
pub struct Written<'a> {
    iss: &'a str,
    cursor: String,
    more: bool,
    as_of: i64,
    /// When the newest of the entries was revoked, in Unix milliseconds: for measuring.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<i64>,
    #[serde(serialize_with = "each")]
    entries: &'a [Arc<Entry>],
}

/// The claims of a signed page.
#[derive(Serialize)]
struct Signed<'a> {
    #[serde(flatten)]
    page: Written<'a>,
    iat: i64,
    aud: &'a str,
}

/// The page in words; `as_of` is what this node's view is as of.
pub fn write<'a>(call: &Call<'a>, page: &'a Page) -> Written<'a> {
    Written {
        iss: call.tenant.issuer(),
        cursor: page.cursor.to_string(),
        more: page.more,
        as_of: call.services.revocations.as_of().millis(),
        revoked_at: page.entries.iter().map(|entry| entry.at().millis()).max(),
        entries: &page.entries,
    }
}

/// The same as a JWS, for relays that need not be trusted.
pub async fn sign(call: &Call<'_>, page: &Page, reader: &ClientId) -> Stored<Secret<String>> {
    let signer = call.tenant.keys.signer(call.tenant.settings.signing.access_token, call.now);
    let claims = Signed { page: write(call, page), iat: call.now.seconds(), aud: reader.as_str() };
    signer.await?.sign(SIGNED_PAGE, &claims)
}

/// The entries as security event tokens for `reader`, by `jti` (RFC 8936 §2.3).
pub async fn event_tokens(
    call: &Call<'_>,
    entries: &[Arc<Entry>],
    reader: &ClientId,
) -> Stored<Map<String, Value>> {
    let alg = call.tenant.settings.signing.access_token;
    let signer = call.tenant.keys.signer(alg, call.now).await?;
    let mut sets = Map::new();
    for entry in entries {
        let claims = event(call, entry, reader);
        let set = signer.sign(EVENT_TOKEN, &claims)?;
        sets.insert(entry.id(), set.reveal().clone().into());
    }
    Ok(sets)
}

fn event(call: &Call<'_>, entry: &Entry, reader: &ClientId) -> Value {
    let mut events = Map::new();
    events.insert(REVOCATION_EVENT.to_owned(), json!(entry));
    if entry.kind() == "session" {
        events.insert(SESSION_REVOKED.to_owned(), json!({"event_timestamp": entry.at().seconds()}));
    }
    // RFC 9493 §3.2.4: an opaque identifier; the same digest that the entry has.
    let id = entry
        .key()
        .map_or_else(|| entry.kind().to_owned(), |key| format!("{}:{key}", entry.kind()));
    json!({
        "iss": call.tenant.issuer(),
        "iat": call.now.seconds(),
        "jti": entry.id(),
        "aud": reader.as_str(),
        "sub_id": {"format": "opaque", "id": id},
        "toe": entry.at().seconds(),
        "events": events,
    })
}

fn each<S: Serializer>(entries: &&[Arc<Entry>], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(entries.iter().map(|entry| &**entry))
}
