//! Token Status Lists (draft-ietf-oauth-status-list): one signed list of bits for many tokens.

use std::io::Read as _;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::ZlibDecoder;
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use crate::error::VerifyError;
use crate::issuer::Issuer;
use crate::jwt::{parse, signed_by};
use crate::options::{Context, Event, OnLoss};
use crate::sync::{read, write};
use crate::web::{Terms, WebError, ask, broken, is_safe};

const MOST_BYTES: usize = 16 << 20;
const DEFAULT_TTL: f64 = 60.0;
const MOST_TTL: f64 = 3600.0;

/// Where a token's status stands (§6.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Reference {
    idx: u64,
    uri: String,
}

/// `status.status_list` of a token's claims; none when it has none.
pub(crate) fn reference(claims: &Map<String, Value>) -> Result<Option<Reference>, VerifyError> {
    let Some(list) = claims.get("status").and_then(|status| status.get("status_list")) else {
        return Ok(None);
    };
    let reference = Reference::deserialize(list);
    reference.map(Some).map_err(|_| VerifyError::invalid("status"))
}

/// Bits by token, the lowest of a byte first (§4.1).
#[derive(Debug, Clone)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    per_token: usize,
}

impl Bits {
    /// Unpacks `lst` (§4.2); none when it is no list.
    pub(crate) fn unpack(lst: &str, per_token: usize) -> Option<Self> {
        if ![1, 2, 4, 8].contains(&per_token) {
            return None;
        }
        let packed = URL_SAFE_NO_PAD.decode(lst).ok()?;
        let mut bytes = Vec::new();
        // One byte more than may be: a longer list is seen, and not unpacked.
        let most = u64::try_from(MOST_BYTES + 1).ok()?;
        ZlibDecoder::new(&*packed).take(most).read_to_end(&mut bytes).ok()?;
        (bytes.len() <= MOST_BYTES).then_some(Self { bytes, per_token })
    }

    /// The status at `idx`; none beyond the end.
    pub(crate) fn at(&self, idx: u64) -> Option<u8> {
        let (idx, per_byte) = (usize::try_from(idx).ok()?, 8 / self.per_token);
        let byte = *self.bytes.get(idx / per_byte)?;
        let mask = u8::try_from((1_u16 << self.per_token) - 1).ok()?;
        Some((byte >> ((idx % per_byte) * self.per_token)) & mask)
    }
}

/// The claims of a status list token (§5.1).
#[derive(Deserialize)]
struct Claims {
    sub: String,
    iss: Option<String>,
    iat: f64,
    exp: Option<f64>,
    ttl: Option<f64>,
    status_list: Packed,
}

#[derive(Deserialize)]
struct Packed {
    bits: usize,
    lst: String,
}

#[derive(Clone)]
struct List {
    bits: Arc<Bits>,
    ttl: f64,
    exp: Option<f64>,
    etag: String,
    until: Duration,
}

#[derive(Default)]
struct Slot {
    list: RwLock<Option<List>>,
    fetching: Mutex<()>,
}

pub(crate) struct StatusLists {
    issuer: Arc<Issuer>,
    context: Arc<Context>,
    slots: Cache<String, Arc<Slot>>,
}

impl StatusLists {
    pub(crate) fn new(issuer: Arc<Issuer>, context: Arc<Context>) -> Self {
        Self { issuer, context, slots: Cache::new(1000) }
    }

    /// Whether the referenced status is VALID (0).
    pub(crate) async fn is_valid(&self, reference: &Reference) -> Result<bool, VerifyError> {
        let bits = self.list(&reference.uri).await?;
        let status = bits.at(reference.idx).ok_or_else(|| VerifyError::invalid("status index"))?;
        Ok(status == 0)
    }

