use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use axum::response::Response;
use http_body_util::BodyExt as _;

use crate::http::reply;
use crate::oauth::{Cause, InvalidParams, Params, TokenError};

/// The parameters of a form body (`application/x-www-form-urlencoded`, UTF-8). The edge has read
/// it by then, within its limits of size and time.
pub struct Form(pub Params);

/// The parameters of the query.
pub struct Query(pub Params);

impl<S: Sync> FromRequest<S> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        if !is_form(request.headers()) {
            return Err(reply::token_error(&Cause::NotAForm.into()));
        }
        let body = request.into_body().collect().await;
        let body = body.map_err(|_| reply::token_error(&Cause::NotAForm.into()))?.to_bytes();
        read(&body).map(Self).map_err(refuse)
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        read(parts.uri.query().unwrap_or_default().as_bytes()).map(Self).map_err(refuse)
    }
}

/// Credentials are looked at by their spelling and kept as digests alone: one with a NUL is as wrong
/// as any other, and said to be so (RFC 6749 §5.2).
const CREDENTIALS: [&str; 4] = ["code", "code_verifier", "refresh_token", "token"];

/// Reads parameters. NUL is refused here once for all: no other parameter may have it, and
/// Postgres could not store it.
fn read(text: &[u8]) -> Result<Params, InvalidParams> {
    let params = Params::parse(text)?;
    let has_nul = params.iter().any(|(name, value)| {
        name.contains('\0') || value.contains('\0') && !CREDENTIALS.contains(&name)
    });
    if has_nul { Err(InvalidParams::Malformed) } else { Ok(params) }
}

fn refuse(invalid: InvalidParams) -> Response {
    reply::token_error(&TokenError::from(Cause::Params(invalid)))
}

/// One content type, of a form, in UTF-8 (RFC 6749 appendix B).
pub(in crate::http) fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let Ok(text) = only.to_str() else { return false };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && parts.all(|parameter| {
            parameter
                .split_once('=')
                .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
                .is_none_or(|(_, set)| set.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_of(content_type: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        is_form(&headers)
    }

    #[test]
    fn only_a_form_in_utf_8_is_a_form() {
        assert!(form_of("application/x-www-form-urlencoded"));
        assert!(form_of("Application/X-WWW-Form-Urlencoded; charset=\"UTF-8\""));
        for other in [
            "application/json",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded; charset=utf-7",
            "application/x-www-form-urlencoded;charset=iso-8859-1",
            "",
        ] {
            assert!(!form_of(other), "{other}");
        }
        assert!(!is_form(&HeaderMap::new()));
    }
}
