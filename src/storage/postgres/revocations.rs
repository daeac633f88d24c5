use async_trait::async_trait;

use super::View;
use super::log::revocation;
use super::text::audit;
use crate::base::Timestamp;
use crate::model::{Audit, Revocation, RevocationKey};
use crate::storage::{Result, Revocations};

const APPEND: &str = concat!(
    "WITH e AS MATERIALIZED (
       SELECT a.*, string_to_array(nullif(auds, ''), ' ') AS aud
       FROM unnest($7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[],
         $12::timestamptz[]) AS a (kind, key, auds, nbf, exp, at)),
     rev AS (
       INSERT INTO revocations (tenant_uid, kind, key, aud, nbf, exp, at)
       SELECT $1, kind, key, aud, nbf, exp, at FROM e),
     ev AS (
       SELECT 'revocation.not_before' AS action, NULL::uuid AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, kind AS resource_type, key AS resource_id, true AS success
       FROM e WHERE kind IN ('subject', 'client', 'tenant')), ",
    audit!(),
    " SELECT 1"
);

const MATCHING: &str = "SELECT r.kind, r.key, r.aud, r.nbf, r.exp, r.at
     FROM unnest($2::text[], $3::text[]) AS k (kind, key)
     JOIN revocations r ON r.tenant_uid = $1 AND r.kind = k.kind AND r.key = k.key
     WHERE r.exp > $4 ORDER BY r.seq";

#[async_trait]
impl Revocations for View {
    async fn append_revocations(
        &self,
        entries: &[Revocation],
        now: Timestamp,
        audit: &Audit,
    ) -> Result<()> {
        let statement = columns(self.changing(APPEND, now, audit), entries);
        self.db().write(statement).await?;
        let entries: Vec<_> = entries.iter().map(|entry| self.entry(entry.clone())).collect();
        self.shared.announce(&entries);
        Ok(())
    }

    async fn matching_revocations(
        &self,
        keys: &[RevocationKey],
        now: Timestamp,
    ) -> Result<Vec<Revocation>> {
        let kinds: Vec<&str> = keys.iter().map(RevocationKey::kind).collect();
        let names: Vec<&str> = keys.iter().map(RevocationKey::key).collect();
        let statement = self.sql(MATCHING).bind(kinds).bind(names).at(now);
        self.db().read(statement).await?.iter().map(revocation).collect()
    }
}

/// Binds entries as six arrays: kind, key, audiences (joined by spaces, which no audience has),
/// not-before, expiry, time.
pub(super) fn columns<'e>(
    statement: super::Sql,
    entries: impl IntoIterator<Item = &'e Revocation, IntoIter: Clone>,
) -> super::Sql {
    let entries = entries.into_iter();
    let audiences = |entry: &Revocation| entry.audience.as_ref().map(|all| all.join(" "));
    statement
        .bind(entries.clone().map(|entry| entry.key.kind()).collect::<Vec<_>>())
        .bind(entries.clone().map(|entry| entry.key.key()).collect::<Vec<_>>())
        .bind(entries.clone().map(audiences).collect::<Vec<_>>())
        .bind(entries.clone().map(|e| e.not_before.map(Timestamp::to_chrono)).collect::<Vec<_>>())
        .bind(entries.clone().map(|entry| entry.expires_at.to_chrono()).collect::<Vec<_>>())
        .bind(entries.map(|entry| entry.at.to_chrono()).collect::<Vec<_>>())
}
