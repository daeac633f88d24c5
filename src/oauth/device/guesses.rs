//! How many wrong user codes are too many (RFC 8628 §5.1).
//!
//! A code lives at most ten minutes. In any ten minutes at most five wrong codes are looked at from
//! one browser, one network and one user, which finds one live code among 20⁸ with a probability
//! below 2⁻³². Guessing from everywhere at once runs into the counts of the tenant and of the whole
//! server: past them only who is signed in may go on, each with five wrong codes.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use crate::base::{Digest, Timestamp};
use crate::keys::limit_key;
use crate::limits::{Limited, TooOften, network};
use crate::model::audit::{Action, AuditRecord};
use crate::model::limit::{Attempt, LimitKey, LimitRule};
use crate::model::{TenantUid, UserId};
use crate::oauth::{Call, Services};
use crate::storage::{Result, TenantHandle};

/// The longest life of a code.
const LIFE: Duration = Duration::from_mins(10);
/// Wrong codes of one browser, network or user within a life.
const OF_ONE: u32 = 5;
/// Wrong codes at one tenant within a life.
const OF_TENANT: u32 = 100;
/// Wrong codes at all tenants within a life.
const OF_ALL: u32 = 1_000;

/// Who types a code.
#[derive(Debug, Clone, Copy)]
pub struct Guesser<'a> {
    /// The browser's binding; none at an address that has no cookies.
    pub browser: Option<&'a str>,
    /// Who is signed in there.
    pub user: Option<UserId>,
    /// From where, after trusted proxies.
    pub peer: IpAddr,
}

/// Whether a code may be looked at.
#[must_use]
pub enum Budget {
    /// Yes; it was counted, and is to be [settled](Counted::right).
    Counted(Counted),
    /// Not now; nothing was counted.
    TooOften(TooOften),
    /// Not before someone signed in: too many wrong codes come in. Nothing was counted.
    SignInFirst,
}

/// A code that was counted before it was looked at, so that of many at once no more are looked at
/// than may be.
pub struct Counted {
    counters: Vec<Counter>,
    slot: i64,
    now: Timestamp,
}

/// How far wrong codes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Nothing to speak of.
    Nothing,
    /// The count of the tenant, with this code.
    Tenant,
    /// The count of the whole server.
    Everywhere,
}

impl Reached {
    /// In the audit log.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Tenant => Some("tenant"),
            Self::Everywhere => Some("everywhere"),
        }
    }
}

struct Counter {
    store: TenantHandle,
    keys: [Digest<LimitKey>; 2],
    most: u32,
    reached: Reached,
    count: u32,
}

impl Counter {
    fn new(
        services: &Services,
        tenant: &TenantUid,
        (purpose, value): (&str, &str),
        (most, reached): (u32, Reached),
        slot: i64,
    ) -> Self {
        let key =
            |slot: i64| limit_key(&services.ring, tenant, purpose, &format!("{slot} {value}"));
        let store = services.store.tenant(tenant);
        Self { store, keys: [key(slot), key(slot + 1)], most, reached, count: 0 }
    }

    /// A wrong code counts in the slot of ten minutes in which it came and in the next one. So a
    /// slot's count has all of its own and of the one before, and no ten minutes, wherever they
    /// begin, have more than the rule allows.
    fn rule(&self) -> LimitRule {
        LimitRule {
            free: self.most,
            first_delay: Duration::ZERO,
            max_delay: Duration::ZERO,
            hard: self.most,
            window: LIFE * 2,
        }
    }

    async fn count(&mut self, now: Timestamp) -> Result<Option<Timestamp>> {
        Ok(match self.store.attempt(&self.keys[0], &self.rule(), now).await? {
            Attempt::Allowed { count } => {
                self.count = count;
                None
            }
            Attempt::Refused { until } => Some(until),
        })
    }

    async fn wrong(&self, now: Timestamp) -> Result<()> {
        let _ = self.store.attempt(&self.keys[1], &self.rule(), now).await?;
        Ok(())
    }
}

