//! The authorization endpoint (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2): what a request asks
//! for, what has to happen next, and the answer to the client.
//!
//! Owns the checks of a request, the one decision about the next step (`steps`), consent, and the
//! code. Leaves the pages to `http/pages/`, the session to `session/`, and who the user is to
//! `identity/`.

mod consent;
mod error;
mod redirect_uri;
mod request;
mod respond;
pub(super) mod steps;

pub use consent::is_remembered;
pub use error::{Cause, PageCause, Refused, UnregisteredUri};
pub use request::{PARAMETERS, Request};
pub use respond::with_query;
pub use steps::{SignInFirst, Step};

use serde_json::json;

use self::request::{Checked, Valid};
use self::respond::Issued;
use self::steps::Decision;
use super::Call;
use crate::model::audit::{Action, AuditRecord};
use crate::model::{Client, Session};
use crate::session::PendingAuthorization;

/// What the browser is told to do.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    /// Go to the client, with a code or an error.
    Redirect(String),
    /// Show this page of ours for the authorization that waits.
    Ask(Page, Box<PendingAuthorization>),
}

/// A page that asks something of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Who are you?
    Login,
    /// Is it still you?
    Reauthenticate,
    /// Do you allow this?
    Consent,
}

/// A new request, from whatever session the browser has.
pub async fn begin(
    call: &Call<'_>,
    request: &Request,
    session: Option<&Session>,
) -> Result<Answer, Refused> {
    let valid = match request::check(call, request).await? {
        Checked::Valid(valid) => *valid,
        Checked::Rejected { redirect_uri, state, cause } => {
            let url = respond::error(call.tenant, &redirect_uri, state.as_deref(), cause);
            return Ok(Answer::Redirect(url));
        }
    };
    let Valid { client, mut pending, prompt } = valid;
    if let Some(session) = session {
        // No sign-in before this request is young enough, not even one of this very millisecond.
        let never = pending.signed_in_after.is_some_and(|after| after >= call.now);
        let another = pending.subject.as_ref().is_some_and(|sub| *sub != session.user.to_string());
        if never || another {
            pending.not_session = Some(session.id);
        }
    }
    let asked = if prompt.none { Asked::NotAllowed } else { Asked::Allowed };
    go_on(call, &client, pending, session, asked).await
}

/// Whether a request that cannot be answered yet would be put before its user; for a request that
/// has to be sent round once more before its cookies arrive. `None` when it would.
pub async fn refuse_early(call: &Call<'_>, request: &Request) -> Result<Option<String>, Refused> {
    Ok(match request::check(call, request).await? {
        Checked::Valid(_) => None,
        Checked::Rejected { redirect_uri, state, cause } => {
            Some(respond::error(call.tenant, &redirect_uri, state.as_deref(), cause))
        }
    })
}

/// An authorization that waited, after its user did something.
pub async fn resume(
    call: &Call<'_>,
    pending: PendingAuthorization,
    session: Option<&Session>,
) -> Result<Answer, Refused> {
    let client = client(call, &pending).await?;
    go_on(call, &client, pending, session, Asked::Allowed).await
}

/// The user allowed it.
pub async fn allow(
    call: &Call<'_>,
    pending: PendingAuthorization,
    session: Option<&Session>,
) -> Result<Answer, Refused> {
    let client = client(call, &pending).await?;
    match steps::next(&pending, session, Decision::Allowed) {
        Step::Respond => answer(call, &client, pending, session, is_remembered(&client)).await,
        step => Ok(ask(call, step, pending, Asked::Allowed)),
    }
}

/// The user said no, or turned away from the login page.
pub async fn deny(
    call: &Call<'_>,
    pending: &PendingAuthorization,
    session: Option<&Session>,
) -> Result<Answer, Refused> {
    client(call, pending).await?;
    call.services.recorder.record(
        &call.tenant.uid,
        AuditRecord {
            at: call.now,
            action: Action::ConsentDenied,
            user: session.map(|session| session.user),
            client: Some(pending.client.clone()),
            session: session.map(|session| session.id),
            resource: None,
            success: true,
            detail: Some(json!({ "scope": pending.scope.to_string() })),
            context: call.audit.clone(),
        },
    );
    Ok(Answer::Redirect(refusal(call, pending, Cause::Denied)))
}

