//! A long random run of operations: whatever happens, each SQL engine answers as memory does, and in
//! the end they hold the same.

use std::time::Duration;

use pmp_auth::base::{Digest, Secret, Timestamp};
use pmp_auth::model::client::SigningAlg::ES256;
use pmp_auth::model::code::Code;
use pmp_auth::model::consent::Consent;
use pmp_auth::model::key::{KeyState, SigningKeyRecord};
use pmp_auth::model::limit::LimitRule;
use pmp_auth::model::refresh::RefreshHead;
use pmp_auth::model::{ClientId, SessionId, UserId};
use pmp_auth::storage::{
    EndReason, Engine, Kind, NewCode, NewGrant, NewOpaqueToken, NewSession, NewUser, RedeemCode,
    Redemption, RefreshVerdict, Result, Retry, Rotation, TenantHandle,
};

use super::make::*;
use super::random_api_keys::{self, ApiKeyStep, ApiKeys};
use super::random_devices::{self, DeviceStep, Devices};
use crate::support::engines::Bed;

mod sqlite {
    use super::Engine::Sqlite;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn answers_as_memory_does() {
        super::compare(Sqlite, 0x5eed_0001).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn answers_as_memory_does_with_another_seed() {
        super::compare(Sqlite, 0x5eed_0002).await;
    }
}

mod postgres {
    use super::Engine::Postgres;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn answers_as_memory_does() {
        super::compare(Postgres, 0x5eed_0001).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn answers_as_memory_does_with_another_seed() {
        super::compare(Postgres, 0x5eed_0002).await;
    }
}

const STEPS: usize = 800;

/// SplitMix64: the same run for the same seed, everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(end).unwrap()).unwrap()
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them, rather a late one.
    pub fn pick<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        let last = all.len().checked_sub(1)?;
        let back = self.below(all.len()).min(self.below(all.len())).min(self.below(12));
        Some(all[last - back].clone())
    }
}

/// One operation with all its arguments.
#[derive(Debug, Clone)]
enum Step {
    CreateUser(NewUser),
    SetPassword(UserId, Option<SessionId>),
    DisableUser(UserId, bool),
    DeleteUser(UserId),
    CreateSession(NewSession),
    TouchSession(SessionId),
    EndSession(SessionId),
    FindSession(NewSession),
    Issue(NewGrant, NewCode),
    Redeem(Redemption),
    WrongVerifier(Issued),
    Rotate(Box<Rotation>),
    HeadSeen(Issued, u32),
    RevokeGrant(Issued),
    FindGrant(Issued),
    ListGrants(UserId),
    Remember(Consent),
    Withdraw(UserId),
    IssueToken(NewOpaqueToken),
    FindToken(NewOpaqueToken),
    RevokeToken(NewOpaqueToken),
    DisableClient(ClientId, bool),
    Jti(u8),
    Push(u8),
    Take(u8),
    Attempt(u8),
    Forgive(u8),
    AddKey(SigningKeyRecord),
    RotateKey(SigningKeyRecord),
    CompromiseKey(String),
    Cleanup(bool),
    Device(DeviceStep),
    ApiKey(ApiKeyStep),
}

/// What has been made so far, in one tenant.
#[derive(Default)]
struct World {
    users: Vec<UserId>,
    /// When each password was last set.
    passwords: std::collections::HashMap<UserId, Timestamp>,
    sessions: Vec<NewSession>,
    issued: Vec<Issued>,
    spent: Vec<Digest<Code>>,
    heads: Vec<Family>,
    tokens: Vec<NewOpaqueToken>,
    keys: usize,
    devices: Devices,
    api_keys: ApiKeys,
}

/// Two clients, so that one is sometimes the wrong one.
pub fn some_client(dice: &mut Dice) -> ClientId {
    if dice.one_in(6) { ClientId::new("other") } else { app() }
}

