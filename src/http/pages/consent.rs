use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use minijinja::context;
use minijinja::value::{Serde, Value};

use super::authorize::{by_page, call, nothing_waits, open};
use super::refused;
use super::show::{self, Frame, host_of, name_of};
use super::visitor::{Visitor, is_ours};
use super::words::InWords;
use crate::http::extract::{Form, Query, Request};
use crate::http::{Edge, reply};
use crate::model::{Client, User};
use crate::oauth::authorize::{self, Answer, Page, Refused, Step, with_query};
use crate::session::PendingAuthorization;

/// `GET {issuer}/consent?txn=…`: asks whether the application may.
pub(in crate::http) async fn get(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Query(params): Query,
) -> Response {
    let Some(txn) = params.get("txn") else { return nothing_waits(&edge, &request, &headers) };
    let shown = show_consent(&edge, &request, &headers, txn).await;
    shown.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

async fn show_consent(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    txn: &str,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    let pending = match open(edge, request, headers, &visitor, txn).await? {
        Ok(pending) => pending,
        Err(response) => return Ok(response),
    };
    let call = call(edge, request);
    let step = authorize::next_step(&call, &pending, visitor.session.as_ref()).await?;
    let user = match visitor.session.as_ref().filter(|_| step == Step::Consent) {
        Some(session) => request.tenant.store.find_user(session.user).await?,
        None => None,
    };
    let Some(user) = user else {
        let path = show::path(&request.tenant, "/authorize");
        return Ok(reply::see_other(&with_query(&path, &[("txn", txn)])));
    };
    let client = authorize::client(&call, &pending).await?;
    let asked = Asked { txn, pending: &pending, client: &client, user: &user };
    Ok(asked.show(edge, request, &visitor))
}

/// What the consent page says.
struct Asked<'a> {
    txn: &'a str,
    pending: &'a PendingAuthorization,
    client: &'a Client,
    user: &'a User,
}

impl Asked<'_> {
    fn show(&self, edge: &Edge, request: &Request, visitor: &Visitor) -> Response {
        let frame = Frame::of(edge, request);
        let client = self.client;
        let asked = InWords::of(&frame, request, &self.pending.scope, &self.pending.resources);
        let csrf = visitor.csrf(&request.tenant);
        let page = context! {
            client => context! {
                name => name_of(client),
                host => host_of(&self.pending.redirect_uri),
                policy_uri => client.policy_uri.as_deref(),
                tos_uri => client.tos_uri.as_deref(),
            },
            user => context! { name => self.user.display_name(), email => self.user.email.as_str() },
            scopes => Value::from(Serde(&asked.scopes)),
            resources => asked.resources,
            remembered => authorize::is_remembered(client),
            action => frame.path("/consent"),
            csrf => csrf.map(|csrf| csrf.issue(&edge.app.services.ring)),
            txn => self.txn,
        };
        frame.show(StatusCode::OK, "consent.html", page)
    }
}

/// `POST {issuer}/consent`: the user decides.
pub(in crate::http) async fn post(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Form(params): Form,
) -> Response {
    let Some(txn) = params.get("txn") else { return nothing_waits(&edge, &request, &headers) };
    let decision = match params.get("decision") {
        Some("allow") => Decision::Allow,
        Some("other") => Decision::Other,
        // Nothing but a clear yes is a yes.
        _ => Decision::Deny,
    };
    let done = decide(&edge, &request, &headers, txn, params.get("csrf"), decision).await;
    done.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

#[derive(Clone, Copy)]
enum Decision {
    Allow,
    Deny,
    /// Someone else wants to sign in.
    Other,
}

async fn decide(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    txn: &str,
    token: Option<&str>,
    decision: Decision,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    let tenant = &request.tenant;
    let Some(session) = &visitor.session else {
        // Before any sign-in, or after it ended, nobody is there to decide.
        return Ok(refused::forged(edge, request, headers, None));
    };
    if !is_ours(visitor.csrf(tenant), token, &edge.app.services.ring, tenant, headers) {
        return Ok(refused::forged(edge, request, headers, None));
    }
    let mut pending = match open(edge, request, headers, &visitor, txn).await? {
        Ok(pending) => pending,
        Err(response) => return Ok(response),
    };
    let call = call(edge, request);
    let client = authorize::client(&call, &pending).await?;
    let answer = match decision {
        Decision::Allow => authorize::allow(&call, pending, Some(session)).await?,
        Decision::Deny => authorize::deny(&call, &pending, Some(session)).await?,
        Decision::Other => {
            pending.signed_in_after = Some(call.now);
            pending.not_session = Some(session.id);
            pending.another_account = true;
            Answer::Ask(Page::Login, Box::new(pending))
        }
    };
    Ok(by_page(edge, request, &visitor, &name_of(&client), answer))
}
