use std::collections::{BTreeMap, HashMap, VecDeque};

use super::state::Change;
use crate::base::{Digest, Timestamp};
use crate::model::api_key::{ApiKey, ApiKeyId, Owner, PepperedDigest};
use crate::model::audit::AuditRecord;
use crate::model::code::{Code, CodeTerms};
use crate::model::consent::Consent;
use crate::model::device::{DeviceCode, DeviceRecord, DeviceStatus, UserCodeDigest};
use crate::model::grant::{Grant, GrantState};
use crate::model::key::SigningKeyRecord;
use crate::model::limit::LimitKey;
use crate::model::refresh::RefreshHead;
use crate::model::session::SessionCookie;
use crate::model::token::{AccessClaims, OpaqueToken};
use crate::model::user::LoginName;
use crate::model::{Client, ClientId, GrantId, RevocationKey, Session, SessionId, User, UserId};
use crate::storage::grants::Issue;
use crate::storage::{PushedRequest, StatusList, horizon};

/// The rows of one tenant: what other engines keep in tables.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) clients: BTreeMap<ClientId, Client>,
    pub(super) disabled_clients: BTreeMap<ClientId, Timestamp>,
    pub(super) users: BTreeMap<UserId, User>,
    pub(super) usernames: HashMap<LoginName, UserId>,
    pub(super) emails: HashMap<LoginName, UserId>,
    pub(super) sessions: HashMap<SessionId, SessionRow>,
    pub(super) cookies: HashMap<Digest<SessionCookie>, SessionId>,
    pub(super) consents: BTreeMap<(UserId, ClientId), Consent>,
    pub(super) grants: HashMap<GrantId, GrantRow>,
    pub(super) codes: HashMap<Digest<Code>, CodeRow>,
    pub(super) devices: HashMap<Digest<DeviceCode>, DeviceRow>,
    pub(super) user_codes: HashMap<UserCodeDigest, Digest<DeviceCode>>,
    pub(super) access_tokens: HashMap<Digest<OpaqueToken>, AccessClaims>,
    pub(super) status_lists: BTreeMap<(Timestamp, u32), StatusListRow>,
    pub(super) token_jtis: HashMap<String, Digest<OpaqueToken>>,
    pub(super) jtis: HashMap<(String, [u8; 32]), Timestamp>,
    pub(super) pushed: HashMap<Digest<PushedRequest>, (String, Timestamp)>,
    pub(super) attempts: HashMap<Digest<LimitKey>, horizon::Counter>,
    pub(super) api_keys: HashMap<ApiKeyId, ApiKeyRow>,
    pub(super) keys: BTreeMap<String, KeyRow>,
    pub(super) audits: VecDeque<AuditRow>,
}

pub(super) struct SessionRow {
    pub(super) session: Session,
    pub(super) cookie: Digest<SessionCookie>,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) keep_until: Timestamp,
}

impl SessionRow {
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && self.session.is_live(now)
    }
}

pub(super) struct GrantRow {
    pub(super) grant: Grant,
    pub(super) keep_until: Timestamp,
}

impl GrantRow {
    /// Raises the horizon to an access token that came out of the grant just now.
    pub(super) fn raise(&mut self, access_expires_at: Timestamp) {
        let idle = self.grant.refresh.as_ref().map(|_| self.grant.idle_expires_at);
        self.keep_until =
            horizon::grant(self.keep_until, access_expires_at, idle, self.grant.expires_at);
    }
}

pub(super) struct CodeRow {
    pub(super) client: ClientId,
    pub(super) user: UserId,
    pub(super) session: Option<SessionId>,
    pub(super) grant: GrantId,
    pub(super) terms: CodeTerms,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) redeemed_at: Option<Timestamp>,
    pub(super) retry_fingerprint: Option<[u8; 32]>,
    pub(super) wrong_verifiers: u32,
    pub(super) dead: bool,
    pub(super) keep_until: Timestamp,
}

pub(super) struct DeviceRow {
    pub(super) record: DeviceRecord,
    pub(super) user_code: UserCodeDigest,
    pub(super) last_polled_at: Option<Timestamp>,
    pub(super) keep_until: Timestamp,
}

impl DeviceRow {
    /// Expired without tokens: only the reason of a refusal is lost with it.
    pub(super) fn is_of_no_more_use(&self, now: Timestamp) -> bool {
        self.record.status != DeviceStatus::Redeemed && now >= self.record.expires_at
    }
}

pub(super) struct ApiKeyRow {
    pub(super) key: ApiKey,
    pub(super) digest: PepperedDigest,
    pub(super) keep_until: Timestamp,
}

impl ApiKeyRow {
    pub(super) fn revoke(&mut self, now: Timestamp) {
        self.key.revoked_at = Some(now);
        self.keep_until = self.keep_until.min(horizon::ended_api_key(now));
    }
}

