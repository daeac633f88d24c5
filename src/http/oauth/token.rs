use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use super::presented;
use crate::app::App;
use crate::http::extract::{Authorization, Form, Request};
use crate::http::reply;
use crate::oauth::device::Patience;
use crate::oauth::{ErrorCode, Params, TokenError, token};

/// `POST {issuer}/token` (RFC 6749 §3.2).
pub(in crate::http) async fn post(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    patience: Option<Extension<Patience>>,
    Form(form): Form,
) -> Response {
    let call = request.call(&app.services);
    // Nothing but a device has anything to wait for.
    let patience = patience.filter(|_| grant_label(&form) == "device_code");
    let answered = async {
        let client = presented(&query, &authorization, &form)?;
        token::answer_patient(&call, &client, &form, patience.as_deref()).await
    };
    let answered = answered.await;
    if grant_label(&form) == "device_code" {
        app.metrics.device(device_state(answered.as_ref().err()));
    }
    let mut response = match answered {
        Ok(tokens) => {
            app.metrics.token_issued(grant_label(&form));
            reply::json_text(StatusCode::OK, tokens.to_json())
        }
        Err(error) => {
            app.metrics.token_refused(grant_label(&form), error.code().as_str());
            reply::token_error(&error)
        }
    };
    if let Some(Extension(patience)) = patience {
        // RFC 7240 §3.
        let applied = format!("wait={}", patience.wait.as_secs());
        if let Ok(applied) = HeaderValue::try_from(applied) {
            response.headers_mut().insert("preference-applied", applied);
        }
    }
    response
}

/// What a device's poll met.
fn device_state(error: Option<&TokenError>) -> &'static str {
    match error.map(TokenError::code) {
        None => "redeemed",
        Some(ErrorCode::AuthorizationPending) => "pending",
        Some(ErrorCode::SlowDown) => "slow_down",
        Some(ErrorCode::AccessDenied) => "access_denied",
        Some(ErrorCode::ExpiredToken) => "expired",
        Some(_) => "refused",
    }
}

/// A label that a stranger cannot make new ones of.
fn grant_label(form: &Params) -> &'static str {
    match form.get("grant_type") {
        Some("authorization_code") => "authorization_code",
        Some("refresh_token") => "refresh_token",
        Some("client_credentials") => "client_credentials",
        Some("urn:ietf:params:oauth:grant-type:device_code") => "device_code",
        Some("urn:ietf:params:oauth:grant-type:token-exchange") => "token_exchange",
        _ => "other",
    }
}
