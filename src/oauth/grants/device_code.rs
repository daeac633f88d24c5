//! A device asks whether its user has decided, and gets its tokens once one said yes (RFC 8628 §3.4,
//! §3.5).
//!
//! While nobody decided, only the pace is kept. What an approved device gets comes out of the same
//! state machine as a code by redirect (`AccessToken`): to it a device code is a code whose redirect
//! URI is none at all, so binding, challenge and scope are checked by it, too.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::first_refresh;
use crate::base::{CredentialKind, Digest, Timestamp};
use crate::limits::Limited;
use crate::model::audit::AuditRecord;
use crate::model::client::{GrantType, RefreshPolicy};
use crate::model::device::{DeviceCode, DeviceRecord};
use crate::model::refresh::RefreshHead;
use crate::model::{Action, Client, Grant, Scope, UserId};
use crate::oauth::client::AuthenticatedClient;
use crate::oauth::device::{Arrival, Patience, Woken};
use crate::oauth::draft::{Draft, Origin, ready_to_mint, wanted_in_id_token};
use crate::oauth::engine::{
    self, AccessTokenMachine, Challenge, CodeAnswer, CodeAsk, CodeRequest, Flow, NO_REDIRECT_URI,
    RecoveredCode, Tokens, VerifierCheck,
};
use crate::oauth::token::{DeviceGrant, TokenResponse};
use crate::oauth::{Call, Cause, TokenError, target};
use crate::storage::{DevicePoll, DeviceRedemption, NewRefresh, PollDevice, RedeemDevice};
use crate::token::refresh;

/// Answers a poll of `client`, at once or, with `patience`, when somebody decides.
pub(in crate::oauth) async fn poll(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    request: &DeviceGrant,
    patience: Option<&Patience>,
) -> Result<TokenResponse, TokenError> {
    let text = request.code.reveal();
    CredentialKind::DeviceCode.parse(text, 32).map_err(|_| Cause::MalformedDeviceCode)?;
    let device = Digest::<DeviceCode>::of(text.as_bytes());
    let polling = Polling { call, client, device };
    let record = match patience {
        Some(patience) => polling.wait(patience).await?,
        None => match polling.ask(&polling.arrive()?, call.now).await? {
            Polled::Approved(record) => record,
            Polled::Pending(_) => return Err(Cause::AuthorizationPending.into()),
        },
    };
    // What is issued after a wait is issued then.
    let call = &Call { now: call.services.devices.clock.now().max(call.now), ..*call };
    let (user, grant) = approval(call, &record).await?;
    redeem(call, client, request, Approved { device, record: *record, user, grant }).await
}

struct Polling<'a> {
    call: &'a Call<'a>,
    client: &'a AuthenticatedClient,
    device: Digest<DeviceCode>,
}

enum Polled {
    Approved(Box<DeviceRecord>),
    Pending(Timestamp),
}

