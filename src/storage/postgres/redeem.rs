//! Spending a code: [`Codes::redeem_code`](crate::storage::Codes::redeem_code).

use super::View;
use super::codes::bind_opaque;
use super::db::{Sql, get, time};
use super::rows::{hash, head};
use super::text::{audit, revoke};
use crate::base::Timestamp;
use crate::model::{Audit, GrantId};
use crate::storage::{NewRefresh, RedeemCode, Redemption, Result};

/// The columns that a grant gets when its code is spent, first refresh token or none: `$11` end of the
/// access token, `$12` salt, `$13` ring key, `$14` nonce, `$15` idle end, `$16` fingerprint. See
/// `NewRefresh::first_head` and `horizon::grant`.
macro_rules! first_refresh {
    () => {
        "salt = $12, head_kid = $13, head_nonce = $14, rot_fp = $16,
         head = CASE WHEN $12::bytea IS NOT NULL THEN 1 END,
         rotated_at = CASE WHEN $12::bytea IS NOT NULL THEN $2 END,
         epoch = CASE WHEN $12::bytea IS NOT NULL THEN revocation_epoch() END,
         idle_exp = coalesce($15, idle_exp),
         keep_until = CASE WHEN $12::bytea IS NULL
           THEN greatest(grants.keep_until, $11 + interval '60 seconds')
           ELSE greatest(grants.keep_until, date_trunc('day', interval '60 seconds'
             + greatest($11, least($15, abs_exp)), 'UTC') + interval '1 day') END"
    };
}
pub(super) use first_refresh;

/// The refresh columns, for `rows::head`.
macro_rules! head_columns {
    () => {
        "salt, head_kid, head, head_nonce, pred, pred_nonce, rotated_at, replaced_at, replacements,
         head_seen, repeats, rot_fp, differs, streak, epoch"
    };
}
pub(super) use head_columns;

/// The first use of a code while all is well, as a statement that does only that: everything fits,
/// and it is spent, or nothing is changed, and then [`REDEEM`] decides.
macro_rules! spend {
    ($opaque:literal) => {
        concat!(
            "WITH usr AS MATERIALIZED (
       SELECT 1 FROM users WHERE tenant_uid = $1 AND id = $7 AND is_active AND num_nulls(deleted_at) = 1
       FOR SHARE),
     cur AS MATERIALIZED (
       SELECT session_id, grant_id, keep_until FROM authorization_codes
       WHERE tenant_uid = $1 AND code_hash = $8 AND client_id = $9 AND user_id = $7
         AND consumed_at IS NULL AND dead_at IS NULL AND expires_at > $2
         AND EXISTS (SELECT 1 FROM usr)
       FOR UPDATE),
     g AS (
       UPDATE grants SET ",
            first_refresh!(),
            "
       FROM cur
       WHERE tenant_uid = $1 AND id = (SELECT grant_id FROM cur)
         AND coalesce(state = 'live', false) AND abs_exp > $2
         AND (cur.session_id IS NULL OR coalesce((
           SELECT s.status = 'active' AND s.idle_expires_at > $2 AND s.expires_at > $2
           FROM sessions s WHERE s.tenant_uid = $1
             AND s.session_id = (SELECT session_id FROM cur)), false))
         AND NOT EXISTS (SELECT 1 FROM client_states WHERE tenant_uid = $1 AND client_id = $9)
       RETURNING id, abs_exp, cur.session_id AS code_session, cur.keep_until AS code_keep_until,
         ",
            head_columns!(),
            "),
     c AS (
       UPDATE authorization_codes SET consumed_at = $2, retry_fp = $10,
         keep_until = greatest(g.code_keep_until, interval '60 seconds'
           + CASE WHEN $12::bytea IS NULL THEN $11 ELSE greatest($11, g.abs_exp) END)
       FROM g WHERE tenant_uid = $1 AND code_hash = $8),
     ev AS (
       SELECT 'code.redeemed' AS action, $7::uuid AS user_id, $9 AS client_id,
         code_session AS session_id, 'grant' AS resource_type, id::text AS resource_id,
         true AS success FROM g), ",
            $opaque,
            audit!(),
            " SELECT * FROM g"
        )
    };
}