impl World {
    fn plan(&mut self, dice: &mut Dice, now: Timestamp) -> Option<Step> {
        Some(match dice.below(57) {
            0 | 1 => Step::CreateUser(new_user(["ada", "bob", "cyd", "dan", "eve"][dice.below(5)])),
            2 if dice.one_in(6) => {
                let keep = dice.pick(&self.sessions).map(|session| session.id);
                Step::SetPassword(dice.pick(&self.users)?, keep.filter(|_| dice.one_in(2)))
            }
            3 if dice.one_in(2) => Step::DisableUser(dice.pick(&self.users)?, dice.one_in(4)),
            4 if dice.one_in(12) => Step::DeleteUser(dice.pick(&self.users)?),
            5..=7 => {
                let mut new = new_session(dice.pick(&self.users)?, now);
                let old = dice.pick(&self.sessions).filter(|_| dice.one_in(4));
                // Now and then the password was changed after it was verified.
                if let Some(set) = self.passwords.get(&new.user).filter(|_| !dice.one_in(8)) {
                    new.password_changed_at = *set;
                }
                new.replaces = old.map(|old| (old.id, now.plus(Duration::from_hours(1))));
                Step::CreateSession(new)
            }
            8 => Step::TouchSession(dice.pick(&self.sessions)?.id),
            9 if dice.one_in(3) => Step::EndSession(dice.pick(&self.sessions)?.id),
            10 => Step::FindSession(dice.pick(&self.sessions)?),
            11..=15 => self.issue(dice, now)?,
            16..=20 => self.redeem(dice, now)?,
            21 => Step::WrongVerifier(dice.pick(&self.issued)?),
            22..=28 => self.rotate(dice, now)?,
            29 if dice.one_in(2) => {
                Step::HeadSeen(dice.pick(&self.issued)?, u32::try_from(dice.below(4)).unwrap())
            }
            30 if dice.one_in(4) => Step::RevokeGrant(dice.pick(&self.issued)?),
            31 => Step::FindGrant(dice.pick(&self.issued)?),
            32 => Step::ListGrants(dice.pick(&self.users)?),
            33 => self.consent(dice, now)?,
            34 | 35 => self.token(dice, now)?,
            36 if dice.one_in(2) => Step::DisableClient(some_client(dice), dice.one_in(6)),
            37 => match dice.below(5) {
                0 => Step::Jti(u8::try_from(dice.below(3)).unwrap()),
                1 => Step::Push(u8::try_from(dice.below(3)).unwrap()),
                2 => Step::Take(u8::try_from(dice.below(3)).unwrap()),
                3 => Step::Attempt(u8::try_from(dice.below(3)).unwrap()),
                _ => Step::Forgive(u8::try_from(dice.below(3)).unwrap()),
            },
            38 => self.key(dice, now),
            39 => Step::Cleanup(dice.one_in(2)),
            50.. => Step::ApiKey(self.api_keys.plan(dice, &self.users, now)?),
            40.. => Step::Device(self.devices.plan(dice, &self.sessions, now)?),
            _ => return None,
        })
    }

    fn issue(&self, dice: &mut Dice, now: Timestamp) -> Option<Step> {
        let session = dice.pick(&self.sessions)?;
        let who = SignedIn { user: session.user, session: session.id, cookie: session.cookie };
        let mut grant = new_grant(&who, &some_client(dice), now);
        grant.offline = dice.one_in(2);
        if dice.one_in(4) {
            grant.expires_at = now.plus(Duration::from_mins(5));
        }
        let mut code = new_code(now);
        if !dice.one_in(4) {
            code.expires_at = now.plus(Duration::from_mins(10));
        }
        Some(Step::Issue(grant, code))
    }

    fn redeem(&mut self, dice: &mut Dice, now: Timestamp) -> Option<Step> {
        let again = dice.one_in(8);
        let fresh: Vec<_> = self
            .issued
            .iter()
            .filter(|i| again || !self.spent.contains(&i.code))
            .cloned()
            .collect();
        let issued = dice.pick(&fresh)?;
        let mut redemption = redemption(&issued, now);
        if dice.one_in(8) {
            redemption.client = some_client(dice);
        }
        if dice.one_in(3) {
            redemption.refresh = None;
        }
        if dice.one_in(2) {
            let fingerprint = [u8::try_from(dice.below(2)).unwrap(); 32];
            redemption.retry = Some(Retry { fingerprint, window: Duration::from_secs(2) });
        }
        if dice.one_in(2) {
            let mut token = opaque(Some(issued.grant), now);
            token.claims.generation = redemption.refresh.as_ref().map(|_| 1);
            self.tokens.push(token.clone());
            redemption.opaque = Some(token);
        }
        Some(Step::Redeem(redemption))
    }

