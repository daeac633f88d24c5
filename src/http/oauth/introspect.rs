use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::presented;
use crate::app::App;
use crate::http::extract::{Authorization, Form, Request};
use crate::http::reply;
use crate::oauth::introspect;

/// `POST {issuer}/introspect` (RFC 7662 §2).
pub(in crate::http) async fn post(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    Form(form): Form,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let caller = presented(&query, &authorization, &form)?;
        introspect::introspect(&call, &caller, &form).await
    };
    match answered.await {
        Ok(answer) => {
            app.metrics.introspected(answer.is_active());
            reply::json_text(StatusCode::OK, answer.to_json())
        }
        Err(error) => reply::token_error(&error),
    }
}
