//! The parameters of a POST from elsewhere, kept until the browser comes round with its cookies.

use std::time::Duration;

use crate::base::{Digest, base64url};
use crate::http::Edge;
use crate::http::extract::Request;
use crate::limits::{Limited, network};
use crate::oauth::Params;
use crate::oauth::authorize::{PageCause, Refused};
use crate::storage::TakePushed;

/// How long a request waits for the browser to come round once more.
const ROUND: Duration = Duration::from_mins(1);

/// All that is kept of one request, in bytes before it is encoded: as much as a request by GET has.
const LIMIT: usize = 4096;

/// Keeps those of `params` that are in `known` under an id that is good once. Anyone can send them:
/// nothing else is kept, no more than 4 KiB, and from one network 60 times a minute.
pub(super) async fn keep(
    edge: &Edge,
    request: &Request,
    params: &Params,
    known: &[&str],
) -> Result<String, Refused> {
    let text = spelt(params, known).ok_or(Refused::Page(PageCause::TooLong))?;
    let services = &edge.app.services;
    let from = network(request.peer);
    services
        .limiter
        .check(Limited::KeptRequest, &request.tenant.uid, &from)
        .map_err(Refused::TooOften)?;
    let id: [u8; 32] = services.entropy.bytes();
    let until = request.now.plus(ROUND);
    request.tenant.store.push_request(&Digest::of(&id), &text, until, request.now).await?;
    Ok(base64url::encode(id))
}

/// What was kept under `id`; none when it was taken before or is too old.
pub(super) async fn take(request: &Request, id: &str) -> Result<Option<String>, Refused> {
    let Ok(id) = base64url::decode(id) else { return Ok(None) };
    Ok(match request.tenant.store.take_request(&Digest::of(&id), request.now).await? {
        TakePushed::Taken(text) => Some(text),
        TakePushed::Unknown => None,
    })
}

/// The known parameters as a form, in which no NUL is left that a database could not keep. None
/// when they are too long.
fn spelt(params: &Params, known: &[&str]) -> Option<String> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let mut length = 0;
    for (name, value) in params.iter().filter(|(name, _)| known.contains(name)) {
        length += name.len() + value.len() + 2;
        form.append_pair(name, value);
    }
    (length <= LIMIT).then(|| form.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_parameters_are_kept_and_they_read_as_they_came() {
        let params = Params::parse(b"state=a+b%26%00&junk=1&resource=x&resource=y&id=").unwrap();
        let text = spelt(&params, &["state", "resource"]).unwrap();
        assert_eq!(text, "state=a+b%26%00&resource=x&resource=y");
    }

    #[test]
    fn four_kibibytes_are_the_most_and_what_is_not_known_does_not_count() {
        let kept = |text: String| spelt(&Params::parse(text.as_bytes()).unwrap(), &["state"]);
        let most = LIMIT - "state=&".len();
        assert!(kept(format!("state={}", "x".repeat(most))).is_some());
        assert!(kept(format!("state={}", "x".repeat(most + 1))).is_none());
        assert_eq!(kept(format!("junk={}", "x".repeat(10_000))).as_deref(), Some(""));
    }
}
