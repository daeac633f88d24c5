use axum::http::StatusCode;
use axum::http::header::{ACCEPT, HeaderMap};
use axum::response::Response;
use minijinja::context;
use minijinja::value::{Serde, Value};
use serde::Serialize;

use super::show::{Frame, name_of};
use crate::http::Edge;
use crate::http::extract::Request;
use crate::http::reply;
use crate::limits::TooOften;
use crate::model::Client;
use crate::oauth::authorize::{PageCause, Refused, UnregisteredUri};

/// A page that says why it goes no further, and what mends it.
#[derive(Debug, Default)]
pub(super) struct Refusal<'a> {
    /// Key of the heading in `error`; with `_lead` of the sentence below it, and with `_fix` of what
    /// to do, if there is such a text.
    pub(super) key: &'a str,
    /// The key of another text for what to do.
    pub(super) fix: Option<&'a str>,
    /// For developers.
    pub(super) details: Vec<Detail>,
    /// Where the user may begin again.
    pub(super) back: Option<Back>,
}

/// A name and a value for developers.
#[derive(Debug, Serialize)]
pub(super) struct Detail {
    name: &'static str,
    value: String,
}

/// Where the user may begin again.
#[derive(Debug, Serialize)]
pub(super) struct Back {
    pub(super) url: String,
    pub(super) client: String,
}

impl Back {
    /// The application's own address, if it told us one.
    pub(super) fn to(client: &Client) -> Option<Self> {
        let url = client.client_uri.clone()?;
        Some(Self { url, client: name_of(client) })
    }
}

/// Answers with a refusal: a page, or JSON for callers that ask for nothing else.
pub(super) fn refuse(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    status: StatusCode,
    refusal: &Refusal<'_>,
) -> Response {
    let frame = Frame::of(edge, request);
    let lead_key = format!("{}_lead", refusal.key);
    let fix_key = refusal.fix.map_or_else(|| format!("{}_fix", refusal.key), str::to_owned);
    let heading = edge.templates.text("error", refusal.key);
    let lead = edge.templates.text("error", &lead_key);
    let fix = Some(edge.templates.text("error", &fix_key)).filter(|text| *text != fix_key);
    if wants_json(headers) {
        let description = fix.unwrap_or(lead);
        let error = match status {
            StatusCode::TOO_MANY_REQUESTS => "temporarily_unavailable",
            _ if status.is_server_error() => "server_error",
            _ => "invalid_request",
        };
        let body = serde_json::json!({ "error": error, "error_description": description });
        return reply::json(status, &body);
    }
    let page = context! {
        heading,
        lead,
        fix,
        details => Value::from(Serde(&refusal.details)),
        back => Value::from(Serde(&refusal.back)),
        request_id => request.id.as_str(),
    };
    frame.show(status, "error.html", page)
}

/// A refusal of the authorization endpoint that must not be redirected.
pub(super) fn refused(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    refused: &Refused,
) -> Response {
    let cause = match refused {
        Refused::Page(cause) => cause,
        Refused::Store(error) => return unavailable(edge, request, headers, error),
        Refused::TooOften(often) => return too_often(edge, request, headers, *often),
    };
    tracing::info!(cause = told(cause), "refused a request");
    let mut refusal = Refusal { key: "request", ..Refusal::default() };
    match cause {
        PageCause::Params(_) => refusal.fix = Some("params_fix"),
        PageCause::TooLong => refusal.fix = Some("too_long_fix"),
        PageCause::Repeated(_) => refusal.fix = Some("repeated_fix"),
        PageCause::NoClient => refusal.fix = Some("no_client_fix"),
        PageCause::NoRedirectUri => refusal.fix = Some("no_redirect_fix"),
        PageCause::UnknownClient => refusal.key = "client_unknown",
        PageCause::RedirectUri(uri) => {
            refusal.key = "redirect_unknown";
            if edge.app.settings.server.dev {
                refusal.details = details(uri);
            }
        }
    }
    refuse(edge, request, headers, StatusCode::BAD_REQUEST, &refusal)
}

