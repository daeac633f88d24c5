//! Migrations on SQLite, under a lock on a file beside the database.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::sleep;
use uuid::Uuid;

use super::files::{SQLITE, checksum, ledger};
use super::plan::{Applied, Plan, plan};
use super::{LOCK_WAIT, MigrateError, Migration, Report};
use crate::base::{Entropy, SystemEntropy};
use crate::storage::sqlite::{connect_options, prepare_file};

type Outcome<T> = Result<T, MigrateError>;

const PAUSE: Duration = Duration::from_millis(50);

/// What the database at `path` has and lacks. Changes nothing; a file that is not there lacks all.
pub async fn status(path: &Path) -> Outcome<Report> {
    if !path.exists() {
        return plan(SQLITE, &[]).map(|plan| plan.report());
    }
    let mut connection = connect(path).await?;
    let plan = look(&mut connection).await?;
    let _ = connection.close().await;
    Ok(plan.report())
}

/// Applies what is pending, one after the other; makes the file when it is not there. Waits a
/// minute for another runner.
pub async fn up(path: &Path) -> Outcome<Report> {
    up_within(path, LOCK_WAIT).await
}

/// As [`up`]; waits for another runner for so long.
pub async fn up_within(path: &Path, wait: Duration) -> Outcome<Report> {
    prepare_file(path).await.map_err(MigrateError::unavailable)?;
    let lock = lock(path, wait).await?;
    let mut connection = connect(path).await?;
    let plan = look(&mut connection).await?;
    take_over(&mut connection, &plan).await?;
    let mut report = plan.report();
    if !plan.pending.is_empty() {
        // Tables are rebuilt by some migrations; inside a transaction this would do nothing.
        run(&mut connection, "PRAGMA foreign_keys = OFF").await?;
        run(&mut connection, "CREATE TEMP TABLE pmp_auth_migrating (x)").await?;
        run(&mut connection, ledger(SQLITE[0].up)).await?;
    }
    let run_id = (&SystemEntropy as &dyn Entropy).uuid();
    for migration in &plan.pending {
        let took = apply(&mut connection, migration, run_id).await?;
        report.applied.push((migration.title(), took));
        report.pending.remove(0);
    }
    let _ = connection.close().await;
    drop(lock);
    Ok(report)
}

/// `<database>.migrate.lock`, which stays; the lock goes with the process at the latest.
fn lock_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".migrate.lock");
    PathBuf::from(name)
}

async fn lock(path: &Path, wait: Duration) -> Outcome<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(lock_file(path)).map_err(MigrateError::unavailable)?;
    let deadline = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(MigrateError::unavailable(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(MigrateError::Busy { holder: "another process".to_owned() });
            }
            Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
        }
    }
}

async fn connect(path: &Path) -> Outcome<SqliteConnection> {
    connect_options(path)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(MigrateError::unavailable)
}

async fn look(connection: &mut SqliteConnection) -> Outcome<Plan> {
    let there = sqlx::query(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'",
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(MigrateError::unavailable)?;
    if there.is_none() {
        return plan(SQLITE, &[]);
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
    plan(SQLITE, &applied.map_err(MigrateError::unavailable)?)
}

/// Gives migrations that were run by hand the checksum that their files could not know.
async fn take_over(connection: &mut SqliteConnection, plan: &Plan) -> Outcome<()> {
    for migration in &plan.by_hand {
        sqlx::query(
            "UPDATE schema_migrations SET checksum = ?2, down_checksum = ?3 WHERE version = ?1",
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
    connection: &mut SqliteConnection,
    migration: &Migration,
    run_id: Uuid,
) -> Outcome<Duration> {
    let began = Instant::now();
    let Err(error) = transaction(connection, migration, run_id, began).await else {
        return Ok(began.elapsed());
    };
    let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
    // The history has what failed, too; that it cannot be written must not hide why.
    let _ = sqlx::query(
        "INSERT INTO schema_migration_history (run_id, version, action, outcome, tool_version, error)
         VALUES (?1, ?2, 'up', 'failed', ?3, ?4)",
    )
    .bind(run_id.as_bytes().to_vec())
    .bind(migration.version)
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(error.to_string())
    .execute(connection)
    .await;
    Err(MigrateError::Failed { name: migration.title(), cause: error })
}

async fn transaction(
    connection: &mut SqliteConnection,
    migration: &Migration,
    run_id: Uuid,
    began: Instant,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    sqlx::raw_sql(migration.up).execute(&mut *connection).await?;
    let dangling = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *connection).await?;
    if !dangling.is_empty() {
        return Err(format!("{} rows refer to rows that are not there", dangling.len()).into());
    }
    let took = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, down_checksum,
           execution_time_ms, tool_version, batch)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
           (SELECT coalesce(max(batch), 0) + 1 FROM schema_migrations)",
    )
    .bind(migration.version)
    .bind(migration.number)
    .bind(migration.name)
    .bind(migration.filename)
    .bind(migration.checksum())
    .bind(checksum(migration.down))
    .bind(took)
    .bind(env!("CARGO_PKG_VERSION"))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO schema_migration_history (run_id, version, action, outcome, duration_ms,
           tool_version, attempts)
         VALUES (?1, ?2, 'up', 'ok', ?3, ?4, 1)",
    )
    .bind(run_id.as_bytes().to_vec())
    .bind(migration.version)
    .bind(took)
    .bind(env!("CARGO_PKG_VERSION"))
    .execute(&mut *connection)
    .await?;
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

async fn run(connection: &mut SqliteConnection, text: &'static str) -> Outcome<()> {
    let done = sqlx::raw_sql(text).execute(connection).await;
    done.map(drop).map_err(MigrateError::unavailable)
}
