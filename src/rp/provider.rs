//! Discovery (RFC 8414, OpenID Connect Discovery): an issuer's address becomes its endpoints.

use serde_json::Value;
use thiserror::Error;
use url::Url;

use crate::base::Secret;
use crate::config::settings::is_loopback;
use crate::fetch::{Fetch, FetchError, Outgoing};

/// An authorization server, as its own metadata describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The issuer, as the server spells it.
    pub issuer: String,
    /// Where tokens come from.
    pub token: String,
    /// Where devices ask (RFC 8628 §4), where there is such a thing.
    pub device_authorization: Option<String>,
    /// Where tokens are given back (RFC 7009).
    pub revocation: Option<String>,
    /// Where it says who the user is (OpenID Connect Core §5.3).
    pub userinfo: Option<String>,
    /// What may be asked for; none when it does not say.
    pub scopes: Option<Vec<String>>,
    /// Whether a secret goes into the form rather than into `Authorization`.
    pub secret_in_form: bool,
}

/// Why an issuer cannot be used.
#[derive(Debug, Error)]
pub enum DiscoveryError {
    /// It is not an address of the kind that issuers have (RFC 8414 §2).
    #[error("{0} is no issuer: it has to be an https address without query or fragment")]
    NotAnIssuer(String),
    /// Nobody answers.
    #[error("{url}: {error}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why there is no answer.
        error: FetchError,
    },
    /// It answers, but describes no authorization server at any of the usual places.
    #[error("{issuer} describes no authorization server; asked:{asked}")]
    Nothing {
        /// The issuer.
        issuer: String,
        /// Addresses, with the status of each.
        asked: String,
    },
    /// RFC 8414 §3.3: the document is someone else's, and must not be used.
    #[error("{url} speaks for the issuer {said}, not for {asked}")]
    AnotherIssuer {
        /// The document.
        url: String,
        /// Who it speaks for.
        said: String,
        /// Who was asked for.
        asked: String,
    },
    /// What it says cannot be used.
    #[error("{url}: {why}")]
    Unusable {
        /// The document.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Finds out about `issuer`: OpenID Connect's document or RFC 8414's, whichever knows a device
/// authorization endpoint; else the first.
pub async fn discover(fetch: &dyn Fetch, issuer: &str) -> Result<Provider, DiscoveryError> {
    let url = parse(issuer)?;
    let mut first = None;
    let mut asked = String::new();
    for document in places(&url) {
        let outgoing = Outgoing { url: &document, ..Outgoing::default() };
        let answer = fetch
            .fetch(outgoing)
            .await
            .map_err(|error| DiscoveryError::Unreachable { url: document.clone(), error })?;
        let body = answer.json();
        if answer.status != 200 || !body.is_object() {
            asked = format!("{asked}\n    {document} ({})", answer.status);
            continue;
        }
        let provider = read(&body, issuer, &document)?;
        if provider.device_authorization.is_some() {
            return Ok(provider);
        }
        first.get_or_insert(provider);
    }
    first.ok_or_else(|| DiscoveryError::Nothing { issuer: issuer.to_owned(), asked })
}

fn parse(issuer: &str) -> Result<Url, DiscoveryError> {
    let url = Url::parse(issuer).ok().filter(|url| {
        (url.scheme() == "https" || url.scheme() == "http" && is_loopback(url))
            && url.host().is_some()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    url.ok_or_else(|| DiscoveryError::NotAnIssuer(issuer.to_owned()))
}

/// Where the metadata may be: OpenID Connect appends (Discovery §4), RFC 8414 §3.1 inserts.
fn places(issuer: &Url) -> Vec<String> {
    let origin = issuer.origin().ascii_serialization();
    let path = issuer.path().trim_end_matches('/');
    let mut places = vec![
        format!("{origin}{path}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if path.is_empty() {
        places.truncate(2); // the third is the first
    }
    places
}

fn read(body: &Value, asked: &str, document: &str) -> Result<Provider, DiscoveryError> {
    let unusable = |why: String| DiscoveryError::Unusable { url: document.to_owned(), why };
    let issuer = body["issuer"].as_str().unwrap_or_default();
    // A slash at the end is easily typed or forgotten; the server's spelling is the one that counts.
    if issuer.trim_end_matches('/') != asked.trim_end_matches('/') {
        return Err(DiscoveryError::AnotherIssuer {
            url: document.to_owned(),
            said: if issuer.is_empty() { "nobody".to_owned() } else { shown(issuer) },
            asked: asked.to_owned(),
        });
    }
    let here = Url::parse(issuer).is_ok_and(|url| is_loopback(&url));
    let endpoint = |name: &str| match body[name].as_str() {
        None => Ok(None),
        Some(text) => {
            let url = Url::parse(text).ok();
            let good = url.is_some_and(|url| {
                url.scheme() == "https" || here && url.scheme() == "http" && is_loopback(&url)
            });
            if good {
                Ok(Some(text.to_owned()))
            } else {
                Err(unusable(format!("`{name}` is not an https address: {}", shown(text))))
            }
        }
    };
    let strings = |name: &str| -> Option<Vec<String>> {
        let list = body[name].as_array()?;
        Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    let methods = strings("token_endpoint_auth_methods_supported");
    let has = |method: &str| methods.as_ref().is_some_and(|all| all.iter().any(|m| m == method));
    Ok(Provider {
        issuer: issuer.to_owned(),
        token: endpoint("token_endpoint")?
            .ok_or_else(|| unusable("it names no `token_endpoint`".to_owned()))?,
        device_authorization: endpoint("device_authorization_endpoint")?,
        revocation: endpoint("revocation_endpoint")?,
        userinfo: endpoint("userinfo_endpoint")?,
        scopes: strings("scopes_supported"),
        // RFC 8414 §2: where nothing is said, it is client_secret_basic.
        secret_in_form: has("client_secret_post") && !has("client_secret_basic"),
    })
}

/// What to call the user of an access token; none where the server does not say.
pub async fn name(
    fetch: &dyn Fetch,
    provider: &Provider,
    access: &Secret<String>,
) -> Option<String> {
    let url = provider.userinfo.as_deref()?;
    let bearer = format!("Bearer {}", access.reveal());
    let authorization = Some(bearer.as_str());
    let answer = fetch.fetch(Outgoing { url, authorization, ..Outgoing::default() }).await.ok()?;
    let user = answer.json();
    ["name", "preferred_username", "email", "sub"]
        .iter()
        .find_map(|claim| user[*claim].as_str())
        .map(shown)
}

/// Text from a server, fit for a terminal: without control characters, and not endless.
pub fn shown(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control() && !is_reordering(*c));
    let mut text: String = plain.take(MOST_SHOWN).collect();
    if text.chars().count() == MOST_SHOWN {
        text.push('…');
    }
    text
}

const MOST_SHOWN: usize = 300;

/// Marks that change the order in which what follows is shown (Unicode bidirectional controls).
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_metadata_are_looked_for_where_the_two_specifications_put_them() {
        let of = |issuer: &str| places(&Url::parse(issuer).unwrap());
        assert_eq!(
            of("https://id.example/t/acme"),
            [
                "https://id.example/t/acme/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server/t/acme",
                "https://id.example/.well-known/openid-configuration/t/acme",
            ]
        );
        assert_eq!(
            of("https://id.example/"),
            [
                "https://id.example/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server",
            ]
        );
    }

    #[test]
    fn a_document_of_another_issuer_is_not_used() {
        let body = json!({"issuer": "https://evil.example", "token_endpoint": "https://x/t"});
        let error = read(&body, "https://id.example", "d").unwrap_err();
        assert!(matches!(error, DiscoveryError::AnotherIssuer { .. }), "{error}");
        let body = json!({"issuer": "https://id.example/", "token_endpoint": "https://x/t"});
        assert_eq!(read(&body, "https://id.example", "d").unwrap().issuer, "https://id.example/");
    }

    #[test]
    fn a_remote_server_cannot_send_us_to_plain_http_or_to_this_machine() {
        for endpoint in ["http://id.example/token", "http://127.0.0.1/token", "file:///x"] {
            let body = json!({"issuer": "https://id.example", "token_endpoint": endpoint});
            assert!(read(&body, "https://id.example", "d").is_err(), "{endpoint}");
        }
        let body =
            json!({"issuer": "http://localhost:1", "token_endpoint": "http://localhost:1/t"});
        assert!(read(&body, "http://localhost:1", "d").is_ok());
    }

    #[test]
    fn an_issuer_is_an_https_address_or_on_this_machine() {
        for issuer in ["https://id.example/t/a", "http://127.0.0.1:8080/t/dev"] {
            assert!(parse(issuer).is_ok(), "{issuer}");
        }
        for issuer in
            ["id.example", "http://id.example", "https://a/?x", "https://u:p@a/", "https://a/#f"]
        {
            assert!(parse(issuer).is_err(), "{issuer}");
        }
    }

    #[test]
    fn what_a_server_says_cannot_command_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mb\r\u{202e}c"), "a[31mbc");
        assert!(shown(&"x".repeat(1000)).chars().count() <= MOST_SHOWN + 1);
    }
}
