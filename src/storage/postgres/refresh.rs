//! Refresh tokens: [`Grants::rotate_refresh`](crate::storage::Grants::rotate_refresh).

use super::View;
use super::codes::bind_opaque;
use super::db::{Sql, get, time, unreadable};
use super::rows::head;
use super::text::{audit, revoke};
use crate::base::Timestamp;
use crate::model::{Audit, GrantId, Revocation, RevocationKey};
use crate::storage::{Proof, RefreshVerdict, Result, Rotation};

/// The first row of the table, by far the most frequent, as a statement that does only that: it
/// matches, and rotates, or changes nothing, and then [`ROTATE`] decides.
macro_rules! rotate_head {
    ($opaque:literal) => {
        concat!(
    "WITH usr AS MATERIALIZED (
       SELECT is_active FROM users WHERE tenant_uid = $1 AND id = $7 AND num_nulls(deleted_at) = 1
       FOR SHARE),
     g AS (
       UPDATE grants SET idle_exp = $13, head_kid = $15, head = $10 + 1, head_nonce = $16,
         pred = $10, pred_nonce = $11, rotated_at = greatest($2, rotated_at), replaced_at = NULL,
         replacements = 0, head_seen = false, repeats = 0, rot_fp = $12, differs = false,
         streak = CASE WHEN differs THEN streak + 1 ELSE 0 END, epoch = revocation_epoch(),
         keep_until = greatest(keep_until, date_trunc('day', interval '60 seconds'
           + greatest($14, least($13, abs_exp)), 'UTC') + interval '1 day')
       WHERE tenant_uid = $1 AND id = $8 AND client_id = $9 AND head = $10 AND head_nonce = $11
         AND coalesce(state = 'live', false) AND idle_exp > $2 AND abs_exp > $2 AND NOT (differs AND streak >= 2)
         AND user_id IS NOT DISTINCT FROM $7
         AND coalesce((SELECT is_active FROM usr), $7::uuid IS NULL)
         AND (offline OR session_id IS NULL OR coalesce((
           SELECT s.status = 'active' AND s.idle_expires_at > $2 AND s.expires_at > $2
           FROM sessions s WHERE s.tenant_uid = $1 AND s.session_id = grants.session_id), false))
         AND NOT EXISTS (SELECT 1 FROM client_states WHERE tenant_uid = $1 AND client_id = $9)
       RETURNING id, user_id, client_id, session_id, salt, head_kid, head, head_nonce, pred,
         pred_nonce, rotated_at, replaced_at, replacements, head_seen, repeats, rot_fp, differs,
         streak, epoch),
     ev AS (
       SELECT 'refresh.rotated' AS action, user_id, client_id, session_id,
         'grant' AS resource_type, id::text AS resource_id, true AS success FROM g), ",
    $opaque,
    audit!(),
    " SELECT * FROM g"
        )
    };
}

const ROTATE_HEAD: &str = rotate_head!("");

const ROTATE_HEAD_OPAQUE: &str = rotate_head!(
    "opq AS (
       INSERT INTO access_tokens (tenant_uid, token_hash, jti, client_id, user_id, grant_id,
         generation, claims, created_at, expires_at)
       SELECT $1, $17, $18, $9, $7, $8, g.head, $19::json, $20, $21 FROM g), "
);

