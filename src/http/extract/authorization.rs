use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HeaderValue};
use axum::http::request::Parts;

use crate::base::Secret;

/// The values of the `Authorization` headers of a request, as they came.
pub struct Authorization(Vec<Secret<Vec<u8>>>);

impl Authorization {
    /// All values; more than one is for the protocol to refuse.
    pub fn all(&self) -> Vec<&[u8]> {
        self.0.iter().map(|value| value.reveal().as_slice()).collect()
    }

    /// The token of the only header, if it is `Bearer` (RFC 6750 §2.1).
    pub fn bearer(&self) -> Option<&str> {
        let [only] = self.0.as_slice() else { return None };
        let text = std::str::from_utf8(only.reveal()).ok()?;
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
    }
}

impl<S: Sync> FromRequestParts<S> for Authorization {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(AUTHORIZATION).iter();
        Ok(Self(values.map(HeaderValue::as_bytes).map(|v| Secret::new(v.to_vec())).collect()))
    }
}
