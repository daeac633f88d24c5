//! A refresh token is used (RFC 6749 §6, RFC 9700 §4.14).
//!
//! The order is fixed: client authentication, spelling, row, MAC, binding; none of these has an
//! effect when it fails. Whether scope and resource fit is known before the verdict and goes into
//! the statement: what does not fit spends nothing, but the use of a spent token counts regardless.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::settings::Lifetimes;
use crate::limits::Limited;
use crate::model::client::ApplicationType;
use crate::model::refresh::{PresentedRefresh, RefreshHead, RefreshWindows};
use crate::model::{Client, Grant, Scope};
use crate::oauth::client::AuthenticatedClient;
use crate::oauth::draft::{Draft, Origin, ready_to_mint, wanted_in_id_token};
use crate::oauth::engine::{
    self, Flow, RecoveredRefresh, RefreshAnswer, RefreshAsk, RefreshMachine, RefreshRequest, Tokens,
};
use crate::oauth::target::{self, Target};
use crate::oauth::token::{RefreshGrant, TokenResponse};
use crate::oauth::{Call, Cause, TokenError};
use crate::storage::{Proof, RefreshVerdict, Rotation};
use crate::token::refresh::{self, MacCheck};

/// So many answers to one generation are a loop or an attack.
const REPEATS: u32 = 100;

/// Uses a refresh token of `client`.
pub(in crate::oauth) async fn refresh(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    request: &RefreshGrant,
) -> Result<TokenResponse, TokenError> {
    let machine = RefreshMachine::new(&RefreshRequest {
        client: client.id(),
        token: request.token.reveal(),
        scope: request.scope.as_ref(),
    });
    let mut flow = Refresh { call, client, request, found: None, draft: None };
    let tokens = engine::drive(machine, &mut flow).await?;
    let (draft, found) = flow.draft.zip(flow.found).ok_or(Cause::Engine)?;
    // OpenID Connect Core §12.2: the same `sub` and `auth_time`, and no `nonce`.
    let id = draft.id_claims(None, found.grant.session, found.about);
    draft.respond(call, client.client(), tokens, id).await
}

/// What was presented, known to be ours and this client's.
struct Found {
    presented: PresentedRefresh,
    grant: Grant,
    /// What the client may still have of what was granted.
    scope: Scope,
    /// Claims that the ID token was wished to have.
    about: Map<String, Value>,
}

struct Refresh<'a> {
    call: &'a Call<'a>,
    client: &'a AuthenticatedClient,
    request: &'a RefreshGrant,
    found: Option<Found>,
    draft: Option<Draft>,
}

impl<'a> Flow<RefreshMachine<'a>> for Refresh<'a> {
    type Error = TokenError;

    async fn answer(&mut self, ask: RefreshAsk) -> Result<RefreshAnswer<'a>, TokenError> {
        Ok(match ask {
            RefreshAsk::Authenticate => RefreshAnswer::Authenticated(self.client),
            RefreshAsk::Recover => RefreshAnswer::Recovered(self.recover().await?),
            RefreshAsk::Issue(scope) => RefreshAnswer::Issued(self.issue(&scope).await?),
        })
    }
}

