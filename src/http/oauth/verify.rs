use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;

use crate::app::App;
use crate::http::extract::{Authorization, Request};
use crate::http::reply;
use crate::model::token::AccessClaims;
use crate::oauth::verify::{self, Needs, VerifyError, header_text};
use crate::oauth::{Call, Params};

/// `GET {issuer}/verify`: forward authentication. Proxies may send the method of the request that
/// they ask about: each is answered alike, none changes anything, and a body is not looked at.
pub(in crate::http) async fn any(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    headers: HeaderMap,
) -> Response {
    let call = request.call(&app.services);
    let query = Params::parse(query.0.as_deref().unwrap_or_default().as_bytes());
    let query = query.map_err(|_| VerifyError::Malformed("the query"));
    let needs = query.as_ref().map_err(|_| VerifyError::Malformed("the query")).and_then(|query| {
        let audiences = texts(&headers, "x-audience")?;
        let scopes = texts(&headers, "x-required-scope")?;
        Needs::read(&call.tenant.settings, query, &audiences, &scopes)
    });
    let verified = match (&query, &needs) {
        (Ok(query), Ok(needs)) => verify::verify(&call, &authorization.all(), query, needs).await,
        _ => Err(VerifyError::Malformed("audience or scope")),
    };
    match verified {
        Ok(claims) => {
            app.metrics.verified("allowed");
            allowed(&call, &claims)
        }
        Err(error) => {
            app.metrics.verified(match error.status() {
                401 => "unauthorized",
                403 => "forbidden",
                429 => "throttled",
                _ => "unknown",
            });
            refused(&call, &error, needs.as_ref().ok())
        }
    }
}

/// The values of a header that a proxy sets.
fn texts<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Vec<&'a str>, VerifyError> {
    let values = headers.get_all(name).iter().map(HeaderValue::to_str);
    let values: Result<Vec<_>, _> = values.collect();
    let values = values.map_err(|_| VerifyError::Malformed(name))?;
    Ok(values.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect())
}

/// Every header is there, empty or not: a proxy that copies them leaves nothing of the same name
/// that its client sent.
fn allowed(call: &Call<'_>, claims: &AccessClaims) -> Response {
    let list =
        |all: &mut dyn Iterator<Item = &str>| all.map(header_text).collect::<Vec<_>>().join(" ");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-auth-subject", header_text(&claims.subject)),
        ("x-auth-client", header_text(claims.client.as_str())),
        ("x-auth-scopes", list(&mut claims.scope.iter())),
        ("x-auth-audience", list(&mut claims.audience.iter().map(String::as_str))),
        ("x-auth-tenant", header_text(call.tenant.slug.as_str())),
        ("x-auth-expires", claims.expires_at.seconds().to_string()),
    ] {
        // Visible ASCII and spaces: always a header value.
        let value = HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""));
        headers.insert(HeaderName::from_static(name), value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(call: &Call<'_>, error: &VerifyError, needs: Option<&Needs>) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = serde_json::json!({"error_description": error.description()});
    if let Some(code) = error.code() {
        body["error"] = code.into();
    }
    let mut response = reply::json(status, &body);
    response.extensions_mut().insert(reply::Why(error.to_string()));
    let headers = response.headers_mut();
    let challenge = error.challenge(call, needs);
    if let Some(value) = challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(WWW_AUTHENTICATE, value);
    }
    if let Some(seconds) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
