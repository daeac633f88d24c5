//! The device's side of RFC 8628, against any server: ask for codes, show them, poll until the user
//! has decided.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use url::Url;

use super::provider::{Provider, shown};
use crate::base::{Digest, Entropy, Secret, base64, base64url};
use crate::fetch::{Answer, Fetch, FetchError, Outgoing};

/// How long we ask a server to hold a poll; one that does not know `Prefer` answers at once.
const HOLD: Duration = Duration::from_secs(25);
/// RFC 8628 §3.2: where the server says nothing.
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
/// RFC 8628 §3.5: what `slow_down` adds.
const SLOWER: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_LIFE: Duration = Duration::from_hours(24);
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A client at a server.
#[derive(Clone, Copy)]
pub struct DeviceClient<'a> {
    /// How requests are sent.
    pub fetch: &'a dyn Fetch,
    /// The server.
    pub provider: &'a Provider,
    /// The client's id there.
    pub client_id: &'a str,
    /// Its secret, for servers that want one of devices.
    pub secret: Option<&'a Secret<String>>,
    /// `User-Agent`, where it is not ours: the user is shown it before deciding.
    pub agent: Option<&'a str>,
}

/// What the server gave for showing and for polling (RFC 8628 §3.2).
pub struct Codes {
    /// What the user types.
    pub user_code: String,
    /// Where the user types it.
    pub verification_uri: String,
    /// The same address with the code in it, for a QR code.
    pub verification_uri_complete: Option<String>,
    /// How long the codes live.
    pub expires_in: Duration,
    /// The least time between two polls.
    pub interval: Duration,
    device_code: Secret<String>,
    verifier: Secret<String>,
}

impl Codes {
    /// What a QR code says.
    pub fn link(&self) -> &str {
        self.verification_uri_complete.as_deref().unwrap_or(&self.verification_uri)
    }
}

/// What a token endpoint gave (RFC 6749 §5.1).
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The access token; `Bearer`.
    pub access: Secret<String>,
    /// How long it lives, where the server says so.
    pub expires_in: Option<Duration>,
    /// The refresh token.
    pub refresh: Option<Secret<String>>,
    /// What was granted, where it is not what was asked for.
    pub scope: Option<String>,
}

/// How it ended.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// The user said yes.
    Granted(Box<Tokens>),
    /// The user said no.
    Denied,
    /// The codes' time is over.
    Expired,
}

/// What one poll says.
#[derive(Debug)]
enum Poll {
    Pending,
    SlowDown,
    Decided(Decision),
    /// No answer, or one that says to come later: RFC 8628 §3.5 asks for back-off.
    Trouble {
        not_before: Duration,
    },
}

