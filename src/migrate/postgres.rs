//! Migrations on Postgres, over a connection of their own that is closed at the end, and with it the
//! lock.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::sleep;
use uuid::Uuid;

use super::files::{POSTGRES, checksum, ledger};
use super::plan::{Applied, Plan, plan};
use super::{LOCK_WAIT, MigrateError, Migration, Report};
use crate::base::{Entropy, Secret, SystemEntropy};

type Outcome<T> = Result<T, MigrateError>;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a migration is tried that meets locks of the running server.
const TRIES: u32 = 10;

const LOCK_KEY: &str = "hashtextextended('pmp-auth migrate ' || current_schema(), 0)";

/// What the database at `connection` has and lacks. Changes nothing.
pub async fn status(connection: &Secret<String>) -> Outcome<Report> {
    let mut connection = connect(connection).await?;
    let plan = look(&mut connection).await?;
    let _ = connection.close().await;
    Ok(plan.report())
}

/// Applies what is pending, one after the other; waits a minute for another runner.
pub async fn up(connection: &Secret<String>) -> Outcome<Report> {
    up_within(connection, LOCK_WAIT).await
}

/// As [`up`]; waits for another runner for so long.
pub async fn up_within(connection: &Secret<String>, wait: Duration) -> Outcome<Report> {
    let mut connection = connect(connection).await?;
    check(&mut connection).await?;
    lock(&mut connection, wait).await?;
    // Only now: the other runner may have done it all.
    let plan = look(&mut connection).await?;
    take_over(&mut connection, &plan).await?;
    let mut report = plan.report();
    if !plan.pending.is_empty() {
        run(&mut connection, ledger(POSTGRES[0].up)).await?;
    }
    let run_id = (&SystemEntropy as &dyn Entropy).uuid();
    for migration in &plan.pending {
        let took = apply(&mut connection, migration, run_id).await?;
        report.applied.push((migration.title(), took));
        report.pending.remove(0);
    }
    let _ = connection.close().await;
    Ok(report)
}

async fn connect(connection: &Secret<String>) -> Outcome<PgConnection> {
    let options = PgConnectOptions::from_str(connection.reveal())
        .map_err(|_| MigrateError::Unfit("storage.connection_string is no postgres:// URL"))?;
    let options = options.application_name("pmp-auth-migrate").disable_statement_logging();
    match tokio::time::timeout(Duration::from_secs(10), options.connect()).await {
        Ok(connected) => connected.map_err(MigrateError::unavailable),
        Err(_) => Err(MigrateError::unavailable("no connection within 10 s")),
    }
}

/// Refuses a standby, and a pooler that hands out another session for every transaction: there a
/// session lock protects nobody.
async fn check(connection: &mut PgConnection) -> Outcome<()> {
    if one::<bool>(connection, "SELECT pg_is_in_recovery()").await? {
        return Err(MigrateError::Unfit(
            "the database server is a standby: migrate on the primary",
        ));
    }
    let before: i32 = one(connection, "SELECT pg_backend_pid()").await?;
    run(connection, "SET pmp_auth.probe = 'here'").await?;
    let after: i32 = one(connection, "SELECT pg_backend_pid()").await?;
    let probe: Option<String> =
        one(connection, "SELECT current_setting('pmp_auth.probe', true)").await?;
    if before != after || probe.as_deref() != Some("here") {
        return Err(MigrateError::Unfit(
            "the connection goes through a transaction pooler: migrate over a direct connection",
        ));
    }
    Ok(())
}

async fn lock(connection: &mut PgConnection, wait: Duration) -> Outcome<()> {
    let deadline = Instant::now() + wait;
    let mut pause = FIRST_PAUSE;
    loop {
        let text = format!("SELECT pg_try_advisory_lock({LOCK_KEY})");
        if one::<bool>(connection, text).await? {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(MigrateError::Busy { holder: holder(connection).await });
        }
        sleep(jittered(pause).min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Who holds the lock, for the message.
async fn holder(connection: &mut PgConnection) -> String {
    let text = "SELECT coalesce((SELECT format('process %s, %s, since %s', a.pid,
           coalesce(host(a.client_addr), 'local'), a.backend_start)
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = 'pmp-auth-migrate'
         LIMIT 1), 'unknown')";
    one(connection, text).await.unwrap_or_else(|_| "unknown".to_owned())
}

