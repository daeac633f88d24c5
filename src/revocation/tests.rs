use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Standing, View, keys_of, kills};
use crate::base::{Clock as _, ManualClock, Timestamp};
use crate::model::token::AccessClaims;
use crate::model::{Audit, ClientId, Revocation, RevocationKey, Scope, TenantSlug, TenantUid};
use crate::storage::memory::Memory;
use crate::storage::{
    LogCursor, LogEntry, LogPage, Result, RevocationLog, Revocations, Storage as _, StoreError,
    Tail, Tenants as _, Watch,
};
use crate::tenant::testing::{House, NOW, TWO};

const KID: Option<&str> = Some("k1");

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn claims() -> AccessClaims {
    AccessClaims {
        jti: "j1".into(),
        client: ClientId::new("app"),
        user: Some("6e9a3c52-95ab-4be4-90ef-20c4ea4d7b9e".parse().unwrap()),
        subject: "6e9a3c52-95ab-4be4-90ef-20c4ea4d7b9e".into(),
        audience: vec!["https://api.example".into()],
        scope: Scope::default(),
        grant: Some("0d39f6ab-7e9b-4f10-8a4f-4f2c7a3f8a53".parse().unwrap()),
        session: Some("b1e3c1a0-4a0b-4a51-9a55-3f1f6bb0c0de".parse().unwrap()),
        generation: Some(3),
        auth_time: None,
        acr: None,
        amr: vec![],
        issued_at: NOW,
        expires_at: NOW.plus(seconds(600)),
        status: None,
    }
}

fn entry(key: RevocationKey) -> Revocation {
    Revocation {
        key,
        audience: None,
        not_before: None,
        expires_at: NOW.plus(seconds(660)),
        at: NOW,
    }
}

fn not_before(key: RevocationKey, at: Timestamp) -> Revocation {
    Revocation { not_before: Some(at), ..entry(key) }
}

fn of_acme(revocation: Revocation) -> LogEntry {
    LogEntry { tenant: TenantUid::stored("acme"), revocation }
}

/// A store that never answers.
struct Away;

#[async_trait]
impl Revocations for Away {
    async fn append_revocations(&self, _: &[Revocation], _: Timestamp, _: &Audit) -> Result<()> {
        Err(StoreError::unavailable("away"))
    }
    async fn matching_revocations(
        &self,
        _: &[RevocationKey],
        _: Timestamp,
    ) -> Result<Vec<Revocation>> {
        Err(StoreError::unavailable("away"))
    }
}

/// A view of `store` as another node has it: told of nothing, it must look.
fn elsewhere(store: &Memory) -> (Arc<View>, ManualClock, Watch) {
    let (clock, watch) = (ManualClock::at(NOW), Watch::default());
    let view = View::over(Arc::new(store.clone()), watch.clone(), Arc::new(clock.clone()));
    (view, clock, watch)
}

async fn standing(view: &View, store: &dyn Revocations, now: Timestamp) -> Result<Standing> {
    let acme = TenantUid::stored("acme");
    view.standing_in(&acme, store, false, &claims(), KID, now).await
}

#[test]
fn each_kind_of_entry_kills_the_tokens_that_it_names_and_no_others() {
    let token = claims();
    let keys = keys_of(&token, KID);
    let (grant, user) = (token.grant.unwrap(), token.subject.clone());
    let session = token.session.unwrap().to_string();
    for key in [
        RevocationKey::Jti("j1".into()),
        RevocationKey::head(grant, 3),
        RevocationKey::Grant(grant.to_string()),
        RevocationKey::ApiKey(grant.to_string()),
        RevocationKey::Session(session),
        RevocationKey::Subject(user),
        RevocationKey::Client("app".into()),
        RevocationKey::Tenant,
        RevocationKey::Kid("k1".into()),
    ] {
        assert!(keys.contains(&key), "{key:?}");
        assert!(kills(&entry(key), &token));
    }
    assert_eq!(keys.len(), 9);
    let machine =
        AccessClaims { user: None, grant: None, session: None, generation: None, ..token };
    let keys = keys_of(&machine, None);
    let expected = [
        RevocationKey::Jti("j1".into()),
        RevocationKey::Tenant,
        RevocationKey::Client("app".into()),
    ];
    assert_eq!(keys, expected);
}