    async fn list(&self, uri: &str) -> Result<Arc<Bits>, VerifyError> {
        let slot = self.slots.get_with_by_ref(uri, Arc::default);
        let fresh = |slot: &Slot| {
            let held = read(&slot.list);
            let fresh = held.as_ref().filter(|list| self.context.clock.mono() < list.until);
            fresh.map(|list| Arc::clone(&list.bits))
        };
        if let Some(bits) = fresh(&slot) {
            return Ok(bits);
        }
        if !self.may_ask(uri) {
            return Err(VerifyError::invalid("the status list is elsewhere"));
        }
        let _one = slot.fetching.lock().await;
        if let Some(bits) = fresh(&slot) {
            return Ok(bits);
        }
        let held = read(&slot.list).clone();
        match self.fetch(uri, held.as_ref()).await {
            Ok(list) => {
                let bits = Arc::clone(&list.bits);
                *write(&slot.list) = Some(list);
                Ok(bits)
            }
            Err(error) => {
                let (issuer, error) = (self.issuer.url().to_owned(), error.to_string());
                self.context.report(&Event::StatusListFailed { issuer, error });
                match (held, self.context.on_loss) {
                    (Some(list), OnLoss::Grace(grace))
                        if self.context.clock.mono() < list.until + grace =>
                    {
                        Ok(list.bits)
                    }
                    _ => Err(VerifyError::unavailable("the status list cannot be had")),
                }
            }
        }
    }

    fn may_ask(&self, uri: &str) -> bool {
        let origin =
            |text: &str| Url::parse(text).ok().map(|url| url.origin().ascii_serialization());
        let (asked, own) = (origin(uri), origin(self.issuer.url()));
        let others = &self.context.status_list_origins;
        is_safe(uri, self.context.allow_insecure)
            && (asked == own || asked.is_some_and(|asked| others.contains(&asked)))
    }

    async fn fetch(&self, uri: &str, held: Option<&List>) -> Result<List, WebError> {
        let asked = self.context.clock.mono();
        let mut request =
            self.context.client.get(uri).header("accept", "application/statuslist+jwt");
        let mut terms = Terms { most: MOST_BYTES, ..Terms::default() };
        if let Some(list) = held.filter(|list| !list.etag.is_empty()) {
            request = request.header("if-none-match", &list.etag);
            terms.good = &[200, 304];
        }
        let answer = ask(request, terms).await?;
        let unchanged = held.filter(|_| answer.status == 304);
        let mut list = if let Some(held) = unchanged {
            held.clone()
        } else {
            let text = String::from_utf8_lossy(&answer.body);
            let read = self.read(uri, text.trim()).await?;
            List { etag: answer.header("etag").to_owned(), ..read }
        };
        let left = list.exp.map_or(f64::INFINITY, |exp| exp - self.context.now());
        if left <= 0.0 {
            return Err(broken("the status list has expired"));
        }
        list.until = asked + Duration::from_secs_f64(list.ttl.min(left));
        Ok(list)
    }

    /// Checks a status list token and unpacks it (§5.1, §8.3).
    async fn read(&self, uri: &str, text: &str) -> Result<List, WebError> {
        let bad = |error: VerifyError| WebError::Broken(error.to_string());
        let parsed = parse(text).map_err(bad)?;
        signed_by(&self.issuer, &parsed, "statuslist+jwt").await.map_err(bad)?;
        let claims = Claims::deserialize(Value::Object(parsed.claims))
            .map_err(|error| WebError::Broken(error.to_string()))?;
        if claims.sub != uri || claims.iss.is_some_and(|iss| iss != self.issuer.url()) {
            return Err(broken("another status list"));
        }
        let ttl = claims.ttl.unwrap_or(DEFAULT_TTL);
        if ttl <= 0.0 || claims.iat > self.context.now() + 60.0 {
            return Err(broken("a malformed status list"));
        }
        let bits = Bits::unpack(&claims.status_list.lst, claims.status_list.bits);
        let bits = Arc::new(bits.ok_or_else(|| broken("a malformed status list"))?);
        let (ttl, exp) = (ttl.min(MOST_TTL), claims.exp);
        Ok(List { bits, ttl, exp, etag: String::new(), until: Duration::ZERO })
    }
}
