use std::sync::Arc;

use axum::extract::{FromRequest as _, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{self, StatusCode};
use axum::response::Response;

use crate::app::App;
use crate::http::extract::{Authorization, Form, Request};
use crate::http::reply;
use crate::oauth::Params;
use crate::oauth::bearer::{self, BearerError};
use crate::oidc::userinfo;

/// `GET {issuer}/userinfo` (OpenID Connect Core §5.3.1).
pub(in crate::http) async fn get(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
) -> Response {
    show(&app, &request, &query, &authorization, None).await
}

/// `POST {issuer}/userinfo`: the token may come in the form (RFC 6750 §2.2); a body of another type
/// says nothing.
pub(in crate::http) async fn post(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    body: axum::extract::Request,
) -> Response {
    if !is_form(&body) {
        return show(&app, &request, &query, &authorization, None).await;
    }
    match Form::from_request(body, &()).await {
        Ok(Form(form)) => show(&app, &request, &query, &authorization, Some(&form)).await,
        Err(refusal) => refusal,
    }
}

fn is_form(body: &http::Request<axum::body::Body>) -> bool {
    let of_type = body.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    of_type.is_some_and(|text| text.starts_with("application/x-www-form-urlencoded"))
}

async fn show(
    app: &App,
    request: &Request,
    query: &RawQuery,
    authorization: &Authorization,
    form: Option<&Params>,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let query = Params::parse(query.0.as_deref().unwrap_or_default().as_bytes());
        let query = query.map_err(|_| BearerError::TwoTokens)?;
        let headers = authorization.all();
        let token = bearer::presented(&headers, &query, form)?;
        userinfo::userinfo(&call, token).await
    };
    match answered.await {
        Ok(claims) => reply::json_text(StatusCode::OK, claims),
        Err(error) => reply::bearer_error(&error, request.tenant.slug.as_str()),
    }
}