impl Refresh<'_> {
    async fn recover(&mut self) -> Result<RecoveredRefresh, TokenError> {
        let (presented, grant) = find(self.call, self.client, self.request.token.reveal()).await?;
        let wanted = grant.terms.claims.as_ref();
        let found = Found {
            presented,
            about: wanted_in_id_token(self.call, grant.user, wanted).await?,
            scope: grant.terms.scope.intersection(&self.client.client().scopes),
            grant,
        };
        if let Err(unfit) = self.fit(&found) {
            return Err(self.verdict_of_unfit(&found, unfit).await.into());
        }
        let recovered = RecoveredRefresh {
            client: found.grant.client.clone(),
            subject: found.grant.user.map(|user| user.to_string()).unwrap_or_default(),
            scope: found.scope.clone(),
        };
        self.found = Some(found);
        Ok(recovered)
    }

    /// RFC 6749 §6: not more than was granted (nor than the client may still have), for a resource
    /// that was.
    fn fit(&self, found: &Found) -> Result<Target, Cause> {
        if found.scope.is_empty() && !found.grant.terms.scope.is_empty() {
            return Err(Cause::ScopeEmpty);
        }
        let asked = self.request.scope.as_ref().unwrap_or(&found.scope);
        if !asked.is_subset_of(&found.scope) {
            return Err(Cause::ScopeTooWide);
        }
        self.target(found, asked)
    }

    fn target(&self, found: &Found, scope: &Scope) -> Result<Target, Cause> {
        target::resolve(
            &self.call.tenant.settings,
            self.client.client(),
            &found.grant.terms.resources,
            &self.request.resources,
            scope,
        )
    }

    /// Nothing will be issued, but a spent token that is used again is noticed.
    async fn verdict_of_unfit(&self, found: &Found, unfit: Cause) -> Cause {
        match rotate(self.call, self.rotation(found, None)).await {
            Ok(RefreshVerdict::Unfit) => unfit,
            Ok(verdict) => settled(verdict, &found.grant).err().unwrap_or(unfit),
            Err(cause) => cause,
        }
    }

    async fn issue(&mut self, scope: &Scope) -> Result<Tokens, TokenError> {
        let found = self.found.as_ref().ok_or(Cause::Engine)?;
        let (call, client, grant) = (self.call, self.client.client(), &found.grant);
        let target = self.target(found, scope)?;
        ready_to_mint(call, client, grant.user, &target.scope).await?;

        let origin = Origin {
            user: grant.user,
            grant: Some(grant.id),
            session: grant.session.filter(|_| !grant.offline),
            generation: None,
            auth_time: Some(grant.terms.auth_time),
            acr: grant.terms.acr.clone(),
            amr: grant.terms.amr.clone(),
            ends: Some(grant.expires_at),
        };
        let mut draft = Draft::new(call, client, origin, &target).await?;
        let verdict = rotate(call, self.rotation(found, Some(&draft))).await?;
        let head = settled(verdict, grant)?;
        let refresh =
            refresh::spell(&call.services.ring, &call.tenant.uid, &client.id, grant.id, &head)
                .ok_or(Cause::UnknownRingKey(head.kid))?;
        let access = draft.mint(call, Some(head.head)).await.map_err(Cause::Store)?;
        self.draft = Some(draft);
        Ok(Tokens { access, refresh: Some(refresh) })
    }

    /// What may be written; without a draft, scope or resource do not fit.
    fn rotation(&self, found: &Found, draft: Option<&Draft>) -> Rotation {
        let call = self.call;
        let entropy = &*call.services.entropy;
        Rotation {
            presented: found.presented.clone(),
            client: self.client.id().clone(),
            user: found.grant.user,
            nonce: entropy.bytes(),
            kid: call.services.ring.newest(),
            windows: windows(&call.tenant.settings.lifetimes, self.client.client()),
            idle_expires_at: call.now.plus(call.tenant.settings.lifetimes.refresh_idle),
            fits: draft.is_some(),
            opaque: draft.and_then(Draft::row),
            access_expires_at: draft.map_or(call.now, Draft::expires_at),
            fingerprint: super::fingerprint(call),
            proof: Proof::Rotating,
            repeat_limit: REPEATS,
        }
    }
}

