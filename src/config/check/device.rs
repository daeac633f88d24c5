use std::time::Duration;

use super::super::read::Section;
use super::super::settings::Device;
use super::{minutes, seconds, tenant};

/// Reads `device` of the tenant with this issuer.
pub(super) fn read(section: &Section<'_>, context: &tenant::Context<'_>, issuer: &str) -> Device {
    let interval = section.get("interval").and_then(|item| {
        let interval = item.duration(seconds(1)..=seconds(60))?;
        // RFC 8628 §3.2 counts it in seconds.
        if interval.subsec_nanos() != 0 {
            item.fault("the interval is no whole number of seconds", "write it like 5s");
        }
        Some(Duration::from_secs(interval.as_secs()))
    });
    let short_url = section.boolean("short_url", context.alone);
    let base =
        if short_url { context.server.public_url.as_str().trim_end_matches('/') } else { issuer };
    Device {
        // RFC 8628 §5.1 and §6.1: so long is a short code open to guessing.
        code_ttl: section.duration("code_ttl", seconds(30)..=minutes(10), minutes(10)),
        interval: interval.unwrap_or(seconds(5)),
        short_url,
        request_rate: tenant::rate(section, "request_rate").unwrap_or(10),
        verification_uri: format!("{base}/device"),
    }
}
