//! Addresses that browsers are sent to: compared byte for byte later (RFC 9700 §4.1.3), so that each
//! has to be in its one usual spelling here.

use std::collections::HashSet;

use url::{Host, Url};

use super::super::read::Section;
use super::super::settings::is_loopback;

/// What is wrong with an address, and how to mend it.
type Complaint = (String, String);

/// Parameters that we add ourselves: one already there would shadow ours.
const OURS_IN_QUERY: [&str; 8] = [
    "code",
    "state",
    "iss",
    "error",
    "error_description",
    "error_uri",
    "session_state",
    "response",
];

/// Reads a list of addresses.
pub(super) fn read(section: &Section<'_>, key: &str, native: bool) -> Vec<String> {
    let mut seen = HashSet::new();
    let entries = section.get(key).map(|item| item.list()).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let text = entry.text()?;
            if let Err((message, fix)) = check(text, native) {
                entry.fault(message, fix);
                return None;
            }
            if !seen.insert(text) {
                entry.fault(format!("`{text}` stands twice"), "remove one");
            }
            Some(text.to_owned())
        })
        .collect()
}

/// Whether only an application on the user's device can be reached there (RFC 8252 §7).
pub(super) fn is_native(uri: &str) -> bool {
    let Ok(url) = Url::parse(uri) else { return false };
    match url.scheme() {
        "https" => false,
        "http" => matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_))),
        _ => true,
    }
}

fn check(text: &str, native: bool) -> Result<(), Complaint> {
    spelling(text)?;
    let Some((scheme, rest)) = text.split_once(':') else {
        return complain(format!("`{text}` is not absolute"), "write it with https://");
    };
    let Ok(url) = Url::parse(text) else {
        return complain(format!("`{text}` is no address"), "write it like https://app.example/cb");
    };
    if url.scheme() != scheme {
        return complain(
            format!("`{scheme}` is not lower case"),
            format!("write `{}`", url.scheme()),
        );
    }
    match scheme {
        "https" | "http" => web(text, &url)?,
        _ => private(text, scheme, rest, native)?,
    }
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| OURS_IN_QUERY.contains(&&**name)) {
        return complain(
            format!("`{text}` has `{name}` in its query, which the answer carries"),
            "name the parameter otherwise",
        );
    }
    Ok(())
}

fn complain<T>(message: impl Into<String>, fix: impl Into<String>) -> Result<T, Complaint> {
    Err((message.into(), fix.into()))
}

/// The characters of RFC 3986 §2, no more; what differs between readers is refused.
fn spelling(text: &str) -> Result<(), Complaint> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()+,;=%".contains(&b);
    if text.contains('#') {
        return complain(format!("`{text}` has a fragment"), "remove what begins with `#`");
    }
    if text.contains('*') {
        return complain(
            format!("`{text}` has a wildcard"),
            "list each address; they are compared letter for letter (RFC 9700 §2.1)",
        );
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii() || !fits(u8::try_from(*c).unwrap_or(0))) {
        return complain(
            format!("{c:?} cannot stand in an address"),
            "percent-encode it in path or query; write international host names as xn--…",
        );
    }
    if text.len() > 2000 {
        return complain("the address has more than 2000 characters", "shorten it");
    }
    Ok(())
}

fn web(text: &str, url: &Url) -> Result<(), Complaint> {
    if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
        return complain(
            format!("`{text}` has a user name before its host"),
            "remove what is before `@`",
        );
    }
    // Names below `localhost` are not among what RFC 8252 §7.3 and §8.3 speak of.
    let loopback = is_loopback(url) && url.domain().is_none_or(|name| name == "localhost");
    if url.scheme() == "http" && !loopback {
        return complain(format!("`{text}` is not https"), "only loopback addresses may use http");
    }
    if url.port() == Some(0) {
        return complain(format!("`{text}` has port 0"), "leave the port out: any will match");
    }
    let usual = url.as_str();
    let bare = url.path() == "/" && url.query().is_none();
    if text != usual && !(bare && usual.strip_suffix('/') == Some(text)) {
        return complain(format!("`{text}` is not the usual spelling"), format!("write {usual}"));
    }
    Ok(())
}

