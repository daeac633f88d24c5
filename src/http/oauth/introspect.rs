use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderValue, PRAGMA, VARY};
use axum::response::Response;

use super::presented;
use crate::app::App;
use crate::http::extract::{Authorization, Form, Request};
use crate::http::reply;
use crate::oauth::Call;
use crate::oauth::introspect::{self, Answered};

/// `POST {issuer}/introspect` (RFC 7662 §2).
pub(in crate::http) async fn post(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    headers: HeaderMap,
    Form(form): Form,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let caller = presented(&query, &authorization, &form)?;
        introspect::answer(&call, &caller, &form).await
    };
    match answered.await {
        Ok(answer) => {
            answer.actives().into_iter().for_each(|active| app.metrics.introspected(active));
            show(&call, &answer, wants_signed(&headers)).await
        }
        Err(error) => reply::token_error(&error),
    }
}

async fn show(call: &Call<'_>, answer: &Answered, signed: bool) -> Response {
    let signed = if signed { answer.sign(call).await } else { None };
    let mut response = match signed {
        Some(Ok(token)) => reply::no_store(
            StatusCode::OK,
            HeaderValue::from_static("application/token-introspection+jwt"),
            token.reveal().clone(),
        ),
        Some(Err(error)) => return reply::unavailable(&error),
        None => reply::json_text(StatusCode::OK, answer.to_json()),
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    let seconds = answer.max_age(call).as_secs();
    if seconds > 0
        && let Ok(policy) = HeaderValue::try_from(format!("private, max-age={seconds}"))
    {
        headers.insert(CACHE_CONTROL, policy);
        headers.remove(PRAGMA);
    }
    response
}

/// Whether the signed form (RFC 9701 §4) is the first of ours that the request accepts.
fn wants_signed(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        (name, parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000")))
    });
    let mut wanted = names.filter(|(_, never)| !never).filter_map(|(name, _)| match &*name {
        "application/token-introspection+jwt" => Some(true),
        "application/json" | "application/*" | "*/*" => Some(false),
        _ => None,
    });
    wanted.next().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(accept: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        wants_signed(&headers)
    }

    #[test]
    fn the_signed_form_is_given_to_who_asks_for_it_first() {
        assert!(signed("application/token-introspection+jwt"));
        assert!(signed("text/html, Application/Token-Introspection+JWT;q=0.9, */*"));
        assert!(!signed("application/json, application/token-introspection+jwt"));
        assert!(!signed("application/token-introspection+jwt;q=0"));
        assert!(!signed("*/*"));
        assert!(!wants_signed(&HeaderMap::new()));
    }
}