    fn rotate(&mut self, dice: &mut Dice, now: Timestamp) -> Option<Step> {
        let family = dice.pick(&self.heads)?;
        let mut rotation = rotation(&family, &family.head, now);
        rotation.windows = if dice.one_in(8) { NO_WINDOWS } else { WINDOWS };
        rotation.fits = !dice.one_in(8);
        rotation.repeat_limit = if dice.one_in(8) { 2 } else { 1000 };
        rotation.fingerprint = Some([u8::try_from(dice.below(2)).unwrap() + 1; 16]);
        if dice.one_in(20) {
            rotation.presented.generation += 1;
        }
        if dice.one_in(20) {
            rotation.presented.nonce = [0; 8];
        }
        if dice.one_in(12) {
            rotation.client = some_client(dice);
        }
        if dice.one_in(3) {
            let token = opaque(Some(family.issued.grant), now);
            self.tokens.push(token.clone());
            rotation.opaque = Some(token);
        }
        Some(Step::Rotate(Box::new(rotation)))
    }

    fn consent(&self, dice: &mut Dice, now: Timestamp) -> Option<Step> {
        let user = dice.pick(&self.users)?;
        if dice.one_in(8) {
            return Some(Step::Withdraw(user));
        }
        let text = ["openid", "openid email", "email profile"][dice.below(3)];
        let resources = vec![format!("https://{}.example", dice.below(3))];
        let scope = scope(text);
        Some(Step::Remember(Consent { user, client: app(), scope, resources, granted_at: now }))
    }

    fn token(&mut self, dice: &mut Dice, now: Timestamp) -> Option<Step> {
        match dice.below(4) {
            0 => {
                let token = opaque(None, now);
                self.tokens.push(token.clone());
                Some(Step::IssueToken(token))
            }
            1 => dice.pick(&self.tokens).map(Step::RevokeToken),
            _ => dice.pick(&self.tokens).map(Step::FindToken),
        }
    }

    fn key(&mut self, dice: &mut Dice, now: Timestamp) -> Step {
        let kid = format!("random-{}", unique());
        let mut new = key(&kid, ES256, now);
        self.keys += 1;
        match dice.below(4) {
            0 => Step::AddKey(new),
            1 => Step::CompromiseKey("none".into()),
            _ => {
                if dice.one_in(2) {
                    new.state = KeyState::Pending;
                    new.activates_at = now.plus(Duration::from_mins(1));
                }
                Step::RotateKey(new)
            }
        }
    }

    /// Notes what became of a step.
    fn learn(&mut self, step: &Step, told: Told, now: Timestamp) {
        let (text, head) = (told.text.as_str(), told.head);
        match step {
            Step::CreateUser(new) if text == "Created" => {
                self.users.push(new.id);
                self.passwords.insert(new.id, now);
            }
            Step::SetPassword(user, _) if text == "Changed" => {
                self.passwords.insert(*user, now);
            }
            Step::CreateSession(new) if text == "Created" => self.sessions.push(new.clone()),
            Step::Issue(grant, code) if text == "Issued" => self.issued.push(Issued {
                who: SignedIn {
                    user: grant.user.unwrap(),
                    session: grant.session.unwrap(),
                    cookie: digest(""),
                },
                client: grant.client.clone(),
                code: code.digest,
                grant: grant.id,
            }),
            Step::Redeem(redemption) => {
                self.spent.push(redemption.code);
                let issued = self.issued.iter().find(|issued| issued.code == redemption.code);
                if let (Some(head), Some(issued)) = (head, issued.cloned()) {
                    self.heads.push(Family { issued, head });
                }
            }
            Step::Rotate(rotation) => {
                let grant = rotation.presented.grant;
                if matches!(text, "Revoked" | "Reused" | "Forged" | "Expired") {
                    self.heads.retain(|family| family.issued.grant != grant);
                }
                let issued = self.issued.iter().find(|issued| issued.grant == grant);
                if let (Some(head), Some(issued)) = (head, issued.cloned()) {
                    self.heads.push(Family { issued, head });
                }
            }
            Step::Device(step) => {
                // From now on its grant is as good as any other.
                if let Some(issued) = self.devices.learn(step, text) {
                    self.spent.push(issued.code);
                    self.heads.extend(head.map(|head| Family { issued: issued.clone(), head }));
                    self.issued.push(issued);
                }
            }
            Step::ApiKey(step) => self.api_keys.learn(step, text),
            _ => {}
        }
    }
}

