//! Verifiers in other languages: Authlib's `ResourceProtector`, and oauth4webapi.

use pmp_auth::storage::Engine;

use super::{API, FILES, SECRET, server};
use crate::interop::programs::{node, python, run};

async fn program(engine: Engine, interpreter: &str, script: &str) {
    let server = server(engine).await;
    let other = server.issuer("other");
    let known = [("AUDIENCE", API), ("OTHER_AUDIENCE", FILES), ("OTHER_ISSUER", &*other)];
    run(&server, interpreter, script, &[&known[..], &[("CLIENT_SECRET", SECRET)]].concat());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn authlib_protects_a_resource_by_keys_and_by_introspection_on_sqlite() {
    program(Engine::Sqlite, &python(), "authlib_api.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn authlib_protects_a_resource_by_keys_and_by_introspection_on_postgres() {
    program(Engine::Postgres, &python(), "authlib_api.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn oauth4webapi_validates_tokens_and_signed_introspection_on_sqlite() {
    program(Engine::Sqlite, &node(), "oauth4webapi_api.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn oauth4webapi_validates_tokens_and_signed_introspection_on_postgres() {
    program(Engine::Postgres, &node(), "oauth4webapi_api.mjs").await;
}
