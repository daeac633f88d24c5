//! Every way to revoke, and what the feed has of it when its answer is there.

use std::time::Duration;

use pmp_auth::base::{Clock as _, SystemEntropy};
use pmp_auth::model::client::SigningAlg;
use pmp_auth::model::user::LoginName;
use pmp_auth::model::{Audit, ClientId, Revocation, RevocationKey, UserId};
use pmp_auth::revocation::{Cursor, Reader};
use pmp_auth::storage::{Change, Engine};
use serde_json::Value;

use super::{House, cursor, has, manager};
use crate::support::browser::{Asking, Browser};
use crate::support::flow::{Form, SignedIn};
use crate::support::server::{API, PASSWORD, SECRET, TestServer};

on_every_server! { whatever_revokes_is_in_the_feed_before_its_answer }

/// A kind and a key of the log.
type Expected = Vec<(&'static str, String)>;

async fn whatever_revokes_is_in_the_feed_before_its_answer(engine: Engine) {
    let house = House::new(engine).await;
    let mut at = cursor(&house.page("").await).to_owned();
    // Each in turn; the later ones leave less and less.
    for path in PATHS {
        let expected = path.take(&house.server).await;
        let page = house.page(&format!("?after={at}")).await;
        for (kind, key) in &expected {
            assert!(has(&page, kind, key), "{path:?}: {kind} {key} is not in {page}");
        }
        cursor(&page).clone_into(&mut at);
    }
    // The rest ends the reader, too: seen from inside.
    let acme = house.server.tenant("acme");
    let (view, reader) = (
        &house.server.app.services.revocations,
        Reader { tenant: acme.uid.clone(), audiences: vec![API.to_owned()] },
    );
    for path in LAST {
        let before = view.snapshot(&reader, None, house.server.clock.now()).cursor;
        assert!(matches!(before, Cursor::Log(_)));
        path.take(&house.server).await;
        view.catch_up().await.unwrap();
        let since = view.since(&reader, &before, 10, house.server.clock.now()).await.unwrap();
        let pmp_auth::revocation::Answer::Page(page) = since else { panic!("{path:?}") };
        assert!(page.entries.iter().any(|entry| entry.kind() == "tenant"), "{path:?}");
    }
    house.server.stop().await;
}

#[derive(Debug, Clone, Copy)]
enum Path {
    RevokeAccess,
    RevokeOpaque,
    RevokeRefresh,
    CodeReplay,
    RefreshReuse,
    HeadReplaced,
    Logout,
    SignInAnew,
    ConsentWithdrawn,
    PasswordChanged,
    Operator,
    ClientDisabled,
    ClientDeleted,
    KeyCompromised,
    ApiKeyRevoked,
    UserDisabled,
    UserDeleted,
    TenantSuspended,
    TenantDeleted,
}

const PATHS: &[Path] = &[
    Path::RevokeAccess,
    Path::RevokeOpaque,
    Path::RevokeRefresh,
    Path::ApiKeyRevoked,
    Path::CodeReplay,
    Path::RefreshReuse,
    Path::HeadReplaced,
    Path::Logout,
    Path::SignInAnew,
    Path::ConsentWithdrawn,
    Path::PasswordChanged,
    Path::Operator,
    Path::ClientDisabled,
    Path::ClientDeleted,
    Path::KeyCompromised,
    Path::UserDisabled,
    Path::UserDeleted,
];

const LAST: &[Path] = &[Path::TenantSuspended, Path::TenantDeleted];

fn text(token: &Value) -> &str {
    token.as_str().expect("a token")
}

async fn revoke(server: &TestServer, client: &str, token: &str) {
    let url = server.url("acme", "/revoke");
    let answer = server.post(&url, Some((client, SECRET)), &[("token", token)]).await;
    assert_eq!(answer.status, 200);
}

async fn user(server: &TestServer, name: &str) -> UserId {
    let store = &server.tenant("acme").store;
    store.find_user_by_login(&LoginName::canonical(name)).await.unwrap().expect("a user").id
}

/// Signs bob in through the pages.
async fn bob(server: &TestServer, browser: &Browser) -> String {
    let request = Asking::of("web").with("prompt", "login");
    let page = browser.open(request.at(&server.issuer("acme"))).await;
    let _ = browser.submit(&page, &[("username", "bob"), ("password", PASSWORD)]).await;
    let (store, now) = (&server.tenant("acme").store, server.clock.now());
    let sessions = store.list_sessions(user(server, "bob").await, now).await.unwrap();
    sessions.last().expect("a session").id.to_string()
}

impl Path {
    /// Goes it, up to the answer; what is to be in the log then.
    async fn take(self, server: &TestServer) -> Expected {
        let acme = server.tenant("acme");
        let (store, now, audit) = (&acme.store, server.clock.now(), Audit::default());
        let not_after = now.plus(Duration::from_hours(1));
        let change = Change { now, not_after, audit: &audit };
        match self {
            Self::RevokeAccess | Self::RevokeOpaque => {
                let client = if matches!(self, Self::RevokeOpaque) { "opaque" } else { "web" };
                let token = server.client_token(client).await;
                let told = server.introspect(client, &token.clone().into()).await;
                revoke(server, client, &token).await;
                vec![("jti", text(&told["jti"]).to_owned())]
            }
            Self::RevokeRefresh => {
                let (tokens, grant) = SignedIn::at(server).await.tokens(server, "web").await;
                revoke(server, "web", text(&tokens["refresh_token"])).await;
                vec![("grant", grant.to_string())]
            }
            Self::CodeReplay => {
                let code = SignedIn::at(server).await.code(server, "web").await;
                server.ask("web", &code.form).await.granted();
                server.ask("web", &code.form).await.is_refusal(400, "invalid_grant");
                vec![("grant", code.grant.to_string())]
            }
            Self::RefreshReuse => {
                let (tokens, grant) = SignedIn::at(server).await.tokens(server, "web").await;
                let first = text(&tokens["refresh_token"]).to_owned();
                let mut token = first.clone();
                for _ in 0..2 {
                    let next = server.ask("web", &Form::refresh(&token)).await.granted();
                    text(&next["refresh_token"]).clone_into(&mut token);
                }
                let reused = server.ask("web", &Form::refresh(&first)).await;
                reused.is_refusal(400, "invalid_grant");
                vec![("grant", grant.to_string())]
            }
            Self::HeadReplaced => {
                let (tokens, grant) = SignedIn::at(server).await.tokens(server, "web").await;
                let first = Form::refresh(text(&tokens["refresh_token"]));
                let lost = server.ask("web", &first).await.granted();
                server.advance(Duration::from_secs(30)).await;
                let next = server.ask("web", &first).await.granted();
                assert_ne!(lost["refresh_token"], next["refresh_token"]);
                let claims = text(&lost["access_token"]).split('.').nth(1).unwrap();
                let claims = pmp_auth::base::base64url::decode(claims).unwrap();
                let claims: Value = serde_json::from_slice(&claims).unwrap();
                vec![("head", format!("{grant}.{}", claims["gen"]))]
            }
            Self::Logout => {
                let browser = Browser::new();
                let session = bob(server, &browser).await;
                let page = browser.open(server.url("acme", "/logout")).await;
                let page = browser.submit(&page, &[("decision", "logout")]).await;
                assert_eq!(page.heading(), "Signed out");
                vec![("session", session)]
            }
            Self::SignInAnew => {
                let browser = Browser::new();
                let first = bob(server, &browser).await;
                assert_ne!(bob(server, &browser).await, first);
                vec![("session", first)]
            }
            Self::ConsentWithdrawn => {
                let alice = SignedIn::at(server).await;
                let (_, grant) = alice.tokens(server, "post").await;
                let client = ClientId::new("post");
                let _ = store.withdraw_consent(alice.user, &client, now, &audit).await.unwrap();
                vec![("grant", grant.to_string())]
            }
            Self::PasswordChanged => {
                let alice = SignedIn::at(server).await;
                let (_, grant) = alice.tokens(server, "web").await;
                let hash = store.find_user(alice.user).await.unwrap().unwrap().password_hash;
                let hash = hash.expect("a password");
                let _ = store.set_password(alice.user, &hash, None, &change).await.unwrap();
                vec![("grant", grant.to_string()), ("session", alice.session.to_string())]
            }
            Self::Operator => {
                let entry = Revocation {
                    key: RevocationKey::Subject("someone".into()),
                    audience: None,
                    not_before: Some(now),
                    expires_at: not_after,
                    at: now,
                };
                store.append_revocations(&[entry], now, &audit).await.unwrap();
                vec![("subject", "someone".into())]
            }
            Self::ClientDisabled => {
                let _ =
                    store.set_client_disabled(&ClientId::new("post"), true, &change).await.unwrap();
                vec![("client", "post".into())]
            }
            Self::ClientDeleted => {
                let web = acme.client(&ClientId::new("web")).await.unwrap().unwrap();
                let client =
                    pmp_auth::model::Client { id: ClientId::new("brief"), ..(*web).clone() };
                let _ = store.create_client(&client, now, &audit).await.unwrap();
                let alice = SignedIn::at(server).await;
                let grant = brief_grant(server, &alice).await;
                assert!(store.delete_client(&client.id, now, &audit).await.unwrap());
                vec![("grant", grant)]
            }
            Self::KeyCompromised => {
                let keys = store.list_keys().await.unwrap();
                // Not the key of the reader's own token.
                let key = keys.iter().find(|key| key.alg == SigningAlg::RS256).expect("a key");
                assert!(store.compromise_key(&key.kid, &change).await.unwrap());
                vec![("kid", key.kid.clone())]
            }
            Self::ApiKeyRevoked => {
                let manager = manager(server, "web", "api_keys:manage orders:read").await;
                let (id, text) = super::make_key(server, &manager, "orders:read").await;
                assert!(server.finds_active("api", &text.into()).await);
                let url = server.url("acme", &format!("/api-keys/{id}"));
                let revoked = server.http.delete(url).bearer_auth(manager).send().await.unwrap();
                assert_eq!(revoked.status(), 204);
                vec![("api_key", id)]
            }
            Self::UserDisabled => {
                let alice = user(server, "alice").await;
                let _ = store.set_user_disabled(alice, true, &change).await.unwrap();
                vec![("subject", alice.to_string())]
            }
            Self::UserDeleted => {
                let bob = user(server, "bob").await;
                let _ = store.delete_user(bob, &change).await.unwrap();
                vec![("subject", bob.to_string())]
            }
            Self::TenantSuspended => {
                let _ = server.app.store.suspend_tenant(&acme.uid, &change).await.unwrap();
                vec![("tenant", String::new())]
            }
            Self::TenantDeleted => {
                let _ = server.app.store.delete_tenant(&acme.uid, &change).await.unwrap();
                vec![("tenant", String::new())]
            }
        }
    }
}

/// A grant of the client that is about to go.
async fn brief_grant(server: &TestServer, alice: &SignedIn) -> String {
    use pmp_auth::base::{CredentialKind, Digest};
    use pmp_auth::model::code::CodeTerms;
    use pmp_auth::model::grant::GrantTerms;
    use pmp_auth::model::{GrantId, Scope};
    use pmp_auth::storage::{IssueCode, NewCode, NewGrant};
    let entropy: &dyn pmp_auth::base::Entropy = &SystemEntropy;
    let (store, now) = (&server.tenant("acme").store, server.clock.now());
    let id = GrantId(entropy.uuid());
    let hour = now.plus(Duration::from_hours(1));
    let grant = NewGrant {
        id,
        client: ClientId::new("brief"),
        user: Some(alice.user),
        session: Some(alice.session),
        terms: GrantTerms {
            version: 1,
            scope: Scope::parse("openid").unwrap(),
            resources: Vec::new(),
            claims: None,
            acr: None,
            amr: vec!["pwd".into()],
            auth_time: now,
            session_ends: None,
        },
        jkt: None,
        offline: true,
        expires_at: hour,
    };
    let text = CredentialKind::AuthorizationCode.generate(entropy).reveal().clone();
    let code = NewCode {
        digest: Digest::of(text.as_bytes()),
        terms: CodeTerms {
            version: 1,
            redirect_uri: "http://localhost:3000/callback".into(),
            redirect_uri_sent: true,
            code_challenge: None,
            nonce: None,
            dpop_jkt: None,
        },
        expires_at: hour,
    };
    let issued = store.issue_code(&grant, &code, now, &Audit::default()).await;
    assert_eq!(issued.unwrap(), IssueCode::Issued);
    id.to_string()
}