#[test]
fn a_not_before_kills_what_was_issued_up_to_and_including_it() {
    let at = |moment| kills(&not_before(RevocationKey::Tenant, moment), &claims());
    assert!(at(NOW));
    assert!(at(NOW.plus(seconds(10))));
    assert!(!at(NOW.minus(Duration::from_millis(1))));
}

#[test]
fn an_entry_for_an_audience_spares_the_others() {
    let only = |audience: &str| Revocation {
        audience: Some(vec!["https://x.example".into(), audience.into()]),
        ..entry(RevocationKey::Tenant)
    };
    assert!(kills(&only("https://api.example"), &claims()));
    assert!(!kills(&only("https://other.example"), &claims()));
}

#[tokio::test]
async fn what_this_node_revokes_it_refuses_at_once() {
    let house = House::new(TWO).await;
    let acme = house.tenant("acme");
    let view = View::new(Arc::new(house.store.clone()), Arc::new(house.clock.clone()));
    view.sync().await.unwrap();
    assert_eq!(view.standing(&acme, &claims(), KID, NOW).await.unwrap(), Standing::Live);
    let entries = [entry(RevocationKey::Jti("j1".into()))];
    acme.store.append_revocations(&entries, NOW, &Audit::default()).await.unwrap();
    assert_eq!(view.standing(&acme, &claims(), KID, NOW).await.unwrap(), Standing::Revoked);
    let globex = house.tenant("globex");
    assert_eq!(view.standing(&globex, &claims(), KID, NOW).await.unwrap(), Standing::Live);
}

#[tokio::test]
async fn another_node_sees_it_after_a_sync_and_asks_the_store_when_its_view_is_old() {
    let store = Memory::new("e1", NOW);
    let acme = store.tenant(&TenantUid::stored("acme"));
    let (view, clock, _) = elsewhere(&store);
    view.sync().await.unwrap();
    let revoked = [entry(RevocationKey::Kid("k1".into()))];
    acme.append_revocations(&revoked, NOW, &Audit::default()).await.unwrap();

    assert_eq!(standing(&view, &*acme, NOW).await.unwrap(), Standing::Live, "still from memory");
    let later = NOW.plus(seconds(1));
    assert_eq!(standing(&view, &*acme, later).await.unwrap(), Standing::Revoked, "the store knows");
    clock.set(later);
    view.sync().await.unwrap();
    assert_eq!(standing(&view, &Away, later).await.unwrap(), Standing::Revoked, "so do we");
}

#[tokio::test]
async fn a_strict_tenant_asks_the_store_each_time() {
    let strict = TWO.replace("  acme:", "  acme:\n    revocation: strict");
    let house = House::new(&strict).await;
    let (view, ..) = elsewhere(&house.store);
    view.sync().await.unwrap();
    let (acme, globex) = (house.tenant("acme"), house.tenant("globex"));
    for tenant in [&acme, &globex] {
        let revoked = [entry(RevocationKey::Jti("j1".into()))];
        tenant.store.append_revocations(&revoked, NOW, &Audit::default()).await.unwrap();
    }
    assert!(view.is_fresh(NOW));
    assert_eq!(view.standing(&acme, &claims(), KID, NOW).await.unwrap(), Standing::Revoked);
    assert_eq!(view.standing(&globex, &claims(), KID, NOW).await.unwrap(), Standing::Live);
}

