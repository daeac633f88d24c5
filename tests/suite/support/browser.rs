//! A browser without scripts, as far as forms need one: cookies, redirects on request, `Refresh`,
//! and forms filled in and sent.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use url::Url;

/// One browser, with a cookie jar of its own.
#[derive(Clone)]
pub struct Browser {
    client: Client,
}

/// What a request was answered with.
#[derive(Debug, Clone)]
pub struct Page {
    /// What was asked for.
    pub url: Url,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// A form of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Where it goes.
    pub action: String,
    /// Its fields with their values, in order; submit buttons not among them.
    pub fields: Vec<(String, String)>,
}

impl Browser {
    /// A new one, without cookies.
    pub fn new() -> Self {
        let client = Client::builder().redirect(Policy::none()).cookie_store(true).build();
        Self { client: client.expect("a client") }
    }

    /// One that sends the cookies that it is told to, and no others.
    pub fn without_jar() -> Self {
        let client = Client::builder().redirect(Policy::none()).build();
        Self { client: client.expect("a client") }
    }

    /// Asks for an address.
    pub async fn get(&self, url: impl AsRef<str>) -> Page {
        self.send(Method::GET, url.as_ref(), &[], None).await
    }

    /// Sends a form with these fields.
    pub async fn post(&self, url: impl AsRef<str>, fields: &[(&str, &str)]) -> Page {
        self.send(Method::POST, url.as_ref(), &[], Some(fields)).await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        form: Option<&[(&str, &str)]>,
    ) -> Page {
        let url = Url::parse(url).expect("an address");
        let mut request = self.client.request(method, url.clone());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(form) = form {
            let mut body = url::form_urlencoded::Serializer::new(String::new());
            body.extend_pairs(form);
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body.finish());
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Page { url, status, headers, body: response.text().await.expect("a body") }
    }

    /// Follows redirects and `Refresh` for as long as they stay at the same origin.
    pub async fn follow(&self, mut answer: Page) -> Page {
        for _ in 0..10 {
            match answer.next() {
                Some(next) if next.origin() == answer.url.origin() => {
                    answer = self.get(&next).await;
                }
                _ => return answer,
            }
        }
        panic!("sent in circles: {}", answer.url);
    }

    /// Asks for an address and follows.
    pub async fn open(&self, url: impl AsRef<str>) -> Page {
        let answer = self.get(url).await;
        self.follow(answer).await
    }

    /// Fills in the first form of a page that has all of `fields`, and sends it with the button.
    pub async fn submit(&self, page: &Page, fields: &[(&str, &str)]) -> Page {
        self.submit_with(page, fields, &[]).await
    }

    /// The same with headers.
    pub async fn submit_with(
        &self,
        page: &Page,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let form = page.forms().into_iter().next().unwrap_or_else(|| panic!("no form: {page:?}"));
        let mut all: BTreeMap<String, String> = form.fields.into_iter().collect();
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let to = page.url.join(&form.action).expect("an action");
        self.send(Method::POST, to.as_str(), headers, Some(&all)).await
    }

    /// Signs in on the login page, and follows.
    pub async fn sign_in(&self, page: &Page, username: &str, password: &str) -> Page {
        let fields = [("username", username), ("password", password), ("decision", "login")];
        let answer = self.submit(page, &fields).await;
        self.follow(answer).await
    }

    /// Decides on the consent page, and follows.
    pub async fn decide(&self, page: &Page, decision: &str) -> Page {
        let answer = self.submit(page, &[("decision", decision)]).await;
        self.follow(answer).await
    }
}

impl Page {
    /// Where it sends the browser by itself.
    pub fn next(&self) -> Option<Url> {
        let refresh = || self.header("refresh")?.strip_prefix("0; url=");
        let to = self.header(LOCATION.as_str()).or_else(refresh)?;
        Some(self.url.join(to).expect("an address"))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// A member of the query of where it sends the browser.
    pub fn sent(&self, name: &str) -> Option<String> {
        let next = self.next()?;
        next.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The heading of the page.
    pub fn heading(&self) -> String {
        let text = between(&self.body, "<h1>", "</h1>").unwrap_or_default();
        unescape(&text.replace("<bdi>", "").replace("</bdi>", ""))
    }

    /// The page with what is escaped in it spelt out.
    pub fn text(&self) -> String {
        unescape(&self.body)
    }

    /// The forms of the page.
    pub fn forms(&self) -> Vec<Form> {
        self.body.split("<form").skip(1).map(form).collect()
    }

    /// Whether nothing of the page leads anywhere by itself: an error page (`ERRPAGE`).
    #[track_caller]
    pub fn is_error_page(&self) {
        assert_eq!(self.status, 400, "{self:?}");
        assert_eq!(self.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(self.next(), None);
        assert!(!self.body.contains("http-equiv"), "{}", self.body);
    }

    /// Whether the client is told this error at its redirect URI (`REDIR(e)`).
    #[track_caller]
    pub fn is_redirected_error(&self, redirect_uri: &str, error: &str) {
        assert_eq!(self.status, 303, "{self:?}");
        let to = self.next().expect("a redirect");
        assert!(to.as_str().starts_with(redirect_uri), "{to}");
        assert_eq!(self.sent("error").as_deref(), Some(error), "{to}");
        assert!(self.sent("iss").is_some(), "{to}");
        assert_eq!(self.sent("code"), None);
        let description = self.sent("error_description").unwrap_or_default();
        let allowed = |b: u8| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        assert!(description.bytes().all(allowed), "{description}");
    }
}

fn form(text: &str) -> Form {
    let inside = text.split("</form>").next().unwrap_or_default();
    let tag = inside.split('>').next().unwrap_or_default();
    let fields = inside.split("<input").skip(1).map(|rest| {
        let tag = rest.split('>').next().unwrap_or_default();
        (attribute(tag, "name").unwrap_or_default(), attribute(tag, "value").unwrap_or_default())
    });
    Form { action: attribute(tag, "action").unwrap_or_default(), fields: fields.collect() }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    between(tag, &format!(" {name}=\""), "\"").map(unescape)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    let end = text[start..].find(after)?;
    Some(&text[start..start + end])
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#x27;", "'")
        .replace("&#39;", "'")
        .replace("&#x2f;", "/")
        .replace("&amp;", "&")
}

/// RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// … and the challenge of it.
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// An authorization request in the making.
#[derive(Debug, Clone)]
pub struct Asking(Vec<(String, String)>);

impl Asking {
    /// A good request of one of the clients of `server::TENANTS`, for `openid` alone.
    pub fn of(client: &str) -> Self {
        Self(Vec::new())
            .with("response_type", "code")
            .with("client_id", client)
            .with("redirect_uri", callback(client))
            .with("scope", "openid")
            .with("state", "st-1")
            .with("nonce", "n-1")
            .with("code_challenge", CHALLENGE)
            .with("code_challenge_method", "S256")
    }

    /// The same with another value, or one more parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self.and(name, value)
    }

    /// The same with a parameter once more.
    #[must_use]
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same without a parameter.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    /// As pairs.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// As the address of the authorization endpoint of an issuer.
    pub fn at(&self, issuer: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        format!("{issuer}/authorize?{}", query.extend_pairs(self.pairs()).finish())
    }
}

/// The first redirect URI of a client of `server::TENANTS`.
pub fn callback(client: &str) -> &'static str {
    match client {
        "spa" => "http://localhost:5173/callback",
        "native" => "http://127.0.0.1/callback",
        _ => "http://localhost:3000/callback",
    }
}