pub(super) struct KeyRow {
    pub(super) key: SigningKeyRecord,
    pub(super) delete_at: Option<Timestamp>,
}

pub(super) struct AuditRow {
    pub(super) record: AuditRecord,
    pub(super) delete_at: Timestamp,
}

impl AuditRow {
    pub(super) fn new(record: AuditRecord) -> Self {
        let delete_at = horizon::audit_record(record.action, record.success, record.at);
        Self { record, delete_at }
    }
}

pub(super) struct StatusListRow {
    pub(super) list: StatusList,
    pub(super) taken: u32,
}

impl Rows {
    pub(super) fn user_is_live(&self, id: UserId) -> bool {
        self.users.get(&id).is_some_and(|user| !user.disabled)
    }

    pub(super) fn client_is_live(&self, id: &ClientId) -> bool {
        !self.disabled_clients.contains_key(id)
    }

    /// Whether the owner of an API key is, and the client that the key names.
    pub(super) fn owner_is_live(&self, owner: &Owner) -> bool {
        owner.user().is_none_or(|user| self.user_is_live(user))
            && owner.client().is_none_or(|client| self.client_is_live(client))
    }

    pub(super) fn session_is_live(&self, id: SessionId, now: Timestamp) -> bool {
        self.sessions.get(&id).is_some_and(|row| row.is_live(now))
    }

    /// Ends a session that has not ended, with its entry and the grants that die with it. Whose it
    /// was, if it had not ended.
    pub(super) fn end_session(
        &mut self,
        id: SessionId,
        change: &mut Change,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Option<UserId> {
        let row = self.sessions.get_mut(&id).filter(|row| row.ended_at.is_none())?;
        row.ended_at = Some(now);
        row.keep_until = horizon::ended_session(now);
        let user = row.session.user;
        change.revoke(RevocationKey::Session(id.to_string()), not_after, now);
        for row in self.grants.values_mut() {
            if row.grant.session == Some(id) && !row.grant.offline {
                row.grant.state = GrantState::Revoked;
            }
        }
        Some(user)
    }

    /// Revokes the live grants that `which` names; their names and horizons.
    pub(super) fn revoke_grants(
        &mut self,
        which: impl Fn(&Grant) -> bool,
    ) -> Vec<(GrantId, Timestamp)> {
        let live = |row: &&mut GrantRow| row.grant.state == GrantState::Live;
        let mut revoked = Vec::new();
        for row in self.grants.values_mut().filter(live).filter(|row| which(&row.grant)) {
            row.grant.state = GrantState::Revoked;
            revoked.push((row.grant.id, row.keep_until));
        }
        revoked.sort_unstable();
        revoked
    }

    /// Gives a grant its first refresh token, if one is issued; the grant's end, if so.
    pub(super) fn first_refresh(
        &mut self,
        id: GrantId,
        issue: &Issue<'_>,
        now: Timestamp,
        epoch: &str,
    ) -> Option<Timestamp> {
        let new = issue.refresh?;
        let grant = &mut self.grants.get_mut(&id)?.grant;
        grant.refresh = Some(new.first_head(now, epoch));
        grant.idle_expires_at = new.idle_expires_at;
        Some(grant.expires_at)
    }

    /// Writes the access token and raises the grant's horizon to it; the refresh columns.
    pub(super) fn write_access(&mut self, id: GrantId, issue: &Issue<'_>) -> Option<RefreshHead> {
        let row = self.grants.get_mut(&id)?;
        row.raise(issue.access_expires_at);
        let refresh = row.grant.refresh.clone();
        if let Some(opaque) = issue.opaque {
            self.add_access_token(opaque.digest, opaque.claims.clone());
        }
        refresh
    }

    /// Deletes the devices that `which` names.
    pub(super) fn forget_devices(&mut self, mut which: impl FnMut(&DeviceRow) -> bool) {
        let user_codes = &mut self.user_codes;
        self.devices.retain(|_, row| {
            let goes = which(row);
            if goes {
                user_codes.remove(&row.user_code);
            }
            !goes
        });
    }

    pub(super) fn add_access_token(&mut self, digest: Digest<OpaqueToken>, claims: AccessClaims) {
        self.token_jtis.insert(claims.jti.clone(), digest);
        self.access_tokens.insert(digest, claims);
    }

    pub(super) fn remove_access_token(&mut self, digest: &Digest<OpaqueToken>) {
        if let Some(claims) = self.access_tokens.remove(digest) {
            self.token_jtis.remove(&claims.jti);
        }
    }

    pub(super) fn remove_session(&mut self, id: SessionId) {
        if let Some(row) = self.sessions.remove(&id) {
            self.cookies.remove(&row.cookie);
        }
    }
}