/// A cause for the log. What a stranger sent is not written there at any length.
fn told(cause: &PageCause) -> String {
    match cause {
        PageCause::RedirectUri(uri) => {
            let start: String = uri.received.chars().take(200).collect();
            format!("RedirectUri({start:?})")
        }
        other => format!("{other:?}"),
    }
}

/// What was sent beside what is registered: only where the server runs for developers.
fn details(uri: &UnregisteredUri) -> Vec<Detail> {
    let mut details = vec![Detail { name: "redirect_uri", value: uri.received.clone() }];
    let registered =
        uri.registered.iter().map(|uri| Detail { name: "registered", value: uri.clone() });
    details.extend(registered);
    details.extend(uri.closest.iter().map(|uri| Detail { name: "closest", value: uri.clone() }));
    details.push(Detail {
        name: "config.yaml",
        value: format!("redirect_uris: [\"{}\"]", uri.received.replace(['"', '\\'], "")),
    });
    details
}

/// The store could not answer: 503, and nothing was lost.
pub(super) fn unavailable(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    error: &crate::storage::StoreError,
) -> Response {
    tracing::warn!(%error, "the store could not answer");
    let refusal = Refusal { key: "unavailable", ..Refusal::default() };
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let response = refuse(edge, request, headers, status, &refusal);
    super::show::with_retry_after(response, 1)
}

/// Too many requests from one network: 429, and when to come back.
fn too_often(edge: &Edge, request: &Request, headers: &HeaderMap, often: TooOften) -> Response {
    tracing::info!("refused one request too many");
    let refusal = Refusal { key: "limited", ..Refusal::default() };
    let response = refuse(edge, request, headers, StatusCode::TOO_MANY_REQUESTS, &refusal);
    let seconds = often.retry_after.as_millis().div_ceil(1000);
    super::show::with_retry_after(response, u64::try_from(seconds).unwrap_or(u64::MAX))
}

/// The form did not come from a page of ours, or its page belongs to another session.
pub(super) fn forged(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    back: Option<Back>,
) -> Response {
    tracing::info!("refused a form that is not ours");
    let refusal = Refusal { key: "csrf", back, ..Refusal::default() };
    refuse(edge, request, headers, StatusCode::FORBIDDEN, &refusal)
}

/// The browser has not sent back the cookie that a page of ours depends on.
pub(super) fn no_cookie(edge: &Edge, request: &Request, headers: &HeaderMap) -> Response {
    let refusal = Refusal { key: "no_cookie", ..Refusal::default() };
    refuse(edge, request, headers, StatusCode::BAD_REQUEST, &refusal)
}

/// The same page under another status.
pub(super) fn with_status(mut response: Response, status: StatusCode) -> Response {
    *response.status_mut() = status;
    response
}

/// What waits was begun at another browser, or is not ours at all.
pub(super) fn other_browser(edge: &Edge, request: &Request, headers: &HeaderMap) -> Response {
    let refusal = Refusal { key: "other_browser", fix: Some("start"), ..Refusal::default() };
    refuse(edge, request, headers, StatusCode::BAD_REQUEST, &refusal)
}

/// What waited was given up.
pub(super) fn expired(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    back: Option<Back>,
) -> Response {
    let refusal = Refusal { key: "expired", fix: Some("start"), back, ..Refusal::default() };
    refuse(edge, request, headers, StatusCode::BAD_REQUEST, &refusal)
}

/// A browser asks for pages; a program that names JSON and not HTML gets JSON.
fn wants_json(headers: &HeaderMap) -> bool {
    let names = |what: &str| {
        headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .any(|range| range.split(';').next().is_some_and(|range| range.trim() == what))
    };
    names("application/json") && !names("text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_caller_that_names_json_and_not_html_gets_json() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            wants_json(&headers)
        };
        assert!(wants("application/json"));
        assert!(wants("application/json; q=0.9, text/plain"));
        assert!(!wants("text/html,application/json"));
        assert!(!wants("*/*"));
        assert!(!wants_json(&HeaderMap::new()));
    }
}