#[tokio::test]
async fn with_an_old_view_and_no_store_nobody_knows_unless_it_is_revoked() {
    let store = Memory::new("e1", NOW);
    let (view, ..) = elsewhere(&store);
    assert!(standing(&view, &Away, NOW).await.is_err(), "never synced");
    view.sync().await.unwrap();
    assert_eq!(standing(&view, &Away, NOW).await.unwrap(), Standing::Live);
    let later = NOW.plus(seconds(1));
    assert!(standing(&view, &Away, later).await.is_err());
    view.log.apply(&[of_acme(entry(RevocationKey::Jti("j1".into())))]);
    assert_eq!(standing(&view, &Away, later).await.unwrap(), Standing::Revoked);
}

#[tokio::test]
async fn a_view_is_fresh_for_a_second_or_five_without_notifications() {
    let store = Memory::new("e1", NOW);
    let (view, _, watch) = elsewhere(&store);
    assert!(!view.is_fresh(NOW));
    view.sync().await.unwrap();
    let at = |millis| view.is_fresh(NOW.plus(Duration::from_millis(millis)));
    assert!(at(999) && !at(1_000));
    watch.set_listening(false);
    assert!(at(4_999) && !at(5_000));
    assert!(view.is_fresh(NOW.minus(seconds(1))), "a request that began just before");
    assert!(!view.is_fresh(NOW.minus(seconds(3))), "a clock that was set back");
}

#[tokio::test]
async fn nothing_is_minted_while_a_not_before_covers_it() {
    let house = House::new(TWO).await;
    let acme = house.tenant("acme");
    let view = View::new(Arc::new(house.store.clone()), Arc::new(house.clock.clone()));
    view.sync().await.unwrap();
    let (user, app) = (claims().user, ClientId::new("app"));
    let blocked = async |user, client: &ClientId, now| {
        view.minting_blocked(&acme, user, client, now).await.unwrap()
    };
    assert_eq!(blocked(user, &app, NOW).await, None);
    let until = NOW.plus(seconds(10));
    let subject = not_before(RevocationKey::Subject(claims().subject), until);
    acme.store.append_revocations(&[subject], NOW, &Audit::default()).await.unwrap();
    assert_eq!(blocked(user, &app, NOW).await, Some(seconds(11)));
    assert_eq!(blocked(None, &app, NOW).await, None);
    // `iat` would still be the second that the not-before names.
    let late = until.plus(Duration::from_millis(900));
    house.clock.set(late);
    view.sync().await.unwrap();
    assert_eq!(blocked(user, &app, late).await, Some(Duration::from_millis(100)));
    assert_eq!(blocked(user, &app, until.plus(seconds(1))).await, None);
    let client = not_before(RevocationKey::Client("app".into()), until.plus(seconds(60)));
    acme.store.append_revocations(&[client], NOW, &Audit::default()).await.unwrap();
    assert!(blocked(None, &app, late).await.is_some());
    assert_eq!(blocked(None, &ClientId::new("other"), late).await, None);
}

/// Two timelines of a store: a fail-over makes the second the current one.
struct Failover {
    before: Memory,
    after: Memory,
    clock: ManualClock,
}

impl Failover {
    fn current(&self) -> &Memory {
        if self.clock.now() > NOW { &self.after } else { &self.before }
    }
}

#[async_trait]
impl RevocationLog for Failover {
    async fn revocation_snapshot(&self, now: Timestamp) -> Result<LogPage> {
        self.current().revocation_snapshot(now).await
    }
    async fn revocation_tail(&self, cursor: &LogCursor, limit: u32) -> Result<Tail> {
        self.current().revocation_tail(cursor, limit).await
    }
    async fn revocation_tail_of(
        &self,
        tenant: &TenantUid,
        cursor: &LogCursor,
        limit: u32,
    ) -> Result<Tail> {
        self.current().revocation_tail_of(tenant, cursor, limit).await
    }
    async fn reassert_revocations(&self, entries: &[LogEntry], now: Timestamp) -> Result<u64> {
        self.current().reassert_revocations(entries, now).await
    }
}

