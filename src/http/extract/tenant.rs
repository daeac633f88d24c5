use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;

use super::peer::RequestId;
use crate::app::App;
use crate::base::Timestamp;
use crate::http::layer::Context;
use crate::http::reply;
use crate::model::Audit;
use crate::oauth::{Call, Services};
use crate::tenant::Tenant;

/// What every endpoint of a tenant knows about a request.
pub struct Request {
    /// Whose endpoint it is: the tenant of `/t/{slug}`, else the one that has this host; nothing
    /// else decides.
    pub tenant: Arc<Tenant>,
    /// The one `now` of this request.
    pub now: Timestamp,
    /// For audit records.
    pub audit: Audit,
    /// The address of the caller, after trusted proxies.
    pub peer: IpAddr,
    /// The request's id, as in logs.
    pub id: String,
}

impl Request {
    /// This request, as the protocol sees it.
    pub fn call<'a>(&'a self, services: &'a Services) -> Call<'a> {
        Call { services, tenant: &self.tenant, now: self.now, audit: &self.audit }
    }
}

impl<S> FromRequestParts<S> for Request
where
    Arc<App>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let app = Arc::<App>::from_ref(state);
        let tenant = tenant(&app, parts).await;
        let tenant = tenant.ok_or_else(|| reply::problem(StatusCode::NOT_FOUND))?;
        let context = parts.extensions.get::<Context>();
        let (now, peer, RequestId(id)) = match context {
            Some(context) => (context.now, context.client, context.id.clone()),
            // A fault of ours: the edge did not run.
            None => return Err(reply::problem(StatusCode::INTERNAL_SERVER_ERROR)),
        };
        parts.extensions.insert(Arc::clone(&tenant));
        let audit = Audit {
            ip: Some(peer.to_string()),
            user_agent: user_agent(parts),
            request_id: Some(id.clone()),
            actor: None,
        };
        Ok(Self { tenant, now, audit, peer, id })
    }
}

async fn tenant(app: &App, parts: &mut Parts) -> Option<Arc<Tenant>> {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    if let Some((_, slug)) = params.iter().find(|(name, _)| *name == "slug") {
        return app.registry.by_slug(slug);
    }
    let host = host(parts)?;
    let without_port = || host.rsplit_once(':').and_then(|(name, _)| app.registry.by_host(name));
    app.registry.by_host(&host).or_else(without_port)
}

/// The host that the request was sent to, in lower case.
fn host(parts: &Parts) -> Option<String> {
    let from_header = || parts.headers.get(header::HOST)?.to_str().ok();
    let host =
        parts.uri.authority().map(axum::http::uri::Authority::as_str).or_else(from_header)?;
    Some(host.to_ascii_lowercase())
}

/// `User-Agent`, cut to 512 bytes.
fn user_agent(parts: &Parts) -> Option<String> {
    let bytes = parts.headers.get(header::USER_AGENT)?.as_bytes();
    Some(String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).into_owned())
}
