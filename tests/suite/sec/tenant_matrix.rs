//! Every route, tried with everything that another tenant handed out: codes, tokens, sessions,
//! pending log-ins and client credentials, in every place where a request can carry them.

use pmp_auth::storage::Engine;
use reqwest::Method;
use serde_json::Value;

use crate::support::browser::{Asking, Browser, VERIFIER, callback};
use crate::support::server::{Answer, OTHER_SECRET, PASSWORD, SECRET, TestServer};

on_every_server! { every_route_is_closed_to_what_another_tenant_handed_out }

/// The endpoints of a tenant; `the_matrix_has_every_route` holds them against the router.
const ROUTES: &[(&str, &str)] = &[
    ("POST", "/token"),
    ("POST", "/device_authorization"),
    ("POST", "/introspect"),
    ("POST", "/revoke"),
    ("GET", "/revocations"),
    ("POST", "/revocations/poll"),
    ("GET", "/api-keys"),
    ("POST", "/api-keys"),
    ("GET", "/api-keys/{id}"),
    ("DELETE", "/api-keys/{id}"),
    ("POST", "/api-keys/{id}/rotate"),
    ("GET", "/verify"),
    ("GET", "/resources"),
    ("GET", "/resources/{id}"),
    ("GET", "/statuslists"),
    ("GET", "/statuslists/{id}"),
    ("GET", "/jwks.json"),
    ("GET", "/userinfo"),
    ("POST", "/userinfo"),
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/authorize"),
    ("POST", "/authorize"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/consent"),
    ("POST", "/consent"),
    ("GET", "/device"),
    ("POST", "/device"),
    ("GET", "/device/card"),
    ("POST", "/device/card"),
    ("GET", "/device/decision"),
    ("POST", "/device/decision"),
    ("GET", "/logout"),
    ("POST", "/logout"),
    ("GET", "/brand.css"),
    ("GET", "/logo"),
];

/// What tenant `acme` handed out.
struct Loot {
    code: String,
    access: String,
    opaque: String,
    refresh: String,
    id_token: String,
    transaction: String,
    csrf: String,
    cookies: String,
    subject: String,
}

async fn loot(server: &TestServer) -> Loot {
    let browser = Browser::new();
    let tokens = super::tenant::tokens(server, "acme", &browser).await;
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let again = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let code = again.sent("code").expect("consent is remembered, so the code comes at once");
    let consent = Asking::of("web").with("prompt", "consent").at(&server.issuer("acme"));
    let consent = browser.open(consent).await;
    let fields = consent.forms()[0].fields.clone();
    let field = |name: &str| {
        fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).expect("a hidden field")
    };
    let session = log_in_by_hand(server).await;
    let opaque = server.client_token("opaque").await;
    let live = server.token_of_acme("/introspect", &[("token", &text("access_token"))]).await;
    Loot {
        code,
        access: text("access_token"),
        opaque,
        refresh: text("refresh_token"),
        id_token: text("id_token"),
        transaction: field("txn"),
        csrf: field("csrf"),
        cookies: session,
        subject: live["sub"].as_str().expect("a subject").to_owned(),
    }
}

/// Signs alice in at acme and keeps the cookies, under the names of both tenants.
async fn log_in_by_hand(server: &TestServer) -> String {
    let browser = Browser::new();
    let request = Asking::of("web").with("prompt", "login").at(&server.issuer("acme"));
    let page = browser.open(request).await;
    let fields = [("username", "alice"), ("password", PASSWORD), ("decision", "login")];
    let answer = browser.submit(&page, &fields).await;
    let cookies = answer.headers.get_all("set-cookie").iter();
    let pairs = cookies.filter_map(|line| line.to_str().ok()?.split(';').next().map(str::to_owned));
    let (own, foreign) = (server.tenant("acme").uid.clone(), server.tenant("other").uid.clone());
    let both = pairs.flat_map(|pair| [pair.replace(own.as_str(), foreign.as_str()), pair]);
    both.collect::<Vec<_>>().join("; ")
}

