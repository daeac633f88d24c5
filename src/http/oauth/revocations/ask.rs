use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, IF_NONE_MATCH};

use crate::http::extract::preferred_wait;
use crate::oauth::Params;
use crate::revocation::Cursor;

const LONGEST_WAIT: Duration = Duration::from_secs(30);
const MOST: usize = 10_000;

/// In which form the feed is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/json`, and whoever says nothing.
    Json,
    /// `application/revocations+jwt`.
    Signed,
    /// `text/event-stream`.
    Stream,
}

/// What a reader asks.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) form: Form,
    /// Where it is; none for a snapshot.
    pub(super) after: Option<Cursor>,
    /// The entity tag that it has.
    pub(super) seen: Option<Cursor>,
    pub(super) limit: Option<usize>,
    pub(super) wait: Duration,
    /// Whether the wait was asked for by `Prefer`.
    pub(super) preferred: bool,
}

impl Ask {
    /// Reads a request; what is wrong with it in words.
    pub(super) fn read(params: &Params, headers: &HeaderMap) -> Result<Self, String> {
        let form = form(headers);
        let last = headers.get("last-event-id").filter(|_| form == Form::Stream);
        let after = match last {
            Some(id) => Some(id.to_str().unwrap_or_default()),
            None => params.get("after"),
        };
        let after = after.map(Cursor::parse).transpose();
        let after = after.map_err(|_| "the cursor cannot be read")?;
        let limit = number(params, "limit", 1..=MOST)?;
        let wait = number(params, "wait", 0..=LONGEST_WAIT.as_secs())?.map(Duration::from_secs);
        let preferred = preferred_wait(headers).filter(|_| wait.is_none());
        Ok(Self {
            form,
            after,
            seen: seen(headers),
            limit,
            wait: wait.or(preferred).unwrap_or_default().min(LONGEST_WAIT),
            preferred: preferred.is_some(),
        })
    }
}

/// The first type that we have, in the order of the request.
fn form(headers: &HeaderMap) -> Form {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let types = values.flat_map(|value| value.split(','));
    let known = |name: &str| match name.to_ascii_lowercase().as_str() {
        "text/event-stream" => Some(Form::Stream),
        "application/revocations+jwt" => Some(Form::Signed),
        "application/json" | "application/*" | "*/*" => Some(Form::Json),
        _ => None,
    };
    let mut names = types.map(|text| text.split(';').next().unwrap_or_default().trim());
    names.find_map(known).unwrap_or(Form::Json)
}

/// The first tag of `If-None-Match`, if it is one of ours; any other matches nothing.
fn seen(headers: &HeaderMap) -> Option<Cursor> {
    let text = headers.get(IF_NONE_MATCH)?.to_str().ok()?;
    let tag = text.split(',').next()?.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    Cursor::parse(tag.strip_prefix('"')?.strip_suffix('"')?).ok()
}

fn number<N: std::str::FromStr + PartialOrd + std::fmt::Display>(
    params: &Params,
    name: &str,
    fits: std::ops::RangeInclusive<N>,
) -> Result<Option<N>, String> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && fits.contains(number));
    let wrong = || format!("{name} is {} to {}", fits.start(), fits.end());
    number.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn ask(query: &str, all: &[(&'static str, &str)]) -> Result<Ask, String> {
        let params = Params::parse(query.as_bytes()).unwrap();
        Ask::read(&params, &headers(all))
    }

    #[test]
    fn the_form_is_the_first_that_we_have() {
        let form = |accept: &str| form(&headers(&[("accept", accept)]));
        assert_eq!(form("text/event-stream"), Form::Stream);
        assert_eq!(form("text/html, application/revocations+jwt;q=0.9"), Form::Signed);
        assert_eq!(form("*/*"), Form::Json);
        assert_eq!(form("text/html"), Form::Json);
        assert_eq!(ask("", &[]).unwrap().form, Form::Json);
    }

    #[test]
    fn a_wait_may_be_asked_for_in_two_ways_and_is_never_longer_than_30_s() {
        let wait = |query: &str, prefer: &str| {
            let ask = ask(query, &[("prefer", prefer)]).unwrap();
            (ask.wait.as_secs(), ask.preferred)
        };
        assert_eq!(wait("wait=7", "wait=9"), (7, false));
        assert_eq!(wait("", "wait=9"), (9, true));
        assert_eq!(wait("", "wait=900"), (30, true));
        assert_eq!(wait("", "return=minimal"), (0, false));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for query in
            ["limit=0", "limit=10001", "limit=x", "limit=%2B5", "wait=31", "wait=-1", "after=x"]
        {
            assert!(ask(query, &[]).is_err(), "{query}");
        }
        let id = ("last-event-id", "x");
        assert!(ask("", &[id, ("accept", "text/event-stream")]).is_err());
        assert!(ask("", &[id]).unwrap().after.is_none(), "only streams are resumed so");
    }

    #[test]
    fn a_tag_that_is_not_ours_matches_nothing() {
        let seen = |tag: &str| seen(&headers(&[("if-none-match", tag)])).map(|c| c.to_string());
        assert_eq!(seen("\"e.MQ\""), Some("e.MQ".into()));
        assert_eq!(seen("W/\"e.MQ\", \"x\""), Some("e.MQ".into()));
        assert_eq!(seen("*"), None);
        assert_eq!(seen("e.MQ"), None);
    }
}
