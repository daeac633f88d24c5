//! A code is redeemed (RFC 6749 §4.1.3, RFC 7636 §4.6).
//!
//! Everything that cannot change is checked on the code's terms, without a lock and without an
//! effect; then one statement spends the code and writes what comes out of it.

use std::sync::Arc;

use super::first_refresh;
use crate::base::{CredentialKind, Digest};
use crate::limits::Limited;
use crate::model::client::{GrantType, RefreshPolicy};
use crate::model::code::{Code, CodeRecord};
use crate::model::refresh::RefreshHead;
use crate::model::{Client, Scope};
use crate::oauth::client::AuthenticatedClient;
use crate::oauth::draft::{Draft, Origin, ready_to_mint, wanted_in_id_token};
use crate::oauth::engine::{
    self, AccessTokenMachine, Challenge, CodeAnswer, CodeAsk, CodeRequest, Flow, RecoveredCode,
    Tokens, VerifierCheck,
};
use crate::oauth::token::{CodeGrant, TokenResponse};
use crate::oauth::{Call, Cause, TokenError, target};
use crate::storage::{CountVerifier, NewRefresh, RedeemCode, Redemption, Retry};
use crate::token::refresh;

/// From so many wrong verifiers of the right confidential client on, the code is dead.
const WRONG_VERIFIERS: u32 = 6;

/// Redeems a code for `client`.
pub(in crate::oauth) async fn redeem(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    request: &CodeGrant,
) -> Result<TokenResponse, TokenError> {
    let text = request.code.reveal();
    CredentialKind::AuthorizationCode.parse(text, 32).map_err(|_| Cause::MalformedCode)?;
    let digest = Digest::<Code>::of(text.as_bytes());
    let found = call.tenant.store.peek_code(&digest).await.map_err(Cause::Store)?;
    let record = found.ok_or(Cause::UnknownCode)?;

    let machine = AccessTokenMachine::new(&CodeRequest {
        client: client.id(),
        code: text,
        redirect_uri: request.redirect_uri.as_deref().unwrap_or(&record.terms.redirect_uri),
    });
    // A client's list of scopes can have shrunk since the user consented.
    let scope = record.grant_terms.scope.intersection(&client.client().scopes);
    let terms = &record.grant_terms;
    let about = wanted_in_id_token(call, Some(record.user), terms.claims.as_ref()).await?;
    let mut flow =
        Redeem { call, client, request, digest, record: &record, scope: &scope, draft: None };
    let tokens = engine::drive(machine, &mut flow).await?;
    let draft = flow.draft.ok_or(Cause::Engine)?;
    let id = draft.id_claims(record.terms.nonce.clone(), record.session, about);
    draft.respond(call, client.client(), tokens, id).await
}

struct Redeem<'a> {
    call: &'a Call<'a>,
    client: &'a AuthenticatedClient,
    request: &'a CodeGrant,
    digest: Digest<Code>,
    record: &'a CodeRecord,
    scope: &'a Scope,
    draft: Option<Draft>,
}

impl<'a> Flow<AccessTokenMachine<'a>> for Redeem<'a> {
    type Error = TokenError;

    async fn answer(&mut self, ask: CodeAsk) -> Result<CodeAnswer<'a>, TokenError> {
        Ok(match ask {
            CodeAsk::Authenticate => CodeAnswer::Authenticated(self.client),
            CodeAsk::Recover => CodeAnswer::Recovered(self.recover()?),
            CodeAsk::Verify(challenge) => {
                self.verify(challenge).await?;
                CodeAnswer::Verified
            }
            CodeAsk::Issue(scope) => CodeAnswer::Issued(self.issue(&scope).await?),
        })
    }
}

