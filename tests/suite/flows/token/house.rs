//! A tenant with clients of every kind, and the token side of the server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pmp_auth::audit::Recorder;
use pmp_auth::base::{
    Clock, CredentialKind, Digest, Entropy, ManualClock, SystemEntropy, Timestamp, base64,
};
use pmp_auth::config::settings::RingKey;
use pmp_auth::config::{self, Environment};
use pmp_auth::keys::Ring;
use pmp_auth::limits::Limiter;
use pmp_auth::model::code::CodeTerms;
use pmp_auth::model::grant::{GrantId, GrantTerms};
use pmp_auth::model::{Audit, ClientId, Scope, SessionId, User, UserId};
use pmp_auth::oauth::{Call, Params, Presented, Services, TokenError, introspect, revoke, token};
use pmp_auth::oidc::userinfo;
use pmp_auth::revocation::View;
use pmp_auth::storage::{
    Change, CreateSession, CreateUser, Engine, IssueCode, NewCode, NewGrant, NewSession, NewUser,
    Storage,
};
use pmp_auth::tenant::{Registry, Tenant};
use serde_json::Value;

use crate::support::engines::{Bed, OPENED_AT};

/// RFC 7636, appendix B.
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(super) const CALLBACK: &str = "https://app.test/callback";
pub(super) const API: &str = "https://api.test";
pub(super) const FILES: &str = "https://files.test";

/// Secrets of `web`, `post`, `worker` and `api`.
pub(super) const SECRET: &str = "kJ7vQ2mX9pL4wR8tY1uZ6sD3fG5hB0nC";

const CONFIG: &str = r#"
server: {public_url: "http://127.0.0.1:8080"}
tenants:
  acme:
    EXTRA
    scopes: [openid, profile, email, offline_access, read, write, files]
    resources:
      - https://api.test
      - {uri: "https://files.test", scopes: [files]}
    clients:
      - {client_id: web, type: confidential, client_secret: SECRET, redirect_uris: ["https://app.test/callback", "https://app.test/other"],
         grants: [authorization_code, refresh_token], scopes: [openid, profile, email, offline_access, read, write, files],
         resources: ["https://api.test", "https://files.test"], require_pkce: false}
      - {client_id: post, type: confidential, client_secret: SECRET, auth_method: client_secret_post,
         redirect_uris: ["https://app.test/callback"], scopes: [openid, offline_access, read]}
      - {client_id: spa, type: public, application_type: browser, redirect_uris: ["https://app.test/callback"],
         grants: [authorization_code, refresh_token], scopes: [openid, offline_access, read]}
      - {client_id: app, type: public, application_type: native, redirect_uris: ["https://app.test/callback"],
         grants: [authorization_code, refresh_token], scopes: [openid, offline_access, read], refresh_tokens: always}
      - {client_id: opaque, type: confidential, client_secret: SECRET, redirect_uris: ["https://app.test/callback"],
         grants: [authorization_code, refresh_token, client_credentials], scopes: [openid, offline_access, read], default_scopes: [read],
         access_token_format: opaque}
      - {client_id: slow, type: confidential, client_secret: SECRET, redirect_uris: ["https://app.test/callback"],
         grants: [authorization_code, refresh_token], scopes: [openid, offline_access, read], access_token_lifetime: 1h}
      - {client_id: worker, type: confidential, client_secret: SECRET, grants: [client_credentials], scopes: [read, write],
         default_scopes: [read], resources: ["https://api.test", "https://files.test"]}
      - {client_id: api, type: confidential, client_secret: SECRET, grants: [], audiences: ["https://api.test"]}
"#;

/// The server's token side, its tenant, and the time.
pub(super) struct House {
    pub(super) clock: ManualClock,
    pub(super) tenant: Arc<Tenant>,
    pub(super) registry: Arc<Registry>,
    pub(super) services: Services,
    pub(super) store: Arc<dyn Storage>,
    pub(super) ada: UserId,
    pub(super) session: SessionId,
}

/// What a code is issued for.
pub(super) struct Asked<'a> {
    pub(super) client: &'a str,
    pub(super) scope: &'a str,
    pub(super) resources: &'a [&'a str],
    pub(super) challenge: bool,
    pub(super) redirect_uri_sent: bool,
    pub(super) claims: Option<Value>,
    pub(super) session_ends: Option<Timestamp>,
}

impl<'a> Asked<'a> {
    pub(super) fn by(client: &'a str) -> Self {
        Self {
            client,
            scope: "openid read",
            resources: &[],
            challenge: true,
            redirect_uri_sent: true,
            claims: None,
            session_ends: None,
        }
    }

    pub(super) fn offline(client: &'a str) -> Self {
        Self { scope: "openid read offline_access", ..Self::by(client) }
    }
}