/// The table is that of `verdict::decide`, the columns those of the head it returns.
const ROTATE: &str = concat!(
    "WITH usr AS MATERIALIZED (
       SELECT is_active FROM users WHERE tenant_uid = $1 AND id = $7 AND num_nulls(deleted_at) = 1
       FOR SHARE),
     cur AS MATERIALIZED (
       SELECT id, client_id, user_id, session_id, offline, state, idle_exp, abs_exp, keep_until,
         salt, head_kid, head, head_nonce, pred, pred_nonce, rotated_at, replaced_at, replacements,
         head_seen, repeats, rot_fp, differs, streak, epoch
       FROM grants WHERE tenant_uid = $1 AND id = $8 AND (SELECT count(*) FROM usr) >= 0
       FOR UPDATE),
     ep AS MATERIALIZED (SELECT revocation_epoch() AS current),
     j AS MATERIALIZED (
       SELECT cur.*, CASE
         WHEN client_id <> $9 OR head IS NULL THEN 'unknown'
         WHEN state <> 'live'
           OR (user_id IS NOT NULL AND NOT (user_id = $7 AND coalesce((SELECT is_active FROM usr), false)))
           OR (session_id IS NOT NULL AND NOT offline AND NOT coalesce((
             SELECT s.status = 'active' AND s.idle_expires_at > $2 AND s.expires_at > $2
             FROM sessions s WHERE s.tenant_uid = $1 AND s.session_id = cur.session_id), false))
           OR EXISTS (SELECT 1 FROM client_states k
             WHERE k.tenant_uid = $1 AND k.client_id = cur.client_id) THEN 'revoked'
         WHEN $2 >= idle_exp OR $2 >= abs_exp THEN 'expired'
         WHEN head = $10 AND head_nonce = $11 THEN CASE
           WHEN $12 THEN 'kept'
           WHEN differs AND streak >= 2 THEN 'reused'
           ELSE 'rotated' END
         WHEN pred = $10 AND pred_nonce = $11 THEN CASE
           WHEN NOT coalesce(greatest(rotated_at, replaced_at) >= $13, false)
             AND NOT coalesce(rotated_at >= $14 AND replacements < 3 AND NOT head_seen, false)
             THEN 'reused'
           WHEN $13::timestamptz IS NULL THEN 'reused'
           WHEN repeats + replacements >= $16 THEN 'limited'
           WHEN greatest(rotated_at, replaced_at) >= $13 THEN 'repeated'
           ELSE 'replaced' END
         WHEN $10 > head THEN CASE
           WHEN epoch IS DISTINCT FROM (SELECT current FROM ep)
             AND coalesce((SELECT e.first_seen_at FROM epochs e, ep WHERE e.epoch = ep.current), $2)
               >= $15 THEN 'adopted'
           ELSE 'forged' END
         ELSE 'reused' END AS judged
       FROM cur),
     v AS MATERIALIZED (
       SELECT j.*, CASE
           WHEN NOT $17 AND judged IN ('rotated', 'repeated', 'replaced', 'adopted', 'kept')
             THEN 'unfit' ELSE judged END AS verdict
       FROM j),
     f AS MATERIALIZED (
       SELECT v.*, verdict IN ('rotated', 'adopted') AS moves, verdict = 'replaced' AS replaces,
         verdict IN ('reused', 'forged') AS kills,
         verdict IN ('rotated', 'repeated', 'replaced', 'adopted', 'kept') AS answers,
         verdict IN ('repeated', 'replaced') AND coalesce(substr(rot_fp, 1, 8) <> substr($18, 1, 8)
           AND substr(rot_fp, 9) <> substr($18, 9), false) AS elsewhere
       FROM v),
     i AS (
       SELECT f.*, CASE
           WHEN moves THEN $19
           WHEN verdict = 'kept' AND $19 >= idle_exp + interval '1 hour' THEN $19
           ELSE idle_exp END AS n_idle_exp
       FROM f),
     n AS MATERIALIZED (
       SELECT i.*,
         CASE WHEN answers THEN greatest(keep_until, date_trunc('day', interval '60 seconds'
             + greatest($20, least(n_idle_exp, abs_exp)), 'UTC') + interval '1 day')
           ELSE keep_until END AS n_keep_until,
         CASE WHEN moves OR replaces THEN $21 ELSE head_kid END AS n_head_kid,
         CASE WHEN moves THEN $10 + 1 WHEN replaces THEN head + 1 ELSE head END AS n_head,
         CASE WHEN moves OR replaces THEN $22 ELSE head_nonce END AS n_head_nonce,
         CASE WHEN moves THEN $10 ELSE pred END AS n_pred,
         CASE WHEN moves THEN $11 ELSE pred_nonce END AS n_pred_nonce,
         CASE WHEN moves THEN greatest($2, rotated_at) ELSE rotated_at END AS n_rotated_at,
         CASE WHEN moves THEN NULL WHEN replaces THEN greatest($2, rotated_at)
           ELSE replaced_at END AS n_replaced_at,
         CASE WHEN moves THEN 0 WHEN replaces THEN replacements + 1
           ELSE replacements END AS n_replacements,
         head_seen AND NOT (moves OR replaces) AS n_head_seen,
         CASE WHEN moves THEN 0 WHEN verdict = 'repeated' THEN repeats + 1 ELSE repeats END AS n_repeats,
         CASE WHEN moves THEN $18 ELSE rot_fp END AS n_rot_fp,
         (differs OR elsewhere) AND NOT moves AS n_differs,
         CASE WHEN verdict <> 'rotated' THEN streak WHEN differs THEN streak + 1 ELSE 0 END AS n_streak,
         CASE WHEN moves THEN (SELECT current FROM ep) ELSE epoch END AS n_epoch
       FROM i),
     ug AS (
       UPDATE grants g SET
         state = CASE WHEN n.kills THEN 'revoked' ELSE 'live' END,
         revoked_at = CASE WHEN n.kills THEN $2 END,
         idle_exp = n.n_idle_exp, keep_until = n.n_keep_until, head_kid = n.n_head_kid,
         head = n.n_head, head_nonce = n.n_head_nonce, pred = n.n_pred,
         pred_nonce = n.n_pred_nonce, rotated_at = n.n_rotated_at, replaced_at = n.n_replaced_at,
         replacements = n.n_replacements, head_seen = n.n_head_seen, repeats = n.n_repeats,
         rot_fp = n.n_rot_fp, differs = n.n_differs, streak = n.n_streak, epoch = n.n_epoch
       FROM n WHERE g.tenant_uid = $1 AND g.id = $8 AND (n.answers OR n.kills)
         AND (n.verdict <> 'kept' OR n.n_idle_exp <> n.idle_exp OR n.n_keep_until <> n.keep_until)),
     opq AS (
       INSERT INTO access_tokens (tenant_uid, token_hash, jti, client_id, user_id, grant_id,
         generation, claims, created_at, expires_at)
       SELECT $1, $23, $24, $9, $7, $8, n.n_head, $25::json, $26, $27 FROM n
       WHERE n.answers AND $23::bytea IS NOT NULL),
     rv AS (
       SELECT CASE WHEN replaces THEN 'head' ELSE 'grant' END AS kind,
         CASE WHEN replaces THEN id::text || '.' || head::text ELSE id::text END AS key,
         NULL::timestamptz AS nbf, keep_until AS exp
       FROM n WHERE replaces OR kills), ",
    revoke!(),
    ", ev AS (
       SELECT 'refresh.' || verdict AS action, user_id, client_id, session_id,
         'grant' AS resource_type, id::text AS resource_id, NOT kills AS success
       FROM n WHERE (answers AND verdict <> 'kept') OR kills), ",
    audit!(),
    " SELECT verdict, kills, replaces, keep_until AS horizon, head AS old_head, salt,
       n_head_kid AS head_kid, n_head AS head, n_head_nonce AS head_nonce, n_pred AS pred,
       n_pred_nonce AS pred_nonce, n_rotated_at AS rotated_at, n_replaced_at AS replaced_at,
       n_replacements AS replacements, n_head_seen AS head_seen, n_repeats AS repeats,
       n_rot_fp AS rot_fp, n_differs AS differs, n_streak AS streak, n_epoch AS epoch
     FROM n"
);

