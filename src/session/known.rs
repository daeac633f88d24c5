use std::time::Duration;

use uuid::Uuid;

use crate::base::{Entropy, Timestamp, base64url};
use crate::keys::Ring;
use crate::model::{TenantUid, User, UserId};

const NONCE: usize = 16;
/// User, nonce, when their password was changed last, when they signed in here.
const PLAIN: usize = 16 + NONCE + 8 + 8;
/// Users that one browser is remembered for.
const MOST: usize = 4;

/// Who has signed in at this browser before (the device cookie of the OWASP guide to slow brute-force
/// attacks): such a browser is not delayed by what strangers try elsewhere. The cookie opens nothing.
/// Each entry is sealed for its tenant and user and names a counter of its own; another password
/// voids it.
#[derive(Debug, Clone, Default)]
pub struct KnownUsers(Vec<Known>);

#[derive(Debug, Clone)]
struct Known {
    user: UserId,
    nonce: [u8; NONCE],
    password_changed_at: i64,
    sealed: String,
}

impl KnownUsers {
    /// A user is known for so long after they signed in.
    pub const LIFETIME: Duration = Duration::from_hours(180 * 24);

    /// Takes the value of a cookie, as far as it is of our making, for this tenant, and not too old.
    pub fn read(ring: &Ring, tenant: &TenantUid, cookie: &str, now: Timestamp) -> Self {
        let known = cookie.split('.').take(MOST);
        Self(known.filter_map(|sealed| Known::open(ring, tenant, sealed, now)).collect())
    }

    /// The name of the counter that this browser has for `user`, if it knows them.
    pub fn counter(&self, user: &User) -> Option<String> {
        let known = self.0.iter().find(|known| {
            known.user == user.id && known.password_changed_at == user.password_changed_at.millis()
        })?;
        Some(base64url::encode(known.nonce))
    }

    /// The same without `user`.
    #[must_use]
    pub fn without(mut self, user: UserId) -> Self {
        self.0.retain(|known| known.user != user);
        self
    }

    /// The cookie's value after `user` signed in: under a new counter, and first.
    pub fn after_sign_in(
        self,
        user: &User,
        ring: &Ring,
        tenant: &TenantUid,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> String {
        let mut plain = Vec::with_capacity(PLAIN);
        plain.extend_from_slice(user.id.0.as_bytes());
        plain.extend_from_slice(&entropy.bytes::<NONCE>());
        plain.extend_from_slice(&user.password_changed_at.millis().to_be_bytes());
        plain.extend_from_slice(&now.millis().to_be_bytes());
        let newest = base64url::encode(ring.seal(&place(tenant), &plain, entropy));
        let others = self.without(user.id).0.into_iter().map(|known| known.sealed);
        std::iter::once(newest).chain(others).take(MOST).collect::<Vec<_>>().join(".")
    }
}

impl Known {
    fn open(ring: &Ring, tenant: &TenantUid, sealed: &str, now: Timestamp) -> Option<Self> {
        let plain = ring.open(&place(tenant), &base64url::decode(sealed).ok()?).ok()?;
        let (user, rest) = plain.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (password_changed_at, rest) = rest.split_first_chunk()?;
        let signed_in_at = Timestamp::from_millis(i64::from_be_bytes(rest.try_into().ok()?));
        (now.since(signed_in_at) < KnownUsers::LIFETIME).then(|| Self {
            user: UserId(Uuid::from_bytes(*user)),
            nonce: *nonce,
            password_changed_at: i64::from_be_bytes(*password_changed_at),
            sealed: sealed.to_owned(),
        })
    }
}

fn place(tenant: &TenantUid) -> [&[u8]; 2] {
    [b"known user", tenant.as_str().as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::super::browser::tests::ring;
    use super::*;
    use crate::base::SystemEntropy;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn user(n: u128) -> User {
        User {
            id: UserId(Uuid::from_u128(n)),
            username: None,
            email: "a@example.com".into(),
            email_verified: true,
            name: None,
            given_name: None,
            family_name: None,
            password_hash: None,
            disabled: false,
            password_changed_at: NOW,
            created_at: NOW,
            updated_at: NOW,
            last_login_at: None,
        }
    }

    fn signed_in(known: KnownUsers, user: &User) -> String {
        known.after_sign_in(user, &ring(), &TenantUid::stored("acme"), &SystemEntropy, NOW)
    }

    fn read(cookie: &str, now: Timestamp) -> KnownUsers {
        KnownUsers::read(&ring(), &TenantUid::stored("acme"), cookie, now)
    }

    #[test]
    fn a_browser_knows_its_users_at_one_tenant_until_their_password_changes_or_half_a_year_is_over()
    {
        let (ada, bob) = (user(1), user(2));
        let cookie = signed_in(KnownUsers::default(), &ada);
        let known = read(&cookie, NOW);
        assert!(known.counter(&ada).is_some());
        assert_eq!(known.counter(&bob), None);
        assert_eq!(known.clone().without(ada.id).counter(&ada), None);
        let changed = NOW.plus(Duration::from_millis(1));
        assert_eq!(known.counter(&User { password_changed_at: changed, ..user(1) }), None);
        let other = KnownUsers::read(&ring(), &TenantUid::stored("other"), &cookie, NOW);
        assert_eq!(other.counter(&ada), None);
        assert_eq!(read(&cookie, NOW.plus(KnownUsers::LIFETIME)).counter(&ada), None);
    }

    #[test]
    fn a_browser_knows_the_last_four_each_under_a_counter_of_their_own() {
        let mut cookie = String::new();
        for n in 1..=5 {
            cookie = signed_in(read(&cookie, NOW), &user(n));
        }
        let before = read(&cookie, NOW);
        let counters: Vec<_> = (1..=5).map(|n| before.counter(&user(n))).collect();
        assert_eq!(counters.iter().filter(|counter| counter.is_some()).count(), 4);
        assert_eq!(counters[0], None, "the first one is forgotten");
        let after = read(&signed_in(before, &user(3)), NOW);
        assert_ne!(after.counter(&user(3)), counters[2], "each sign-in begins a new counter");
        assert_eq!(after.counter(&user(5)), counters[4]);
        assert!(after.counter(&user(2)).is_some(), "nobody was pushed out");
    }

    #[test]
    fn what_is_not_ours_knows_nobody() {
        let cookie = signed_in(KnownUsers::default(), &user(1));
        let made_up = base64url::encode([1; 1 + 12 + PLAIN + 16]);
        let mut changed = base64url::decode(&cookie).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        for bad in ["", ".", "x", &made_up, &cookie[1..], &base64url::encode(changed)] {
            assert_eq!(read(bad, NOW).counter(&user(1)), None, "{bad:?}");
        }
        assert!(read(&format!("x.{cookie}"), NOW).counter(&user(1)).is_some());
    }
}
