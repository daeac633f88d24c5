use async_trait::async_trait;

use super::MemoryTenant;
use super::rows::{CodeRow, GrantRow, Rows};
use super::state::{Change, Concerned};
use crate::base::{Digest, Timestamp};
use crate::model::audit::Action;
use crate::model::code::{Code, CodeRecord};
use crate::model::refresh::RefreshHead;
use crate::model::{Audit, GrantId, RevocationKey};
use crate::storage::verdict::{CodeDecision, CodeLife, decide_code};
use crate::storage::{
    Codes, CountVerifier, IssueCode, NewCode, NewGrant, RedeemCode, Redemption, Result, StoreError,
    horizon,
};

#[async_trait]
impl Codes for MemoryTenant {
    async fn issue_code(
        &self,
        grant: &NewGrant,
        code: &NewCode,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueCode> {
        self.change(|rows, change| {
            let Some(user) = grant.user.filter(|user| rows.user_is_live(*user)) else {
                return Ok(IssueCode::NotLive);
            };
            let session_live = grant.session.is_none_or(|id| rows.session_is_live(id, now));
            if !session_live || !rows.client_is_live(&grant.client) {
                return Ok(IssueCode::NotLive);
            }
            let keep_until = horizon::unspent_code(code.expires_at);
            if rows.codes.contains_key(&code.digest) || rows.grants.contains_key(&grant.id) {
                return Err(StoreError::unavailable("the grant or its code is there already"));
            }
            rows.grants.insert(grant.id, GrantRow { grant: grant.born(now), keep_until });
            rows.codes.insert(
                code.digest,
                CodeRow {
                    client: grant.client.clone(),
                    user,
                    session: grant.session,
                    grant: grant.id,
                    terms: code.terms.clone(),
                    issued_at: now,
                    expires_at: code.expires_at,
                    redeemed_at: None,
                    retry_fingerprint: None,
                    wrong_verifiers: 0,
                    dead: false,
                    keep_until,
                },
            );
            let of = Concerned::grant(grant.id, Some(user), &grant.client, grant.session);
            change.record(Action::GrantCreated, now, audit, of);
            Ok(IssueCode::Issued)
        })
    }

    async fn peek_code(&self, code: &Digest<Code>) -> Result<Option<CodeRecord>> {
        Ok(self.read(|rows| {
            let row = rows.codes.get(code)?;
            let grant = &rows.grants.get(&row.grant)?.grant;
            Some(CodeRecord {
                client: row.client.clone(),
                user: row.user,
                session: row.session,
                grant: row.grant,
                terms: row.terms.clone(),
                grant_terms: grant.terms.clone(),
                offline: grant.offline,
                issued_at: row.issued_at,
                expires_at: row.expires_at,
            })
        }))
    }

    async fn count_wrong_verifier(
        &self,
        code: &Digest<Code>,
        limit: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CountVerifier> {
        Ok(self.change(|rows, change| {
            let Some(row) = rows.codes.get_mut(code).filter(|row| row.redeemed_at.is_none()) else {
                return CountVerifier::NotLive;
            };
            if row.dead {
                return CountVerifier::Dead;
            }
            row.wrong_verifiers += 1;
            if row.wrong_verifiers < limit {
                return CountVerifier::Counted;
            }
            row.dead = true;
            change.record(Action::CodeKilled, now, audit, concerned(row));
            CountVerifier::Dead
        }))
    }

    async fn redeem_code(
        &self,
        redemption: &Redemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemCode> {
        let epoch = self.store.epoch().current;
        Ok(self
            .change(|rows, change| Redeeming { rows, change, redemption, now, epoch }.run(audit)))
    }
}

fn concerned(row: &CodeRow) -> Concerned {
    Concerned::grant(row.grant, Some(row.user), &row.client, row.session)
}

/// A redemption under the lock.
struct Redeeming<'a> {
    rows: &'a mut Rows,
    change: &'a mut Change,
    redemption: &'a Redemption,
    now: Timestamp,
    epoch: &'a str,
}

impl Redeeming<'_> {
    fn run(mut self, audit: &Audit) -> RedeemCode {
        let Some(code) = self.rows.codes.get(&self.redemption.code) else {
            return RedeemCode::Unknown;
        };
        let (grant, of) = (code.grant, concerned(code));
        match self.decide(code) {
            CodeDecision::Redeemed => {
                self.change.record(Action::CodeRedeemed, self.now, audit, of);
                RedeemCode::Redeemed { refresh: self.spend(grant) }
            }
            CodeDecision::Repeated => {
                let refresh = self.rows.write_access(grant, &self.redemption.issue());
                RedeemCode::Repeated { refresh }
            }
            CodeDecision::Replayed => {
                for (id, horizon) in self.rows.revoke_grants(|g| g.id == grant) {
                    self.change.revoke(RevocationKey::Grant(id.to_string()), horizon, self.now);
                }
                self.change.record(Action::CodeReplayed, self.now, audit, of);
                RedeemCode::Replayed { grant }
            }
            CodeDecision::Dead => RedeemCode::Dead,
            CodeDecision::Expired => RedeemCode::Expired,
            CodeDecision::Revoked => RedeemCode::Revoked,
            CodeDecision::Unknown => RedeemCode::Unknown,
        }
    }

    fn decide(&self, code: &CodeRow) -> CodeDecision {
        let rows = &*self.rows;
        let owners_live = rows.user_is_live(code.user)
            && rows.client_is_live(&code.client)
            && code.session.is_none_or(|id| rows.session_is_live(id, self.now));
        let life = CodeLife {
            client: &code.client,
            grant: code.grant,
            expires_at: code.expires_at,
            redeemed_at: code.redeemed_at,
            retry_fingerprint: code.retry_fingerprint,
            dead: code.dead,
        };
        let grant = rows.grants.get(&code.grant).map(|row| &row.grant);
        decide_code(&life, grant, owners_live, self.redemption, self.now)
    }

    /// Spends the code and writes what comes out of it.
    fn spend(&mut self, id: GrantId) -> Option<RefreshHead> {
        let redemption = self.redemption;
        let end = self.rows.first_refresh(id, &redemption.issue(), self.now, self.epoch);
        if let Some(code) = self.rows.codes.get_mut(&redemption.code) {
            code.redeemed_at = Some(self.now);
            code.retry_fingerprint = redemption.retry.as_ref().map(|retry| retry.fingerprint);
            code.keep_until =
                horizon::spent_code(code.keep_until, redemption.access_expires_at, end);
        }
        self.rows.write_access(id, &redemption.issue())
    }
}