/// The grant of a refresh token that `client` may present: spelling, row, client, MAC, binding.
pub(in crate::oauth) async fn find(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    token: &str,
) -> Result<(PresentedRefresh, Grant), TokenError> {
    let presented = refresh::parse(token).ok_or(Cause::MalformedRefresh)?;
    let row = call.tenant.store.find_grant(presented.grant).await.map_err(Cause::Store)?;
    let grant = row.ok_or(Cause::UnknownRefresh)?;
    if grant.client != *client.id() {
        return Err(Cause::ForeignRefresh.into());
    }
    let salt = grant.refresh.as_ref().ok_or(Cause::UnknownRefresh)?.salt;
    let (ring, uid) = (&call.services.ring, &call.tenant.uid);
    match refresh::verify(ring, uid, client.id(), &salt, &presented) {
        MacCheck::Good => {}
        MacCheck::Bad => return Err(bad_mac(call, client).into()),
        MacCheck::UnknownKey(kid) => return Err(unknown_key(call, client, kid).await.into()),
    }
    // A bound token needs the proof of its key (RFC 9449 §5), and there is none in this request.
    if grant.jkt.is_some() && client.is_public() {
        return Err(Cause::ForeignRefresh.into());
    }
    Ok((presented, grant))
}

fn bad_mac(call: &Call<'_>, client: &AuthenticatedClient) -> Cause {
    let key = format!("{} {}", call.address(), client.id());
    match call.services.limiter.check(Limited::BadRefreshMac, &call.tenant.uid, &key) {
        Ok(()) => Cause::BadMac,
        Err(often) => Cause::TooMany { retry_after: often.retry_after },
    }
}

/// A ring key that storage knows and this node lacks is our fault; one that nobody knows is forged.
async fn unknown_key(call: &Call<'_>, client: &AuthenticatedClient, kid: u8) -> Cause {
    match call.services.store.known_ring_keys().await {
        Ok(known) if known.contains(&kid) => Cause::UnknownRingKey(kid),
        Ok(_) => bad_mac(call, client),
        Err(error) => Cause::Store(error),
    }
}

/// A lost response is forgiven longer where the token is better kept: by confidential and native
/// clients, not in a browser.
pub(in crate::oauth) fn windows(lifetimes: &Lifetimes, client: &Client) -> RefreshWindows {
    let well_kept = !client.is_public() || client.application_type == ApplicationType::Native;
    let usual = if well_kept && client.application_type != ApplicationType::Browser {
        client.access_token_ttl.unwrap_or(lifetimes.access_token)
    } else {
        Duration::ZERO
    };
    RefreshWindows {
        short: lifetimes.refresh_short_window,
        long: lifetimes.refresh_long_window.unwrap_or(usual),
        recovery: lifetimes.refresh_recovery,
    }
}

/// The commit, in a task of its own: a client that hangs up does not leave it half done.
async fn rotate(call: &Call<'_>, rotation: Rotation) -> Result<RefreshVerdict, Cause> {
    let (tenant, audit, now) = (Arc::clone(call.tenant), call.audit.clone(), call.now);
    let commit =
        tokio::spawn(async move { tenant.store.rotate_refresh(&rotation, now, &audit).await });
    commit.await.map_err(|_| Cause::Engine)?.map_err(Cause::Store)
}

fn settled(verdict: RefreshVerdict, grant: &Grant) -> Result<RefreshHead, Cause> {
    match verdict {
        RefreshVerdict::Rotated(head)
        | RefreshVerdict::Repeated(head)
        | RefreshVerdict::Replaced(head)
        | RefreshVerdict::Adopted(head)
        | RefreshVerdict::Kept(head) => Ok(head),
        RefreshVerdict::Reused => Err(Cause::RefreshReused { grant: grant.id }),
        RefreshVerdict::Forged => Err(Cause::RefreshForged { grant: grant.id }),
        RefreshVerdict::Unfit => Err(Cause::ScopeTooWide),
        RefreshVerdict::Limited => Err(Cause::TooMany { retry_after: Duration::from_secs(10) }),
        RefreshVerdict::Expired => Err(Cause::RefreshExpired),
        RefreshVerdict::Revoked => Err(Cause::RefreshRevoked),
        RefreshVerdict::Unknown => Err(Cause::UnknownRefresh),
    }
}