/// The answer as text, and the head in it. What an engine names in its own way is left out.
pub struct Told {
    pub text: String,
    pub head: Option<RefreshHead>,
}

pub fn told<T: std::fmt::Debug>(answer: Result<T>) -> Told {
    let text = answer.map_or_else(|_| "no answer".to_owned(), |answer| format!("{answer:?}"));
    Told { text, head: None }
}

/// Every store has an epoch of its own.
pub fn plain(head: &mut RefreshHead) {
    head.epoch.clear();
}

async fn run(bed: &Bed, t: &TenantHandle, step: &Step, now: Timestamp) -> Told {
    match step {
        Step::Redeem(redemption) => {
            let mut outcome = t.redeem_code(redemption, now, &AUDIT).await;
            let mut head = None;
            if let Ok(
                RedeemCode::Redeemed { refresh: Some(new) }
                | RedeemCode::Repeated { refresh: Some(new) },
            ) = &mut outcome
            {
                plain(new);
                head = Some(new.clone());
            }
            Told { head, ..told(outcome) }
        }
        Step::Rotate(rotation) => {
            let mut verdict = t.rotate_refresh(rotation, now, &AUDIT).await;
            let mut head = None;
            if let Ok(
                RefreshVerdict::Rotated(new)
                | RefreshVerdict::Repeated(new)
                | RefreshVerdict::Replaced(new)
                | RefreshVerdict::Adopted(new),
            ) = &mut verdict
            {
                plain(new);
                head = Some(new.clone());
            }
            Told { head, ..told(verdict) }
        }
        Step::FindGrant(issued) => {
            let mut found = t.find_grant(issued.grant).await;
            if let Ok(Some(grant)) = &mut found
                && let Some(head) = &mut grant.refresh
            {
                plain(head);
            }
            told(found)
        }
        Step::ListGrants(user) => {
            let listed = t.list_grants(*user, now).await;
            told(listed.map(|all| all.into_iter().map(|grant| grant.id).collect::<Vec<_>>()))
        }
        Step::Cleanup(dry_run) => {
            let cleaned = bed.cleanup_expired_data(now, 1000, *dry_run).await;
            told(cleaned.map(|mut cleaned| {
                // Memory writes a not-before of its own, and knows no leases.
                cleaned.counts.retain(|(kind, _)| *kind != Kind::Revocations);
                cleaned
            }))
        }
        Step::Device(step) => random_devices::run(t, step, now).await,
        Step::ApiKey(step) => random_api_keys::run(t, step, now).await,
        other => run_simple(t, other, now).await,
    }
}

async fn run_simple(t: &TenantHandle, step: &Step, now: Timestamp) -> Told {
    let change = change(now);
    let id = |n: &u8| Digest::of(&[*n]);
    match step {
        Step::CreateUser(new) => told(t.create_user(new, now, &AUDIT).await),
        Step::SetPassword(user, keep) => {
            let hash = Secret::new("$argon2id$new".to_owned());
            told(t.set_password(*user, &hash, *keep, &change).await)
        }
        Step::DisableUser(user, on) => told(t.set_user_disabled(*user, *on, &change).await),
        Step::DeleteUser(user) => told(t.delete_user(*user, &change).await),
        Step::CreateSession(new) => told(t.create_session(new, now, &AUDIT).await),
        Step::TouchSession(session) => {
            told(t.touch_session(*session, now, now.plus(Duration::from_mins(30))).await)
        }
        Step::EndSession(session) => {
            told(t.end_session(*session, EndReason::Logout, &change).await)
        }
        Step::FindSession(session) => told(t.find_session(&session.cookie, now).await),
        Step::Issue(grant, code) => told(t.issue_code(grant, code, now, &AUDIT).await),
        Step::WrongVerifier(issued) => {
            told(t.count_wrong_verifier(&issued.code, 2, now, &AUDIT).await)
        }
        Step::HeadSeen(issued, generation) => {
            told(t.mark_head_seen(issued.grant, *generation).await)
        }
        Step::RevokeGrant(issued) => told(t.revoke_grant(issued.grant, now, &AUDIT).await),
        Step::Remember(consent) => told(t.remember_consent(consent, &AUDIT).await),
        Step::Withdraw(user) => told(t.withdraw_consent(*user, &app(), now, &AUDIT).await),
        Step::IssueToken(token) => told(t.issue_access_token(token).await),
        Step::FindToken(token) => told(t.find_access_token(&token.digest).await),
        Step::RevokeToken(token) => told(t.revoke_access_token(&token.claims, &change).await),
        Step::DisableClient(client, on) => told(t.set_client_disabled(client, *on, &change).await),
        Step::Jti(n) => {
            told(t.remember_jti("p", &[*n; 32], now.plus(Duration::from_mins(1)), now).await)
        }
        Step::Push(n) => {
            told(t.push_request(&id_of(*n), "x", now.plus(Duration::from_mins(1)), now).await)
        }
        Step::Take(n) => told(t.take_request(&id_of(*n), now).await),
        Step::Attempt(n) => told(t.attempt(&id(n), &RULE, now).await),
        Step::Forgive(n) => told(t.forgive(&id(n)).await),
        Step::AddKey(key) => told(t.add_first_key(key, &AUDIT).await),
        Step::RotateKey(key) => {
            let retire_at = now.plus(Duration::from_mins(10));
            told(t.rotate_key(key, retire_at, now, &AUDIT).await)
        }
        Step::CompromiseKey(kid) => told(t.compromise_key(kid, &change).await),
        other => unreachable!("{other:?}"),
    }
}

