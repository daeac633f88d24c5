//! The real program, killed with SIGKILL while it rotates and revokes, and started again over what
//! it left behind.

use std::sync::Arc;
use std::time::Duration;

use pmp_auth::app;
use pmp_auth::base::{
    Clock, CredentialKind, Digest, Entropy, SystemClock, SystemEntropy, Timestamp,
};
use pmp_auth::config::{self, Environment};
use pmp_auth::model::code::CodeTerms;
use pmp_auth::model::grant::GrantTerms;
use pmp_auth::model::{Audit, ClientId, GrantId, Scope, TenantSlug, TenantUid, UserId};
use pmp_auth::storage::{CreateUser, Engine, IssueCode, NewCode, NewGrant, NewUser, TenantHandle};
use serde_json::{Value, json};

use crate::support::browser::{CHALLENGE, VERIFIER, callback};
use crate::support::engines::Place;
use crate::support::process::{Serving, free_port, write_config};
use crate::support::server::SECRET;
use crate::support::temp::TempDir;

/// How often the process is killed, per engine.
const KILLS: usize = 12;
/// Families that are refreshed all the time.
const FAMILIES: usize = 4;
/// So many answers of a family are looked at after a crash.
const LOOKED_AT: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn fault_f_refresh_06() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        crash(engine).await;
    }
}

/// The process is killed between the rotation and the replay: what was spent is known to be.
#[tokio::test(flavor = "multi_thread")]
async fn fault_f_refresh_07() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let site = Site::new(engine);
        let mut codes = site.furnish(2).await;
        let mut server = site.start();
        let mut stolen = Family::redeem(&site, &codes.pop().expect("a code")).await;
        let mut other = Family::redeem(&site, &codes.pop().expect("a code")).await;
        for _ in 0..2 {
            assert!(stolen.use_head(&site).await && other.use_head(&site).await);
        }
        server.signal("KILL");
        server.wait();
        server = site.start();
        let spent = refresh_token(&stolen.got[0]).to_owned();
        assert!(site.refresh(&spent).await.is_none(), "{engine:?}: a spent token was honoured");
        assert!(stolen.is_all_or_nothing(&site, engine).await, "{engine:?}: not detected");
        server.signal("KILL");
        server.wait();
        server = site.start();
        assert!(stolen.is_all_or_nothing(&site, engine).await, "{engine:?}: forgotten");
        assert!(other.use_head(&site).await, "{engine:?}: another family pays for it");
        site.revoked_leave_a_record(1).await;
        drop(server);
    }
}

async fn crash(engine: Engine) {
    let site = Site::new(engine);
    // One victim more a round: its family is revoked while the process is killed.
    let mut codes = site.furnish(FAMILIES + KILLS).await;
    let mut server = site.start();
    let mut families = Vec::new();
    for _ in 0..FAMILIES {
        families.push(Family::redeem(&site, &codes.pop().expect("a code")).await);
    }
    let (mut answered, mut ended) = (0, 0);
    for round in 0..KILLS {
        let mut victim = Family::redeem(&site, &codes.pop().expect("a code")).await;
        for _ in 0..2 {
            assert!(victim.use_head(&site).await, "{engine:?} {round}");
        }
        let mut running: Vec<_> = families
            .drain(..)
            .map(|family| tokio::spawn(refresh_until_cut(site.clone(), family)))
            .collect();
        let replayed = tokio::spawn(reuse_soon(site.clone(), victim));
        tokio::time::sleep(Duration::from_millis(30 + u64::from(random()))).await;
        server.signal("KILL");
        server.wait();
        for family in running.drain(..) {
            let (family, times) = family.await.expect("no panic");
            answered += times;
            families.push(family);
        }
        let mut victim = replayed.await.expect("no panic");

        server = site.start();
        for family in &mut families {
            family.is_whole(&site, engine).await;
        }
        ended += usize::from(victim.is_all_or_nothing(&site, engine).await);
    }
    drop(server);
    assert!(answered > KILLS, "{engine:?}: only {answered} refreshes between {KILLS} kills");
    site.revoked_leave_a_record(ended).await;
}

/// Refreshes as fast as answers come, from two tabs at once, until an answer does not come.
async fn refresh_until_cut(site: Site, mut family: Family) -> (Family, usize) {
    let mut times = 0;
    loop {
        let head = family.head().to_owned();
        let (one, two) = tokio::join!(site.refresh(&head), site.refresh(&head));
        let heads: Vec<_> = [&one, &two].into_iter().flatten().map(refresh_token).collect();
        assert!(heads.windows(2).all(|pair| pair[0] == pair[1]), "two live heads");
        let both = one.is_some() && two.is_some();
        // The answers may cross on the way; either is the client's newest.
        family.got.extend(one.or(two));
        if !both {
            return (family, times);
        }
        times += 1;
    }
}

