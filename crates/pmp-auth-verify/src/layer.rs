//! The check as a tower layer, for axum, tonic, hyper and all that speak [`Service`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::token::Token;
use crate::verifier::{Verifier, check_scopes};

/// Puts a [`Verifier`] before a service: a good token goes into the request's extensions, as
/// [`Token`]; anything else is answered here.
#[derive(Debug, Clone)]
pub struct VerifyLayer {
    verifier: Verifier,
    scopes: Vec<String>,
}

impl VerifyLayer {
    pub(crate) fn new(verifier: Verifier, scopes: Vec<String>) -> Self {
        Self { verifier, scopes }
    }

    /// Needs this scope, too.
    #[must_use]
    pub fn and(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = VerifyService<S>;

    fn layer(&self, inner: S) -> VerifyService<S> {
        VerifyService { inner, check: self.clone() }
    }
}

/// A service behind a [`VerifyLayer`].
#[derive(Debug, Clone)]
pub struct VerifyService<S> {
    inner: S,
    check: VerifyLayer,
}

/// What a layer found, for the layers within it.
#[derive(Clone)]
struct Checked {
    by: Verifier,
    token: Token,
}

impl<S, In, Out> Service<Request<In>> for VerifyService<S>
where
    S: Service<Request<In>, Response = Response<Out>> + Clone + Send + 'static,
    S::Future: Send,
    In: Send + 'static,
    Out: From<String>,
{
    type Response = Response<Out>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Out>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        // The one that is ready goes, its clone stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let check = self.check.clone();
        Box::pin(async move {
            let found = request.extensions().get::<Checked>();
            let found = found.filter(|found| found.by.is(&check.verifier));
            let found = found.map(|found| found.token.clone());
            // Bodies need not be shared among threads, so the headers wait on their own.
            let headers = std::mem::take(request.headers_mut());
            let token = match found {
                Some(token) => check_scopes(&token, &check.scopes).map(|()| token),
                None => check.verifier.authenticate(&headers, &check.scopes).await,
            };
            *request.headers_mut() = headers;
            match token {
                Ok(token) => {
                    let checked = Checked { by: check.verifier, token: token.clone() };
                    request.extensions_mut().insert(checked);
                    request.extensions_mut().insert(token);
                    inner.call(request).await
                }
                Err(error) => Ok(check.verifier.refusal(&error).into_response()),
            }
        })
    }
}
