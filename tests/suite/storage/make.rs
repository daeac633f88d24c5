//! The smallest things that storage takes: users, sessions, grants, codes, tokens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pmp_auth::base::{Digest, Secret, Timestamp};
use pmp_auth::model::audit::Action;
use pmp_auth::model::client::{
    ApplicationType, AuthMethod, Client, GrantType, RefreshPolicy, SigningAlg,
};
use pmp_auth::model::code::{Code, CodeTerms};
use pmp_auth::model::device::{DeviceCode, DeviceTerms, UserCodeDigest};
use pmp_auth::model::grant::GrantTerms;
use pmp_auth::model::key::{KeyState, SigningKeyRecord};
use pmp_auth::model::refresh::{PresentedRefresh, RefreshHead, RefreshWindows};
use pmp_auth::model::session::SessionCookie;
use pmp_auth::model::token::AccessClaims;
use pmp_auth::model::{
    Audit, ClientId, GrantId, Revocation, RevocationKey, Scope, SessionId, UserId,
};
use pmp_auth::storage::{
    Change, CreateSession, CreateUser, DecideDevice, DeviceApproval, DevicePoll, DeviceRedemption,
    IssueCode, IssueDevice, NewCode, NewDevice, NewGrant, NewOpaqueToken, NewRefresh, NewSession,
    NewUser, Proof, RedeemCode, Redemption, Rotation, TenantHandle,
};
use uuid::Uuid;

/// When everything happens, unless a case says otherwise.
pub const NOW: Timestamp = Timestamp::from_seconds(1_800_000_100);

/// So many seconds after [`NOW`].
pub fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// Who did it.
pub static AUDIT: Audit = Audit { ip: None, user_agent: None, request_id: None, actor: None };

/// A change at `now` whose revocations expire an hour later.
pub fn change(now: Timestamp) -> Change<'static> {
    Change { now, not_after: now.plus(Duration::from_hours(1)), audit: &AUDIT }
}

/// A number that no other call in this process gets.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An identifier that no other call gets; later ones sort after earlier ones.
pub fn uuid() -> Uuid {
    Uuid::from_u128(u128::from(unique()) << 64 | 0x4000_8000_0000_0000_0001)
}

pub fn digest<T>(text: &str) -> Digest<T> {
    Digest::of(text.as_bytes())
}

pub fn app() -> ClientId {
    ClientId::new("app")
}

pub fn client(id: &str) -> Client {
    Client {
        id: ClientId::new(id),
        name: format!("The {id}"),
        client_uri: Some("https://app.example".into()),
        policy_uri: None,
        tos_uri: None,
        auth_method: AuthMethod::ClientSecretBasic,
        secrets: vec![Digest::of(b"secret"), Digest::of(b"next")],
        application_type: ApplicationType::Web,
        redirect_uris: vec!["https://app.example/cb".into()],
        post_logout_redirect_uris: vec![],
        grants: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        scopes: scope("openid email"),
        default_scopes: Scope::default(),
        resources: vec!["https://api.example".into()],
        audiences: vec![],
        multi_audience: false,
        require_pkce: true,
        require_consent: true,
        refresh_tokens: RefreshPolicy::Always,
        access_token_format: None,
        id_token_alg: Some(SigningAlg::EdDSA),
        access_token_ttl: Some(Duration::from_secs(90)),
        token_rate: Some(50),
        introspection_rate: Some(0),
        introspection_cache: Some(Duration::from_secs(30)),
        cors_origins: vec![],
        enabled: true,
    }
}

pub fn scope(text: &str) -> Scope {
    Scope::parse(text).expect("a scope")
}

pub fn new_user(name: &str) -> NewUser {
    NewUser {
        id: UserId(uuid()),
        username: Some(name.to_owned()),
        email: format!("{name}@example.com"),
        email_verified: true,
        name: Some(format!("{name} Lovelace")),
        given_name: Some(name.to_owned()),
        family_name: Some("Lovelace".into()),
        password_hash: Some(Secret::new("$argon2id$old".into())),
    }
}

