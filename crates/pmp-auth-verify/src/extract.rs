//! The extractor for axum: a handler that takes a [`Token`] runs only with a good one.

use axum_core::body::Body;
use axum_core::extract::{FromRef, FromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::error::Refusal;
use crate::token::Token;
use crate::verifier::Verifier;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Refusal::into_response::<Body>(self)
    }
}

/// By the verifier that the router's state is, or has.
impl<S> FromRequestParts<S> for Token
where
    S: Send + Sync,
    Verifier: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let verifier = Verifier::from_ref(state);
        let token = verifier.authenticate(&parts.headers, &[]).await;
        token.map_err(|error| verifier.refusal(&error))
    }
}