/// Why the server cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// It has no device authorization endpoint.
    #[error("{0} does not offer the device flow (no `device_authorization_endpoint`)")]
    NotOffered(String),
    /// It said no (RFC 6749 §5.2).
    #[error("{}{}", shown(.code), .description.as_ref().map_or_else(String::new, |d| format!(": {}", shown(d))))]
    Refused {
        /// `error`
        code: String,
        /// `error_description`
        description: Option<String>,
    },
    /// The answer is not what it must be.
    #[error("the server's answer cannot be used: {0}")]
    Unexpected(String),
    /// There is no answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl DeviceClient<'_> {
    /// Asks for codes (RFC 8628 §3.1), with PKCE: whoever learns the device code alone cannot use it.
    pub async fn begin(
        &self,
        scope: Option<&str>,
        entropy: &dyn Entropy,
    ) -> Result<Codes, DeviceError> {
        let issuer = &self.provider.issuer;
        let endpoint = self.provider.device_authorization.as_deref();
        let endpoint = endpoint.ok_or_else(|| DeviceError::NotOffered(issuer.clone()))?;
        let verifier = Secret::new(base64url::encode(entropy.bytes::<32>()));
        let challenge =
            base64url::encode(Digest::<()>::of(verifier.reveal().as_bytes()).as_bytes());
        let mut form =
            vec![("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")];
        form.extend(scope.map(|scope| ("scope", scope)));
        let answer = self.post(endpoint, form, None).await?;
        if answer.status != 200 {
            return Err(refusal(&answer));
        }
        codes(&answer.json(), verifier)
    }

    /// Polls at the server's pace until the user has decided or the codes have ended. Networks may
    /// fail meanwhile.
    pub async fn decision(&self, codes: &Codes) -> Result<Decision, DeviceError> {
        let end = Instant::now() + codes.expires_in;
        let mut pace = Pace::new(codes.interval);
        sleep(first_pause(codes.interval).min(codes.expires_in)).await;
        loop {
            let begun = Instant::now();
            let left = end.saturating_duration_since(begun);
            if left.is_zero() {
                return Ok(Decision::Expired);
            }
            let poll = self.poll(codes, HOLD.min(left)).await?;
            if let Poll::Decided(decision) = poll {
                return Ok(decision);
            }
            let left = end.saturating_duration_since(Instant::now());
            // One poll at the very end: the user may have decided in the last pause.
            sleep(pace.pause(&poll, begun.elapsed()).min(left)).await;
        }
    }

    async fn poll(&self, codes: &Codes, hold: Duration) -> Result<Poll, DeviceError> {
        let form = vec![
            ("grant_type", GRANT),
            ("device_code", codes.device_code.reveal().as_str()),
            ("code_verifier", codes.verifier.reveal().as_str()),
        ];
        match self.post(&self.provider.token, form, Some(hold)).await {
            Ok(answer) => outcome(&answer),
            Err(FetchError::Broken(_) | FetchError::Timeout(_)) => {
                Ok(Poll::Trouble { not_before: Duration::ZERO })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Trades a refresh token for new tokens (RFC 6749 §6).
    pub async fn refresh(&self, token: &Secret<String>) -> Result<Tokens, DeviceError> {
        let form =
            vec![("grant_type", "refresh_token"), ("refresh_token", token.reveal().as_str())];
        let answer = self.post(&self.provider.token, form, None).await?;
        if answer.status == 200 { tokens(&answer.json()) } else { Err(refusal(&answer)) }
    }

    /// Gives a token back (RFC 7009); false where the server takes none back.
    pub async fn revoke(&self, token: &Secret<String>) -> Result<bool, DeviceError> {
        let Some(endpoint) = self.provider.revocation.as_deref() else { return Ok(false) };
        let answer = self.post(endpoint, vec![("token", token.reveal().as_str())], None).await?;
        if answer.status == 200 { Ok(true) } else { Err(refusal(&answer)) }
    }

    async fn post(
        &self,
        url: &str,
        mut form: Vec<(&str, &str)>,
        wait: Option<Duration>,
    ) -> Result<Answer, FetchError> {
        let basic = match self.secret {
            Some(secret) if !self.provider.secret_in_form => Some(basic(self.client_id, secret)),
            secret => {
                form.push(("client_id", self.client_id));
                form.extend(secret.map(|secret| ("client_secret", secret.reveal().as_str())));
                None
            }
        };
        let authorization = basic.as_deref();
        let (form, agent) = (Some(form.as_slice()), self.agent);
        self.fetch.fetch(Outgoing { url, authorization, form, wait, agent }).await
    }
}

/// RFC 6749 §2.3.1: both halves are form-encoded first.
fn basic(id: &str, secret: &Secret<String>) -> String {
    let encode =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", base64::encode(format!("{}:{}", encode(id), encode(secret.reveal()))))
}

fn codes(body: &Value, verifier: Secret<String>) -> Result<Codes, DeviceError> {
    let missing = |name: &str| DeviceError::Unexpected(format!("`{name}` is missing"));
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    // Some servers, Google's among them, keep the name of an early draft.
    let address = text("verification_uri").or_else(|| text("verification_url"));
    let complete = text("verification_uri_complete").or_else(|| text("verification_url_complete"));
    let address = address.ok_or_else(|| missing("verification_uri"))?;
    for uri in [Some(&address), complete.as_ref()].into_iter().flatten() {
        let web = Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "https" | "http"));
        if !web || uri != &shown(uri) {
            return Err(DeviceError::Unexpected(format!("{} is no web address", shown(uri))));
        }
    }
    Ok(Codes {
        user_code: shown(&text("user_code").ok_or_else(|| missing("user_code"))?),
        verification_uri: address,
        verification_uri_complete: complete,
        expires_in: seconds(&body["expires_in"])
            .ok_or_else(|| missing("expires_in"))?
            .min(LONGEST_LIFE),
        interval: seconds(&body["interval"]).unwrap_or(USUAL_INTERVAL).min(LONGEST_PAUSE),
        device_code: Secret::new(text("device_code").ok_or_else(|| missing("device_code"))?),
        verifier,
    })
}

