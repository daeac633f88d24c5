//! Real clients, each told the issuer URL and its credentials alone: they log in, refresh, and log
//! out against a server in this process, on both durable engines.

mod apis;
mod device;
mod openidconnect;
mod programs;
mod verifiers;

use std::time::Duration;

use pmp_auth::base::{Clock as _, SystemClock};
use pmp_auth::storage::Engine;

use crate::support::server::{PASSWORD, TestServer};

const SECRET: &str = "b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq";
const LOGIN: &str = "ada@example.com";
const CALLBACK: &str = "http://127.0.0.1:9191/callback";
const BYE: &str = "http://127.0.0.1:9191/bye";

const TENANT: &str = r#"
tenants:
  acme:
    name: Acme
    scopes: [openid, profile, email, offline_access, "orders:read"]
    clients:
      - client_id: web
        name: Interop app
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        redirect_uris: ["http://127.0.0.1:9191/callback"]
        post_logout_redirect_uris: ["http://127.0.0.1:9191/bye"]
        grants: [authorization_code, refresh_token, client_credentials, device_code]
        scopes: [openid, profile, email, offline_access, "orders:read"]
      - client_id: spa
        type: public
        redirect_uris: ["http://127.0.0.1:9191/callback"]
        post_logout_redirect_uris: ["http://127.0.0.1:9191/bye"]
      - client_id: tv
        name: Acme on TV
        type: public
        grants: [device_code, refresh_token]
        scopes: [openid, profile, email, offline_access]
    device: {interval: 1s}
    users:
      - {email: ada@example.com, name: Ada Lovelace, password: plum tractor nine lagoon}
"#;

/// A server whose clock shows the real time, which real clients go by, and goes on: devices are told
/// off when they poll too early.
async fn server(engine: Engine) -> TestServer {
    let server =
        TestServer::configured(engine, TENANT, |settings| settings.server.demo = true).await;
    assert!(TENANT.contains(PASSWORD) && TENANT.contains(SECRET));
    following_the_time(server).await
}

/// The same server, with a clock that shows the real time and goes on.
async fn following_the_time(server: TestServer) -> TestServer {
    server.clock.set(SystemClock.now());
    server.settle().await;
    let clock = server.clock.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            clock.set(SystemClock.now());
        }
    });
    server
}
