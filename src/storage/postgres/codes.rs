use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::View;
use super::db::{Sql, get, time, unreadable};
use super::rows::{from_json, hash, json};
use super::text::audit;
use crate::base::{Digest, Timestamp};
use crate::model::code::{Code, CodeRecord};
use crate::model::{Audit, ClientId, GrantId, Revocation, RevocationKey, SessionId, UserId};
use crate::storage::{
    Codes, CountVerifier, IssueCode, NewCode, NewGrant, NewOpaqueToken, RedeemCode, Redemption,
    Result, horizon,
};

const ISSUE: &str = concat!(
    "WITH usr AS MATERIALIZED (
       SELECT 1 FROM users WHERE tenant_uid = $1 AND id = $7 AND is_active AND num_nulls(deleted_at) = 1
       FOR SHARE),
     ses AS MATERIALIZED (
       SELECT 1 FROM sessions WHERE tenant_uid = $1 AND session_id = $8 AND user_id = $7
         AND coalesce(status = 'active', false) AND idle_expires_at > $2 AND expires_at > $2
         AND (SELECT count(*) FROM usr) >= 0
       FOR SHARE),
     ok AS MATERIALIZED (
       SELECT 1 WHERE EXISTS (SELECT 1 FROM usr)
         AND ($8::uuid IS NULL OR EXISTS (SELECT 1 FROM ses))
         AND NOT EXISTS (SELECT 1 FROM client_states WHERE tenant_uid = $1 AND client_id = $9)),
     grn AS (
       INSERT INTO grants (tenant_uid, id, client_id, user_id, session_id, scope, resources, jkt,
         offline, terms, created_at, idle_exp, abs_exp, keep_until)
       SELECT $1, $10, $9, $7, $8, $11, $12, $13, $14, $15::json, $2, $16, $16, $20 FROM ok),
     cod AS (
       INSERT INTO authorization_codes (tenant_uid, code_hash, client_id, user_id, session_id,
         grant_id, terms, created_at, expires_at, keep_until)
       SELECT $1, $17, $9, $7, $8, $10, $18::json, $2, $19, $20 FROM ok),
     ev AS (
       SELECT 'grant.created' AS action, $7::uuid AS user_id, $9 AS client_id, $8::uuid AS session_id,
         'grant' AS resource_type, $10::uuid::text AS resource_id, true AS success FROM ok), ",
    audit!(),
    " SELECT EXISTS (SELECT 1 FROM ok) AS issued"
);

const PEEK: &str = "WITH c AS MATERIALIZED (
       SELECT client_id, user_id, session_id, grant_id, terms, created_at, expires_at
       FROM authorization_codes WHERE tenant_uid = $1 AND code_hash = $2)
     SELECT c.client_id, c.user_id, c.session_id, c.grant_id, c.terms::text AS code_terms,
       c.created_at, c.expires_at, g.terms::text AS grant_terms, g.offline
     FROM c JOIN grants g ON g.tenant_uid = $1 AND g.id = (SELECT grant_id FROM c)";

const COUNT_WRONG: &str = concat!(
    "WITH cur AS MATERIALIZED (
       SELECT client_id, user_id, session_id, grant_id, dead_at, wrong_verifiers
       FROM authorization_codes WHERE tenant_uid = $1 AND code_hash = $7 AND consumed_at IS NULL
       FOR UPDATE),
     v AS (SELECT cur.*, dead_at IS NULL AND wrong_verifiers + 1 >= $8 AS dies FROM cur),
     u AS (
       UPDATE authorization_codes c SET wrong_verifiers = v.wrong_verifiers + 1,
         dead_at = CASE WHEN v.dies THEN $2 END
       FROM v WHERE c.tenant_uid = $1 AND c.code_hash = $7 AND v.dead_at IS NULL),
     ev AS (
       SELECT 'code.killed' AS action, user_id, client_id, session_id, 'grant' AS resource_type,
         grant_id::text AS resource_id, false AS success FROM v WHERE dies), ",
    audit!(),
    " SELECT dies OR dead_at IS NOT NULL AS dead FROM v"
);

#[async_trait]
impl Codes for View {
    async fn issue_code(
        &self,
        grant: &NewGrant,
        code: &NewCode,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueCode> {
        let statement = self
            .changing(ISSUE, now, audit)
            .bind(grant.user.map(|user| user.0))
            .bind(grant.session.map(|session| session.0))
            .bind(grant.client.as_str())
            .bind(grant.id.0)
            .bind(grant.terms.scope.to_string())
            .bind(&grant.terms.resources)
            .bind(grant.jkt.as_deref())
            .bind(grant.offline)
            .bind(json(&grant.terms)?)
            .at(grant.expires_at)
            .bind(hash(&code.digest))
            .bind(json(&code.terms)?)
            .at(code.expires_at)
            .at(horizon::unspent_code(code.expires_at));
        let row = self.db().decide(statement).await?;
        Ok(if get(&row, "issued")? { IssueCode::Issued } else { IssueCode::NotLive })
    }

    async fn peek_code(&self, code: &Digest<Code>) -> Result<Option<CodeRecord>> {
        let row = self.db().read_one(self.sql(PEEK).bind(hash(code))).await?;
        row.as_ref().map(record).transpose()
    }

    async fn count_wrong_verifier(
        &self,
        code: &Digest<Code>,
        limit: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CountVerifier> {
        let statement = self
            .changing(COUNT_WRONG, now, audit)
            .bind(hash(code))
            .bind(i32::try_from(limit).unwrap_or(i32::MAX));
        Ok(match self.db().write_one(statement).await? {
            None => CountVerifier::NotLive,
            Some(row) if get(&row, "dead")? => CountVerifier::Dead,
            Some(_) => CountVerifier::Counted,
        })
    }

    async fn redeem_code(
        &self,
        redemption: &Redemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemCode> {
        self.redeem(redemption, now, audit).await
    }
}

impl View {
    /// Announces that this process revoked a grant.
    pub(super) fn announce_grant(&self, grant: GrantId, expires_at: Timestamp, at: Timestamp) {
        let key = RevocationKey::Grant(grant.to_string());
        let revocation = Revocation { key, audience: None, not_before: None, expires_at, at };
        self.shared.announce(&[self.entry(revocation)]);
    }
}

/// Digest and jti, what `between` adds, then claims, time of issue and end of an opaque token.
pub(super) fn bind_opaque(
    statement: Sql,
    token: Option<&NewOpaqueToken>,
    between: impl FnOnce(Sql) -> Sql,
) -> Result<Sql> {
    let statement = statement
        .bind(token.map(|token| hash(&token.digest)))
        .bind(token.map(|token| token.claims.jti.as_str()));
    Ok(between(statement)
        .bind(token.map(|token| json(&token.claims)).transpose()?)
        .at_if(token.map(|token| token.claims.issued_at))
        .at_if(token.map(|token| token.claims.expires_at)))
}

fn record(row: &PgRow) -> Result<CodeRecord> {
    let user = get::<Option<Uuid>>(row, "user_id")?.ok_or_else(|| unreadable("code"))?;
    Ok(CodeRecord {
        client: ClientId::new(get(row, "client_id")?),
        user: UserId(user),
        session: get::<Option<Uuid>>(row, "session_id")?.map(SessionId),
        grant: GrantId(get(row, "grant_id")?),
        terms: from_json(row, "code_terms")?,
        grant_terms: from_json(row, "grant_terms")?,
        offline: get(row, "offline")?,
        issued_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}
