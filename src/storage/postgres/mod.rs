//! The Postgres engine: any number of nodes over one database.
//!
//! What must happen once is one statement that locks, decides and writes (`WITH … AS MATERIALIZED
//! (… FOR UPDATE)`); the lock order is always the user's row, the session, the code, the grant.
//! What ends all that somebody has is two statements of one transaction, because a statement does
//! not see what was committed while it waited for its first lock. Statements take `now` as an
//! argument; only the epoch and the transaction ids are the server's own.

mod access_tokens;
mod api_keys;
mod attempts;
mod audit_log;
mod cleanup;
mod clients;
mod codes;
mod consents;
mod db;
mod devices;
mod failure;
mod grants;
mod jtis;
mod keys;
mod log;
mod notify;
mod peppers;
mod pool;
mod pushed;
mod redeem;
mod refresh;
mod revocations;
mod ring;
mod rows;
mod sessions;
mod status_lists;
mod tenants;
mod text;
mod users;

use std::str::FromStr as _;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgRow};

use self::db::{Db, Sql, get, sql, time, time_if, unreadable};
use self::notify::Notifier;
use self::pool::Pool;
use super::{Cleaned, Engine, LogEntry, Result, Storage, StoreError, TenantHandle, Watch, schema};
use crate::base::{Digest, Secret, Timestamp};
use crate::model::device::DeviceCode;
use crate::model::{Audit, Revocation, RevocationKey, TenantUid};

/// Where the database is.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host/database`.
    pub connection: Secret<String>,
    /// A direct connection for notifications, past any pooler; else `connection`.
    pub listen: Option<Secret<String>>,
    /// Connections to keep.
    pub max_connections: u32,
}

/// A Postgres database as a store. Cheap to clone.
#[derive(Clone)]
pub struct Postgres(Arc<Shared>);

struct Shared {
    db: Db,
    watch: Watch,
    notifier: Notifier,
}

/// One tenant's part of it.
struct View {
    shared: Arc<Shared>,
    uid: TenantUid,
}

impl Postgres {
    /// Connects, and begins to listen for notifications. A server in recovery is refused. The
    /// schema is not looked at: [`Storage::ready`] does.
    pub async fn connect(settings: &PostgresSettings) -> Result<Self> {
        let options = parse(&settings.connection)?;
        let listen = settings.listen.as_ref().map_or_else(|| Ok(options.clone()), parse)?;
        let shared = Arc::new(Shared {
            db: Db::new(Pool::new(options, settings.max_connections)),
            watch: Watch::default(),
            notifier: Notifier::default(),
        });
        shared.db.pool.acquire().await?.give_back();
        shared.notifier.start(&shared, listen);
        Ok(Self(shared))
    }
}

fn parse(connection: &Secret<String>) -> Result<PgConnectOptions> {
    PgConnectOptions::from_str(connection.reveal()).map_err(|_| {
        // The cause may quote the connection string, and so the password.
        StoreError::unavailable("storage.connection_string is no postgres:// URL")
    })
}

#[async_trait]
impl Storage for Postgres {
    fn engine(&self) -> Engine {
        Engine::Postgres
    }

    fn tenant(&self, tenant: &TenantUid) -> TenantHandle {
        TenantHandle::new(Arc::new(View { shared: Arc::clone(&self.0), uid: tenant.clone() }))
    }

    async fn cleanup_expired_data(
        &self,
        now: Timestamp,
        limit: u32,
        dry_run: bool,
    ) -> Result<Cleaned> {
        cleanup::run(&self.0.db, now, limit, dry_run).await
    }

    async fn ready(&self) -> Result<()> {
        let found = self
            .0
            .db
            .read_one(sql("SELECT max(sort_key)::bigint AS version, \
                 current_setting('transaction_read_only') = 'on' AS read_only \
                 FROM schema_migrations WHERE state = 'applied'"))
            .await;
        let found = match found {
            Ok(Some(row)) if get(&row, "read_only")? => {
                self.0.db.pool.drop_all();
                return Err(StoreError::unavailable("the database server takes no writes"));
            }
            Ok(row) => row.map(|row| get::<Option<i64>>(&row, "version")).transpose()?.flatten(),
            Err(StoreError::Unavailable(cause)) if is_undefined_table(cause.as_ref()) => None,
            Err(error) => return Err(error),
        };
        if found == Some(schema::VERSION) {
            return Ok(());
        }
        Err(StoreError::unavailable(schema::mismatch(found)))
    }