/// Who asks, and from where.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) basic: Option<(&'a str, &'a str)>,
    pub(super) ip: &'a str,
    pub(super) agent: &'a str,
}

pub(super) const NOBODY: Who<'static> = Who { basic: None, ip: "192.0.2.1", agent: "test" };

pub(super) fn basic(client: &str) -> Who<'_> {
    Who { basic: Some((client, SECRET)), ..NOBODY }
}

/// Status and error code of a refusal, as one text.
pub(super) type Refused = String;

impl House {
    /// On the store of `bed`.
    pub(super) async fn new(bed: &Bed) -> Self {
        Self::with(bed, "").await
    }

    /// With more settings of the tenant.
    pub(super) async fn with(bed: &Bed, extra: &str) -> Self {
        let clock = ManualClock::at(OPENED_AT);
        Self::on(Arc::clone(&bed.store), clock, |text| text.replace("EXTRA", extra)).await
    }

    /// Where storage is not the subject.
    pub(super) async fn in_memory() -> Self {
        Self::new(&Bed::new(Engine::Memory).await).await
    }

    /// On a store that may have seen another house before.
    pub(super) async fn on(
        store: Arc<dyn Storage>,
        clock: ManualClock,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let text = edit(CONFIG.replace("SECRET", SECRET)).replace("EXTRA", "");
        let settings =
            config::parse("config.yaml", Path::new(""), &text, &Environment::empty()).unwrap();
        // The memory engine kills what was issued in the second of its start.
        clock.advance(Duration::from_secs(5));
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let ring = Arc::new(Ring::new(vec![RingKey { id: 1, secret: vec![7; 32].into() }]));
        let now = clock.now();
        let registry = Registry::load(
            &settings,
            Arc::clone(&store),
            Arc::clone(&ring),
            Arc::clone(&entropy),
            now,
        )
        .await
        .unwrap();
        let dynamic: Arc<dyn Clock> = Arc::new(clock.clone());
        let view = View::new(Arc::clone(&store), Arc::clone(&dynamic));
        view.sync().await.unwrap();
        let recorder = Recorder::start(Arc::clone(&store));
        let limiter = Arc::new(Limiter::new(dynamic));
        let services = Services::new(entropy, ring, view, limiter, recorder, Arc::clone(&store));
        let tenant = registry.by_slug("acme").unwrap();
        let ada = UserId(services.entropy.uuid());
        let session = SessionId(services.entropy.uuid());
        let house = Self { clock, tenant, registry, services, store, ada, session };
        house.move_in().await;
        house
    }

    async fn move_in(&self) {
        let now = self.clock.now();
        let ada = NewUser {
            id: self.ada,
            username: None,
            email: format!("{}@acme.test", self.ada),
            email_verified: true,
            name: Some("Ada".into()),
            given_name: None,
            family_name: None,
            password_hash: None,
        };
        let created = self.tenant.store.create_user(&ada, now, &Audit::default()).await.unwrap();
        assert_eq!(created, CreateUser::Created);
        let hours = |count: u64| now.plus(Duration::from_secs(3_600 * count));
        let session = NewSession {
            id: self.session,
            cookie: Digest::of(self.session.to_string().as_bytes()),
            user: self.ada,
            password_changed_at: now,
            amr: vec!["pwd".into()],
            acr: None,
            auth_time: now,
            idle_expires_at: hours(24 * 365),
            expires_at: hours(24 * 365),
            user_agent: None,
            ip: None,
            replaces: None,
        };
        let began = self.tenant.store.create_session(&session, now, &Audit::default()).await;
        assert_eq!(began.unwrap(), CreateSession::Created);
    }

