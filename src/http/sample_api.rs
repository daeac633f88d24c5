//! The API of `pmp-auth demo api`: two routes behind the verifier that any API may use, and a word
//! about every decision.

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use pmp_auth_verify::{Kind, Token, Verifier};
use serde_json::json;
use tokio::net::TcpListener;

/// The API's parts.
#[derive(Clone)]
pub struct SampleApi {
    /// Checks its tokens.
    pub verifier: Verifier,
    /// What `GET /orders` needs.
    pub scope: String,
    /// Hears of every decision.
    pub say: Arc<dyn Fn(&str) + Send + Sync>,
}

impl SampleApi {
    /// Serves on `listener`, for ever.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let router = Router::new()
            .route("/hello", get(hello))
            .route("/orders", get(orders))
            .route("/readyz", get(readyz))
            .with_state(self);
        axum::serve(listener, router).await
    }

    /// The token of a request that passes, else the answer to it.
    async fn decide(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        scopes: &[String],
    ) -> Result<Token, Response> {
        let path = uri.path();
        match self.verifier.authenticate(headers, scopes).await {
            Ok(token) => {
                let kind = match token.kind() {
                    Kind::Jwt => "a JWT",
                    Kind::Opaque => "an opaque token",
                    Kind::ApiKey => "an API key",
                };
                let (subject, client) = (token.subject(), token.client_id());
                (self.say)(&format!("200  GET {path}  {kind} of {subject}, used by {client}"));
                Ok(token)
            }
            Err(error) => {
                let status = error.status().as_u16();
                (self.say)(&format!("{status}  GET {path}  {error}"));
                Err(self.verifier.refusal(&error).into_response())
            }
        }
    }
}

/// `GET /hello`: for any good token.
async fn hello(State(api): State<SampleApi>, uri: Uri, headers: HeaderMap) -> Response {
    match api.decide(&uri, &headers, &[]).await {
        Ok(token) => {
            let (subject, client) = (token.subject(), token.client_id());
            Json(json!({"hello": subject, "client": client, "scopes": token.scopes()}))
                .into_response()
        }
        Err(refusal) => refusal,
    }
}

/// `GET /orders`: for tokens with the scope.
async fn orders(State(api): State<SampleApi>, uri: Uri, headers: HeaderMap) -> Response {
    match api.decide(&uri, &headers, std::slice::from_ref(&api.scope)).await {
        Ok(token) => Json(json!({"orders": [], "of": token.subject()})).into_response(),
        Err(refusal) => refusal,
    }
}

/// `GET /readyz`: whether it can check tokens.
async fn readyz(State(api): State<SampleApi>) -> StatusCode {
    if api.verifier.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
