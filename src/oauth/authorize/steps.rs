use super::Cause;
use crate::base::Timestamp;
use crate::model::{Session, SessionId};
use crate::session::PendingAuthorization;

/// What has to happen next for a pending authorization. Only this function decides it: the pages
/// for login and consent, and the answer to the client, never route to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Someone has to sign in.
    Login,
    /// Whoever is signed in has to prove it again.
    Reauthenticate,
    /// The user has to decide.
    Consent,
    /// The client gets its code.
    Respond,
    /// The client is told that it cannot have one.
    Refuse(Cause),
}

/// What is known of the user's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// None was made, and none is on record: ask.
    Open,
    /// Made now, on record, or not needed.
    Allowed,
}

/// Which sessions may be used for something that waits, whatever it is.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::oauth) struct Demand {
    /// None that signed in before.
    pub(in crate::oauth) signed_in_after: Option<Timestamp>,
    /// Nor this one.
    pub(in crate::oauth) not_session: Option<SessionId>,
    /// Whether another user is meant.
    pub(in crate::oauth) another: bool,
}

/// Whether somebody has to sign in first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInFirst {
    /// The session will do.
    No,
    /// Someone has to sign in.
    Login,
    /// Whoever is signed in has to prove it again.
    Reauthenticate,
}

/// Whether this session will do.
pub(in crate::oauth) fn sign_in(demand: Demand, session: Option<&Session>) -> SignInFirst {
    let Some(session) = session else { return SignInFirst::Login };
    let too_old = demand.signed_in_after.is_some_and(|after| session.auth_time < after);
    match (too_old || demand.not_session == Some(session.id), demand.another) {
        (false, _) => SignInFirst::No,
        (true, true) => SignInFirst::Login,
        (true, false) => SignInFirst::Reauthenticate,
    }
}

pub(super) fn next(
    pending: &PendingAuthorization,
    session: Option<&Session>,
    decision: Decision,
) -> Step {
    let is_another = pending
        .subject
        .as_ref()
        .is_some_and(|sub| session.is_some_and(|session| *sub != session.user.to_string()));
    let demand = Demand {
        signed_in_after: pending.signed_in_after,
        not_session: pending.not_session,
        another: is_another || pending.another_account,
    };
    match sign_in(demand, session) {
        SignInFirst::No => {}
        SignInFirst::Login => return Step::Login,
        SignInFirst::Reauthenticate => return Step::Reauthenticate,
    }
    if is_another {
        // OpenID Connect Core §3.1.2.1, id_token_hint: someone signed in, and not who was meant.
        return Step::Refuse(Cause::LoginRequired);
    }
    match decision {
        Decision::Open => Step::Consent,
        Decision::Allowed => Step::Respond,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{pending, session};
    use super::*;

    #[test]
    fn without_a_session_someone_has_to_sign_in_whatever_was_decided() {
        assert_eq!(next(&pending(), None, Decision::Allowed), Step::Login);
    }

    #[test]
    fn a_session_leads_to_the_decision_and_the_decision_to_the_answer() {
        assert_eq!(next(&pending(), Some(&session(1)), Decision::Open), Step::Consent);
        assert_eq!(next(&pending(), Some(&session(1)), Decision::Allowed), Step::Respond);
    }

    #[test]
    fn a_session_that_must_not_be_used_is_replaced_first() {
        let mut pending = pending();
        pending.not_session = Some(session(1).id);
        assert_eq!(next(&pending, Some(&session(1)), Decision::Allowed), Step::Reauthenticate);
        assert_eq!(next(&pending, Some(&session(2)), Decision::Allowed), Step::Respond);
        pending.another_account = true;
        assert_eq!(next(&pending, Some(&session(1)), Decision::Allowed), Step::Login);
    }

    #[test]
    fn no_session_that_signed_in_before_it_had_to_is_used_whichever_it_is() {
        let mut pending = pending();
        pending.not_session = Some(session(1).id);
        pending.signed_in_after = Some(session(2).auth_time.plus(Duration::from_millis(1)));
        assert_eq!(next(&pending, Some(&session(2)), Decision::Allowed), Step::Reauthenticate);
        pending.another_account = true;
        assert_eq!(next(&pending, Some(&session(2)), Decision::Allowed), Step::Login);
        pending.signed_in_after = Some(session(2).auth_time);
        assert_eq!(next(&pending, Some(&session(2)), Decision::Allowed), Step::Respond);
    }

    #[test]
    fn nobody_but_the_one_who_was_meant_is_answered_for() {
        let mut pending = pending();
        pending.subject = Some("someone-else".into());
        let step = next(&pending, Some(&session(1)), Decision::Allowed);
        assert_eq!(step, Step::Refuse(Cause::LoginRequired));
        pending.subject = Some(session(1).user.to_string());
        assert_eq!(next(&pending, Some(&session(1)), Decision::Allowed), Step::Respond);
    }
}
