use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::View;
use super::db::{Sql, get, time, unreadable};
use super::rows::{from_json, hash, head, json};
use super::text::{audit, revoke};
use crate::base::{Digest, Timestamp};
use crate::model::code::{Code, CodeRecord};
use crate::model::{Audit, ClientId, GrantId, Revocation, RevocationKey, SessionId, UserId};
use crate::storage::{
    Codes, CountVerifier, IssueCode, NewCode, NewGrant, NewOpaqueToken, RedeemCode, Redemption,
    Result, horizon,
};

const ISSUE: &str = concat!(
    "WITH usr AS MATERIALIZED (
       SELECT 1 FROM users WHERE tenant_uid = $1 AND id = $7 AND is_active AND deleted_at IS NULL
       FOR SHARE),
     ses AS MATERIALIZED (
       SELECT 1 FROM sessions WHERE tenant_uid = $1 AND session_id = $8 AND user_id = $7
         AND status = 'active' AND idle_expires_at > $2 AND expires_at > $2
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

const PEEK: &str =
    "SELECT c.client_id, c.user_id, c.session_id, c.grant_id, c.terms::text AS code_terms,
       c.created_at, c.expires_at, g.terms::text AS grant_terms, g.offline
     FROM authorization_codes c JOIN grants g ON g.tenant_uid = c.tenant_uid AND g.id = c.grant_id
     WHERE c.tenant_uid = $1 AND c.code_hash = $2";

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

/// The table is that of `verdict::decide_code`.
const REDEEM: &str = concat!(
    "WITH usr AS MATERIALIZED (
       SELECT is_active FROM users WHERE tenant_uid = $1 AND id = $7 AND deleted_at IS NULL
       FOR SHARE),
     cur AS MATERIALIZED (
       SELECT client_id, user_id, session_id, grant_id, expires_at, consumed_at, retry_fp, dead_at,
         keep_until
       FROM authorization_codes WHERE tenant_uid = $1 AND code_hash = $8
         AND (SELECT count(*) FROM usr) >= 0
       FOR UPDATE),
     grn AS MATERIALIZED (
       SELECT id, state, idle_exp, abs_exp, keep_until, salt, head_kid, head, head_nonce, pred, pred_nonce,
         rotated_at, replaced_at, replacements, head_seen, repeats, rot_fp, differs, streak, epoch
       FROM grants WHERE tenant_uid = $1 AND id = (SELECT grant_id FROM cur)
       FOR UPDATE),
     l AS (
       SELECT cur.*, coalesce(grn.state = 'live' AND $2 < grn.abs_exp, false)
           AND cur.user_id = $7 AND coalesce((SELECT is_active FROM usr), false)
           AND (cur.session_id IS NULL OR EXISTS (
             SELECT 1 FROM sessions s WHERE s.tenant_uid = $1 AND s.session_id = cur.session_id
               AND s.status = 'active' AND s.idle_expires_at > $2 AND s.expires_at > $2))
           AND NOT EXISTS (SELECT 1 FROM client_states k
             WHERE k.tenant_uid = $1 AND k.client_id = cur.client_id) AS live,
         grn.state, grn.abs_exp, grn.keep_until AS horizon, grn.head, grn.idle_exp
       FROM cur LEFT JOIN grn ON true),
     v AS MATERIALIZED (
       SELECT l.*, CASE
         WHEN client_id <> $9 THEN 'unknown'
         WHEN consumed_at IS NOT NULL THEN CASE
           WHEN live AND coalesce(head, 1) = 1 AND $10::bytea IS NOT NULL AND consumed_at >= $11
             AND retry_fp = $10 THEN 'repeated' ELSE 'replayed' END
         WHEN dead_at IS NOT NULL THEN 'dead'
         WHEN expires_at <= $2 THEN 'expired'
         WHEN live THEN 'redeemed'
         ELSE 'revoked' END AS verdict
       FROM l),
     n AS MATERIALIZED (
       SELECT v.*, verdict = 'redeemed' AS spends, verdict IN ('redeemed', 'repeated') AS answers,
         verdict = 'replayed' AND state = 'live' AS kills,
         CASE WHEN CASE verdict WHEN 'redeemed' THEN $13::bytea IS NOT NULL ELSE head IS NOT NULL END
           THEN greatest(horizon, date_trunc('day', interval '60 seconds' + greatest($12,
             least(CASE verdict WHEN 'redeemed' THEN $16 ELSE idle_exp END, abs_exp)), 'UTC')
             + interval '1 day')
           ELSE greatest(horizon, $12 + interval '60 seconds') END AS new_horizon
       FROM v),
     uc AS (
       UPDATE authorization_codes c SET consumed_at = $2, retry_fp = $10,
         keep_until = greatest(n.keep_until, interval '60 seconds'
           + CASE WHEN $13::bytea IS NULL THEN $12 ELSE greatest($12, n.abs_exp) END)
       FROM n WHERE c.tenant_uid = $1 AND c.code_hash = $8 AND n.spends),
     ug AS (
       UPDATE grants g SET
         state = CASE WHEN n.kills THEN 'revoked' ELSE 'live' END,
         revoked_at = CASE WHEN n.kills THEN $2 END,
         keep_until = CASE WHEN n.answers THEN n.new_horizon ELSE n.horizon END,
         salt = CASE WHEN n.spends THEN $13 ELSE g.salt END,
         head_kid = CASE WHEN n.spends THEN $14 ELSE g.head_kid END,
         head = CASE WHEN n.spends AND $13::bytea IS NOT NULL THEN 1 ELSE g.head END,
         head_nonce = CASE WHEN n.spends THEN $15 ELSE g.head_nonce END,
         rotated_at = CASE WHEN n.spends AND $13::bytea IS NOT NULL THEN $2 ELSE g.rotated_at END,
         rot_fp = CASE WHEN n.spends THEN $17 ELSE g.rot_fp END,
         idle_exp = CASE WHEN n.spends AND $13::bytea IS NOT NULL THEN $16 ELSE g.idle_exp END,
         epoch = CASE WHEN n.spends AND $13::bytea IS NOT NULL THEN revocation_epoch()
           ELSE g.epoch END
       FROM n WHERE g.tenant_uid = $1 AND g.id = n.grant_id AND (n.answers OR n.kills)
       RETURNING g.salt, g.head_kid, g.head, g.head_nonce, g.pred, g.pred_nonce, g.rotated_at,
         g.replaced_at, g.replacements, g.head_seen, g.repeats, g.rot_fp, g.differs, g.streak,
         g.epoch),
     opq AS (
       INSERT INTO access_tokens (tenant_uid, token_hash, jti, client_id, user_id, grant_id,
         generation, claims, created_at, expires_at)
       SELECT $1, $18, $19, $9, $7, n.grant_id, $20, $21::json, $22, $23 FROM n
       WHERE n.answers AND $18::bytea IS NOT NULL),
     rv AS (
       SELECT 'grant' AS kind, grant_id::text AS key, NULL::timestamptz AS nbf, horizon AS exp
       FROM n WHERE kills), ",
    revoke!(),
    ", ev AS (
       SELECT CASE WHEN spends THEN 'code.redeemed' ELSE 'code.replayed' END AS action, user_id,
         client_id, session_id, 'grant' AS resource_type, grant_id::text AS resource_id,
         spends AS success FROM n WHERE spends OR verdict = 'replayed'), ",
    audit!(),
    " SELECT n.verdict, n.grant_id, n.kills, n.horizon, ug.* FROM n LEFT JOIN ug ON true"
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
        let statement = self.redeem(redemption, now, audit)?;
        let Some(row) = self.db().write_one(statement).await? else {
            return Ok(RedeemCode::Unknown);
        };
        let grant = GrantId(get(&row, "grant_id")?);
        if get(&row, "kills")? {
            self.announce_grant(grant, time(&row, "horizon")?, now);
        }
        Ok(match get(&row, "verdict")? {
            "redeemed" => RedeemCode::Redeemed { refresh: head(&row)? },
            "repeated" => RedeemCode::Repeated { refresh: head(&row)? },
            "replayed" => RedeemCode::Replayed { grant },
            "dead" => RedeemCode::Dead,
            "expired" => RedeemCode::Expired,
            "revoked" => RedeemCode::Revoked,
            _ => RedeemCode::Unknown,
        })
    }
}

impl View {
    fn redeem(&self, redemption: &Redemption, now: Timestamp, audit: &Audit) -> Result<Sql> {
        let retry = redemption.retry.as_ref().filter(|retry| !retry.window.is_zero());
        let refresh = redemption.refresh.as_ref();
        let statement = self
            .changing(REDEEM, now, audit)
            .bind(redemption.user.0)
            .bind(hash(&redemption.code))
            .bind(redemption.client.as_str())
            .bind(redemption.retry.as_ref().map(|retry| retry.fingerprint.to_vec()))
            .at_if(retry.map(|retry| now.minus(retry.window)))
            .at(redemption.access_expires_at)
            .bind(refresh.map(|refresh| refresh.salt.to_vec()))
            .bind(refresh.map(|refresh| i16::from(refresh.kid)))
            .bind(refresh.map(|refresh| refresh.nonce.to_vec()))
            .at_if(refresh.map(|refresh| refresh.idle_expires_at))
            .bind(refresh.and_then(|refresh| refresh.fingerprint).map(|fp| fp.to_vec()));
        let opaque = redemption.opaque.as_ref();
        let generation = opaque.and_then(|token| token.claims.generation).map(i64::from);
        bind_opaque(statement, opaque, |statement| statement.bind(generation))
    }

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