/// Counts a code that is about to be looked at. `tenant` is none at the address that several
/// tenants share.
pub async fn count(
    services: &Services,
    tenant: Option<&TenantUid>,
    guesser: &Guesser<'_>,
    now: Timestamp,
) -> Result<Budget> {
    let slot = now.seconds().div_euclid(i64::try_from(LIFE.as_secs()).unwrap_or(i64::MAX));
    // Counters of no tenant in particular are kept where every database has room for them.
    let shared = TenantUid::stored(TenantUid::DEFAULT);
    let home = tenant.unwrap_or(&shared);
    let user = guesser.user.map(|user| user.to_string());
    let from = network(guesser.peer);
    // A right code costs nothing but work and a line in the audit log; of those there are not too
    // many, either.
    if let Err(often) = services.limiter.check(Limited::UserCode, &shared, &from) {
        return Ok(Budget::TooOften(often));
    }
    let one = |at: &TenantUid, purpose, value: &str| {
        let most = (OF_ONE, Reached::Nothing);
        Counter::new(services, at, (purpose, value), most, slot)
    };
    // The network first: past its count, browsers and users that it makes up leave no counters.
    let sources = [
        // Wherever it is typed, a code of one tenant may be meant.
        Some(one(&shared, "device-address", &from)),
        guesser.browser.map(|browser| one(home, "device-browser", browser)),
        user.as_deref().map(|user| one(home, "device-user", user)),
    ];
    let of_tenant = tenant.map(|tenant| {
        let most = (OF_TENANT, Reached::Tenant);
        Counter::new(services, tenant, ("device-tenant", ""), most, slot)
    });
    let most = (OF_ALL, Reached::Everywhere);
    let everywhere = Counter::new(services, &shared, ("device-everywhere", ""), most, slot);

    let mut counted = Counted { counters: Vec::new(), slot, now };
    for mut counter in sources.into_iter().flatten() {
        if let Some(until) = counter.count(now).await? {
            counted.right().await?;
            return Ok(Budget::TooOften(TooOften { retry_after: until.since(now) }));
        }
        counted.counters.push(counter);
    }
    for mut counter in of_tenant.into_iter().chain([everywhere]) {
        match counter.count(now).await? {
            None => counted.counters.push(counter),
            // Five wrong codes of each user are all that is left.
            Some(_) if user.is_some() => {}
            Some(_) => {
                counted.right().await?;
                return Ok(Budget::SignInFirst);
            }
        }
    }
    Ok(Budget::Counted(counted))
}

impl Counted {
    /// The code was right: it costs nothing.
    pub async fn right(&self) -> Result<()> {
        for counter in &self.counters {
            counter.store.uncount(&counter.keys[0]).await?;
        }
        Ok(())
    }

    /// The code was wrong. Says which common count it filled up, if it did.
    pub async fn wrong(&self) -> Result<Reached> {
        let mut reached = Reached::Nothing;
        for counter in &self.counters {
            counter.wrong(self.now).await?;
            if counter.count == counter.most && counter.reached != Reached::Nothing {
                reached = counter.reached;
            }
        }
        if reached != Reached::Nothing {
            tracing::warn!(
                reached = reached.name(),
                slot = self.slot,
                "many wrong device codes; until it is quiet again, users sign in before they enter one"
            );
        }
        Ok(reached)
    }
}

/// Records a wrong code at a tenant; the code itself is not recorded.
pub fn record(call: &Call<'_>, user: Option<UserId>, why: &'static str, reached: Reached) {
    let detail = match reached.name() {
        None => json!({ "reason": why }),
        Some(alert) => json!({ "reason": why, "alert": alert }),
    };
    call.services.recorder.record(
        &call.tenant.uid,
        AuditRecord {
            at: call.now,
            action: Action::DeviceGuessed,
            user,
            client: None,
            session: None,
            resource: None,
            success: false,
            detail: Some(detail),
            context: call.audit.clone(),
        },
    );
}
