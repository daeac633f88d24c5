//! `{public_url}/device`: the one short address of all tenants that want it. It keeps nothing; a
//! tenant's own page has the counters and the rest of the way.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use minijinja::context;

use super::entry::{EntryPage, guessed, stranger};
use crate::http::extract::{Form, Query, Request};
use crate::http::layer::Context;
use crate::http::pages::show::{host_of, with_retry_after};
use crate::http::pages::visitor::is_same_origin;
use crate::http::{Edge, reply};
use crate::limits::TooOften;
use crate::model::device::UserCode;
use crate::oauth::Params;
use crate::oauth::authorize::with_query;
use crate::oauth::device::guesses::{self, Budget};
use crate::oauth::device::user_code_digests;
use crate::storage::{Result, StoreError};
use crate::tenant::Tenant;

/// When guessing from everywhere at once has closed this address, it is tried again after this.
const CLOSED: Duration = Duration::from_mins(10);

/// `GET /device`: the page of the tenant whose host this is, else the field for the code.
pub(in crate::http) async fn get(
    State(edge): State<Edge>,
    own: std::result::Result<Request, Response>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    params: Query,
) -> Response {
    if let Ok(request) = own {
        return super::get(State(edge), request, headers, params).await;
    }
    match &tenants(&edge)[..] {
        [] => reply::problem(StatusCode::NOT_FOUND),
        [only] => {
            let code = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
            go_to(only, code.get("user_code").and_then(UserCode::parse).as_ref())
        }
        _ => show(&edge, &EntryPage::filled_in(params.0.get("user_code"))),
    }
}

/// `POST /device`: a code was typed, here or at the tenant whose host this is.
pub(in crate::http) async fn post(
    State(edge): State<Edge>,
    own: std::result::Result<Request, Response>,
    Extension(context): Extension<Context>,
    headers: HeaderMap,
    form: Form,
) -> Response {
    if let Ok(request) = own {
        return super::post(State(edge), request, headers, form).await;
    }
    let tenants = tenants(&edge);
    if tenants.is_empty() {
        return reply::problem(StatusCode::NOT_FOUND);
    }
    if !is_same_origin(edge.app.settings.server.public_url.as_str(), &headers) {
        return reply::problem(StatusCode::FORBIDDEN);
    }
    let typed = form.0.get("user_code").unwrap_or_default();
    // There is nothing to find out: the code is looked for, and counted, at the tenant's own page.
    if let [only] = &tenants[..] {
        return go_to(only, UserCode::parse(typed).as_ref());
    }
    let found = find(&edge, &context, &tenants, typed).await;
    found.unwrap_or_else(|error| unavailable(&error))
}

/// The tenants that share this address.
fn tenants(edge: &Edge) -> Vec<Arc<Tenant>> {
    let mut all = edge.app.registry.all();
    all.retain(|tenant| tenant.settings.device.short_url);
    all
}

async fn find(
    edge: &Edge,
    context: &Context,
    tenants: &[Arc<Tenant>],
    typed: &str,
) -> Result<Response> {
    let services = &edge.app.services;
    let counted =
        match guesses::count(services, None, &stranger(context.client), context.now).await? {
            Budget::Counted(counted) => counted,
            Budget::TooOften(often) => return Ok(too_often(often)),
            // Nobody can sign in here.
            Budget::SignInFirst => return Ok(too_often(TooOften { retry_after: CLOSED })),
        };
    let code = UserCode::parse(typed);
    let mut digests = Vec::new();
    for (tenant, code) in tenants.iter().filter_map(|tenant| Some((tenant, code.as_ref()?))) {
        let of_tenant = user_code_digests(&services.ring, &tenant.uid, code);
        digests.extend(of_tenant.into_iter().map(|digest| (tenant.uid.clone(), digest)));
    }
    let found = services.store.tenants_of_user_code(&digests, context.now).await?;
    // A code of two tenants is nobody's: it cannot be known which one is meant.
    let only = match &found[..] {
        [uid] => tenants.iter().find(|tenant| tenant.uid == *uid),
        _ => None,
    };
    if let Some(tenant) = only {
        counted.right().await?;
        return Ok(go_to(tenant, code.as_ref()));
    }
    guessed(edge, counted.wrong().await?);
    Ok(show(edge, &EntryPage::dead(typed)))
}

/// To the tenant's own page, where the code is to be sent by hand.
fn go_to(tenant: &Tenant, code: Option<&UserCode>) -> Response {
    let page = format!("{}/device", tenant.issuer());
    match code {
        Some(code) => reply::see_other(&with_query(&page, &[("user_code", &code.to_string())])),
        None => reply::see_other(&page),
    }
}

fn show(edge: &Edge, page: &EntryPage) -> Response {
    let host = host_of(edge.app.settings.server.public_url.as_str());
    let values = context! { tenant => (), host, ..page.context("/device", None) };
    match edge.templates.render("device.html", values) {
        Ok(html) => reply::page(page.status(), html),
        Err(error) => {
            tracing::error!(%error, "a page could not be shown");
            reply::problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn too_often(often: TooOften) -> Response {
    tracing::info!("refused one code too many");
    let seconds = often.retry_after.as_millis().div_ceil(1000);
    let response = reply::problem(StatusCode::TOO_MANY_REQUESTS);
    with_retry_after(response, u64::try_from(seconds).unwrap_or(u64::MAX))
}

fn unavailable(error: &StoreError) -> Response {
    reply::unavailable(error)
}
