use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::{Busy, Password, Passwords};
use crate::audit::Recorder;
use crate::base::Timestamp;
use crate::keys::{Ring, limit_key};
use crate::limits::network;
use crate::model::audit::{Action, AuditRecord};
use crate::model::limit::{Attempt, LimitRule};
use crate::model::user::LoginName;
use crate::model::{Audit, User};
use crate::session::KnownUsers;
use crate::storage::Result;
use crate::tenant::Tenant;

/// Per account: five attempts cost nothing, then each waits 1, 2, 4 … 60 s, and none is allowed
/// beyond 100 in an hour (NIST SP 800-63B §5.2.2).
const PER_ACCOUNT: LimitRule = LimitRule {
    free: 5,
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_mins(1),
    hard: 100,
    window: Duration::from_hours(1),
};

/// At a browser where they signed in before, apart from the account: the same delays, and so few
/// that a stolen cookie is worth little.
const PER_BROWSER: LimitRule = LimitRule { hard: 20, ..PER_ACCOUNT };

/// Per address (/32, /64): 50 attempts in five minutes, whatever the accounts.
const PER_ADDRESS: LimitRule = LimitRule {
    free: 50,
    first_delay: Duration::ZERO,
    max_delay: Duration::ZERO,
    hard: 50,
    window: Duration::from_mins(5),
};

/// The longest text that is looked at as a user name or e-mail, in bytes.
const LOGIN_LIMIT: usize = 1024;

/// Where someone wants to come in: everything that an attempt is decided with.
pub struct Door<'a> {
    /// The hashing pool.
    pub passwords: &'a Passwords,
    /// Names the counters.
    pub ring: &'a Ring,
    /// Takes the records of failures.
    pub recorder: &'a Recorder,
    /// The tenant.
    pub tenant: &'a Tenant,
    /// Whom the browser knows.
    pub known: &'a KnownUsers,
    /// The browser's address, after trusted proxies.
    pub ip: IpAddr,
    /// The time of the attempt.
    pub now: Timestamp,
    /// Who and from where.
    pub audit: &'a Audit,
}

/// The outcome of [`sign_in`].
#[derive(Debug)]
#[must_use]
pub enum SignIn {
    /// It is them.
    SignedIn(Box<User>),
    /// No such user, or not their password, or they may not sign in: nobody is told which.
    Wrong,
    /// Too many attempts; nothing was evaluated. The next one is allowed then.
    Throttled {
        /// When to come back.
        until: Timestamp,
    },
    /// No room to evaluate it now; try again in a second.
    Busy,
    /// Longer than any name or password can be, or with a NUL in the name.
    Malformed,
}

impl SignIn {
    /// The outcome in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SignedIn(_) => "succeeded",
            Self::Wrong => "wrong",
            Self::Throttled { .. } => "throttled",
            Self::Busy => "busy",
            Self::Malformed => "malformed",
        }
    }
}

/// Decides a sign-in by password. Attempts are counted before they are evaluated, under the
/// account itself (so that user name and e-mail share one counter, on every path) and under the
/// address; a refused attempt evaluates nothing. At a browser that knows the user they are counted
/// under that browser alone: a stranger's failures do not keep them out. An unknown name costs the
/// same work as a known one and gets the same answers.
pub async fn sign_in(door: &Door<'_>, login: &str, password: &str) -> Result<SignIn> {
    if login.len() > LOGIN_LIMIT || login.contains('\0') {
        return Ok(SignIn::Malformed);
    }
    let Ok(password) = Password::typed(password) else { return Ok(SignIn::Malformed) };
    let login = LoginName::canonical(login);
    let user = door.tenant.store.find_user_by_login(&login).await?;
    let counter = Counter::of(door, user.as_ref(), &login);
    if counter.purpose == ACCOUNT
        && let Some(until) = door.count("login-address", &network(door.ip), &PER_ADDRESS).await?
    {
        door.record(Action::LoginThrottled, None, "address");
        return Ok(SignIn::Throttled { until });
    }
    let Counter { purpose, value, rule, name } = counter;
    if let Some(until) = door.count(purpose, &value, rule).await? {
        door.record(Action::LoginThrottled, user.as_ref(), name);
        return Ok(SignIn::Throttled { until });
    }
    let stored = user.as_ref().and_then(|user| user.password_hash.as_ref());
    match (door.passwords.verify(password.clone(), stored).await, user) {
        (Err(Busy), _) => Ok(SignIn::Busy),
        (Ok(true), Some(user)) if !user.disabled => {
            door.tenant.store.forgive(&door.key(purpose, &value)).await?;
            door.rehash(&user, password).await?;
            Ok(SignIn::SignedIn(Box::new(user)))
        }
        (Ok(right), user) => {
            let why = match (&user, right) {
                (None, _) => "unknown_user",
                (Some(_), true) => "disabled",
                (Some(_), false) => "wrong_password",
            };
            door.record(Action::LoginFailed, user.as_ref(), why);
            Ok(SignIn::Wrong)
        }
    }
}

impl Door<'_> {
    fn key(
        &self,
        purpose: &str,
        value: &str,
    ) -> crate::base::Digest<crate::model::limit::LimitKey> {
        limit_key(self.ring, &self.tenant.uid, purpose, value)
    }

    async fn count(
        &self,
        purpose: &str,
        value: &str,
        rule: &LimitRule,
    ) -> Result<Option<Timestamp>> {
        let key = self.key(purpose, value);
        Ok(match self.tenant.store.attempt(&key, rule, self.now).await? {
            Attempt::Allowed { .. } => None,
            Attempt::Refused { until } => Some(until),
        })
    }

    /// Replaces a hash that is cheaper than today's. Without room for it now, the next sign-in will.
    async fn rehash(&self, user: &User, password: Password) -> Result<()> {
        let Some(old) = user.password_hash.as_ref().filter(|old| self.passwords.needs_rehash(old))
        else {
            return Ok(());
        };
        if let Ok(new) = self.passwords.hash(password).await {
            self.tenant.store.rehash_password(user.id, old, &new).await?;
        }
        Ok(())
    }

    /// The name that was typed is not recorded when nobody has it: it may be a password.
    fn record(&self, action: Action, user: Option<&User>, reason: &str) {
        self.recorder.record(
            &self.tenant.uid,
            AuditRecord {
                at: self.now,
                action,
                user: user.map(|user| user.id),
                client: None,
                session: None,
                resource: None,
                success: false,
                detail: Some(json!({ "reason": reason })),
                context: self.audit.clone(),
            },
        );
    }
}

/// What an attempt is counted under.
struct Counter {
    purpose: &'static str,
    value: String,
    rule: &'static LimitRule,
    /// In the record of a refusal.
    name: &'static str,
}

const ACCOUNT: &str = "login-account";

impl Counter {
    /// The browser, where it knows the user; else the user, if there is one, however they were named.
    fn of(door: &Door<'_>, user: Option<&User>, login: &LoginName) -> Self {
        if let Some(value) = user.and_then(|user| door.known.counter(user)) {
            let rule = &PER_BROWSER;
            return Self { purpose: "login-browser", value, rule, name: "browser" };
        }
        let value = match user {
            Some(user) => format!("id {}", user.id),
            None => format!("name {}", login.as_str()),
        };
        Self { purpose: ACCOUNT, value, rule: &PER_ACCOUNT, name: "account" }
    }
}