pub async fn user(tenant: &TenantHandle, name: &str) -> UserId {
    let new = new_user(name);
    let created = tenant.create_user(&new, NOW, &AUDIT).await.expect("an answer");
    assert_eq!(created, CreateUser::Created);
    new.id
}

/// A user with a session.
#[derive(Debug, Clone, Copy)]
pub struct SignedIn {
    pub user: UserId,
    pub session: SessionId,
    pub cookie: Digest<SessionCookie>,
}

/// Half an hour idle, twelve hours in all; of a user whose password is as old as [`NOW`].
pub fn new_session(user: UserId, now: Timestamp) -> NewSession {
    NewSession {
        id: SessionId(uuid()),
        cookie: digest(&format!("cookie {}", unique())),
        user,
        password_changed_at: NOW,
        amr: vec!["pwd".into()],
        acr: Some("1".into()),
        auth_time: now,
        idle_expires_at: now.plus(Duration::from_mins(30)),
        expires_at: now.plus(Duration::from_hours(12)),
        user_agent: Some("Browser/1".into()),
        ip: Some("203.0.113.7".into()),
        replaces: None,
    }
}

pub async fn session(tenant: &TenantHandle, user: UserId, now: Timestamp) -> SignedIn {
    let found = tenant.find_user(user).await.expect("an answer").expect("the user");
    let password_changed_at = found.password_changed_at;
    let new = NewSession { password_changed_at, ..new_session(user, now) };
    let created = tenant.create_session(&new, now, &AUDIT).await.expect("an answer");
    assert_eq!(created, CreateSession::Created);
    SignedIn { user, session: new.id, cookie: new.cookie }
}

pub async fn signed_in(tenant: &TenantHandle, name: &str) -> SignedIn {
    let user = user(tenant, name).await;
    session(tenant, user, NOW).await
}

pub fn grant_terms(now: Timestamp) -> GrantTerms {
    GrantTerms {
        version: 1,
        scope: scope("openid offline_access"),
        resources: vec!["https://api.example".into()],
        claims: Some(serde_json::json!({ "id_token": { "email": null } })),
        acr: Some("1".into()),
        amr: vec!["pwd".into()],
        auth_time: now,
        session_ends: Some(now.plus(Duration::from_hours(12))),
    }
}

/// A grant that outlives its session, until 90 days from `now`.
pub fn new_grant(who: &SignedIn, client: &ClientId, now: Timestamp) -> NewGrant {
    NewGrant {
        id: GrantId(uuid()),
        client: client.clone(),
        user: Some(who.user),
        session: Some(who.session),
        terms: grant_terms(now),
        jkt: None,
        offline: true,
        expires_at: now.plus(Duration::from_hours(24 * 90)),
    }
}

/// A code of 60 seconds.
pub fn new_code(now: Timestamp) -> NewCode {
    NewCode {
        digest: digest(&format!("code {}", unique())),
        terms: CodeTerms {
            version: 1,
            redirect_uri: "https://app.example/cb".into(),
            redirect_uri_sent: true,
            code_challenge: Some("challenge".into()),
            nonce: Some("n-0S6_WzA2Mj".into()),
            dpop_jkt: None,
        },
        expires_at: now.plus(Duration::from_mins(1)),
    }
}

/// A code that was issued, and what it opens.
#[derive(Debug, Clone)]
pub struct Issued {
    pub who: SignedIn,
    pub client: ClientId,
    pub code: Digest<Code>,
    pub grant: GrantId,
}

pub async fn issue(
    tenant: &TenantHandle,
    grant: NewGrant,
    code: NewCode,
    now: Timestamp,
) -> Issued {
    let outcome = tenant.issue_code(&grant, &code, now, &AUDIT).await.expect("an answer");
    assert_eq!(outcome, IssueCode::Issued);
    let (user, session) = (grant.user.expect("a user"), grant.session.expect("a session"));
    let who = SignedIn { user, session, cookie: digest("") };
    Issued { who, client: grant.client, code: code.digest, grant: grant.id }
}

