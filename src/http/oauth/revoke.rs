use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::Response;

use super::presented;
use crate::app::App;
use crate::http::extract::{Authorization, Form, Request};
use crate::http::reply;
use crate::oauth::revoke;

/// `POST {issuer}/revoke` (RFC 7009 §2). The answer is the same, whatever there was to revoke.
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
        revoke::revoke(&call, &client, &form).await
    };
    match answered.await {
        Ok(_) => {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => reply::token_error(&error),
    }
}