/// A number of seconds; some servers write numbers as text.
fn seconds(value: &Value) -> Option<Duration> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Duration::try_from_secs_f64(number).ok()
}

fn tokens(body: &Value) -> Result<Tokens, DeviceError> {
    let secret = |name: &str| body[name].as_str().map(|text| Secret::new(text.to_owned()));
    let kind = body["token_type"].as_str().unwrap_or_default();
    // RFC 6749 §7.1: "The client MUST NOT use an access token if it does not understand the token type."
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err(DeviceError::Unexpected(format!("the token's type is `{}`", shown(kind))));
    }
    let access = secret("access_token");
    Ok(Tokens {
        access: access
            .ok_or_else(|| DeviceError::Unexpected("`access_token` is missing".to_owned()))?,
        expires_in: seconds(&body["expires_in"]),
        refresh: secret("refresh_token"),
        scope: body["scope"].as_str().map(str::to_owned),
    })
}

fn outcome(answer: &Answer) -> Result<Poll, DeviceError> {
    if answer.status == 200 {
        return Ok(Poll::Decided(Decision::Granted(Box::new(tokens(&answer.json())?))));
    }
    match answer.json()["error"].as_str() {
        Some("authorization_pending") => Ok(Poll::Pending),
        Some("slow_down") => Ok(Poll::SlowDown),
        Some("access_denied") => Ok(Poll::Decided(Decision::Denied)),
        Some("expired_token") => Ok(Poll::Decided(Decision::Expired)),
        _ if answer.status >= 500 || matches!(answer.status, 408 | 425 | 429) => {
            Ok(Poll::Trouble { not_before: answer.retry_after.unwrap_or_default() })
        }
        _ => Err(refusal(answer)),
    }
}

fn refusal(answer: &Answer) -> DeviceError {
    let body = answer.json();
    match body["error"].as_str() {
        Some(code) => DeviceError::Refused {
            code: code.to_owned(),
            description: body["error_description"].as_str().map(str::to_owned),
        },
        None => DeviceError::Unexpected(format!("status {} without an error code", answer.status)),
    }
}

/// The first poll: nobody decides at once, and a server that holds polls holds this one too.
fn first_pause(interval: Duration) -> Duration {
    interval.min(Duration::from_secs(1))
}

/// How long to pause between polls.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    troubles: u32,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_secs(1)), troubles: 0 }
    }

    /// The pause after a poll that took `took`. One that was held for the whole interval has served
    /// it already.
    fn pause(&mut self, poll: &Poll, took: Duration) -> Duration {
        match poll {
            Poll::Trouble { not_before } => {
                // "the use of an exponential backoff algorithm … is RECOMMENDED"
                let factor = 2_u32.saturating_pow(self.troubles.min(10));
                self.troubles += 1;
                let pause = self.interval.saturating_mul(factor).min(LONGEST_PAUSE);
                return pause.max(*not_before);
            }
            Poll::SlowDown => self.interval += SLOWER,
            Poll::Pending | Poll::Decided(_) => {}
        }
        self.troubles = 0;
        let held = matches!(poll, Poll::Pending) && took >= self.interval;
        if held { Duration::ZERO } else { self.interval }
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
