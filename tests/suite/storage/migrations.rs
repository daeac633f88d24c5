//! The runner of schema migrations, on both SQL engines.

use std::time::Duration;

use pmp_auth::base::Secret;
use pmp_auth::migrate::{self, MigrateError, Report};
use pmp_auth::storage::sqlite::connect_options;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::support::postgres::Database;
use crate::support::race::race;
use crate::support::temp::TempDir;

const ALL: [&str; 4] =
    ["001_initial_schema", "002_cheaper_writes", "003_api_keys", "004_status_lists"];
const UP: [&str; 4] = [
    include_str!("../../../migrations/postgres/001_initial_schema.up.sql"),
    include_str!("../../../migrations/postgres/002_cheaper_writes.up.sql"),
    include_str!("../../../migrations/postgres/003_api_keys.up.sql"),
    include_str!("../../../migrations/postgres/004_status_lists.up.sql"),
];
const DOWN: [&str; 4] = [
    include_str!("../../../migrations/postgres/004_status_lists.down.sql"),
    include_str!("../../../migrations/postgres/003_api_keys.down.sql"),
    include_str!("../../../migrations/postgres/002_cheaper_writes.down.sql"),
    include_str!("../../../migrations/postgres/001_initial_schema.down.sql"),
];
const SQLITE_UP: [&str; 4] = [
    include_str!("../../../migrations/sqlite/001_initial_schema.up.sql"),
    include_str!("../../../migrations/sqlite/002_cheaper_writes.up.sql"),
    include_str!("../../../migrations/sqlite/003_api_keys.up.sql"),
    include_str!("../../../migrations/sqlite/004_status_lists.up.sql"),
];
const SQLITE_DOWN: [&str; 4] = [
    include_str!("../../../migrations/sqlite/004_status_lists.down.sql"),
    include_str!("../../../migrations/sqlite/003_api_keys.down.sql"),
    include_str!("../../../migrations/sqlite/002_cheaper_writes.down.sql"),
    include_str!("../../../migrations/sqlite/001_initial_schema.down.sql"),
];

fn all() -> Vec<String> {
    ALL.map(str::to_owned).to_vec()
}

fn names(applied: &Report) -> Vec<&str> {
    applied.applied.iter().map(|(name, _)| name.as_str()).collect()
}

mod postgres {
    use super::*;

    fn at(database: &Database) -> Secret<String> {
        Secret::new(database.url().to_owned())
    }