impl Polling<'_> {
    /// A poll as it arrives, at its pace: what storage is to be asked.
    fn arrive(&self) -> Result<DevicePoll, TokenError> {
        let devices = &self.call.services.devices;
        match devices.pace.arrive(&self.device, self.client.id(), self.call.now) {
            Arrival::TooEarly => Err(Cause::SlowDown.into()),
            Arrival::Ask { slower, never_early, known } => {
                // Codes that are known are few, and have their pace; what is not may be a flood.
                if !known {
                    self.client.count(self.call, Limited::TokenRequest)?;
                }
                Ok(self.poll(slower, never_early))
            }
        }
    }

    fn poll(&self, slower: Duration, never_early: bool) -> DevicePoll {
        let client = self.client.id().clone();
        DevicePoll { device: self.device, client, slower, never_early }
    }

    /// Asks storage.
    async fn ask(&self, poll: &DevicePoll, now: Timestamp) -> Result<Polled, Cause> {
        let (tenant, pace) = (self.call.tenant, &self.call.services.devices.pace);
        let heard = pace.heard();
        let polled = tenant.store.poll_device(poll, now).await.map_err(Cause::Store)?;
        let carried = (poll.slower, heard);
        let noted = |record| pace.polled(&self.device, &tenant.uid, record, carried, now);
        Err(match polled {
            PollDevice::Approved(record) => {
                pace.forget(&self.device);
                return Ok(Polled::Approved(Box::new(record)));
            }
            PollDevice::Pending(record) => {
                noted(&record);
                return Ok(Polled::Pending(record.expires_at));
            }
            PollDevice::TooEarly(record) => {
                noted(&record);
                Cause::SlowDown
            }
            PollDevice::Denied => Cause::DeviceDenied,
            PollDevice::Redeemed => Cause::DeviceRedeemed,
            PollDevice::Expired => {
                // Whoever goes on polling does not fill the audit log.
                if pace.expired(&self.device) {
                    self.record_expired(now);
                }
                Cause::DeviceExpired
            }
            PollDevice::Unknown => Cause::UnknownDeviceCode,
        })
    }

    /// The approved device, if it is approved while the caller waits. The place is taken before
    /// storage is asked, so that a decision in between wakes it.
    async fn wait(&self, patience: &Patience) -> Result<Box<DeviceRecord>, TokenError> {
        let (services, tenant) = (self.call.services, self.call.tenant);
        let devices = &services.devices;
        let deadline = Instant::now() + patience.wait;
        // Whoever is too early takes nobody's place.
        let poll = self.arrive()?;
        let mut place = devices.waiters.place(tenant, self.client.id(), self.device);
        let mut polled = self.ask(&poll, self.call.now).await?;
        loop {
            let expires_at = match polled {
                Polled::Approved(record) if !patience.gone.is_cancelled() => return Ok(record),
                // Nobody would get the tokens; the code stays for the next poll.
                Polled::Approved(_) => return Err(Cause::AuthorizationPending.into()),
                Polled::Pending(expires_at) => expires_at,
            };
            let life = expires_at.since(devices.clock.now());
            let woken = place.wait(deadline.min(Instant::now() + life), &patience.gone).await;
            match woken {
                Woken::Look => {}
                Woken::TimedOut if expires_at <= devices.clock.now() => {}
                Woken::TimedOut => {
                    devices.pace.waited(&self.device);
                    return Err(Cause::AuthorizationPending.into());
                }
                Woken::Replaced | Woken::Ended => return Err(Cause::AuthorizationPending.into()),
            }
            place = devices.waiters.place(tenant, self.client.id(), self.device);
            let poll = self.poll(Duration::ZERO, true);
            polled = self.ask(&poll, devices.clock.now().max(self.call.now)).await?;
        }
    }

    fn record_expired(&self, now: Timestamp) {
        let record = AuditRecord {
            at: now,
            action: Action::DeviceExpired,
            user: None,
            client: Some(self.client.id().clone()),
            session: None,
            resource: None,
            success: true,
            detail: None,
            context: self.call.audit.clone(),
        };
        self.call.services.recorder.record(&self.call.tenant.uid, record);
    }
}

/// A device that a user allowed, and the grant that this made.
struct Approved {
    device: Digest<DeviceCode>,
    record: DeviceRecord,
    user: UserId,
    grant: Grant,
}

async fn approval(call: &Call<'_>, record: &DeviceRecord) -> Result<(UserId, Grant), Cause> {
    let (Some(user), Some(grant)) = (record.user, record.grant) else { return Err(Cause::Engine) };
    let found = call.tenant.store.find_grant(grant).await.map_err(Cause::Store)?;
    Ok((user, found.ok_or(Cause::DeviceRevoked)?))
}

async fn redeem(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    request: &DeviceGrant,
    approved: Approved,
) -> Result<TokenResponse, TokenError> {
    let machine = AccessTokenMachine::new(&CodeRequest {
        client: client.id(),
        code: request.code.reveal(),
        redirect_uri: NO_REDIRECT_URI,
    });
    // Not more than was approved, and not more than the client may still have.
    let scope = approved.grant.terms.scope.intersection(&client.client().scopes);
    let wanted = approved.grant.terms.claims.as_ref();
    let about = wanted_in_id_token(call, Some(approved.user), wanted).await?;
    let mut flow =
        Redeem { call, client, request, approved: &approved, scope: &scope, draft: None };
    let tokens = engine::drive(machine, &mut flow).await?;
    let draft = flow.draft.ok_or(Cause::Engine)?;
    // The device is no part of the browser's session: there is no `sid`.
    let id = draft.id_claims(approved.record.terms.nonce.clone(), None, about);
    draft.respond(call, client.client(), tokens, id).await
}

struct Redeem<'a> {
    call: &'a Call<'a>,
    client: &'a AuthenticatedClient,
    request: &'a DeviceGrant,
    approved: &'a Approved,
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
                self.verify(challenge)?;
                CodeAnswer::Verified
            }
            CodeAsk::Issue(scope) => CodeAnswer::Issued(self.issue(&scope).await?),
        })
    }
}

