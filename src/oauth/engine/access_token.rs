//! The authorization code grant (RFC 6749 §4.1.3) as oxide-auth's `AccessToken` machine.

use std::borrow::Cow;

use oxide_auth::code_grant::accesstoken::{
    AccessToken, Authorization, Error, Input, Output, Request,
};
use oxide_auth::code_grant::extensions::Pkce;
use oxide_auth::primitives::grant::{Extensions, Grant};

use super::convert::{far_future, issued, kept, refusal, released, to_oxide};
use super::{Machine, Refusal, Step, StepOf, Tokens};
use crate::model::{ClientId, Scope};
use crate::oauth::client::AuthenticatedClient;

/// A request to redeem a code, its client resolved to one identity.
pub(in crate::oauth) struct CodeRequest<'a> {
    /// Who asks.
    pub(in crate::oauth) client: &'a ClientId,
    /// The code.
    pub(in crate::oauth) code: &'a str,
    /// As sent, or the stored one where it may be left out.
    pub(in crate::oauth) redirect_uri: &'a str,
}

impl Request for CodeRequest<'_> {
    fn valid(&self) -> bool {
        true
    }
    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.code))
    }
    fn authorization(&self) -> Authorization<'_> {
        Authorization::Username(Cow::Borrowed(self.client.as_str()))
    }
    fn client_id(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn redirect_uri(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.redirect_uri))
    }
    fn grant_type(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("authorization_code"))
    }
    fn extension(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// What the machine asks for.
pub(in crate::oauth) enum CodeAsk {
    /// The proof that the client is who it says.
    Authenticate,
    /// What the code was issued for.
    Recover,
    /// Whether the verifier fits the challenge.
    Verify(Challenge),
    /// The tokens, for this scope: the code is spent now.
    Issue(Scope),
}

/// What a flow answers.
pub(in crate::oauth) enum CodeAnswer<'a> {
    /// The proof.
    Authenticated(&'a AuthenticatedClient),
    /// What the code was issued for.
    Recovered(RecoveredCode<'a>),
    /// It does.
    Verified,
    /// The tokens.
    Issued(Tokens),
}

/// What a code was issued for, as far as the machine looks at it.
pub(in crate::oauth) struct RecoveredCode<'a> {
    /// To whom.
    pub(in crate::oauth) client: &'a ClientId,
    /// Who allowed it.
    pub(in crate::oauth) subject: String,
    /// Where it was sent.
    pub(in crate::oauth) redirect_uri: &'a str,
    /// What may come out of it.
    pub(in crate::oauth) scope: &'a Scope,
    /// The S256 challenge.
    pub(in crate::oauth) challenge: Option<&'a str>,
}

/// The PKCE challenge that travelled through the machine (RFC 7636 §4.6).
pub(in crate::oauth) struct Challenge(Extensions);

/// What checking a verifier found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::oauth) enum VerifierCheck {
    /// It fits, or there is neither challenge nor verifier.
    Good,
    /// It does not fit.
    Wrong,
    /// There is a challenge and no verifier.
    Missing,
    /// There is a verifier and no challenge (RFC 9700 §4.8.2: a downgrade).
    Unasked,
}

impl Challenge {
    /// Checks `verifier`; S256 only, compared in constant time.
    pub(in crate::oauth) fn check(mut self, verifier: Option<&str>) -> VerifierCheck {
        let pkce = Pkce::required();
        let challenge = self.0.remove(&pkce);
        match (challenge, verifier) {
            (None, None) => VerifierCheck::Good,
            (None, Some(_)) => VerifierCheck::Unasked,
            (Some(_), None) => VerifierCheck::Missing,
            (Some(_), Some(verifier)) if !is_verifier(verifier) => VerifierCheck::Wrong,
            (challenge, Some(verifier)) => {
                match pkce.verify(challenge, Some(Cow::Borrowed(verifier))) {
                    Ok(()) => VerifierCheck::Good,
                    Err(()) => VerifierCheck::Wrong,
                }
            }
        }
    }
}

/// RFC 7636 §4.1: 43 to 128 unreserved characters.
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

/// The machine and what it keeps of ours.
pub(in crate::oauth) struct AccessTokenMachine<'a> {
    machine: AccessToken,
    client: &'a ClientId,
    scope: Scope,
}

