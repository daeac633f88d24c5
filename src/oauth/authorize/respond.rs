use std::fmt::Write as _;

use super::consent::resources;
use super::error::Cause;
use crate::base::{CredentialKind, Digest};
use crate::model::client::{GrantType, RefreshPolicy};
use crate::model::code::CodeTerms;
use crate::model::consent::Consent;
use crate::model::grant::GrantTerms;
use crate::model::{Client, GrantId, Scope, Session};
use crate::oauth::Call;
use crate::session::PendingAuthorization;
use crate::storage::{IssueCode, NewCode, NewGrant, Result, StoreError};
use crate::tenant::Tenant;

/// What became of an attempt to answer with a code.
pub(super) enum Issued {
    /// The address that carries the code.
    Code(String),
    /// User or session ended meanwhile: someone has to sign in.
    NotLive,
}

/// Makes the grant and its code, after remembering the consent that allows it. Both are written in
/// a task of their own: a browser that goes away in the middle does not leave half of it.
pub(super) async fn issue(
    call: &Call<'_>,
    client: &Client,
    pending: &PendingAuthorization,
    session: &Session,
    remember: bool,
) -> Result<Issued> {
    let entropy = &*call.services.entropy;
    let text = CredentialKind::AuthorizationCode.generate(entropy);
    let consent = remember.then(|| consent(call, pending, session));
    let grant = grant(call, client, pending, session, GrantId(entropy.uuid()));
    let code = NewCode {
        digest: Digest::of(text.reveal().as_bytes()),
        terms: CodeTerms {
            version: 1,
            redirect_uri: pending.redirect_uri.clone(),
            redirect_uri_sent: pending.redirect_uri_sent,
            code_challenge: pending.code_challenge.clone(),
            nonce: pending.nonce.clone(),
            dpop_jkt: None,
        },
        expires_at: call.now.plus(call.tenant.settings.lifetimes.code),
    };
    let (tenant, audit, now) = (call.tenant.clone(), call.audit.clone(), call.now);
    let written = tokio::spawn(async move {
        if let Some(consent) = consent {
            tenant.store.remember_consent(&consent, &audit).await?;
        }
        tenant.store.issue_code(&grant, &code, now, &audit).await
    });
    Ok(match written.await.map_err(StoreError::unknown)?? {
        IssueCode::Issued => Issued::Code(answer(call.tenant, pending, &[("code", text.reveal())])),
        IssueCode::NotLive => Issued::NotLive,
    })
}

fn consent(call: &Call<'_>, pending: &PendingAuthorization, session: &Session) -> Consent {
    Consent {
        user: session.user,
        client: pending.client.clone(),
        scope: pending.scope.clone(),
        resources: resources(pending, &call.tenant.settings.default_audience),
        granted_at: call.now,
    }
}

fn grant(
    call: &Call<'_>,
    client: &Client,
    pending: &PendingAuthorization,
    session: &Session,
    id: GrantId,
) -> NewGrant {
    let lifetimes = &call.tenant.settings.lifetimes;
    let offline = pending.scope.contains(Scope::OFFLINE_ACCESS);
    let refreshes = client.may_use(GrantType::RefreshToken)
        && (offline || client.refresh_tokens == RefreshPolicy::Always);
    let expires_at = match (refreshes, offline) {
        (true, true) => call.now.plus(lifetimes.refresh_absolute),
        // Without offline_access a grant dies with its session.
        (true, false) => call.now.plus(lifetimes.refresh_absolute).min(session.expires_at),
        // Nothing comes out of it but what the code is redeemed for.
        (false, _) => call.now.plus(lifetimes.code),
    };
    NewGrant {
        id,
        client: pending.client.clone(),
        user: Some(session.user),
        session: Some(session.id),
        terms: GrantTerms {
            version: 1,
            scope: pending.scope.clone(),
            resources: pending.resources.clone(),
            claims: pending.claims.clone(),
            acr: session.acr.clone(),
            amr: session.amr.clone(),
            auth_time: session.auth_time,
            session_ends: (!offline).then_some(session.expires_at),
        },
        jkt: None,
        offline,
        expires_at,
    }
}

/// The address that carries an error (RFC 6749 §4.1.2.1).
pub(super) fn error(
    tenant: &Tenant,
    redirect_uri: &str,
    state: Option<&str>,
    cause: Cause,
) -> String {
    let description = cause.description();
    let members = [("error", cause.code()), ("error_description", &*description)];
    address(tenant.issuer(), redirect_uri, state, &members)
}

fn answer(tenant: &Tenant, pending: &PendingAuthorization, members: &[(&str, &str)]) -> String {
    address(tenant.issuer(), &pending.redirect_uri, pending.state.as_deref(), members)
}

/// RFC 6749 §4.1.2: `state` as it came; `iss` always (RFC 9207 §2).
fn address(
    issuer: &str,
    redirect_uri: &str,
    state: Option<&str>,
    members: &[(&str, &str)],
) -> String {
    let state = state.map(|state| ("state", state));
    let all: Vec<_> = members.iter().copied().chain(state).chain([("iss", issuer)]).collect();
    with_query(redirect_uri, &all)
}

/// An address with more members in its query, added to what it has (RFC 6749 §3.1.2).
pub fn with_query(url: &str, members: &[(&str, &str)]) -> String {
    let mut out = url.to_owned();
    let mut glue = match url.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    for (name, value) in members {
        let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let _ = write!(out, "{glue}{name}={value}");
        glue = "&";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn members_are_added_to_the_query_and_the_state_comes_back_as_it_was() {
        let state = Some("a b+c&d=\u{e9}\"");
        assert_eq!(
            address("https://id.example", "https://app.example/cb", state, &[("code", "x")]),
            "https://app.example/cb?code=x&state=a+b%2Bc%26d%3D%C3%A9%22&iss=https%3A%2F%2Fid.example"
        );
        assert_eq!(
            address("i", "https://app.example/cb?a=b", None, &[("error", "x")]),
            "https://app.example/cb?a=b&error=x&iss=i"
        );
        assert_eq!(address("i", "app:/cb?", None, &[]), "app:/cb?iss=i");
    }
}