pub async fn issued(tenant: &TenantHandle, who: &SignedIn) -> Issued {
    issue(tenant, new_grant(who, &app(), NOW), new_code(NOW), NOW).await
}

/// A refresh token that idles for 30 days.
pub fn new_refresh(now: Timestamp) -> NewRefresh {
    NewRefresh {
        salt: [7; 16],
        kid: 1,
        nonce: unique().to_be_bytes(),
        idle_expires_at: now.plus(Duration::from_hours(24 * 30)),
        fingerprint: Some([1; 16]),
    }
}

/// With a refresh token that idles for 30 days, and a signed access token of ten minutes.
pub fn redemption(issued: &Issued, now: Timestamp) -> Redemption {
    Redemption {
        code: issued.code,
        client: issued.client.clone(),
        user: issued.who.user,
        refresh: Some(new_refresh(now)),
        opaque: None,
        access_expires_at: now.plus(Duration::from_mins(10)),
        retry: None,
    }
}

/// A grant whose code was redeemed: its refresh token's first life.
#[derive(Debug, Clone)]
pub struct Family {
    pub issued: Issued,
    pub head: RefreshHead,
}

pub async fn redeem(tenant: &TenantHandle, issued: Issued, now: Timestamp) -> Family {
    let redemption = redemption(&issued, now);
    match tenant.redeem_code(&redemption, now, &AUDIT).await.expect("an answer") {
        RedeemCode::Redeemed { refresh: Some(head) } => Family { issued, head },
        other => panic!("not redeemed: {other:?}"),
    }
}

pub async fn family(tenant: &TenantHandle, name: &str) -> Family {
    let who = signed_in(tenant, name).await;
    redeem(tenant, issued(tenant, &who).await, NOW).await
}

pub const WINDOWS: RefreshWindows = RefreshWindows {
    short: Duration::from_secs(10),
    long: Duration::from_mins(10),
    recovery: Duration::from_hours(24),
};

pub const NO_WINDOWS: RefreshWindows =
    RefreshWindows { short: Duration::ZERO, long: Duration::ZERO, recovery: Duration::ZERO };

/// Presents the head that `head` speaks of.
pub fn rotation(family: &Family, head: &RefreshHead, now: Timestamp) -> Rotation {
    Rotation {
        presented: PresentedRefresh {
            kid: head.kid,
            grant: family.issued.grant,
            generation: head.head,
            nonce: head.head_nonce,
            mac: [0; 32],
        },
        client: family.issued.client.clone(),
        user: Some(family.issued.who.user),
        nonce: unique().to_be_bytes(),
        kid: 2,
        windows: WINDOWS,
        idle_expires_at: now.plus(Duration::from_hours(24 * 30)),
        fits: true,
        opaque: None,
        access_expires_at: now.plus(Duration::from_mins(10)),
        fingerprint: Some([1; 16]),
        proof: Proof::Rotating,
        repeat_limit: 1000,
    }
}

/// An opaque token of ten minutes, out of `grant` if there is one.
pub fn opaque(grant: Option<GrantId>, now: Timestamp) -> NewOpaqueToken {
    let jti = format!("jti-{}", unique());
    NewOpaqueToken {
        digest: digest(&jti),
        claims: AccessClaims {
            jti,
            client: app(),
            user: None,
            subject: "app".into(),
            audience: vec!["https://api.example".into()],
            scope: scope("read"),
            grant,
            session: None,
            generation: None,
            auth_time: Some(now),
            acr: None,
            amr: vec!["pwd".into()],
            issued_at: now,
            expires_at: now.plus(Duration::from_mins(10)),
            status: None,
        },
    }
}

/// An active key.
pub fn key(kid: &str, alg: SigningAlg, created_at: Timestamp) -> SigningKeyRecord {
    SigningKeyRecord {
        kid: kid.to_owned(),
        alg,
        sealed: vec![1, 2, 3],
        ring_kid: 1,
        public_jwk: serde_json::json!({ "kty": "EC", "kid": kid }),
        state: KeyState::Active,
        created_at,
        activates_at: created_at,
        expires_at: None,
    }
}