/// Presents the first, long spent token of a family a random moment later.
async fn reuse_soon(site: Site, family: Family) -> Family {
    tokio::time::sleep(Duration::from_millis(20 + u64::from(random()))).await;
    let spent = refresh_token(&family.got[0]).to_owned();
    assert!(site.refresh(&spent).await.is_none(), "a spent token was honoured");
    family
}

/// What a client holds of one grant: all answers, in order.
#[derive(Clone)]
struct Family {
    got: Vec<Value>,
}

impl Family {
    async fn redeem(site: &Site, code: &str) -> Self {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", callback("web")),
            ("code_verifier", VERIFIER),
        ];
        let (status, tokens) = site.post("/token", &form).await.expect("an answer");
        assert_eq!(status, 200, "{tokens}");
        Self { got: vec![tokens] }
    }

    fn last(&self) -> &Value {
        self.got.last().expect("the answer to the code")
    }

    fn head(&self) -> &str {
        refresh_token(self.last())
    }

    async fn use_head(&mut self, site: &Site) -> bool {
        let next = site.refresh(self.head()).await;
        let honoured = next.is_some();
        self.got.extend(next);
        honoured
    }

    /// What the client holds still refreshes, whether or not the last answer got lost; and there is
    /// one live head.
    async fn is_whole(&mut self, site: &Site, engine: Engine) {
        let held = self.head().to_owned();
        let heads = site.active(&self.got).await;
        assert!(heads <= 1, "{engine:?}: {heads} live heads");
        assert!(self.use_head(site).await, "{engine:?}: the client lost its grant: {held}");
        assert_eq!(site.active(&self.got).await, 1, "{engine:?}");
        assert!(site.is_active(self.head()).await, "{engine:?}: the newest is the head");
    }

    /// Either the reuse was seen, and nothing of the family lives, or all of it does. Whether it
    /// was seen.
    async fn is_all_or_nothing(&mut self, site: &Site, engine: Engine) -> bool {
        let head = site.is_active(self.head()).await;
        for answer in &self.got {
            let access = answer["access_token"].as_str().expect("an access token");
            assert_eq!(site.is_active(access).await, head, "{engine:?}: revoked by half");
        }
        assert_eq!(self.use_head(site).await, head, "{engine:?}: dead without a revocation");
        !head
    }
}

fn refresh_token(tokens: &Value) -> &str {
    tokens["refresh_token"].as_str().expect("a refresh token")
}

/// A place, a configuration for it, and an address: what every run of the process has in common.
#[derive(Clone)]
struct Site(Arc<Inner>);

struct Inner {
    place: Place,
    dir: TempDir,
    base: String,
    http: reqwest::Client,
}

