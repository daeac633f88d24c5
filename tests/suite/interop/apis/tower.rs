//! The Rust crate `tower-oauth2-resource-server`, given the issuer and the audience alone.

use axum::routing::get as route;
use axum::{Extension, Router};
use pmp_auth::storage::Engine;
use tower_oauth2_resource_server::claims::DefaultClaims;
use tower_oauth2_resource_server::server::OAuth2ResourceServer;
use tower_oauth2_resource_server::tenant::TenantConfiguration;

use super::{FILES, get, server, token};
use crate::support::server::API;

async fn checks(engine: Engine) {
    let server = server(engine).await;
    let issuer = TenantConfiguration::builder(server.issuer("acme")).audiences(&[API]);
    let guard = <OAuth2ResourceServer>::builder().add_tenant(issuer.build().await.unwrap());
    let guard = guard.build().await.unwrap();
    let whose = |Extension(claims): Extension<DefaultClaims>| async { claims.sub.unwrap() };
    let app = Router::new().route("/", route(whose)).layer(guard.into_layer());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });

    let live = token(&server, "acme", "worker", &[]).await;
    // It fetches the keys in the background.
    for _ in 0..100 {
        if get(&server, &url, &live).await.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let answer = get(&server, &url, &live).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "worker"));
    assert_eq!(server.get(&url).await.status, 401);
    let files = token(&server, "acme", "worker", &[("resource", FILES)]).await;
    let foreign = token(&server, "other", "worker", &[]).await;
    for other in [&files, &foreign, &format!("{live}x")] {
        assert_eq!(get(&server, &url, other).await.status, 401, "{other}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_tower_oauth2_resource_server_crate_checks_tokens_on_sqlite() {
    checks(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_tower_oauth2_resource_server_crate_checks_tokens_on_postgres() {
    checks(Engine::Postgres).await;
}