    #[tokio::test]
    async fn an_empty_database_is_brought_up_once() {
        let database = Database::empty();
        let before = migrate::postgres::status(&at(&database)).await.unwrap();
        assert_eq!((before.pending, before.present), (all(), vec![]));
        let first = migrate::postgres::up(&at(&database)).await.unwrap();
        assert_eq!(names(&first), ALL);
        assert!(first.is_current());
        let second = migrate::postgres::up(&at(&database)).await.unwrap();
        assert_eq!((second.present, second.applied), (all(), vec![]));
        let history =
            "SELECT version || ' ' || action || ' ' || outcome FROM schema_migration_history";
        assert_eq!(database.psql(history).trim(), "001 up ok\n002 up ok\n003 up ok\n004 up ok");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_of_many_runners_applies_it_and_all_succeed() {
        let database = Database::empty();
        let reports = race(8, |_| {
            let at = at(&database);
            async move { migrate::postgres::up(&at).await.unwrap() }
        })
        .await;
        assert_eq!(reports.iter().filter(|report| names(report) == ALL).count(), 1);
        assert!(reports.iter().all(Report::is_current));
    }

    #[tokio::test]
    async fn a_file_that_was_run_by_hand_is_taken_over() {
        let database = Database::empty();
        for file in UP {
            database.psql(file);
        }
        let unknown = "SELECT count(*) FROM schema_migrations WHERE checksum = 'by-hand'";
        assert_eq!(database.psql(unknown).trim(), "4");
        let report = migrate::postgres::up(&at(&database)).await.unwrap();
        assert_eq!((report.present.len(), report.applied.len()), (4, 0));
        let known = "SELECT count(*) FROM schema_migrations WHERE length(checksum) = 64";
        assert_eq!(database.psql(known).trim(), "4");
        assert_eq!(database.psql("SELECT cleanup_expired_data()").trim(), "0");
    }

    #[tokio::test]
    async fn what_was_undone_leaves_nothing_and_can_be_done_again() {
        let database = Database::empty();
        let objects = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
            AND relkind IN ('r', 'v') ORDER BY 1";
        migrate::postgres::up(&at(&database)).await.unwrap();
        for file in DOWN {
            database.psql(file);
        }
        assert_eq!(database.psql(objects).trim(), "schema_migration_history\nschema_migrations");
        assert_eq!(
            database
                .psql("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"),
            ""
        );
        assert_eq!(names(&migrate::postgres::up(&at(&database)).await.unwrap()), ALL);
    }

    #[tokio::test]
    async fn the_second_migration_can_be_undone_and_done_again_with_the_same_epoch() {
        let database = Database::new();
        let epoch = || database.psql("SELECT revocation_epoch()");
        let with = epoch();
        database.psql(DOWN[0]);
        database.psql(DOWN[1]);
        database.psql(DOWN[2]);
        assert_eq!(epoch(), with);
        assert_eq!(names(&migrate::postgres::up(&at(&database)).await.unwrap()), ALL[1..]);
        assert_eq!(epoch(), with);
    }

    #[tokio::test]
    async fn api_keys_from_before_are_kept_until_90_days_after_they_ended() {
        let database = Database::new();
        database.psql(DOWN[0]);
        database.psql(DOWN[1]);
        database.psql(
            "INSERT INTO api_keys (client_id, name, api_key_hash, expires_at, revoked_at, grace_until)
             VALUES ('c', 'never ends', 'a', NULL, NULL, NULL),
               ('c', 'expires', 'b', '2020-01-11Z', NULL, NULL),
               ('c', 'revoked', 'c', '2020-01-11Z', '2020-01-02Z', '2020-01-03Z'),
               ('c', 'rotated', 'd', '2020-01-11Z', NULL, '2020-01-03Z')",
        );
        assert_eq!(names(&migrate::postgres::up(&at(&database)).await.unwrap()), ALL[2..]);
        let kept = "SELECT name, keep_until = least(expires_at, revoked_at, grace_until)
            + interval '90 days' FROM api_keys ORDER BY api_key_hash";
        let kept = database.psql(kept);
        assert_eq!(kept.trim(), "never ends|\nexpires|t\nrevoked|t\nrotated|t");
        assert_eq!(database.psql("SELECT cleanup_expired_data()").trim(), "3");
    }

    #[tokio::test]
    async fn a_dropped_schema_can_be_made_again() {
        let database = Database::new();
        database.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public;");
        assert_eq!(names(&migrate::postgres::up(&at(&database)).await.unwrap()), ALL);
    }

    #[tokio::test]
    async fn a_changed_file_and_a_newer_schema_are_refused() {
        let database = Database::new();
        database.psql(
            "INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, execution_time_ms)
             VALUES ('999', 999, 'future', '999_future.up.sql', 'x', 0)",
        );
        let newer = migrate::postgres::up(&at(&database)).await.unwrap_err();
        assert!(matches!(&newer, MigrateError::Newer(name) if name == "999_future"), "{newer}");
        database.psql("DELETE FROM schema_migrations WHERE version = '999'");
        database.psql("UPDATE schema_migrations SET checksum = 'other'");
        let changed = migrate::postgres::status(&at(&database)).await.unwrap_err();
        assert!(
            matches!(&changed, MigrateError::Changed { name, .. } if name == ALL[0]),
            "{changed}"
        );
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_its_failure_and_nothing_else() {
        let database = Database::empty();
        database.psql("CREATE TABLE leases (mine int)");
        let failed = migrate::postgres::up(&at(&database)).await.unwrap_err();
        assert!(failed.to_string().contains("already exists"), "{failed}");
        assert_eq!(database.psql("SELECT to_regclass('grants') IS NULL").trim(), "t");
        assert_eq!(database.psql("SELECT count(*) FROM schema_migrations").trim(), "0");
        let history = database.psql("SELECT outcome, sqlstate FROM schema_migration_history");
        assert_eq!(history.trim(), "failed|42P07");
    }

    #[tokio::test]
    async fn a_runner_gives_up_waiting_and_says_for_whom() {
        let database = Database::new();
        let mut holder = PgConnection::connect(database.url()).await.unwrap();
        holder.execute("SET application_name = 'pmp-auth-migrate'").await.unwrap();
        holder
            .execute(
                "SELECT pg_advisory_lock(hashtextextended('pmp-auth migrate ' || current_schema(), 0))",
            )
            .await
            .unwrap();
        let wait = Duration::from_millis(300);
        let busy = migrate::postgres::up_within(&at(&database), wait).await.unwrap_err();
        let text = busy.to_string();
        assert!(matches!(busy, MigrateError::Busy { .. }) && text.contains("process "), "{text}");
        holder.close().await.unwrap();
        migrate::postgres::up(&at(&database)).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_reached_says_so_without_the_password() {
        let nowhere = Secret::new("postgres://me:hunter2@127.0.0.1:1/nowhere".to_owned());
        let error = migrate::postgres::up(&nowhere).await.unwrap_err();
        assert!(matches!(error, MigrateError::Unavailable(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

mod sqlite {
    use super::*;

    async fn run(dir: &TempDir, sql: &'static str) {
        let options = connect_options(&dir.path().join("a.db"));
        let mut connection = options.connect().await.unwrap();
        connection.execute(sqlx::raw_sql(sql)).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn up(dir: &TempDir) -> Result<Report, MigrateError> {
        migrate::sqlite::up(&dir.path().join("a.db")).await
    }

    #[tokio::test]
    async fn a_file_is_made_and_brought_up_once() {
        let dir = TempDir::new();
        let path = dir.path().join("a.db");
        let before = migrate::sqlite::status(&path).await.unwrap();
        assert_eq!((before.pending, path.exists()), (all(), false));
        assert_eq!(names(&up(&dir).await.unwrap()), ALL);
        assert!(migrate::sqlite::status(&path).await.unwrap().is_current());
        assert_eq!(up(&dir).await.unwrap().applied, []);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_of_many_runners_applies_it_and_all_succeed() {
        let dir = TempDir::new();
        let path = dir.path().join("a.db");
        let reports = race(8, |_| {
            let path = path.clone();
            async move { migrate::sqlite::up(&path).await.unwrap() }
        })
        .await;
        assert_eq!(reports.iter().filter(|report| names(report) == ALL).count(), 1);
        assert!(reports.iter().all(Report::is_current));
    }

    #[tokio::test]
    async fn a_file_that_was_run_by_hand_is_taken_over() {
        let dir = TempDir::new();
        pmp_auth::storage::sqlite::prepare_file(&dir.path().join("a.db")).await.unwrap();
        for file in SQLITE_UP {
            run(&dir, file).await;
        }
        let report = up(&dir).await.unwrap();
        assert_eq!((report.present.len(), report.applied.len()), (4, 0));
    }

    #[tokio::test]
    async fn what_was_undone_can_be_done_again() {
        let dir = TempDir::new();
        up(&dir).await.unwrap();
        for file in SQLITE_DOWN {
            run(&dir, file).await;
        }
        assert_eq!(names(&up(&dir).await.unwrap()), ALL);
    }

    #[tokio::test]
    async fn a_changed_file_and_a_newer_schema_are_refused() {
        let dir = TempDir::new();
        up(&dir).await.unwrap();
        run(
            &dir,
            "INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, execution_time_ms)
             VALUES ('999', 999, 'future', '999_future.up.sql', 'x', 0)",
        )
        .await;
        assert!(matches!(up(&dir).await, Err(MigrateError::Newer(name)) if name == "999_future"));
        run(&dir, "DELETE FROM schema_migrations WHERE version = '999'").await;
        run(&dir, "UPDATE schema_migrations SET checksum = 'other'").await;
        assert!(matches!(up(&dir).await, Err(MigrateError::Changed { .. })));
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_nothing_else() {
        let dir = TempDir::new();
        pmp_auth::storage::sqlite::prepare_file(&dir.path().join("a.db")).await.unwrap();
        run(&dir, "CREATE TABLE leases (mine int)").await;
        let failed = up(&dir).await.unwrap_err();
        assert!(failed.to_string().contains("already exists"), "{failed}");
        let status = migrate::sqlite::status(&dir.path().join("a.db")).await.unwrap();
        assert_eq!(status.pending, ALL);
        run(&dir, "DROP TABLE leases").await;
        assert_eq!(names(&up(&dir).await.unwrap()), ALL);
    }
}