impl View {
    pub(super) async fn rotate(
        &self,
        rotation: &Rotation,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RefreshVerdict> {
        let head = |row| head(row)?.ok_or_else(|| unreadable("refresh head"));
        if rotation.fits && rotation.proof == Proof::Rotating {
            let statement = self.rotate_head(rotation, now, audit)?;
            if let Some(row) = self.db().write_one(statement).await? {
                return Ok(RefreshVerdict::Rotated(head(&row)?));
            }
        }
        let statement = self.decide_refresh(rotation, now, audit)?;
        let Some(row) = self.db().write_one(statement).await? else {
            return Ok(RefreshVerdict::Unknown);
        };
        let grant = rotation.presented.grant;
        let horizon = time(&row, "horizon")?;
        if get(&row, "kills")? {
            self.announce_grant(grant, horizon, now);
        }
        Ok(match get(&row, "verdict")? {
            "rotated" => RefreshVerdict::Rotated(head(&row)?),
            "repeated" => RefreshVerdict::Repeated(head(&row)?),
            "replaced" => {
                let skipped = get::<i64>(&row, "old_head")?;
                self.announce_skipped(grant, skipped, horizon, now)?;
                RefreshVerdict::Replaced(head(&row)?)
            }
            "adopted" => RefreshVerdict::Adopted(head(&row)?),
            "kept" => RefreshVerdict::Kept(head(&row)?),
            "reused" => RefreshVerdict::Reused,
            "forged" => RefreshVerdict::Forged,
            "unfit" => RefreshVerdict::Unfit,
            "limited" => RefreshVerdict::Limited,
            "expired" => RefreshVerdict::Expired,
            "revoked" => RefreshVerdict::Revoked,
            _ => RefreshVerdict::Unknown,
        })
    }

    fn rotate_head(&self, rotation: &Rotation, now: Timestamp, audit: &Audit) -> Result<Sql> {
        let presented = &rotation.presented;
        let text = if rotation.opaque.is_some() { ROTATE_HEAD_OPAQUE } else { ROTATE_HEAD };
        let statement = self
            .changing(text, now, audit)
            .bind(rotation.user.map(|user| user.0))
            .bind(presented.grant.0)
            .bind(rotation.client.as_str())
            .bind(i64::from(presented.generation))
            .bind(presented.nonce.as_slice())
            .bind(rotation.fingerprint.map(|fingerprint| fingerprint.to_vec()))
            .at(rotation.idle_expires_at)
            .at(rotation.access_expires_at)
            .bind(i16::from(rotation.kid))
            .bind(rotation.nonce.as_slice());
        match &rotation.opaque {
            Some(token) => bind_opaque(statement, Some(token), |statement| statement),
            None => Ok(statement),
        }
    }

    fn decide_refresh(&self, rotation: &Rotation, now: Timestamp, audit: &Audit) -> Result<Sql> {
        let presented = &rotation.presented;
        let windows = &rotation.windows;
        let since = |window: std::time::Duration| (!window.is_zero()).then(|| now.minus(window));
        let statement = self
            .changing(ROTATE, now, audit)
            .bind(rotation.user.map(|user| user.0))
            .bind(presented.grant.0)
            .bind(rotation.client.as_str())
            .bind(i64::from(presented.generation))
            .bind(presented.nonce.as_slice())
            .bind(rotation.proof == Proof::Fixed)
            .at_if(since(windows.short))
            .at_if(since(windows.long))
            .at_if(since(windows.recovery))
            .bind(i32::try_from(rotation.repeat_limit).unwrap_or(i32::MAX))
            .bind(rotation.fits)
            .bind(rotation.fingerprint.map(|fingerprint| fingerprint.to_vec()))
            .at(rotation.idle_expires_at)
            .at(rotation.access_expires_at)
            .bind(i16::from(rotation.kid))
            .bind(rotation.nonce.as_slice());
        bind_opaque(statement, rotation.opaque.as_ref(), |statement| statement)
    }

    /// Announces that the access tokens of a generation that never arrived are dead.
    fn announce_skipped(
        &self,
        grant: GrantId,
        generation: i64,
        expires_at: Timestamp,
        at: Timestamp,
    ) -> Result<()> {
        let generation = u32::try_from(generation).map_err(|_| unreadable("generation"))?;
        let key = RevocationKey::head(grant, generation);
        let revocation = Revocation { key, audience: None, not_before: None, expires_at, at };
        self.shared.announce(&[self.entry(revocation)]);
        Ok(())
    }
}