    /// Keeps the view as fresh as its task would, then says what time it is.
    pub(super) async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.services.revocations.sync().await.unwrap();
    }

    /// A code as `/authorize` would have issued it.
    pub(super) async fn code(&self, asked: &Asked<'_>) -> String {
        let now = self.clock.now();
        let entropy = &*self.services.entropy;
        let code = CredentialKind::AuthorizationCode.generate(entropy).reveal().clone();
        let scope = Scope::parse(asked.scope).unwrap();
        let offline = scope.contains(Scope::OFFLINE_ACCESS);
        let lifetimes = &self.tenant.settings.lifetimes;
        let grant = NewGrant {
            id: GrantId(entropy.uuid()),
            client: ClientId::new(asked.client),
            user: Some(self.ada),
            session: Some(self.session),
            terms: GrantTerms {
                version: 1,
                scope,
                resources: asked.resources.iter().map(|&one| one.to_owned()).collect(),
                claims: asked.claims.clone(),
                acr: None,
                amr: vec!["pwd".into()],
                auth_time: now,
                session_ends: asked.session_ends,
            },
            jkt: None,
            offline,
            expires_at: now.plus(lifetimes.refresh_absolute),
        };
        let new = NewCode {
            digest: Digest::of(code.as_bytes()),
            terms: CodeTerms {
                version: 1,
                redirect_uri: CALLBACK.into(),
                redirect_uri_sent: asked.redirect_uri_sent,
                code_challenge: asked.challenge.then(|| CHALLENGE.to_owned()),
                nonce: Some("n-0S6_WzA2Mj".into()),
                dpop_jkt: None,
            },
            expires_at: now.plus(lifetimes.code),
        };
        let issued = self.tenant.store.issue_code(&grant, &new, now, &Audit::default()).await;
        assert_eq!(issued.unwrap(), IssueCode::Issued);
        code
    }

    /// The form that redeems `code` as it should be.
    pub(super) fn redeem_form(code: &str) -> String {
        format!(
            "grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}&code_verifier={VERIFIER}"
        )
    }

    pub(super) async fn token(&self, who: Who<'_>, form: &str) -> Result<Value, Refused> {
        self.answer(who, form).await.map_err(|error| refused(&error))
    }

    /// As [`token`](Self::token), with the whole error.
    pub(super) async fn answer(&self, who: Who<'_>, form: &str) -> Result<Value, TokenError> {
        let audit = audit(who);
        let form = Params::parse(form.as_bytes())?;
        let answer = token::answer(&self.call(&audit), &presented(who, &form)?, &form).await?;
        Ok(serde_json::from_str(&answer.to_json()).unwrap())
    }

    pub(super) async fn introspect(&self, who: Who<'_>, token: &str) -> Result<Value, Refused> {
        let audit = audit(who);
        let form = Params::of(vec![("token".into(), token.into())]).unwrap();
        let answer = async {
            introspect::introspect(&self.call(&audit), &presented(who, &form)?, &form).await
        };
        let answer = answer.await.map_err(|error| refused(&error))?;
        Ok(serde_json::from_str(&answer.to_json()).unwrap())
    }

    pub(super) async fn is_active(&self, who: Who<'_>, token: &Value) -> bool {
        let answer = self.introspect(who, token.as_str().unwrap()).await.unwrap();
        assert!(answer["active"] == true || answer == serde_json::json!({"active": false}));
        answer["active"] == true
    }

    pub(super) async fn revoke(&self, who: Who<'_>, form: &str) -> Result<(), Refused> {
        let audit = audit(who);
        let form = Params::parse(form.as_bytes()).unwrap();
        let done =
            async { revoke::revoke(&self.call(&audit), &presented(who, &form)?, &form).await };
        done.await.map(drop).map_err(|error| refused(&error))
    }

    pub(super) async fn userinfo(&self, token: &Value) -> Result<Value, Refused> {
        let audit = audit(NOBODY);
        let shown = userinfo::userinfo(&self.call(&audit), token.as_str().unwrap()).await;
        let shown = shown.map_err(|error| {
            format!("{} {}", error.status(), error.code().map_or("", |code| code.as_str()))
        })?;
        Ok(serde_json::from_str(&shown).unwrap())
    }

    fn call<'a>(&'a self, audit: &'a Audit) -> Call<'a> {
        let (services, tenant, now) = (&self.services, &self.tenant, self.clock.now());
        Call { services, tenant, now, audit }
    }

    pub(super) async fn user(&self) -> Option<User> {
        self.tenant.store.find_user(self.ada).await.unwrap()
    }

    /// Changes something in the store and lets this node learn of it.
    pub(super) async fn change<T>(&self, how: impl AsyncFnOnce(&Tenant, &Change<'_>) -> T) -> T {
        let now = self.clock.now();
        let audit = Audit::default();
        let not_after = now.plus(Duration::from_hours(1));
        let done = how(&self.tenant, &Change { now, not_after, audit: &audit }).await;
        self.registry.refresh(now).await.unwrap();
        done
    }
}

fn audit(who: Who<'_>) -> Audit {
    let (ip, user_agent) = (Some(who.ip.to_owned()), Some(who.agent.to_owned()));
    Audit { ip, user_agent, ..Audit::default() }
}

fn presented(who: Who<'_>, form: &Params) -> Result<Presented, TokenError> {
    let header =
        who.basic.map(|(id, secret)| format!("Basic {}", base64::encode(format!("{id}:{secret}"))));
    let header = header.as_ref().map(String::as_bytes);
    Presented::read(header.as_slice(), form)
}

fn refused(error: &TokenError) -> Refused {
    format!("{} {}", error.status(), error.code().as_str())
}

/// The claims of a JWT, unverified.
pub(super) fn claims(jwt: &Value) -> Value {
    let payload = jwt.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&pmp_auth::base::base64url::decode(payload).unwrap()).unwrap()
}
