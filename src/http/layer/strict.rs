use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONTENT_ENCODING, HOST, HeaderMap};
use axum::http::{Method, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::{reply, router};
use crate::token::api_key::is_spelt_as_key;

const MAX_URI: usize = 8 * 1024;
const MAX_HEADERS: usize = 32 * 1024;

/// Refuses what no handler should see: too long, ambiguous, or spelt in a way that someone before
/// us may have read differently.
pub(in crate::http) async fn strict(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    match refusal(&request, route) {
        Some(status) => reply::problem(status),
        None => next.run(request).await,
    }
}

fn refusal(request: &Request, route: Option<&str>) -> Option<StatusCode> {
    let (uri, headers) = (request.uri(), request.headers());
    if uri_length(uri) > MAX_URI {
        return Some(StatusCode::URI_TOO_LONG);
    }
    if header_length(headers) > MAX_HEADERS {
        return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    if !is_plain(uri.path()) {
        return Some(StatusCode::NOT_FOUND);
    }
    if !names_one_host(request.version(), uri, headers) {
        return Some(StatusCode::BAD_REQUEST);
    }
    // RFC 9700 §4.3.2: it would be in the logs of everyone on the way.
    if uri.query().is_some_and(has_api_key) {
        return Some(StatusCode::BAD_REQUEST);
    }
    if headers.contains_key(CONTENT_ENCODING) && !route.is_some_and(router::is_verify) {
        return Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    // GET of these may issue, spend or end something, and HEAD would run the same handler.
    let head = request.method() == Method::HEAD;
    (head && !route.is_some_and(router::is_harmless)).then_some(StatusCode::METHOD_NOT_ALLOWED)
}

/// A path that has one reading: nothing escaped, no empty or dotted segment, no parameters.
fn is_plain(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/')
                .all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain))
        })
}

/// Whether any parameter of a query is an API key.
fn has_api_key(query: &str) -> bool {
    let mut values = query.split(['&', ';']).map(|pair| pair.split_once('=').map_or(pair, |p| p.1));
    values.any(is_spelt_as_key)
}

/// One `Host`, which is the one of an absolute address (RFC 9112 §3.2).
fn names_one_host(version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let authority = uri.authority().map(axum::http::uri::Authority::as_str);
    match (hosts.next(), hosts.next(), authority) {
        (Some(host), None, Some(authority)) => {
            host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
        }
        (Some(host), None, None) => host.to_str().is_ok_and(is_host),
        (None, None, Some(_)) => version == Version::HTTP_2,
        _ => false,
    }
}

fn is_host(host: &str) -> bool {
    let usual = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    !host.is_empty() && host.len() <= 255 && host.bytes().all(usual)
}

fn uri_length(uri: &Uri) -> usize {
    uri.path().len() + uri.query().map_or(0, str::len)
}

fn header_length(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_reading() {
        for good in ["/", "/t/acme/token", "/.well-known/openid-configuration/t/a-b_c"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in [
            "/t/a/../b/token",
            "/t/a%2f..%2fb/token",
            "/t/a;x/token",
            "//t//a/token",
            "/t/a%00/token",
            "/t/%61/token",
            "/t/a/%252e%252e/b/token",
            "/t/a/./token",
            "/t/a/token/",
            "/t/ä/token",
            "*",
            "",
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
    }

    fn one_host(uri: &str, hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        names_one_host(Version::HTTP_11, &uri.parse().unwrap(), &headers)
    }

    #[test]
    fn a_request_names_one_host() {
        assert!(one_host("/t/a/token", &["a.example:8080"]));
        assert!(one_host("http://a.example/t", &["A.example"]));
        assert!(!one_host("/t/a/token", &[]));
        assert!(!one_host("/t/a/token", &["a.example", "a.example"]));
        assert!(!one_host("http://a.example/t", &["b.example"]));
        assert!(!one_host("/t/a/token", &["a.example/evil"]));
        assert!(!one_host("/t/a/token", &[""]));
    }
}