fn id_of<T>(n: u8) -> Digest<T> {
    Digest::of(&[n])
}

const RULE: LimitRule = LimitRule {
    free: 1,
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(4),
    hard: 5,
    window: Duration::from_mins(15),
};

async fn compare(engine: Engine, seed: u64) {
    let (memory, other) = (Bed::new(Engine::Memory).await, Bed::new(engine).await);
    let mut dice = Dice(seed);
    let (mut now, mut script) = (NOW, Vec::new());
    let slugs = ["acme", "bolt"];
    let mut worlds = [World::default(), World::default()];
    let mut pairs = Vec::new();
    for slug in slugs {
        pairs.push((memory.tenant(slug).await, other.tenant(slug).await));
    }
    while script.len() < STEPS {
        now = now.plus(match dice.below(200) {
            0 => Duration::from_hours(26),
            1..=3 => Duration::from_mins(7),
            4..=40 => Duration::from_secs(dice.roll() % 12),
            _ => Duration::from_millis(dice.roll() % 900),
        });
        let at = dice.below(2);
        let Some(step) = worlds[at].plan(&mut dice, now) else { continue };
        let (mine, theirs) = &pairs[at];
        let expected = run(&memory, mine, &step, now).await;
        let answer = run(&other, theirs, &step, now).await;
        script.push(format!("{now} {} {step:?}", slugs[at]));
        assert_eq!(
            expected.text,
            answer.text,
            "memory (left) and {engine:?} differ after\n{}",
            script[script.len().saturating_sub(6)..].join("\n")
        );
        worlds[at].learn(&step, expected, now);
    }
    for (mine, theirs) in &pairs {
        assert_eq!(sorted_actions(mine).await, sorted_actions(theirs).await);
    }
    assert_eq!(log(&memory, now).await, log(&other, now).await);
}

async fn sorted_actions(t: &TenantHandle) -> Vec<String> {
    let records = t.list_audit(5000).await.unwrap();
    let mut actions: Vec<_> = records
        .iter()
        .map(|r| format!("{} {:?} {:?} {:?} {:?}", r.at, r.action, r.user, r.client, r.success))
        .collect();
    actions.sort_unstable();
    actions.retain(|action| !action.contains("TenantCreated"));
    actions
}

/// The live entries, without those that an engine writes when a tenant is made.
async fn log(bed: &Bed, now: Timestamp) -> Vec<String> {
    let page = bed.revocation_snapshot(now).await.unwrap();
    let ours = page.entries.iter().map(|entry| &entry.revocation).filter(|r| r.at >= NOW);
    let line = |r: &pmp_auth::model::Revocation| {
        format!("{} {:?} {:?} {:?} {}", r.at, r.key, r.audience, r.not_before, r.expires_at)
    };
    let mut lines: Vec<_> = ours.map(line).collect();
    lines.sort_unstable();
    lines
}