/// The client that waits; it may have been disabled or deleted meanwhile.
pub async fn client(
    call: &Call<'_>,
    pending: &PendingAuthorization,
) -> Result<std::sync::Arc<Client>, Refused> {
    let client = call.tenant.client(&pending.client).await?.filter(|client| client.enabled);
    client.ok_or(Refused::Page(PageCause::UnknownClient))
}

/// What has to happen next for an authorization that waits; decides, and does nothing.
pub async fn next_step(
    call: &Call<'_>,
    pending: &PendingAuthorization,
    session: Option<&Session>,
) -> Result<Step, Refused> {
    let client = client(call, pending).await?;
    Ok(step(call, &client, pending, session).await?)
}

/// Whether the user may be asked something (`prompt=none`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Allowed,
    NotAllowed,
}

async fn go_on(
    call: &Call<'_>,
    client: &Client,
    pending: PendingAuthorization,
    session: Option<&Session>,
    asked: Asked,
) -> Result<Answer, Refused> {
    match step(call, client, &pending, session).await? {
        Step::Respond => match answer(call, client, pending, session, false).await? {
            Answer::Ask(_, pending) if asked == Asked::NotAllowed => {
                Ok(Answer::Redirect(refusal(call, &pending, Cause::LoginRequired)))
            }
            answer => Ok(answer),
        },
        step => Ok(ask(call, step, pending, asked)),
    }
}

async fn step(
    call: &Call<'_>,
    client: &Client,
    pending: &PendingAuthorization,
    session: Option<&Session>,
) -> crate::storage::Result<Step> {
    let decision = match session {
        Some(session) => consent::on_record(call.tenant, client, pending, session).await?,
        None => Decision::Open,
    };
    Ok(steps::next(pending, session, decision))
}

fn ask(call: &Call<'_>, step: Step, pending: PendingAuthorization, asked: Asked) -> Answer {
    let (page, unasked) = match step {
        Step::Login => (Page::Login, Cause::LoginRequired),
        Step::Reauthenticate => (Page::Reauthenticate, Cause::LoginRequired),
        Step::Consent => (Page::Consent, Cause::ConsentRequired),
        Step::Refuse(cause) => return Answer::Redirect(refusal(call, &pending, cause)),
        // Only reached with a session, by those who can answer.
        Step::Respond => return Answer::Redirect(refusal(call, &pending, Cause::Engine)),
    };
    match asked {
        Asked::Allowed => Answer::Ask(page, Box::new(pending)),
        Asked::NotAllowed => Answer::Redirect(refusal(call, &pending, unasked)),
    }
}

/// Answers with a code. Who lost user or session at this very moment has to sign in again.
async fn answer(
    call: &Call<'_>,
    client: &Client,
    pending: PendingAuthorization,
    session: Option<&Session>,
    remember: bool,
) -> Result<Answer, Refused> {
    let issued = match session {
        Some(session) => respond::issue(call, client, &pending, session, remember).await?,
        None => Issued::NotLive,
    };
    Ok(match issued {
        Issued::Code(url) => Answer::Redirect(url),
        Issued::NotLive => Answer::Ask(Page::Login, Box::new(pending)),
    })
}

fn refusal(call: &Call<'_>, pending: &PendingAuthorization, cause: Cause) -> String {
    respond::error(call.tenant, &pending.redirect_uri, pending.state.as_deref(), cause)
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use crate::base::Timestamp;
    use crate::model::{ClientId, Scope, Session, SessionId, UserId};
    use crate::session::PendingAuthorization;

    pub(in crate::oauth) fn session(id: u128) -> Session {
        let at = Timestamp::from_seconds(1_000);
        Session {
            id: SessionId(Uuid::from_u128(id)),
            user: UserId(Uuid::from_u128(7)),
            auth_time: at,
            amr: vec!["pwd".into()],
            acr: None,
            created_at: at,
            last_active_at: at,
            idle_expires_at: at,
            expires_at: at,
            user_agent: None,
            ip: None,
        }
    }

    pub(super) fn pending() -> PendingAuthorization {
        PendingAuthorization {
            client: ClientId::new("app"),
            redirect_uri: "https://app.example/cb".into(),
            redirect_uri_sent: true,
            state: None,
            scope: Scope::default(),
            resources: Vec::new(),
            code_challenge: None,
            nonce: None,
            claims: None,
            login_hint: None,
            subject: None,
            signed_in_after: None,
            not_session: None,
            another_account: false,
            ask_consent: false,
            began_at: Timestamp::from_seconds(1_000),
        }
    }
}
