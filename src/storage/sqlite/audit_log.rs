use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::error::unreadable;
use super::row::{Columns, to_json};
use super::{SqliteTenant, Tx, sql};
use crate::base::Timestamp;
use crate::model::audit::AuditRecord;
use crate::model::{Action, Audit, ClientId, SessionId, TenantUid, UserId};
use crate::storage::{AuditLog, Result, horizon, resource_kind};

/// Begins a record; the caller says whom it concerns.
pub(super) fn record(action: Action, at: Timestamp, audit: &Audit) -> AuditRecord {
    AuditRecord {
        at,
        action,
        user: None,
        client: None,
        session: None,
        resource: None,
        success: !matches!(
            action,
            Action::CodeReplayed
                | Action::CodeKilled
                | Action::RefreshReused
                | Action::RefreshForged
        ),
        detail: None,
        context: audit.clone(),
    }
}

impl Tx {
    /// Writes a record in this transaction.
    pub(super) async fn audit(&mut self, tenant: &TenantUid, record: &AuditRecord) -> Result<()> {
        let AuditRecord { at, action, context, .. } = record;
        let id = uuid::Builder::from_unix_timestamp_millis(
            u64::try_from(at.millis()).unwrap_or_default(),
            &self.store().entropy().bytes(),
        );
        let (kind, which) = record.resource.as_ref().map(|(k, id)| (*k, id.as_str())).unzip();
        let detail = record.detail.as_ref().map(to_json).transpose()?;
        let delete_at = horizon::audit_record(*action, record.success, *at);
        let days = u32::try_from(delete_at.since(*at).as_secs() / 86_400).unwrap_or(u32::MAX);
        self.run_last(sql!(
            "INSERT INTO audit_logs (tenant_uid, id, created_at, retention_class, retention_days,
               delete_at, actor_type, user_id, session_id, client_id, action, resource_type,
               resource_id, metadata, request_id, success, ip_address, user_agent)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
            tenant,
            id.into_uuid(),
            *at,
            if days > 90 { "extended" } else { "standard" },
            days,
            delete_at,
            context.actor.unwrap_or("user"),
            record.user,
            record.session,
            record.client.as_ref(),
            action.as_str(),
            kind,
            which,
            detail,
            context.request_id.as_ref(),
            record.success,
            context.ip.as_ref(),
            context.user_agent.as_ref(),
        ))
        .await
    }
}

#[async_trait]
impl AuditLog for SqliteTenant {
    async fn record_audit(&self, records: &[AuditRecord]) -> Result<()> {
        let (tenant, records) = (self.tenant.clone(), records.to_vec());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    for record in &records {
                        tx.audit(&tenant, record).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        let newest = sql!(
            "SELECT created_at, actor_type, user_id, session_id, client_id, action, resource_type,
               resource_id, metadata, request_id, success, ip_address, user_agent
             FROM audit_logs WHERE tenant_uid = ?1 ORDER BY created_at DESC, seq DESC LIMIT ?2",
            &self.tenant,
            limit,
        );
        self.store.rows(newest).await?.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<AuditRecord> {
    let action = Action::parse(row.get("action")?).ok_or_else(|| unreadable("action"))?;
    let kind: Option<&str> = row.get("resource_type")?;
    let which: Option<String> = row.get("resource_id")?;
    Ok(AuditRecord {
        at: row.time("created_at")?,
        action,
        user: row.id_opt::<UserId>("user_id")?,
        client: row.get::<Option<&str>>("client_id")?.map(ClientId::new),
        session: row.id_opt::<SessionId>("session_id")?,
        resource: kind.map(resource_kind).zip(which),
        success: row.get("success")?,
        detail: row.json_opt("metadata")?,
        context: Audit {
            ip: row.get("ip_address")?,
            user_agent: row.get("user_agent")?,
            request_id: row.get("request_id")?,
            actor: match row.get("actor_type")? {
                "cli" => Some("cli"),
                "job" => Some("job"),
                "config" => Some("config"),
                _ => None,
            },
        },
    })
}