async fn look(connection: &mut PgConnection) -> Outcome<Plan> {
    let there = "SELECT to_regclass('schema_migrations') IS NOT NULL";
    if !one::<bool>(connection, there).await? {
        return plan(POSTGRES, &[]);
    }
    let rows = sqlx::query(
        "SELECT version, name, checksum, state = 'applied' AS complete FROM schema_migrations
         ORDER BY sort_key",
    )
    .fetch_all(connection)
    .await
    .map_err(MigrateError::unavailable)?;
    let applied = rows.iter().map(|row| {
        Ok(Applied {
            version: row.try_get("version")?,
            name: row.try_get("name")?,
            checksum: row.try_get("checksum")?,
            complete: row.try_get("complete")?,
        })
    });
    let applied: Result<Vec<_>, sqlx::Error> = applied.collect();
    plan(POSTGRES, &applied.map_err(MigrateError::unavailable)?)
}

/// Gives migrations that were run by hand the checksum that their files could not know.
async fn take_over(connection: &mut PgConnection, plan: &Plan) -> Outcome<()> {
    for migration in &plan.by_hand {
        sqlx::query(
            "UPDATE schema_migrations SET checksum = $2, down_checksum = $3 WHERE version = $1",
        )
        .bind(migration.version)
        .bind(migration.checksum())
        .bind(checksum(migration.down))
        .execute(&mut *connection)
        .await
        .map_err(MigrateError::unavailable)?;
    }
    Ok(())
}

async fn apply(
    connection: &mut PgConnection,
    migration: &Migration,
    run_id: Uuid,
) -> Outcome<Duration> {
    let (mut pause, mut attempt) = (FIRST_PAUSE, 0);
    loop {
        attempt += 1;
        let began = Instant::now();
        let error = match transaction(connection, migration, run_id, attempt, began).await {
            Ok(()) => return Ok(began.elapsed()),
            Err(error) => error,
        };
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
        if !is_passing(&error) || attempt == TRIES {
            note_failure(connection, migration, run_id, &error).await;
            return Err(MigrateError::Failed { name: migration.title(), cause: Box::new(error) });
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn transaction(
    connection: &mut PgConnection,
    migration: &Migration,
    run_id: Uuid,
    attempt: u32,
    began: Instant,
) -> Result<(), sqlx::Error> {
    // A short wait for locks: behind a waiting ALTER TABLE every query of the server queues.
    sqlx::raw_sql(
        "BEGIN; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = 0;
         SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL pmp_auth.migrating = '1'",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::raw_sql(migration.up).execute(&mut *connection).await?;
    sqlx::query(
        "WITH row AS (
           INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, down_checksum,
             execution_time_ms, tool_version, batch)
           SELECT $1, $2, $3, $4, $5, $6, $7, $8,
             (SELECT coalesce(max(batch), 0) + 1 FROM schema_migrations WHERE applied_at < now()))
         INSERT INTO schema_migration_history (run_id, version, action, outcome, duration_ms,
           tool_version, attempts)
         VALUES ($9, $1, 'up', 'ok', $7, $8, $10)",
    )
    .bind(migration.version)
    .bind(migration.number)
    .bind(migration.name)
    .bind(migration.filename)
    .bind(migration.checksum())
    .bind(checksum(migration.down))
    .bind(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(run_id)
    .bind(i32::try_from(attempt).unwrap_or(i32::MAX))
    .execute(&mut *connection)
    .await?;
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

/// A lock that was not got, a deadlock, a serialization failure: the same may succeed later.
fn is_passing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01" | "40001"))
}

/// The history has what failed, too; that it cannot be written must not hide why.
async fn note_failure(
    connection: &mut PgConnection,
    migration: &Migration,
    run_id: Uuid,
    error: &sqlx::Error,
) {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let _ = sqlx::query(
        "INSERT INTO schema_migration_history (run_id, version, action, outcome, tool_version,
           sqlstate, error)
         VALUES ($1, $2, 'up', 'failed', $3, $4, $5)",
    )
    .bind(run_id)
    .bind(migration.version)
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(code.as_deref())
    .bind(error.to_string())
    .execute(connection)
    .await;
}

async fn run(connection: &mut PgConnection, text: &'static str) -> Outcome<()> {
    let done = sqlx::raw_sql(text).execute(connection).await;
    done.map(drop).map_err(MigrateError::unavailable)
}

async fn one<T>(connection: &mut PgConnection, text: impl Into<String>) -> Outcome<T>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let row = sqlx::query(sqlx::AssertSqlSafe(text.into()))
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(MigrateError::unavailable)?;
    row.try_get(0).map_err(MigrateError::unavailable)
}

/// A quarter more or less, so that many runners do not ask in step.
fn jittered(pause: Duration) -> Duration {
    let [chance] = (&SystemEntropy as &dyn Entropy).bytes::<1>();
    pause.mul_f64(0.75 + f64::from(chance) / 512.0)
}
