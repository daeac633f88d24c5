//! An API behind a verifier. Configuration by environment: `ISSUER`, `AUDIENCE`, `CLIENT_ID`,
//! `CLIENT_SECRET`; `LISTEN` (127.0.0.1:3001).

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example"
)]

use std::env::var;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Router};
use pmp_auth_verify::{Credentials, Mode, OnLoss, Token, Verifier};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let audience = var("AUDIENCE")?;
    let verifier = Verifier::builder()
        .issuer(var("ISSUER")?)
        .audience(&audience)
        .mode(Mode::Feed)
        .credentials(Credentials::new(var("CLIENT_ID")?, var("CLIENT_SECRET")?))
        .on_loss(OnLoss::Grace(Duration::from_mins(1)))
        .resource_metadata(format!("{audience}/.well-known/oauth-protected-resource"))
        .on_event(|event| eprintln!("{event:?}"))
        .build()?;
    let router = Router::new()
        .route("/me", get(me))
        .route("/orders", get(orders).layer(verifier.require_scope("orders:read")))
        .route("/readyz", get(readyz))
        .with_state(verifier);
    let listen = var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3001".to_owned());
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

/// Any good token: the extractor checks it.
async fn me(token: Token) -> String {
    format!("{} by {}\n", token.subject(), token.client_id())
}

/// A token with the scope: the layer has checked it.
async fn orders(Extension(token): Extension<Token>) -> String {
    format!("no orders for {}\n", token.subject())
}

async fn readyz(State(verifier): State<Verifier>) -> StatusCode {
    if verifier.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
