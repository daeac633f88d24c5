//! Cases of PKCE (RFC 7636).

use pmp_auth::base::{Digest, base64url};
use pmp_auth::storage::Engine;
use serde_json::{Value, json};

use crate::support::browser::{Asking, Browser, CHALLENGE, VERIFIER, callback};
use crate::support::flow::{Form, SignedIn};
use crate::support::server::{PASSWORD, TestServer};

on_every_server! {
    sec_pkce_06
    sec_pkce_07
    sec_pkce_08
    sec_pkce_12
    sec_pkce_13
}

/// A verifier that is not [`VERIFIER`].
const OTHER_VERIFIER: &str = "Sx7-tR2m_Kq9.Yw4~Lz8Ef1Vb6Nc3Hd5Jg0PuAoXiTk";

/// Its S256 challenge.
fn other_challenge() -> String {
    base64url::encode(Digest::<()>::of(OTHER_VERIFIER.as_bytes()).as_bytes())
}

/// The client is told that the request is wrong, with its own state; a right one goes through after
/// that.
async fn invalid_request(requests: &[Asking], client: &str) {
    let server = TestServer::start(Engine::Memory).await;
    let (browser, issuer) = (Browser::new(), server.issuer("acme"));
    for request in requests {
        let page = browser.get(request.at(&issuer)).await;
        page.is_redirected_error(callback(client), "invalid_request");
        assert_eq!(page.sent("state").as_deref(), Some("st-1"));
        assert_eq!(page.sent("iss"), Some(issuer.clone()));
    }
    let page = browser.open(Asking::of(client).at(&issuer)).await;
    assert_eq!(page.heading(), "Sign in");
    server.stop().await;
}

#[tokio::test]
async fn sec_pkce_01() {
    for client in ["spa", "native", "web"] {
        let request = Asking::of(client).without("code_challenge");
        let bare = request.clone().without("code_challenge_method");
        let empty = Asking::of(client).with("code_challenge", "");
        invalid_request(&[request, bare, empty], client).await;
    }
}

#[tokio::test]
async fn sec_pkce_04() {
    let mut requests = vec![Asking::of("spa").without("code_challenge_method")];
    for other in ["", "plain", "s256", "S256 ", "S512", "none"] {
        requests.push(Asking::of("spa").with("code_challenge_method", other));
    }
    invalid_request(&requests, "spa").await;
}

#[tokio::test]
async fn sec_pkce_10() {
    let requests = [
        CHALLENGE[1..].to_owned(),
        format!("{CHALLENGE}A"),
        format!("{CHALLENGE}="),
        format!("{}=", &CHALLENGE[..42]),
        CHALLENGE.replace('-', "+"),
        format!("{}\u{e9}", &CHALLENGE[..42]),
        format!("{}\u{e9}", &CHALLENGE[..41]),
        // 43 letters that no digest is spelt with: bits beyond its end are set.
        format!("{}N", &CHALLENGE[..42]),
    ]
    .map(|bad| Asking::of("spa").with("code_challenge", &bad));
    invalid_request(&requests, "spa").await;
}

#[tokio::test]
async fn sec_pkce_14() {
    let server = TestServer::start(Engine::Memory).await;
    let issuer = server.issuer("acme");
    let other = other_challenge();
    let browser = Browser::new();
    let login = browser.open(Asking::of("web").at(&issuer)).await;
    // A second request of the same browser, and parameters in each form, with another challenge.
    browser.open(Asking::of("web").with("code_challenge", &other).at(&issuer)).await;
    let injected = ("code_challenge", other.as_str());
    let fields = [("username", "alice"), ("password", PASSWORD), ("decision", "login"), injected];
    let signed_in = browser.submit(&login, &fields).await;
    let consent = browser.follow(signed_in).await;
    browser.open(Asking::of("web").with("code_challenge", &other).at(&issuer)).await;
    let answer = browser.submit(&consent, &[("decision", "allow"), injected]).await;
    let code = browser.follow(answer).await.sent("code").unwrap();
    let form = Form::of("authorization_code")
        .with("code", &code)
        .with("redirect_uri", callback("web"))
        .with("code_verifier", OTHER_VERIFIER);
    server.ask("web", &form).await.is_refusal(400, "invalid_grant");
    server.ask("web", &form.with("code_verifier", VERIFIER)).await.granted();
    server.stop().await;
}

/// A code is not redeemed with any of these in place of its verifier, and then with it.
async fn refused(engine: Engine, verifiers: &[Option<&str>]) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    for client in ["spa", "native", "web"] {
        let code = alice.code(&server, client).await;
        for verifier in verifiers {
            let form = match verifier {
                Some(verifier) => code.form.clone().with("code_verifier", verifier),
                None => code.form.clone().without("code_verifier"),
            };
            server.ask(client, &form).await.is_refusal(400, "invalid_grant");
        }
        server.ask(client, &code.form).await.granted();
    }
    server.stop().await;
}

async fn sec_pkce_06(engine: Engine) {
    refused(engine, &[None]).await;
}

async fn sec_pkce_07(engine: Engine) {
    refused(engine, &[Some("")]).await;
}

async fn sec_pkce_08(engine: Engine) {
    let truncated = &VERIFIER[..VERIFIER.len() - 1];
    let longer = format!("{VERIFIER}A");
    refused(engine, &[Some(OTHER_VERIFIER), Some(truncated), Some(&longer)]).await;
}

async fn sec_pkce_12(engine: Engine) {
    refused(engine, &[Some(CHALLENGE)]).await;
}

async fn sec_pkce_13(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    for client in ["spa", "web"] {
        let victim = alice.code(&server, client).await;
        let attacker = alice.code_for(&server, client, &other_challenge()).await;
        let attacker = attacker.form.with("code_verifier", OTHER_VERIFIER);
        let injected = attacker.clone().with("code", &victim.text);
        server.ask(client, &injected).await.is_refusal(400, "invalid_grant");
        server.ask(client, &victim.form).await.granted();
        server.ask(client, &attacker).await.granted();
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_pkce_15() {
    let server = TestServer::start(Engine::Memory).await;
    for tenant in ["acme", "other"] {
        let at = [
            server.url(tenant, "/.well-known/openid-configuration"),
            server.url(tenant, "/.well-known/oauth-authorization-server"),
            format!("{}/.well-known/openid-configuration/t/{tenant}", server.base),
            format!("{}/.well-known/oauth-authorization-server/t/{tenant}", server.base),
        ];
        for url in at {
            let metadata: Value = server.get(&url).await.json();
            assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]), "{url}");
        }
    }
    server.stop().await;
}