impl TestServer {
    async fn token_of_acme(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let answer = self.post(&self.url("acme", path), Some(("web", SECRET)), form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }
}

type Pairs = Vec<(&'static str, String)>;

/// Requests that carry the loot: a name, headers, parameters.
fn attempts(loot: &Loot) -> Vec<(String, Pairs, Pairs)> {
    use base64::Engine as _;
    let basic = |secret: &str| {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("web:{secret}"));
        ("authorization", format!("Basic {pair}"))
    };
    let mut all = Vec::new();
    let tokens = [&loot.access, &loot.opaque, &loot.refresh, &loot.id_token, &loot.code];
    for (n, token) in tokens.into_iter().enumerate() {
        all.push((
            format!("bearer {n}"),
            vec![("authorization", format!("Bearer {token}"))],
            vec![],
        ));
        for secret in [SECRET, OTHER_SECRET] {
            let who = if secret == SECRET { "acme" } else { "other" };
            for (grant, name) in [
                ("authorization_code", "code"),
                ("refresh_token", "refresh_token"),
                ("client_credentials", "access_token"),
            ] {
                let form = vec![
                    ("grant_type", grant.to_owned()),
                    (name, token.clone()),
                    ("token", token.clone()),
                    ("redirect_uri", callback("web").to_owned()),
                    ("code_verifier", VERIFIER.to_owned()),
                ];
                let own = who == "other" && grant == "client_credentials";
                if !own {
                    all.push((format!("{grant} {n} as {who}"), vec![basic(secret)], form));
                }
            }
        }
    }
    let mut form: Vec<(&'static str, String)> = Asking::of("web")
        .with("prompt", "none")
        .with("id_token_hint", &loot.id_token)
        .pairs()
        .into_iter()
        .map(|(name, value)| (leak(name), value.to_owned()))
        .collect();
    form.extend([
        ("txn", loot.transaction.clone()),
        ("csrf", loot.csrf.clone()),
        ("decision", "allow".to_owned()),
    ]);
    all.push(("session".into(), vec![("cookie", loot.cookies.clone())], form.clone()));
    all.push(("pending log-in".into(), vec![], form));
    all
}

fn leak(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

async fn every_route_is_closed_to_what_another_tenant_handed_out(engine: Engine) {
    let server = TestServer::start(engine).await;
    let loot = loot(&server).await;
    for (method, path) in ROUTES {
        for (name, headers, parameters) in attempts(&loot) {
            let id = "0d39f6ab-7e9b-4f10-8a4f-4f2c7a3f8a53";
            let url = server.url("other", &path.replace("{id}", id));
            let mut request = match *method {
                "GET" => server.http.request(Method::GET, &url).query(&parameters),
                "DELETE" => server.http.request(Method::DELETE, &url).form(&parameters),
                _ => server.http.request(Method::POST, &url).form(&parameters),
            };
            request =
                request.header("origin", &server.base).header("sec-fetch-site", "same-origin");
            for (header, value) in headers {
                request = request.header(header, value);
            }
            let answer = Answer::of(request.send().await.expect("an answer")).await;
            let what = format!("{method} {path} with {name}: {} {}", answer.status, answer.body);
            assert!(answer.status < 500, "{what}");
            assert!(!answer.body.contains(&loot.subject), "{what}");
            assert!(!answer.body.contains("\"active\":true"), "{what}");
            assert!(!answer.body.contains("\"access_token\""), "{what}");
            assert!(!answer.header("location").contains("code="), "{what}");
            assert!(!answer.header("refresh").contains("code="), "{what}");
        }
    }
    still_good(&server, &loot).await;
    server.stop().await;
}

/// Nothing that was tried changed anything at home.
async fn still_good(server: &TestServer, loot: &Loot) {
    for token in [&loot.access, &loot.refresh] {
        let live = server.token_of_acme("/introspect", &[("token", token)]).await;
        assert_eq!(live["active"], true);
    }
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &*loot.code),
        ("redirect_uri", callback("web")),
        ("code_verifier", VERIFIER),
    ];
    assert!(server.token_of_acme("/token", &form).await["access_token"].is_string());
    let form = [("grant_type", "refresh_token"), ("refresh_token", &*loot.refresh)];
    assert!(server.token_of_acme("/token", &form).await["access_token"].is_string());
    let url = server.url("acme", "/logout");
    let page = Browser::new().send(Method::GET, &url, &[("cookie", &*loot.cookies)], None).await;
    assert_eq!(page.heading(), "Sign out of Acme?", "the session lives");
}

#[test]
fn the_matrix_has_every_route() {
    let router = include_str!("../../../src/http/router.rs");
    let tenant =
        router.split("fn tenant()").nth(1).and_then(|rest| rest.split("fn fixed()").next());
    let mut seen = 0;
    for line in tenant.expect("the routes of a tenant").lines() {
        let Some(path) = line.split(".route(\"").nth(1).and_then(|rest| rest.split('"').next())
        else {
            continue;
        };
        for (method, call) in [("GET", "get("), ("POST", "post("), ("DELETE", "delete(")] {
            if line.contains(&format!("{call}oauth"))
                || line.contains(&format!("{call}oidc"))
                || line.contains(&format!("{call}pages"))
            {
                seen += 1;
                assert!(ROUTES.contains(&(method, path)), "{method} {path} is not in the matrix");
            }
        }
    }
    assert_eq!(seen, ROUTES.len());
}
