//! Debian's Apache with libapache2-mod-oauth2, which guards an API, and with
//! libapache2-mod-auth-openidc, which signs users in.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pmp_auth::storage::Engine;
use serde_json::Value;

use super::{FILES, Program, get, revoke, server, system, token};
use crate::interop::{LOGIN, SECRET, TENANT, following_the_time};
use crate::support::browser::Browser;
use crate::support::process::free_port;
use crate::support::server::{API, PASSWORD, TestServer};
use crate::support::temp::TempDir;

const MODULES: &str = "/usr/lib/apache2/modules";

/// Apache with these modules beside the usual ones, whose only page says "the API".
async fn apache(port: u16, modules: &[&str], rules: &str) -> Program {
    let dir = TempDir::new();
    let at = dir.path().display().to_string();
    let mut conf = format!(
        "ServerRoot {at}\nDefaultRuntimeDir {at}\nPidFile {at}/pid\nMutex file:{at} default\n\
         ServerName 127.0.0.1\nListen 127.0.0.1:{port}\nErrorLog {at}/error.log\n\
         User www-data\nGroup www-data\nDocumentRoot {at}/www\n"
    );
    let usual = ["mpm_event", "authn_core", "authz_core", "authz_user", "dir"];
    for name in usual.iter().chain(modules) {
        let _ = writeln!(conf, "LoadModule {name}_module {MODULES}/mod_{name}.so");
    }
    let _ = writeln!(conf, "DirectoryIndex index.html\n{rules}");
    std::fs::create_dir(dir.path().join("www")).expect("a directory");
    std::fs::write(dir.path().join("www/index.html"), "the API").expect("a page");
    let path = dir.path().join("apache.conf");
    std::fs::write(&path, conf).expect("a file");
    assert!(Path::new(MODULES).exists(), "no Apache modules; `make test` installs them");
    let mut command = Command::new(system("apache2"));
    command.arg("-X").arg("-f").arg(&path);
    Program::start(dir, &mut command, port).await
}

/// An API that mod_oauth2 guards: `verify` says how.
async fn guarded(verify: &str) -> (Program, String) {
    let port = free_port();
    let rules = format!(
        "<Location />\nAuthType oauth2\nOAuth2TokenVerify {verify}\n\
         Require oauth2_claim aud:{API}\n</Location>"
    );
    (apache(port, &["oauth2"], &rules).await, format!("http://127.0.0.1:{port}/"))
}

/// What holds in either mode.
async fn keeps_others_out(server: &TestServer, program: &Program, url: &str) -> String {
    assert_eq!(server.get(url).await.status, 401);
    let live = token(server, "acme", "worker", &[]).await;
    let answer = get(server, url, &live).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "the API"), "{}", program.said());
    let files = token(server, "acme", "worker", &[("resource", FILES)]).await;
    let foreign = token(server, "other", "worker", &[]).await;
    let (signed, signature) = live.rsplit_once('.').expect("a JWS");
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    for other in [&files, &foreign, &forged, "x"] {
        assert_eq!(get(server, url, other).await.status, 401, "{other}");
    }
    live
}

async fn by_introspection(engine: Engine) {
    let server = server(engine).await;
    let (program, url) = guarded(&format!(
        "introspect {}/introspect introspect.ssl_verify=false&introspect.auth=client_secret_basic\
         &client_id=api&client_secret={SECRET}&expiry=1",
        server.issuer("acme")
    ))
    .await;
    let live = keeps_others_out(&server, &program, &url).await;
    revoke(&server, &live).await;
    // What it was told it keeps for the second that `expiry` says.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(get(&server, &url, &live).await.status, 401, "{}", program.said());
    server.stop().await;
}

async fn by_keys(engine: Engine) {
    let server = server(engine).await;
    let issuer = server.issuer("acme");
    let (program, url) = guarded(&format!(
        "jwks_uri {issuer}/jwks.json jwks_uri.ssl_verify=false&verify.exp=required&expiry=1"
    ))
    .await;
    keeps_others_out(&server, &program, &url).await;
    // Nobody tells it what is revoked: there a token's short life is all there is.
    let brief = token(&server, "acme", "hasty", &[]).await;
    assert_eq!(get(&server, &url, &brief).await.status, 200, "{}", program.said());
    tokio::time::sleep(Duration::from_millis(4_100)).await;
    assert_eq!(get(&server, &url, &brief).await.status, 401, "{}", program.said());
    server.stop().await;
}

async fn signs_in(engine: Engine) {
    let port = free_port();
    let app = format!("http://127.0.0.1:{port}");
    let yaml = TENANT.replace("9191", &port.to_string());
    let server = following_the_time(TestServer::with(engine, &yaml).await).await;
    let rules = format!(
        "OIDCProviderMetadataURL {}/.well-known/openid-configuration\nOIDCClientID web\n\
         OIDCClientSecret {SECRET}\nOIDCRedirectURI {app}/callback\n\
         OIDCCryptoPassphrase 7hx4Kq9Lw2Zn5Vb8\nOIDCScope \"openid email offline_access\"\n\
         OIDCPKCEMethod S256\nOIDCRemoteUserClaim email\nOIDCInfoHook access_token refresh_token userinfo\n\
         <Location />\nAuthType openid-connect\nRequire user {LOGIN}\n</Location>",
        server.issuer("acme")
    );
    let program = apache(port, &["auth_openidc"], &rules).await;

    let browser = Browser::new();
    let start = browser.get(&format!("{app}/")).await;
    let login = browser.open(start.next().unwrap_or_else(|| panic!("{}", program.said()))).await;
    let consent = browser.sign_in(&login, LOGIN, PASSWORD).await;
    let back = browser.decide(&consent, "allow").await;
    let page = browser.open(back.next().expect("the way back")).await;
    assert_eq!((page.status, page.body.as_str()), (200, "the API"), "{}", program.said());

    let first = info(&browser, &app, "").await;
    assert_eq!(
        first["user"]["email"].as_str().or(first["userinfo"]["email"].as_str()),
        Some(LOGIN)
    );
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let again = info(&browser, &app, "&access_token_refresh_interval=1").await;
    assert_ne!(first["access_token"], again["access_token"], "{}", program.said());
    assert_ne!(first["refresh_token"], again["refresh_token"]);
    server.stop().await;
}

/// What the module knows about the session.
async fn info(browser: &Browser, app: &str, more: &str) -> Value {
    let page = browser.get(&format!("{app}/callback?info=json{more}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let known: Value = serde_json::from_str(&page.body).expect("JSON");
    assert!(known["access_token"].is_string(), "{known}");
    known
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mod_oauth2_refuses_what_introspection_calls_inactive_on_sqlite() {
    by_introspection(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mod_oauth2_refuses_what_introspection_calls_inactive_on_postgres() {
    by_introspection(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mod_oauth2_checks_tokens_with_the_published_keys_on_sqlite() {
    by_keys(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mod_oauth2_checks_tokens_with_the_published_keys_on_postgres() {
    by_keys(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mod_auth_openidc_signs_a_user_in_and_refreshes_on_sqlite() {
    signs_in(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mod_auth_openidc_signs_a_user_in_and_refreshes_on_postgres() {
    signs_in(Engine::Postgres).await;
}
