//! Two tenants, an API that introspects, and an attacker who may even hold a tenant's private key.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use pmp_auth::audit::Recorder;
use pmp_auth::base::{Clock, Entropy, ManualClock, SystemEntropy, Timestamp, base64, base64url};
use pmp_auth::config::settings::RingKey;
use pmp_auth::config::{self, Environment, Settings};
use pmp_auth::keys::Ring;
use pmp_auth::limits::Limiter;
use pmp_auth::model::client::{AccessTokenFormat, SigningAlg};
use pmp_auth::model::token::AccessClaims;
use pmp_auth::model::{Audit, ClientId, GrantId, Scope, UserId};
use pmp_auth::oauth::{Call, Params, Presented, Services, introspect};
use pmp_auth::oidc::userinfo;
use pmp_auth::revocation::View;
use pmp_auth::storage::memory::Memory;
use pmp_auth::storage::{CreateUser, NewUser, Storage};
use pmp_auth::tenant::{Registry, Tenant};
use pmp_auth::token::access;
use pmp_auth::token::id::{self, Hint, IdClaims};
use serde_json::{Map, Value, json};

pub(super) const API: &str = "https://api.test";
pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SECRET: &str = "kJ7vQ2mX9pL4wR8tY1uZ6sD3fG5hB0nC";
const CONFIG: &str = "
server: {public_url: 'http://127.0.0.1:8080'}
tenants:
  acme: &tenant
    signing: {id_token: EdDSA}
    resources: [https://api.test]
    clients:
      - {client_id: app, type: public, redirect_uris: ['https://app.test/cb'], id_token_alg: ES256}
      - {client_id: old, type: public, redirect_uris: ['https://app.test/cb']}
      - {client_id: api, type: confidential, client_secret: SECRET, grants: [], audiences: [https://api.test]}
  globex: *tenant
";

/// One node, its time, and who is on it.
pub(super) struct Rig {
    pub(super) clock: ManualClock,
    pub(super) store: Memory,
    pub(super) registry: Arc<Registry>,
    services: Services,
    ring: Arc<Ring>,
    ada: UserId,
}

impl Rig {
    pub(super) async fn new() -> Self {
        // The memory engine believes nothing from before its start.
        let store = Memory::new("epoch", NOW.minus(Duration::from_secs(5)));
        Self::node(store, UserId(SystemEntropy.draw())).await.populated().await
    }

    /// Another node on the same store.
    pub(super) async fn another(&self) -> Self {
        Self::node(self.store.clone(), self.ada).await
    }

    async fn node(store: Memory, ada: UserId) -> Self {
        let clock = ManualClock::at(NOW);
        let ring = Arc::new(Ring::new(vec![RingKey { id: 1, secret: vec![7; 32].into() }]));
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let shared: Arc<dyn Storage> = Arc::new(store.clone());
        let (ring_too, entropy_too) = (Arc::clone(&ring), Arc::clone(&entropy));
        let registry =
            Registry::load(&settings(), Arc::clone(&shared), ring_too, entropy_too, NOW).await;
        let time: Arc<dyn Clock> = Arc::new(clock.clone());
        let view = View::new(Arc::clone(&shared), Arc::clone(&time));
        view.sync().await.unwrap();
        let recorder = Recorder::start(Arc::clone(&shared));
        let limiter = Arc::new(Limiter::new(time));
        let services = Services::new(entropy, Arc::clone(&ring), view, limiter, recorder, shared);
        Self { clock, store, registry: registry.unwrap(), services, ring, ada }
    }

    async fn populated(self) -> Self {
        for tenant in self.registry.all() {
            let ada = NewUser {
                id: self.ada,
                username: None,
                email: "ada@test".into(),
                email_verified: true,
                name: None,
                given_name: None,
                family_name: None,
                password_hash: None,
            };
            let made = tenant.store.create_user(&ada, NOW, &Audit::default()).await.unwrap();
            assert_eq!(made, CreateUser::Created);
        }
        self
    }

    pub(super) fn tenant(&self, slug: &str) -> Arc<Tenant> {
        self.registry.by_slug(slug).unwrap()
    }

    pub(super) async fn learn(&self) {
        self.services.revocations.sync().await.unwrap();
    }

    /// A good access token of `slug`, for the API and for userinfo.
    pub(super) async fn access(&self, slug: &str) -> String {
        let claims = AccessClaims {
            jti: access::new_jti(&SystemEntropy),
            client: ClientId::new("app"),
            user: Some(self.ada),
            subject: self.ada.to_string(),
            audience: vec![API.into()],
            scope: Scope::parse("openid").unwrap(),
            grant: Some(GrantId(SystemEntropy.draw())),
            session: None,
            generation: None,
            auth_time: Some(NOW),
            acr: None,
            amr: vec![],
            issued_at: NOW,
            expires_at: NOW.plus(Duration::from_mins(10)),
            status: None,
        };
        let (format, tenant) = (AccessTokenFormat::Jwt, self.tenant(slug));
        let minted = access::mint(&tenant, &claims, format, NOW, &SystemEntropy).await;
        minted.unwrap().token.reveal().clone()
    }

    /// A good ID token of `slug` for one of its clients.
    pub(super) async fn id(&self, slug: &str, client: &str) -> String {
        let tenant = self.tenant(slug);
        let client = tenant.client(&ClientId::new(client)).await.unwrap().unwrap();
        let claims = IdClaims {
            subject: self.ada.to_string(),
            nonce: Some(" a+b%20é".into()),
            auth_time: None,
            acr: None,
            amr: vec![],
            session: None,
            user: Map::new(),
        };
        let beside = "access".to_owned().into();
        let token = id::mint(&tenant, &client, &claims, Some(&beside), NOW).await;
        token.unwrap().reveal().clone()
    }

    /// Whether `slug` takes it for a live access token, at introspection and at userinfo alike.
    pub(super) async fn accepts(&self, slug: &str, token: &str) -> bool {
        let (tenant, audit) = (self.tenant(slug), Audit::default());
        let (services, now) = (&self.services, self.clock.now());
        let call = Call { services, tenant: &tenant, now, audit: &audit };
        let form = Params::of(vec![("token".into(), token.into())]).unwrap();
        let basic = format!("Basic {}", base64::encode(format!("api:{SECRET}")));
        let caller = Presented::read(&[basic.as_bytes()], &form).unwrap();
        let told = introspect::introspect(&call, &caller, &form).await.unwrap();
        if !told.is_active() {
            assert_eq!(told.to_json(), r#"{"active":false}"#);
        }
        let shown = userinfo::userinfo(&call, token).await;
        assert_eq!(told.is_active(), shown.is_ok(), "introspection and userinfo disagree");
        assert!(shown.is_ok() || shown.is_err_and(|error| error.status() == 401));
        told.is_active()
    }

    /// What `slug` reads out of an `id_token_hint`.
    pub(super) async fn hint(&self, slug: &str, token: &str) -> Option<Hint> {
        id::read_hint(&self.tenant(slug), token, self.clock.now()).await.unwrap()
    }

    /// Whether neither endpoint of `slug` takes it, as access token or as hint.
    pub(super) async fn refuses(&self, slug: &str, token: &str) -> bool {
        !self.accepts(slug, token).await && self.hint(slug, token).await.is_none()
    }

    pub(super) async fn kid(&self, slug: &str) -> String {
        let signer = self.tenant(slug).keys.signer(SigningAlg::ES256, self.clock.now()).await;
        signer.unwrap().kid().to_owned()
    }

    /// A header as ours, and `more` in it.
    pub(super) async fn header(&self, slug: &str, more: Value) -> Value {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt", "kid": self.kid(slug).await});
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    }

    /// Signs anything with the private key of `slug`.
    pub(super) async fn sign(&self, slug: &str, header: &str, payload: &str) -> String {
        let (tenant, kid) = (self.tenant(slug), self.kid(slug).await);
        let keys = tenant.store.list_keys().await.unwrap();
        let key = keys.iter().find(|key| key.kid == kid).unwrap();
        let place: [&[u8]; 3] = [b"signing key", tenant.uid.as_str().as_bytes(), kid.as_bytes()];
        let private = self.ring.open(&place, &key.sealed).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &private).unwrap();
        let message = format!("{}.{}", base64url::encode(header), base64url::encode(payload));
        let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", base64url::encode(signature))
    }

    /// A good token of acme, changed in one claim and signed again.
    pub(super) async fn with_claim(&self, name: &str, value: Value) -> String {
        let mut payload = payload(&self.access("acme").await);
        payload[name] = value;
        let header = self.header("acme", json!({})).await;
        self.sign("acme", &header.to_string(), &payload.to_string()).await
    }
}

fn settings() -> Settings {
    let text = CONFIG.replace("SECRET", SECRET);
    config::parse("config.yaml", Path::new(""), &text, &Environment::empty())
        .unwrap_or_else(|faults| panic!("{faults}"))
}

/// A part of a compact JWS, read.
pub(super) fn part(token: &str, which: usize) -> Value {
    let text = token.split('.').nth(which).unwrap();
    serde_json::from_slice(&base64url::decode(text).unwrap()).unwrap()
}

pub(super) fn payload(token: &str) -> Value {
    part(token, 1)
}

/// Random identifiers, whatever they are for.
trait Draw {
    fn draw(&self) -> uuid::Uuid;
}

impl Draw for SystemEntropy {
    fn draw(&self) -> uuid::Uuid {
        let entropy: &dyn Entropy = self;
        entropy.uuid()
    }
}