fn authority(text: &str) -> &str {
    let after = text.split_once("//").map_or("", |(_, after)| after);
    after.split(['/', '?']).next().unwrap_or("")
}

/// RFC 8252 §7.1: a scheme that is a reversed domain name, so that it has a dot.
fn private(text: &str, scheme: &str, rest: &str, native: bool) -> Result<(), Complaint> {
    if !scheme.contains('.') {
        return complain(
            format!("`{scheme}:` belongs to nobody"),
            "use https://, or for a native application a scheme made of your domain, as in \
             com.example.app:/callback",
        );
    }
    if !native {
        return complain(
            format!("`{text}` has a private scheme, which only native applications have"),
            "write `application_type: native`, or use https://",
        );
    }
    if rest.contains('@') || rest.is_empty() || !rest.starts_with('/') {
        return complain(
            format!("`{text}` is not how a private scheme is written"),
            format!("write {scheme}:/callback"),
        );
    }
    Ok(())
}

/// Reads `cors_origins`.
pub(super) fn origins(section: &Section<'_>) -> Vec<String> {
    let entries = section.get("cors_origins").map(|item| item.list()).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let text = entry.text()?;
            let origin = Url::parse(text).ok().filter(|url| {
                (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
                    && url.origin().ascii_serialization() == text
            });
            if origin.is_none() {
                entry.fault(
                    format!("`{text}` is no origin"),
                    "write it like https://app.example: https (http on loopback only), no path, no \
                     trailing slash, no wildcard",
                );
            }
            origin.map(|_| text.to_owned())
        })
        .collect()
}

/// Reads the address of a page that is linked to.
pub(super) fn page(section: &Section<'_>, key: &str) -> Option<String> {
    let item = section.get(key)?;
    let text = item.text()?;
    let url = Url::parse(text).ok().filter(|url| {
        let web = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
        web && url.username().is_empty() && url.password().is_none()
    });
    if url.is_none() {
        item.fault(format!("`{text}` is no https address"), "write it like https://app.example");
    }
    url.map(|url| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_loopback_and_private_schemes_are_addresses() {
        for good in [
            "https://app.example/cb",
            "https://app.example",
            "https://app.example/",
            "https://app.example:8443/cb?a=b",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:7777/cb",
            "http://[::1]/cb",
            "http://localhost:3000/cb",
        ] {
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
        for native in ["com.example.app:/cb", "com.example.app://cb", "com.example.app:/"] {
            assert_eq!(check(native, true), Ok(()), "{native}");
            assert!(check(native, false).is_err(), "{native}");
        }
    }

    #[test]
    fn what_readers_could_take_differently_is_refused() {
        for bad in [
            "",
            "/cb",
            "app.example/cb",
            "http://app.example/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://10.0.0.1/cb",
            "http://app.localhost/cb",
            "http://[0:0:0:0:0:0:0:1]/cb",
            "http://[::ffff:127.0.0.1]/cb",
            "http://127.1/cb",
            "http://0x7f000001/cb",
            "http://127.0.0.1:0/cb",
            "https://app.example/cb#x",
            "https://app.example/cb#",
            "https://*.app.example/cb",
            "https://app.example/*",
            "https://user@app.example/cb",
            "https://user:pw@app.example/cb",
            "https://@app.example/cb",
            "https://app.example\\@evil.example/cb",
            "https:/\\evil.example",
            "https:app.example/cb",
            "https://app.example/a/../cb",
            "https://app.example/%2e%2e/cb",
            "https://App.example/cb",
            "HTTPS://app.example/cb",
            "https://app.example:443/cb",
            "https://äpp.example/cb",
            "https://app.example/c b",
            "https://app.example/cb\n",
            "https://app.example/\tcb",
            "https://",
            "javascript:alert(1)",
            "data:text/html,x",
            "app:/cb",
            "urn:ietf:wg:oauth:2.0:oob",
            "com.example.app:cb",
            "com.example.app://user@cb",
            "com.example.app:",
        ] {
            assert!(check(bad, true).is_err(), "{bad:?}");
        }
        assert!(check(&format!("https://app.example/{}", "a".repeat(2000)), false).is_err());
    }
}
