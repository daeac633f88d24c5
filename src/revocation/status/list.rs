use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

use super::{CAPACITY, Wanted, uri};
use crate::base::{Digest, Timestamp, base64url};
use crate::keys::Signer;
use crate::model::RevocationKey;
use crate::revocation::View;
use crate::storage::{Result, StatusList, StoreError};
use crate::tenant::Tenant;

/// The `typ` of status list tokens (draft §5.1).
pub const STATUS_LIST: &str = "statuslist+jwt";

/// A statement that began before a revocation may still write a token after it: for so long the
/// tokens that an entry names are looked for again.
const RACES: Duration = Duration::from_secs(5);
/// How often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The least that a signed list is good for.
const LEAST_LIFE: Duration = Duration::from_mins(5);

/// A signed list, ready to be sent.
#[derive(Debug)]
pub struct ListToken {
    /// The JWT.
    pub jwt: String,
    /// Names this version of the list.
    pub tag: String,
    /// How long it may be kept.
    pub ttl: Duration,
}

/// What a status list token says (draft §5.1).
#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
    ttl: u64,
    status_list: Bits,
}

#[derive(Serialize)]
struct Bits {
    bits: u8,
    lst: String,
}

/// A list in memory.
pub(super) struct Held {
    list: StatusList,
    known: Option<Known>,
    signed: Option<Signed>,
}

/// Which of its tokens are revoked.
struct Known {
    bits: Vec<u8>,
    /// Up to where the view's news are in the bits.
    place: u64,
    /// What is looked for again, and until when.
    again: Vec<(RevocationKey, Timestamp)>,
    looked: Timestamp,
}

struct Signed {
    token: Arc<ListToken>,
    kid: String,
    at: Timestamp,
    life: Duration,
}

impl Held {
    pub(super) fn new(list: StatusList) -> Self {
        Self { list, known: None, signed: None }
    }

    /// Whether it is served still.
    pub(super) fn is_kept(&self, now: Timestamp) -> bool {
        now < self.list.keep_until()
    }

    /// Brings the bits up to what the view knows.
    pub(super) async fn learn(
        &mut self,
        view: &View,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<()> {
        let known = self.known.take().and_then(|known| {
            let news = view.log.news(&tenant.uid, known.place)?;
            Some((known, news))
        });
        let Some((mut known, news)) = known else { return self.read(view, tenant, now).await };
        let due = known.looked > now || now.since(known.looked) >= LOOK_AGAIN;
        let mut keys: Vec<_> = news.entries.iter().map(|(key, _)| key.clone()).collect();
        if due {
            keys.extend(known.again.iter().map(|(key, _)| key.clone()));
        }
        if !keys.is_empty() {
            let asked = tenant.store.revoked_places(&self.list.id, Some(&keys), now).await;
            // On an error all of it is read anew the next time.
            if set(&mut known.bits, &asked?) {
                self.signed = None;
            }
        }
        if due {
            known.again.retain(|(_, until)| now < *until);
            known.looked = now;
        }
        known.again.extend(news.entries.into_iter().map(|(key, not_before)| {
            let raced = not_before.map_or(now, |not_before| not_before.max(now));
            (key, raced.plus(RACES))
        }));
        known.place = news.place;
        self.known = Some(known);
        Ok(())
    }

    /// Reads everything.
    async fn read(&mut self, view: &View, tenant: &Tenant, now: Timestamp) -> Result<()> {
        // From here on the view tells: what is committed later is news.
        let place = view.log.follow(&tenant.uid);
        let revoked = tenant.store.revoked_places(&self.list.id, None, now).await?;
        let mut bits = vec![0; CAPACITY as usize / 8];
        set(&mut bits, &revoked);
        let again = view.log.recent(&tenant.uid, now.minus(RACES)).into_iter();
        let again = again.map(|(key, not_before)| {
            (key, not_before.map_or(now, |not_before| not_before.max(now)).plus(RACES))
        });
        self.signed = None;
        self.known = Some(Known { bits, place, again: again.collect(), looked: now });
        Ok(())
    }

    /// The list as it stands, signed: anew when it changed, when its key did, and when half of its
    /// life is over.
    pub(super) async fn token(
        &mut self,
        tenant: &Tenant,
        wanted: Wanted,
        now: Timestamp,
    ) -> Result<Arc<ListToken>> {
        let signer = tenant.keys.signer(tenant.settings.signing.access_token, now).await?;
        if let Some(signed) = &self.signed
            && signed.kid == signer.kid()
            && signed.at <= now
            && now.since(signed.at) < signed.life / 2
        {
            return Ok(Arc::clone(&signed.token));
        }
        let bits = self.known.as_ref().map(|known| known.bits.clone()).unwrap_or_default();
        let (sub, kid) = (uri(tenant, &self.list), signer.kid().to_owned());
        let life = (wanted.ttl * 10).max(LEAST_LIFE);
        let made = aside(move || make(&signer, &sub, &bits, wanted.ttl, now, life));
        let token = Arc::new(made.await?);
        self.signed = Some(Signed { token: Arc::clone(&token), kid, at: now, life });
        Ok(token)
    }
}

/// Sets bits; whether any was not set before. The first index is the lowest bit of the first byte
/// (draft §4.1).
pub(super) fn set(bits: &mut [u8], indices: &[u32]) -> bool {
    let mut changed = false;
    for index in indices {
        if let Some(byte) = bits.get_mut(*index as usize / 8) {
            let bit = 1 << (index % 8);
            changed |= *byte & bit == 0;
            *byte |= bit;
        }
    }
    changed
}

/// `lst`: the bits in zlib's format, as small as it goes, in base64url (draft §4.2).
pub fn compress(bits: &[u8]) -> io::Result<String> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(bits)?;
    zlib.finish().map(base64url::encode)
}

fn make(
    signer: &Signer,
    sub: &str,
    bits: &[u8],
    ttl: Duration,
    now: Timestamp,
    life: Duration,
) -> Result<ListToken> {
    let lst = compress(bits).map_err(StoreError::unavailable)?;
    let claims = Claims {
        sub,
        iat: now.seconds(),
        exp: now.plus(life).seconds(),
        ttl: ttl.as_secs(),
        status_list: Bits { bits: 1, lst },
    };
    let jwt = signer.sign(STATUS_LIST, &claims)?.reveal().clone();
    let digest: Digest<ListToken> = Digest::of(jwt.as_bytes());
    Ok(ListToken { tag: digest.short(), ttl, jwt })
}

/// Off the runtime's threads: compression takes some milliseconds.
#[expect(clippy::disallowed_methods, reason = "one list at a time, and each no more than once")]
async fn aside<T: Send + 'static>(make: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(make).await.map_err(StoreError::unavailable)?
}