impl Site {
    fn new(engine: Engine) -> Self {
        let (place, dir) = (Place::new(engine), TempDir::new());
        let address = format!("127.0.0.1:{}", free_port());
        let (kind, connection) = match (&place, place.file()) {
            (Place::Postgres(database), _) => ("postgres", database.url().to_owned()),
            (_, Some(file)) => ("sqlite", file.display().to_string()),
            (_, None) => panic!("memory is gone with its process"),
        };
        let text = format!(
            r#"
server:
  listen: {address}
  public_url: http://{address}
  secret_keys: [{{id: 1, secret: {SECRET}}}]
storage: {{type: {kind}, connection_string: "{connection}"}}
jobs: {{cleanup: off}}
tenants:
  acme:
    scopes: [openid, offline_access]
    token_rate: 0
    introspection_rate: 0
    clients:
      - client_id: web
        type: confidential
        client_secret: {SECRET}
        redirect_uris: ["{callback}"]
        grants: [authorization_code, refresh_token]
        scopes: [openid, offline_access]
"#,
            callback = callback("web"),
        );
        write_config(dir.path(), &text);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10));
        let http = http.build().expect("a client");
        Self(Arc::new(Inner { place, dir, base: format!("http://{address}/t/acme"), http }))
    }

    /// A user with so many codes, put into the store before the process has it.
    async fn furnish(&self, codes: usize) -> Vec<String> {
        let settings = config::load(&self.0.dir.path().join("config.yaml"), &Environment::empty());
        let settings = settings.unwrap_or_else(|faults| panic!("{faults}"));
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let store = app::open_store(&settings, &clock, &entropy).await.expect("a store");
        let (slug, uid) = (TenantSlug::parse("acme").unwrap(), TenantUid::generate(&SystemEntropy));
        let now = clock.now();
        let tenant = store.ensure_tenant(&slug, &uid, now, &Audit::default()).await.unwrap();
        let acme = store.tenant(&tenant.uid);
        let user = UserId(entropy.uuid());
        let new = NewUser {
            id: user,
            username: Some("alice".into()),
            email: "alice@example.com".into(),
            email_verified: true,
            name: None,
            given_name: None,
            family_name: None,
            password_hash: None,
        };
        let created = acme.create_user(&new, now, &Audit::default()).await;
        assert_eq!(created.unwrap(), CreateUser::Created);
        let mut all = Vec::new();
        for _ in 0..codes {
            all.push(code(&acme, user, now).await);
        }
        store.close().await;
        all
    }

    fn start(&self) -> Serving {
        Serving::start(self.0.dir.path(), &[])
    }

    /// Status and body; none when the process was gone first.
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Option<(u16, Value)> {
        let request = self.0.http.post(format!("{}{path}", self.0.base)).form(form);
        let answer = request.basic_auth("web", Some(SECRET)).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, serde_json::from_slice(&answer.bytes().await.ok()?).unwrap_or_default()))
    }

    /// The tokens for a refresh token; none for a refusal, or when no answer came.
    async fn refresh(&self, token: &str) -> Option<Value> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let (status, body) = self.post("/token", &form).await?;
        if status == 200 {
            return Some(body);
        }
        assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")), "{body}");
        None
    }

    async fn is_active(&self, token: &str) -> bool {
        let (status, body) =
            self.post("/introspect", &[("token", token)]).await.expect("an answer");
        assert_eq!(status, 200, "{body}");
        body["active"] == true
    }

    /// How many refresh tokens among the newest answers are heads.
    async fn active(&self, answers: &[Value]) -> usize {
        let mut tokens: Vec<_> = answers.iter().rev().map(refresh_token).take(LOOKED_AT).collect();
        tokens.dedup();
        let mut count = 0;
        for token in tokens {
            count += usize::from(self.is_active(token).await);
        }
        count
    }

    /// The revoked grants are those whose reuse was seen, each with its entry in the log and its
    /// audit record; nothing else was revoked.
    async fn revoked_leave_a_record(&self, ended: usize) {
        for table in [
            "grants WHERE state = 'revoked'",
            "revocations WHERE kind = 'grant'",
            "audit_logs WHERE action = 'refresh.reused'",
        ] {
            let found = self.0.place.sql(&format!("SELECT count(*) FROM {table}")).await;
            assert_eq!(found, [ended.to_string()], "{table}");
        }
    }
}

/// A code of `user` for `web`, with which `openid` and `offline_access` were granted.
async fn code(acme: &TenantHandle, user: UserId, now: Timestamp) -> String {
    let entropy: &dyn Entropy = &SystemEntropy;
    let text = CredentialKind::AuthorizationCode.generate(entropy).reveal().clone();
    let grant = NewGrant {
        id: GrantId(entropy.uuid()),
        client: ClientId::new("web"),
        user: Some(user),
        session: None,
        terms: GrantTerms {
            version: 1,
            scope: Scope::parse("openid offline_access").unwrap(),
            resources: Vec::new(),
            claims: None,
            acr: None,
            amr: vec!["pwd".into()],
            auth_time: now,
            session_ends: None,
        },
        jkt: None,
        offline: true,
        expires_at: now.plus(Duration::from_hours(24)),
    };
    let code = NewCode {
        digest: Digest::of(text.as_bytes()),
        terms: CodeTerms {
            version: 1,
            redirect_uri: callback("web").to_owned(),
            redirect_uri_sent: true,
            code_challenge: Some(CHALLENGE.to_owned()),
            nonce: None,
            dpop_jkt: None,
        },
        expires_at: now.plus(Duration::from_hours(1)),
    };
    let issued = acme.issue_code(&grant, &code, now, &Audit::default()).await;
    assert_eq!(issued.unwrap(), IssueCode::Issued);
    text
}

fn random() -> u8 {
    let entropy: &dyn Entropy = &SystemEntropy;
    entropy.bytes::<1>()[0]
}