impl<'a> Redeem<'a> {
    fn recover(&self) -> Result<RecoveredCode<'a>, Cause> {
        if self.scope.is_empty() && !self.approved.grant.terms.scope.is_empty() {
            return Err(Cause::ScopeEmpty);
        }
        Ok(RecoveredCode {
            client: &self.approved.record.client,
            subject: self.approved.user.to_string(),
            redirect_uri: NO_REDIRECT_URI,
            scope: self.scope,
            challenge: self.approved.record.terms.code_challenge.as_deref(),
        })
    }

    /// RFC 7636 §4.6. A wrong verifier changes nothing; guessing is slowed down by address.
    fn verify(&self, challenge: Challenge) -> Result<(), Cause> {
        let verifier = self.request.verifier.as_ref().map(|verifier| verifier.reveal().as_str());
        match challenge.check(verifier) {
            VerifierCheck::Good => Ok(()),
            VerifierCheck::Missing => Err(Cause::VerifierMissing),
            VerifierCheck::Unasked => Err(Cause::VerifierWithoutChallenge),
            VerifierCheck::Wrong => {
                let Call { services, tenant, .. } = self.call;
                let address = self.call.address();
                Err(match services.limiter.check(Limited::BadVerifier, &tenant.uid, address) {
                    Ok(()) => Cause::VerifierWrong,
                    Err(often) => Cause::TooMany { retry_after: often.retry_after },
                })
            }
        }
    }

    /// Spends the code. What has failed up to here had no effect; what fails after this line has
    /// cost the device its code.
    async fn issue(&mut self, scope: &Scope) -> Result<Tokens, TokenError> {
        let (call, approved, client) = (self.call, self.approved, self.client.client());
        let grant = &approved.grant;
        let target = target::resolve(
            &call.tenant.settings,
            client,
            &grant.terms.resources,
            &self.request.resources,
            scope,
        )?;
        ready_to_mint(call, client, Some(approved.user), &target.scope).await?;

        let refresh = self.wants_refresh(client).then(|| first_refresh(call));
        let origin = Origin {
            user: Some(approved.user),
            grant: Some(grant.id),
            session: None,
            generation: refresh.as_ref().map(|_| 1),
            auth_time: Some(grant.terms.auth_time),
            acr: grant.terms.acr.clone(),
            amr: grant.terms.amr.clone(),
            // A grant that is not refreshed ends with its code; what came out of it lives its own life.
            ends: refresh.as_ref().map(|_| grant.expires_at),
        };
        let mut draft = Draft::new(call, client, origin, &target).await?;
        let head = spend(call, self.redemption(refresh, &draft)).await?;
        let (ring, uid) = (&call.services.ring, &call.tenant.uid);
        let refresh = match &head {
            Some(head) => Some(
                refresh::spell(ring, uid, &client.id, grant.id, head)
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
            && (self.scope.contains(Scope::OFFLINE_ACCESS)
                || client.refresh_tokens == RefreshPolicy::Always)
    }

    fn redemption(&self, refresh: Option<NewRefresh>, draft: &Draft) -> DeviceRedemption {
        DeviceRedemption {
            device: self.approved.device,
            client: self.client.id().clone(),
            user: self.approved.user,
            refresh,
            opaque: draft.row(),
            access_expires_at: draft.expires_at(),
        }
    }
}

/// The commit, in a task of its own: a client that hangs up does not leave it half done.
async fn spend(
    call: &Call<'_>,
    spent: DeviceRedemption,
) -> Result<Option<RefreshHead>, TokenError> {
    let (tenant, audit, now) = (Arc::clone(call.tenant), call.audit.clone(), call.now);
    let commit = tokio::spawn(async move { tenant.store.redeem_device(&spent, now, &audit).await });
    let outcome = commit.await.map_err(|_| Cause::Engine)?.map_err(Cause::Store)?;
    Err(match outcome {
        RedeemDevice::Redeemed { refresh } => return Ok(refresh),
        RedeemDevice::AlreadyRedeemed => Cause::DeviceRedeemed,
        RedeemDevice::NotApproved => Cause::Engine,
        RedeemDevice::Expired => Cause::DeviceExpired,
        RedeemDevice::Revoked => Cause::DeviceRevoked,
        RedeemDevice::Unknown => Cause::UnknownDeviceCode,
    }
    .into())
}
