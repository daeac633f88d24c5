//! The parts that many statements share. Statements that change something begin with the same six
//! arguments: `$1` tenant, `$2` now, `$3` address, `$4` user agent, `$5` request id, `$6` actor.

/// Writes the audit records of the CTE `ev (action, user_id, client_id, session_id,
/// resource_type, resource_id, success)`, with `$detail` of its row `e`. What happens every day is kept for 90 days, the rest for
/// a year; see `horizon::audit_record`.
macro_rules! audit {
    () => {
        $crate::storage::postgres::text::audit!("NULL::jsonb")
    };
    ($detail:literal) => {
        concat!("aud AS (INSERT INTO audit_logs (tenant_uid, created_at, ip_address, user_agent, request_id, \
         actor_type, action, user_id, client_id, session_id, resource_type, resource_id, success, \
         metadata, retention_class, retention_days, delete_at) \
         SELECT $1, $2, $3, $4, $5, $6, e.action, e.user_id, e.client_id, e.session_id, \
         e.resource_type, e.resource_id, e.success, ", $detail, ", \
         CASE WHEN e.daily THEN 'standard' ELSE 'extended' END, \
         CASE WHEN e.daily THEN 90 ELSE 365 END, \
         $2 + CASE WHEN e.daily THEN interval '90 days' ELSE interval '365 days' END \
         FROM (SELECT ev.*, ev.success AND ev.action IN ('login.succeeded', 'session.ended', \
         'grant.created', 'consent.remembered', 'code.redeemed', 'device.requested', \
         'device.viewed', 'device.approved', 'device.expired', 'device.redeemed', 'refresh.rotated', \
         'refresh.repeated', 'refresh.replaced', 'token.revoked') AS daily FROM ev) e)")
    };
}

/// Writes the entries of the CTE `rv (kind, key, nbf, exp)`, with `$aud` of its row; what it returns
/// is for [`entries`](super::entries).
macro_rules! revoke {
    () => {
        $crate::storage::postgres::text::revoke!("NULL::text[]")
    };
    ($aud:literal) => {
        concat!(
            "rev AS (INSERT INTO revocations (tenant_uid, kind, key, nbf, exp, aud, at) \
             SELECT $1, rv.kind, rv.key, rv.nbf, rv.exp, ",
            $aud,
            ", $2 FROM rv RETURNING kind, key, nbf, exp, aud)"
        )
    };
}

pub(super) use {audit, revoke};

#[cfg(test)]
mod tests {
    use crate::base::Timestamp;
    use crate::model::Action;
    use crate::storage::horizon::audit_record;

    /// The statement lists what happens every day for itself; it must be the same list.
    #[test]
    fn records_are_kept_as_long_as_on_the_other_engines() {
        let text: &str = audit!();
        for action in Action::ALL {
            let kept = audit_record(*action, true, Timestamp::EPOCH).millis() / 86_400_000;
            let listed = text.contains(&format!("'{}'", action.as_str()));
            assert_eq!(kept == 90, listed, "{}", action.as_str());
        }
    }
}