#[tokio::test]
async fn what_a_failover_lost_is_revoked_again_and_what_it_brought_is_learnt() {
    let clock = ManualClock::at(NOW);
    let (before, after) = (Memory::new("e1", NOW), Memory::new("e2", NOW));
    let acme = TenantUid::stored("acme");
    let jti = |name: &str| entry(RevocationKey::Jti(name.into()));
    let audit = Audit::default();
    let slug = TenantSlug::parse("acme").unwrap();
    for timeline in [&before, &after] {
        timeline.ensure_tenant(&slug, &acme, NOW, &audit).await.unwrap();
    }
    let stale = Revocation { expires_at: NOW.plus(seconds(1)), ..jti("stale") };
    let known = [jti("j1"), jti("both"), stale];
    before.tenant(&acme).append_revocations(&known, NOW, &audit).await.unwrap();
    after.tenant(&acme).append_revocations(&[jti("both"), jti("new")], NOW, &audit).await.unwrap();

    let store = Failover { before, after: after.clone(), clock: clock.clone() };
    let view = View::over(Arc::new(store), Watch::default(), Arc::new(clock.clone()));
    view.sync().await.unwrap();
    let later = NOW.plus(seconds(2));
    clock.set(later);
    view.sync().await.unwrap();

    let log = after.revocation_snapshot(later).await.unwrap().entries;
    let keys = log.iter().map(|entry| &entry.revocation.key);
    let mut there: Vec<_> =
        keys.filter(|key| key.kind() == "jti").map(RevocationKey::key).collect();
    there.sort_unstable();
    assert_eq!(there, ["both", "j1", "new"]);
    assert_eq!(standing(&view, &Away, later).await.unwrap(), Standing::Revoked, "j1 stays dead");
    let new = AccessClaims { jti: "new".into(), ..claims() };
    let found = view.standing_in(&acme, &Away, false, &new, None, later).await.unwrap();
    assert_eq!(found, Standing::Revoked);
}

#[tokio::test]
async fn more_entries_than_a_page_are_followed_to_the_end() {
    let store = Memory::new("e1", NOW);
    let acme = store.tenant(&TenantUid::stored("acme"));
    let (view, ..) = elsewhere(&store);
    view.sync().await.unwrap();
    let mut many: Vec<_> = (0..2_500).map(|i| entry(RevocationKey::Jti(format!("t{i}")))).collect();
    many.push(entry(RevocationKey::Jti("j1".into())));
    acme.append_revocations(&many, NOW, &Audit::default()).await.unwrap();
    view.sync().await.unwrap();
    assert_eq!(standing(&view, &Away, NOW).await.unwrap(), Standing::Revoked);
}

#[tokio::test]
async fn expired_entries_are_forgotten() {
    let store = Memory::new("e1", NOW);
    let (view, clock, _) = elsewhere(&store);
    view.log.apply(&[of_acme(entry(RevocationKey::Jti("j1".into())))]);
    clock.advance(seconds(659));
    view.sync().await.unwrap();
    let keys = [RevocationKey::Jti("j1".into())];
    let acme = TenantUid::stored("acme");
    assert_eq!(view.log.entries(&acme, &keys).len(), 1);
    clock.advance(seconds(61));
    view.sync().await.unwrap();
    assert_eq!(view.log.entries(&acme, &keys).len(), 0);
}

#[tokio::test]
async fn a_running_view_follows_hints() {
    let store = Memory::new("e1", NOW);
    let acme = store.tenant(&TenantUid::stored("acme"));
    let (view, _, watch) = elsewhere(&store);
    let stop = tokio_util::sync::CancellationToken::new();
    let run = tokio::spawn(Arc::clone(&view).run(stop.clone()));
    let revoked = [entry(RevocationKey::Jti("j1".into()))];
    acme.append_revocations(&revoked, NOW, &Audit::default()).await.unwrap();
    watch.hint();
    let mut seen = false;
    for _ in 0..500 {
        seen = matches!(standing(&view, &Away, NOW).await, Ok(Standing::Revoked));
        if seen {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(seen);
    stop.cancel();
    run.await.unwrap();
}