impl<'a> Redeem<'a> {
    /// RFC 6749 §4.1.3: the code's own client, and the redirect URI of the authorization request if
    /// that named one. A stranger changes nothing.
    fn recover(&self) -> Result<RecoveredCode<'a>, Cause> {
        let CodeRecord { client, user, terms, grant_terms, .. } = self.record;
        if client != self.client.id() {
            return Err(Cause::ForeignCode);
        }
        match &self.request.redirect_uri {
            Some(sent) if *sent != terms.redirect_uri => return Err(Cause::RedirectUriDiffers),
            None if terms.redirect_uri_sent => return Err(Cause::RedirectUriMissing),
            _ => {}
        }
        if self.scope.is_empty() && !grant_terms.scope.is_empty() {
            return Err(Cause::ScopeEmpty);
        }
        Ok(RecoveredCode {
            client,
            subject: user.to_string(),
            redirect_uri: &terms.redirect_uri,
            scope: self.scope,
            challenge: terms.code_challenge.as_deref(),
        })
    }

    async fn verify(&self, challenge: Challenge) -> Result<(), TokenError> {
        let verifier = self.request.verifier.as_ref().map(|verifier| verifier.reveal().as_str());
        match challenge.check(verifier) {
            VerifierCheck::Good => Ok(()),
            VerifierCheck::Missing => Err(Cause::VerifierMissing.into()),
            VerifierCheck::Unasked => Err(Cause::VerifierWithoutChallenge.into()),
            VerifierCheck::Wrong => Err(self.count_wrong_verifier().await?.into()),
        }
    }

    /// Only the right client, having proved itself, can wear a code out by guessing. Anyone can
    /// claim to be a public client: those are slowed down by address, and the code stays.
    async fn count_wrong_verifier(&self) -> Result<Cause, TokenError> {
        let Call { services, tenant, now, audit } = *self.call;
        if self.client.is_public() {
            let address = self.call.address();
            return Ok(match services.limiter.check(Limited::BadVerifier, &tenant.uid, address) {
                Ok(()) => Cause::VerifierWrong,
                Err(often) => Cause::TooMany { retry_after: often.retry_after },
            });
        }
        let counted = tenant.store.count_wrong_verifier(&self.digest, WRONG_VERIFIERS, now, audit);
        Ok(match counted.await.map_err(Cause::Store)? {
            CountVerifier::Dead => Cause::CodeDead,
            CountVerifier::Counted | CountVerifier::NotLive => Cause::VerifierWrong,
        })
    }

    /// Spends the code. What has failed up to here had no effect; what fails after this line has
    /// cost the client its code.
    async fn issue(&mut self, scope: &Scope) -> Result<Tokens, TokenError> {
        let (call, record, client) = (self.call, self.record, self.client.client());
        let target = target::resolve(
            &call.tenant.settings,
            client,
            &record.grant_terms.resources,
            &self.request.resources,
            scope,
        )?;
        ready_to_mint(call, client, Some(record.user), &target.scope).await?;

        // What is not offline ends with its session, however late the code is redeemed.
        let ends = record.grant_terms.session_ends.filter(|_| !record.offline);
        if ends.is_some_and(|ends| ends <= call.now) {
            return Err(Cause::CodeExpired.into());
        }
        let refresh = self.wants_refresh(client).then(|| first_refresh(call));
        let origin = Origin {
            user: Some(record.user),
            grant: Some(record.grant),
            session: record.session.filter(|_| !record.offline),
            generation: refresh.as_ref().map(|_| 1),
            auth_time: Some(record.grant_terms.auth_time),
            acr: record.grant_terms.acr.clone(),
            amr: record.grant_terms.amr.clone(),
            ends,
        };
        let mut draft = Draft::new(call, client, origin, &target).await?;
        let head = spend(call, self.redemption(refresh, &draft)).await?;
        let refresh = match &head {
            Some(head) => Some(
                refresh::spell(
                    &call.services.ring,
                    &call.tenant.uid,
                    &client.id,
                    record.grant,
                    head,
                )
                .ok_or(Cause::UnknownRingKey(head.kid))?,
            ),
            None => None,
        };
        let generation = head.map(|head| head.head);
        let access = draft.mint(call, generation).await.map_err(Cause::Store)?;
        self.draft = Some(draft);
        Ok(Tokens { access, refresh })
    }

    /// A refresh token comes with `offline_access`, or always where the client says so.
    fn wants_refresh(&self, client: &Client) -> bool {
        client.may_use(GrantType::RefreshToken)
            && self.call.tenant.settings.grants.contains(&GrantType::RefreshToken)
            && (self.record.offline || client.refresh_tokens == RefreshPolicy::Always)
    }

    fn redemption(&self, refresh: Option<NewRefresh>, draft: &Draft) -> Redemption {
        Redemption {
            code: self.digest,
            client: self.client.id().clone(),
            user: self.record.user,
            refresh,
            opaque: draft.row(),
            access_expires_at: draft.expires_at(),
            retry: self.retry(),
        }
    }

    /// The same request again is one by the same authentication with the same verifier.
    fn retry(&self) -> Option<Retry> {
        let window = self.call.tenant.settings.code_retry?;
        let verifier = self.request.verifier.as_ref()?;
        let mut text = self.client.id().as_str().as_bytes().to_vec();
        text.push(0);
        text.extend(self.client.secret().map_or(&[][..], |secret| secret.as_bytes()));
        text.push(0);
        text.extend(verifier.reveal().as_bytes());
        Some(Retry { fingerprint: *Digest::<()>::of(&text).as_bytes(), window })
    }
}

/// The commit, in a task of its own: a client that hangs up does not leave it half done.
async fn spend(call: &Call<'_>, redemption: Redemption) -> Result<Option<RefreshHead>, TokenError> {
    let (tenant, audit, now) = (Arc::clone(call.tenant), call.audit.clone(), call.now);
    let commit =
        tokio::spawn(async move { tenant.store.redeem_code(&redemption, now, &audit).await });
    let outcome = commit.await.map_err(|_| Cause::Engine)?.map_err(Cause::Store)?;
    Err(match outcome {
        RedeemCode::Redeemed { refresh } | RedeemCode::Repeated { refresh } => return Ok(refresh),
        RedeemCode::Replayed { grant } => Cause::CodeReplayed { grant },
        RedeemCode::Dead => Cause::CodeDead,
        RedeemCode::Expired => Cause::CodeExpired,
        RedeemCode::Revoked => Cause::CodeRevoked,
        RedeemCode::Unknown => Cause::UnknownCode,
    }
    .into())
}
