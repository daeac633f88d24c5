use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::presented;
use crate::app::App;
use crate::http::extract::{Authorization, Form, Request};
use crate::http::reply;
use crate::oauth::{Params, token};

/// `POST {issuer}/token` (RFC 6749 §3.2).
pub(in crate::http) async fn post(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    Form(form): Form,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let client = presented(&query, &authorization, &form)?;
        token::answer(&call, &client, &form).await
    };
    match answered.await {
        Ok(tokens) => {
            app.metrics.token_issued(grant_label(&form));
            reply::json_text(StatusCode::OK, tokens.to_json())
        }
        Err(error) => {
            app.metrics.token_refused(grant_label(&form), error.code().as_str());
            reply::token_error(&error)
        }
    }
}

/// A label that a stranger cannot make new ones of.
fn grant_label(form: &Params) -> &'static str {
    match form.get("grant_type") {
        Some("authorization_code") => "authorization_code",
        Some("refresh_token") => "refresh_token",
        Some("client_credentials") => "client_credentials",
        _ => "other",
    }
}
