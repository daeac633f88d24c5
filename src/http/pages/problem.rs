use axum::http::StatusCode;
use axum::http::header::{ACCEPT, HeaderMap};
use axum::response::Response;
use minijinja::context;

use crate::http::{Edge, reply};

/// Whether a browser asks: programs do not say that they want HTML.
pub(in crate::http) fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter();
    accept.filter_map(|value| value.to_str().ok()).any(|types| types.contains("text/html"))
}

/// The page of a refusal that says no more than its status, where no tenant is known. None when
/// there are no words for it, and what programs get has to do.
pub(in crate::http) fn page(edge: &Edge, status: StatusCode, id: &str) -> Option<Response> {
    let key = match status {
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::TOO_MANY_REQUESTS => "limited",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::INTERNAL_SERVER_ERROR => "internal",
        _ if status.is_client_error() => "request",
        _ => return None,
    };
    let lead = format!("{key}_lead");
    let page = context! {
        heading => edge.templates.text("error", key),
        lead => edge.templates.text("error", &lead),
        request_id => id,
    };
    edge.templates.render("error.html", page).ok().map(|html| reply::page(status, html))
}