const SPEND: &str = spend!("");

const SPEND_OPAQUE: &str = spend!(
    "opq AS (
       INSERT INTO access_tokens (tenant_uid, token_hash, jti, client_id, user_id, grant_id,
         generation, claims, created_at, expires_at)
       SELECT $1, $17, $18, $9, $7, g.id, $19, $20::json, $21, $22 FROM g), "
);

/// The table is that of `verdict::decide_code`.
const REDEEM: &str = concat!(
    "WITH usr AS MATERIALIZED (
       SELECT is_active FROM users WHERE tenant_uid = $1 AND id = $7 AND num_nulls(deleted_at) = 1
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
           AND (cur.session_id IS NULL OR coalesce((
             SELECT s.status = 'active' AND s.idle_expires_at > $2 AND s.expires_at > $2
             FROM sessions s WHERE s.tenant_uid = $1 AND s.session_id = cur.session_id), false))
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

impl View {
    pub(super) async fn redeem(
        &self,
        redemption: &Redemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemCode> {
        let spend = self.spend(redemption, now, audit)?;
        if let Some(row) = self.db().write_one(spend).await? {
            return Ok(RedeemCode::Redeemed { refresh: head(&row)? });
        }
        let decide = self.decide_code(redemption, now, audit)?;
        let Some(row) = self.db().write_one(decide).await? else {
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

    fn spend(&self, redemption: &Redemption, now: Timestamp, audit: &Audit) -> Result<Sql> {
        let opaque = redemption.opaque.as_ref();
        let text = if opaque.is_some() { SPEND_OPAQUE } else { SPEND };
        let statement = self
            .changing(text, now, audit)
            .bind(redemption.user.0)
            .bind(hash(&redemption.code))
            .bind(redemption.client.as_str())
            .bind(redemption.retry.as_ref().map(|retry| retry.fingerprint.to_vec()))
            .at(redemption.access_expires_at);
        let statement = bind_refresh(statement, redemption.refresh.as_ref());
        match opaque {
            Some(token) => bind_opaque(statement, Some(token), |statement| {
                statement.bind(token.claims.generation.map(i64::from))
            }),
            None => Ok(statement),
        }
    }

    fn decide_code(&self, redemption: &Redemption, now: Timestamp, audit: &Audit) -> Result<Sql> {
        let retry = redemption.retry.as_ref().filter(|retry| !retry.window.is_zero());
        let statement = self
            .changing(REDEEM, now, audit)
            .bind(redemption.user.0)
            .bind(hash(&redemption.code))
            .bind(redemption.client.as_str())
            .bind(redemption.retry.as_ref().map(|retry| retry.fingerprint.to_vec()))
            .at_if(retry.map(|retry| now.minus(retry.window)))
            .at(redemption.access_expires_at);
        let opaque = redemption.opaque.as_ref();
        let generation = opaque.and_then(|token| token.claims.generation).map(i64::from);
        let statement = bind_refresh(statement, redemption.refresh.as_ref());
        bind_opaque(statement, opaque, |statement| statement.bind(generation))
    }
}

/// Salt, ring key, nonce, idle end and fingerprint of the first refresh token, or nulls.
pub(super) fn bind_refresh(statement: Sql, refresh: Option<&NewRefresh>) -> Sql {
    statement
        .bind(refresh.map(|refresh| refresh.salt.to_vec()))
        .bind(refresh.map(|refresh| i16::from(refresh.kid)))
        .bind(refresh.map(|refresh| refresh.nonce.to_vec()))
        .at_if(refresh.map(|refresh| refresh.idle_expires_at))
        .bind(refresh.and_then(|refresh| refresh.fingerprint).map(|fp| fp.to_vec()))
}
