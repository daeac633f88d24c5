use async_trait::async_trait;
use serde_json::Value;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::db::{get, time, unreadable};
use super::rows::NO_ACTOR;
use super::{View, storable};
use crate::model::audit::AuditRecord;
use crate::model::{Action, Audit, ClientId, SessionId, UserId};
use crate::storage::{AuditLog, Result, horizon, resource_kind};

const RECORD: &str = "INSERT INTO audit_logs (tenant_uid, created_at, action, user_id, client_id, session_id,
       resource_type, resource_id, success, metadata, ip_address, user_agent, request_id,
       actor_type, delete_at, retention_class, retention_days)
     SELECT $1, r.at, r.action, r.user_id, r.client_id, r.session_id, r.resource_type, r.resource_id,
       r.success, r.metadata::jsonb, r.ip, r.user_agent, r.request_id, r.actor, r.delete_at,
       CASE WHEN r.days > 90 THEN 'extended' ELSE 'standard' END, r.days
     FROM (SELECT *, round(extract(epoch FROM delete_at - at) / 86400)::int AS days
       FROM unnest($2::timestamptz[], $3::text[], $4::uuid[], $5::text[], $6::uuid[], $7::text[],
         $8::text[], $9::bool[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
         $15::timestamptz[]) WITH ORDINALITY
       AS a (at, action, user_id, client_id, session_id, resource_type, resource_id, success,
         metadata, ip, user_agent, request_id, actor, delete_at, n)) r
     ORDER BY r.n";

const LIST: &str = "SELECT created_at, action, user_id, client_id, session_id, resource_type, resource_id, success,
       metadata, ip_address, user_agent, request_id, actor_type
     FROM audit_logs WHERE tenant_uid = $1 ORDER BY created_at DESC, seq DESC
     LIMIT $2";

#[async_trait]
impl AuditLog for View {
    async fn record_audit(&self, records: &[AuditRecord]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let statement = self
            .sql(RECORD)
            .bind(column(records, |r| r.at.to_chrono()))
            .bind(column(records, |r| r.action.as_str()))
            .bind(column(records, |r| r.user.map(|user| user.0)))
            .bind(column(records, |r| storable(r.client.as_ref().map(ClientId::as_str))))
            .bind(column(records, |r| r.session.map(|session| session.0)))
            .bind(column(records, |r| r.resource.as_ref().map(|(kind, _)| *kind)))
            .bind(column(records, |r| storable(r.resource.as_ref().map(|(_, id)| id.as_str()))))
            .bind(column(records, |r| r.success))
            .bind(column(records, |r| r.detail.as_ref().map(detail)))
            .bind(column(records, |r| storable(r.context.ip.as_deref())))
            .bind(column(records, |r| storable(r.context.user_agent.as_deref())))
            .bind(column(records, |r| storable(r.context.request_id.as_deref())))
            .bind(column(records, |r| r.context.actor.unwrap_or(NO_ACTOR)))
            .bind(column(records, |r| {
                horizon::audit_record(r.action, r.success, r.at).to_chrono()
            }));
        self.db().write(statement).await.map(drop)
    }

    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        let rows = self.db().read(self.sql(LIST).bind(i64::from(limit))).await?;
        rows.iter().map(record).collect()
    }
}

fn column<T>(records: &[AuditRecord], of: impl Fn(&AuditRecord) -> T) -> Vec<T> {
    records.iter().map(of).collect()
}

/// As JSON that `jsonb` takes: it knows no NUL in a text.
fn detail(value: &Value) -> String {
    value.to_string().replace("\\u0000", "\\ufffd")
}

fn record(row: &PgRow) -> Result<AuditRecord> {
    let action = Action::parse(get(row, "action")?).ok_or_else(|| unreadable("action"))?;
    let kind = get::<Option<&str>>(row, "resource_type")?.map(resource_kind);
    let which = get::<Option<String>>(row, "resource_id")?;
    Ok(AuditRecord {
        at: time(row, "created_at")?,
        action,
        user: get::<Option<Uuid>>(row, "user_id")?.map(UserId),
        client: get::<Option<&str>>(row, "client_id")?.map(ClientId::new),
        session: get::<Option<Uuid>>(row, "session_id")?.map(SessionId),
        resource: kind.zip(which),
        success: get(row, "success")?,
        detail: get(row, "metadata")?,
        context: Audit {
            ip: get(row, "ip_address")?,
            user_agent: get(row, "user_agent")?,
            request_id: get(row, "request_id")?,
            actor: match get(row, "actor_type")? {
                "cli" => Some("cli"),
                "job" => Some("job"),
                "config" => Some("config"),
                _ => None,
            },
        },
    })
}
