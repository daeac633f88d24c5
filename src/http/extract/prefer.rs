use std::time::Duration;

use axum::http::HeaderMap;

use crate::oauth::device::LONGEST_WAIT;

/// How long a request prefers to wait, at most half a minute: `Prefer: wait=N` (RFC 7240 §4.3). The
/// first one counts (§2); what is no number of seconds, or 0, is no preference.
pub(in crate::http) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    let wait = preferences.find_map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    })?;
    if wait.is_empty() || !wait.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit are more than half a minute.
    let wait = Duration::from_secs(wait.parse().unwrap_or(u64::MAX)).min(LONGEST_WAIT);
    (!wait.is_zero()).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", value.parse().unwrap());
        }
        preferred_wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_first_wait_counts_and_half_a_minute_is_the_most() {
        assert_eq!(seconds(&["wait=10"]), Some(10));
        assert_eq!(seconds(&["respond-async, Wait = 7; x=y"]), Some(7));
        assert_eq!(seconds(&["return=minimal", "wait=\"5\""]), Some(5));
        assert_eq!(seconds(&["wait=3, wait=9"]), Some(3));
        assert_eq!(seconds(&["wait=31"]), Some(30));
        assert_eq!(seconds(&["wait=99999999999999999999999"]), Some(30));
        for none in ["", "wait", "wait=", "wait=0", "wait=-1", "wait=1.5", "wait=x", "await=5"] {
            assert_eq!(seconds(&[none]), None, "{none}");
        }
        assert_eq!(seconds(&[]), None);
    }
}
