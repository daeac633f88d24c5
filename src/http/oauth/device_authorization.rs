use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::presented;
use crate::app::App;
use crate::http::extract::{Authorization, Form, Request};
use crate::http::reply;
use crate::oauth::device::request;

/// `POST {issuer}/device_authorization` (RFC 8628 §3.1).
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
        request::request(&call, &client, &form).await
    };
    match answered.await {
        Ok(device) => {
            app.metrics.device("requested");
            reply::json_text(StatusCode::OK, device.to_json())
        }
        Err(error) => {
            app.metrics.device("refused");
            reply::token_error(&error)
        }
    }
}
