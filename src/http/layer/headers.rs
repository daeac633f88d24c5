use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue};

/// Headers of every answer; what a reply has set itself stays.
const DEFAULTS: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("x-xss-protection", "0"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), \
         magnetometer=(), microphone=(), midi=(), payment=(), usb=()",
    ),
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
];

/// Puts the headers on that no answer goes without. `https`: whether the world reaches us so.
pub(super) fn secure(headers: &mut HeaderMap, https: bool) {
    for (name, value) in DEFAULTS {
        let name = HeaderName::from_static(name);
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if https {
        let hsts = HeaderValue::from_static("max-age=63072000; includeSubDomains");
        headers.insert("strict-transport-security", hsts);
    }
}