/// An entry that expires an hour from [`NOW`].
pub fn entry(key: RevocationKey) -> Revocation {
    Revocation { key, audience: None, not_before: None, expires_at: after(3600), at: NOW }
}

/// The entries of these keys that are live at `now`.
pub async fn entries(
    tenant: &TenantHandle,
    keys: &[RevocationKey],
    now: Timestamp,
) -> Vec<Revocation> {
    tenant.matching_revocations(keys, now).await.expect("an answer")
}

/// The one entry of this key.
pub async fn the_entry(tenant: &TenantHandle, key: RevocationKey, now: Timestamp) -> Revocation {
    let mut found = entries(tenant, std::slice::from_ref(&key), now).await;
    assert_eq!(found.len(), 1, "{key:?}: {found:?}");
    found.remove(0)
}

/// What the audit log of the tenant tells, newest first.
pub async fn actions(tenant: &TenantHandle) -> Vec<Action> {
    let records = tenant.list_audit(1000).await.expect("an answer");
    records.into_iter().map(|record| record.action).collect()
}

/// How often the audit log tells of `action`.
pub async fn times(tenant: &TenantHandle, action: Action) -> usize {
    actions(tenant).await.into_iter().filter(|told| *told == action).count()
}

/// The digest of a user code under a ring key.
pub fn user_code(kid: u8, text: &str) -> UserCodeDigest {
    UserCodeDigest { kid, mac: *Digest::<()>::of(text.as_bytes()).as_bytes() }
}

/// A device code of ten minutes, to be polled every five seconds.
pub fn new_device(now: Timestamp) -> NewDevice {
    let name = format!("device {}", unique());
    NewDevice {
        digest: digest(&name),
        user_code: vec![user_code(1, &name)],
        client: app(),
        scope: scope("openid offline_access"),
        resources: vec!["https://api.example".into()],
        terms: DeviceTerms {
            version: 1,
            code_challenge: Some("challenge".into()),
            nonce: Some("n-0S6_WzA2Mj".into()),
            confidential: true,
        },
        interval: Duration::from_secs(5),
        expires_at: now.plus(Duration::from_mins(10)),
    }
}

pub async fn ask(tenant: &TenantHandle, device: &NewDevice, now: Timestamp) {
    let outcome = tenant.issue_device(device, now, &AUDIT).await.expect("an answer");
    assert_eq!(outcome, IssueDevice::Issued);
}

/// A device that was asked for at [`NOW`].
pub async fn asked(tenant: &TenantHandle) -> NewDevice {
    let device = new_device(NOW);
    ask(tenant, &device, NOW).await;
    device
}

/// The poll of a well-behaved device.
pub fn poll(device: &NewDevice) -> DevicePoll {
    DevicePoll {
        device: device.digest,
        client: device.client.clone(),
        slower: Duration::ZERO,
        never_early: false,
    }
}

/// A grant that is no part of the session in which the user says yes.
pub fn approval(who: &SignedIn, device: &NewDevice, now: Timestamp) -> DeviceApproval {
    DeviceApproval {
        device: device.digest,
        session: who.session,
        grant: NewGrant { session: None, ..new_grant(who, &device.client, now) },
    }
}

pub async fn approve(
    tenant: &TenantHandle,
    who: &SignedIn,
    device: &NewDevice,
    now: Timestamp,
) -> GrantId {
    let approval = approval(who, device, now);
    let outcome = tenant.approve_device(&approval, now, &AUDIT).await.expect("an answer");
    assert_eq!(outcome, DecideDevice::Decided);
    approval.grant.id
}

/// With a refresh token that idles for 30 days, and a signed access token of ten minutes.
pub fn device_redemption(
    device: Digest<DeviceCode>,
    user: UserId,
    now: Timestamp,
) -> DeviceRedemption {
    DeviceRedemption {
        device,
        client: app(),
        user,
        refresh: Some(new_refresh(now)),
        opaque: None,
        access_expires_at: now.plus(Duration::from_mins(10)),
    }
}