    async fn clock(&self) -> Result<Option<Timestamp>> {
        let row = self.0.db.read_one(sql("SELECT clock_timestamp() AS now")).await?;
        row.map(|row| time(&row, "now")).transpose()
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool> {
        let statement = sql("INSERT INTO leases (name, holder, acquired_at, expires_at) \
             VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, \
               acquired_at = CASE WHEN leases.holder = excluded.holder THEN leases.acquired_at \
                 ELSE excluded.acquired_at END, \
               expires_at = excluded.expires_at \
             WHERE leases.holder = excluded.holder OR leases.expires_at <= $3 \
             RETURNING 1");
        let row = self.0.db.write_one(statement.bind(name).bind(holder).at(now).at(until)).await?;
        Ok(row.is_some())
    }

    fn watch(&self) -> &Watch {
        &self.0.watch
    }

    fn round_trips(&self) -> u64 {
        self.0.db.round_trips()
    }

    async fn close(&self) {
        self.0.notifier.stop();
        self.0.db.pool.close().await;
    }
}

/// `undefined_table`: nothing was ever migrated.
fn is_undefined_table(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    cause
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error)
        .is_some_and(|error| error.code().as_deref() == Some("42P01"))
}

impl Shared {
    /// Something that nodes cache was changed: everyone may look sooner than planned.
    fn changed(&self) {
        self.watch.hint();
        self.notifier.poke();
    }

    /// Tells this process at once, and other nodes soon, of a decision about a device.
    fn decided(&self, device: Digest<DeviceCode>) {
        self.watch.decided(Some(device));
        self.notifier.decided(device);
    }

    /// Tells this process at once, and other nodes soon, of entries that were committed.
    fn announce(&self, entries: &[LogEntry]) {
        if !entries.is_empty() {
            self.watch.revoked(entries);
            self.notifier.poke();
        }
    }
}

impl View {
    fn db(&self) -> &Db {
        &self.shared.db
    }

    /// A statement whose `$1` is this tenant.
    fn sql(&self, text: &'static str) -> Sql {
        sql(text).bind(self.uid.as_str())
    }

    /// A statement whose `$1` to `$6` are tenant, time and who did it from where.
    fn changing(&self, text: &'static str, now: Timestamp, audit: &Audit) -> Sql {
        changing(text, &self.uid, now, audit)
    }

    /// Announces the entries that a `revoke!` returned.
    fn announce(&self, rows: &[PgRow], now: Timestamp) -> Result<Vec<LogEntry>> {
        let entries = entries(&self.uid, rows, now)?;
        self.shared.announce(&entries);
        Ok(entries)
    }

    fn entry(&self, revocation: Revocation) -> LogEntry {
        LogEntry { tenant: self.uid.clone(), revocation }
    }
}

fn changing(text: &'static str, tenant: &TenantUid, now: Timestamp, audit: &Audit) -> Sql {
    sql(text)
        .bind(tenant.as_str())
        .at(now)
        .bind(storable(audit.ip.as_deref()))
        .bind(storable(audit.user_agent.as_deref()))
        .bind(storable(audit.request_id.as_deref()))
        .bind(audit.actor.unwrap_or(rows::NO_ACTOR))
}

/// Text without the one character that Postgres cannot store.
fn storable(text: Option<&str>) -> Option<String> {
    text.map(|text| text.replace('\0', "\u{fffd}"))
}

/// The entries that a `revoke!` returned; rows without `kind` are something else.
fn entries(tenant: &TenantUid, rows: &[PgRow], now: Timestamp) -> Result<Vec<LogEntry>> {
    let mut entries = Vec::new();
    for row in rows {
        let Some(kind) = get::<Option<&str>>(row, "kind")? else { continue };
        let key = RevocationKey::from_columns(kind, get(row, "key")?)
            .ok_or_else(|| unreadable("revocation"))?;
        let revocation = Revocation {
            key,
            audience: get(row, "aud")?,
            not_before: time_if(row, "nbf")?,
            expires_at: time(row, "exp")?,
            at: now,
        };
        entries.push(LogEntry { tenant: tenant.clone(), revocation });
    }
    Ok(entries)
}