impl<'a> AccessTokenMachine<'a> {
    /// Begins with a request.
    pub(in crate::oauth) fn new(request: &CodeRequest<'a>) -> Self {
        Self { machine: AccessToken::new(request), client: request.client, scope: Scope::default() }
    }

    fn step(&mut self, input: Input<'_>) -> Result<StepOf<Self>, Refusal> {
        match self.machine.advance(input) {
            Output::Authenticate { client, .. } if client == self.client.as_str() => {
                Ok(Step::Ask(CodeAsk::Authenticate))
            }
            Output::Authenticate { .. } => Err(Refusal::OutOfOrder),
            Output::Recover { .. } => Ok(Step::Ask(CodeAsk::Recover)),
            Output::Extend { extensions } => {
                Ok(Step::Ask(CodeAsk::Verify(Challenge(std::mem::take(extensions)))))
            }
            Output::Issue { grant } => {
                Ok(Step::Ask(CodeAsk::Issue(kept(&self.scope, &grant.scope))))
            }
            Output::Ok(bearer) => Ok(Step::Done(released(bearer.to_json())?)),
            Output::Err(mut error) => Err(refused(&mut error)),
        }
    }
}

impl<'a> Machine for AccessTokenMachine<'a> {
    type Ask = CodeAsk;
    type Answer = CodeAnswer<'a>;
    type Done = Tokens;

    fn start(&mut self) -> Result<StepOf<Self>, Refusal> {
        self.step(Input::None)
    }

    fn advance(&mut self, answer: CodeAnswer<'a>) -> Result<StepOf<Self>, Refusal> {
        match answer {
            CodeAnswer::Authenticated(proof) if proof.id() == self.client => {
                self.step(Input::Authenticated)
            }
            CodeAnswer::Authenticated(_) => Err(Refusal::InvalidClient),
            CodeAnswer::Recovered(code) => {
                self.scope = code.scope.clone();
                self.step(Input::Recovered(Some(Box::new(grant_of(&code)?))))
            }
            CodeAnswer::Verified => {
                self.step(Input::Extended { access_extensions: Extensions::new() })
            }
            CodeAnswer::Issued(tokens) => self.step(Input::Issued(issued(&tokens))),
        }
    }
}

fn grant_of(code: &RecoveredCode<'_>) -> Result<Grant, Refusal> {
    let pkce = Pkce::required();
    let mut extensions = Extensions::new();
    if let Some(challenge) = code.challenge {
        let value = pkce
            .challenge(Some(Cow::Borrowed("S256")), Some(Cow::Borrowed(challenge)))
            .map_err(|()| Refusal::InvalidGrant)?
            .ok_or(Refusal::InvalidGrant)?;
        extensions.set(&pkce, value);
    }
    Ok(Grant {
        owner_id: code.subject.clone(),
        client_id: code.client.as_str().to_owned(),
        scope: to_oxide(code.scope)?,
        redirect_uri: code.redirect_uri.parse().map_err(|_| Refusal::InvalidGrant)?,
        until: far_future(),
        extensions,
    })
}

fn refused(error: &mut Error) -> Refusal {
    match error {
        Error::Primitive(_) => Refusal::OutOfOrder,
        other => other.description().map_or(Refusal::OutOfOrder, |why| refusal(why.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn challenge(text: Option<&str>) -> Challenge {
        let client = ClientId::new("app");
        let code = RecoveredCode {
            client: &client,
            subject: "ada".into(),
            redirect_uri: "https://app.example/cb",
            scope: &Scope::default(),
            challenge: text,
        };
        Challenge(grant_of(&code).unwrap().extensions)
    }

    #[test]
    fn only_the_verifier_of_the_challenge_is_good() {
        assert_eq!(challenge(Some(CHALLENGE)).check(Some(VERIFIER)), VerifierCheck::Good);
        assert_eq!(challenge(Some(CHALLENGE)).check(Some(CHALLENGE)), VerifierCheck::Wrong);
        assert_eq!(challenge(Some(CHALLENGE)).check(Some(&VERIFIER[1..])), VerifierCheck::Wrong);
        assert_eq!(challenge(Some(CHALLENGE)).check(None), VerifierCheck::Missing);
    }

    #[test]
    fn a_verifier_that_nobody_asked_for_is_a_downgrade() {
        assert_eq!(challenge(None).check(Some(VERIFIER)), VerifierCheck::Unasked);
        assert_eq!(challenge(None).check(None), VerifierCheck::Good);
    }
}
