//! What only this engine can get wrong; what all engines share is in the suite.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::time::timeout;

use super::row::Columns as _;
use super::*;
use crate::base::{Digest, Entropy, SystemEntropy, Timestamp};
use crate::model::code::CodeTerms;
use crate::model::grant::GrantTerms;
use crate::model::limit::{Attempt, LimitRule};
use crate::model::{Audit, ClientId, GrantId, Scope, TenantUid, UserId};
use crate::storage::{
    CreateUser, IssueCode, NewCode, NewGrant, NewUser, RevocationLog as _, RevokeGrant, Storage,
    StoreError, Tail, TenantHandle,
};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const UP: &str = concat!(
    include_str!("../../../migrations/sqlite/001_initial_schema.up.sql"),
    include_str!("../../../migrations/sqlite/002_cheaper_writes.up.sql"),
    include_str!("../../../migrations/sqlite/003_api_keys.up.sql"),
    include_str!("../../../migrations/sqlite/004_status_lists.up.sql"),
);
const DOWN: &str = concat!(
    include_str!("../../../migrations/sqlite/004_status_lists.down.sql"),
    include_str!("../../../migrations/sqlite/003_api_keys.down.sql"),
    include_str!("../../../migrations/sqlite/002_cheaper_writes.down.sql"),
    include_str!("../../../migrations/sqlite/001_initial_schema.down.sql"),
);

/// A directory of its own, gone when the test is.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let entropy: &dyn Entropy = &SystemEntropy;
        Self(std::env::temp_dir().join(format!("pmp-auth-{}", entropy.uuid())))
    }

    fn file(&self) -> PathBuf {
        self.0.join("data").join("auth.db")
    }

    async fn migrated(&self) -> PathBuf {
        prepare_file(&self.file()).await.unwrap();
        let mut connection = connect_options(&self.file()).connect().await.unwrap();
        connection.execute(sqlx::raw_sql(UP)).await.unwrap();
        connection.close().await.unwrap();
        self.file()
    }

    async fn store(&self) -> Sqlite {
        open(&self.migrated().await).await
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn open(path: &Path) -> Sqlite {
    let poll_every = Duration::from_millis(20);
    let options = SqliteOptions { readers: 2, poll_every, ..SqliteOptions::new(path) };
    Sqlite::open(&options, Arc::new(SystemEntropy), NOW).await.unwrap()
}

fn tenant(store: &Sqlite) -> TenantHandle {
    store.tenant(&TenantUid::stored("default"))
}

fn uuid() -> uuid::Uuid {
    let entropy: &dyn Entropy = &SystemEntropy;
    entropy.uuid()
}

async fn user(tenant: &TenantHandle, name: &str) -> UserId {
    let new = NewUser {
        id: UserId(uuid()),
        username: Some(name.to_owned()),
        email: format!("{name}@example.com"),
        email_verified: true,
        name: None,
        given_name: None,
        family_name: None,
        password_hash: None,
    };
    let outcome = tenant.create_user(&new, NOW, &Audit::default()).await.unwrap();
    assert_eq!(outcome, CreateUser::Created);
    new.id
}

fn grant(user: UserId) -> (NewGrant, NewCode) {
    let terms = GrantTerms {
        version: 1,
        scope: Scope::parse("openid").unwrap(),
        resources: Vec::new(),
        claims: None,
        acr: None,
        amr: Vec::new(),
        auth_time: NOW,
        session_ends: None,
    };
    let id = GrantId(uuid());
    let grant = NewGrant {
        id,
        client: ClientId::new("app"),
        user: Some(user),
        session: None,
        terms,
        jkt: None,
        offline: true,
        expires_at: NOW.plus(Duration::from_hours(1)),
    };
    let terms = CodeTerms {
        version: 1,
        redirect_uri: "https://app.example/cb".to_owned(),
        redirect_uri_sent: true,
        code_challenge: None,
        nonce: None,
        dpop_jkt: None,
    };
    let expires_at = NOW.plus(Duration::from_mins(1));
    (grant, NewCode { digest: Digest::of(id.0.as_bytes()), terms, expires_at })
}

async fn integrity(store: &Sqlite) -> String {
    let row = store.row(sql!("PRAGMA integrity_check")).await.unwrap().unwrap();
    row.get("integrity_check").unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Dir::new();
    let store = dir.store().await;
    user(&tenant(&store), "ada").await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.file().parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm"] {
        let path = PathBuf::from(format!("{}{suffix}", dir.file().display()));
        assert_eq!(mode(&path), 0o600, "{suffix}");
    }
    store.close().await;
}

#[tokio::test]
async fn the_file_is_set_up_as_the_engine_needs_it() {
    let dir = Dir::new();
    let store = dir.store().await;
    let pragma = async |name: &'static str| -> String {
        let value = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT CAST({name} AS TEXT) FROM pragma_{name}"
        )));
        let mut writer = store.writer().get().await.unwrap();
        let value = value.fetch_one(writer.get()).await.unwrap();
        writer.give_back();
        value
    };
    assert_eq!(pragma("journal_mode").await, "wal");
    assert_eq!(pragma("synchronous").await, "2");
    assert_eq!(pragma("auto_vacuum").await, "2");
    assert_eq!(pragma("foreign_keys").await, "1");
    store.ready().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_file_without_schema_is_not_ready() {
    let dir = Dir::new();
    let store = open(&dir.file()).await;
    assert!(matches!(store.ready().await, Err(StoreError::Unavailable(_))));
    store.close().await;
}

#[tokio::test]
async fn the_schema_can_be_undone_and_done_again() {
    let dir = Dir::new();
    let path = dir.migrated().await;
    let mut connection = connect_options(&path).connect().await.unwrap();
    connection.execute(sqlx::raw_sql(DOWN)).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND type <> 'index' ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(left, ["schema_migration_history", "schema_migrations"]);
    connection.execute(sqlx::raw_sql(UP)).await.unwrap();
    connection.close().await.unwrap();
    open(&path).await.ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_writers_at_once_are_counted_one_by_one() {
    let dir = Dir::new();
    let store = dir.store().await;
    let rule = LimitRule {
        free: 100,
        first_delay: Duration::ZERO,
        max_delay: Duration::ZERO,
        hard: 100,
        window: Duration::from_mins(1),
    };
    let racers: Vec<_> = (0..50)
        .map(|_| {
            let tenant = tenant(&store);
            tokio::spawn(async move { tenant.attempt(&Digest::of(b"key"), &rule, NOW).await })
        })
        .collect();
    let mut counts = Vec::new();
    for racer in racers {
        match racer.await.unwrap().unwrap() {
            Attempt::Allowed { count } => counts.push(count),
            Attempt::Refused { .. } => panic!("refused below the limit"),
        }
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<u32>>());
    store.close().await;
}

#[tokio::test]
async fn a_writer_waits_for_another_process() {
    let dir = Dir::new();
    let store = dir.store().await;
    let mut other = connect_options(store.path()).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let handle = tenant(&store);
    let waiting = tokio::spawn(async move { user(&handle, "ada").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    other.execute("COMMIT").await.unwrap();
    waiting.await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_leave_it_half_done() {
    let dir = Dir::new();
    let store = dir.store().await;
    let tenant = tenant(&store);
    let ada = user(&tenant, "ada").await;
    for delay in 0..20 {
        let (grant, code) = grant(ada);
        let audit = Audit::default();
        let issue = tenant.issue_code(&grant, &code, NOW, &audit);
        let _ = timeout(Duration::from_micros(delay * 100), issue).await;
        // The next writer comes after whatever was begun.
        user(&tenant, &format!("user-{delay}")).await;
        let has_grant = tenant.find_grant(grant.id).await.unwrap().is_some();
        let has_code = tenant.peek_code(&code.digest).await.unwrap().is_some();
        assert_eq!(has_grant, has_code, "after {delay} times 100 µs");
    }
    store.close().await;
}

#[tokio::test]
async fn a_change_that_fails_in_the_middle_changes_nothing() {
    let dir = Dir::new();
    let store = dir.store().await;
    let tenant = tenant(&store);
    let ada = user(&tenant, "ada").await;
    let (first, code) = grant(ada);
    let audit = Audit::default();
    assert_eq!(tenant.issue_code(&first, &code, NOW, &audit).await.unwrap(), IssueCode::Issued);
    // Its grant can be written, its code (which is there already) cannot.
    let (second, _) = grant(ada);
    let again = tenant.issue_code(&second, &code, NOW, &audit).await;
    assert!(matches!(again, Err(StoreError::Unavailable(_))), "{again:?}");
    assert_eq!(tenant.find_grant(second.id).await.unwrap(), None);
    store.close().await;
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_passes() {
    let dir = Dir::new();
    let store = dir.store().await;
    let tenant = tenant(&store);
    let limit = async |pages: i64| {
        let mut writer = store.writer().get().await.unwrap();
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        writer.get().execute(limit).await.unwrap();
        writer.give_back();
    };
    // Never less than the file has: it cannot grow.
    limit(1).await;
    let large = "x".repeat(100_000);
    let push = tenant.push_request(&Digest::of(b"1"), &large, NOW, NOW).await;
    assert!(matches!(push, Err(StoreError::Unavailable(_))), "{push:?}");
    limit(1_000_000).await;
    tenant.push_request(&Digest::of(b"1"), &large, NOW, NOW).await.unwrap();
    assert_eq!(integrity(&store).await, "ok");
    store.close().await;
}

#[tokio::test]
async fn another_process_is_noticed() {
    let dir = Dir::new();
    let store = dir.store().await;
    let mut hints = store.watch().hints();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(hints.try_recv().is_err());
    let other = open(store.path()).await;
    let ada = user(&tenant(&other), "ada").await;
    timeout(Duration::from_secs(5), hints.recv()).await.unwrap().unwrap();
    assert!(tenant(&store).find_user(ada).await.unwrap().is_some());
    other.close().await;
    store.close().await;
}

#[tokio::test]
async fn what_another_process_revokes_is_in_the_tail_and_a_restart_is_another_epoch() {
    let dir = Dir::new();
    let store = dir.store().await;
    let ada = user(&tenant(&store), "ada").await;
    let (grant, code) = grant(ada);
    let audit = Audit::default();
    let issued = tenant(&store).issue_code(&grant, &code, NOW, &audit).await.unwrap();
    assert_eq!(issued, IssueCode::Issued);
    let cursor = store.revocation_snapshot(NOW).await.unwrap().cursor;

    let other = open(store.path()).await;
    let revoked = tenant(&other).revoke_grant(grant.id, NOW, &audit).await.unwrap();
    assert_eq!(revoked, RevokeGrant::Revoked);
    let Tail::Page(page) = store.revocation_tail(&cursor, 10).await.unwrap() else {
        panic!("our own cursor is of our epoch")
    };
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].revocation.key.key(), grant.id.to_string());
    assert!(matches!(other.revocation_tail(&cursor, 10).await.unwrap(), Tail::Gone));
    let snapshot = other.revocation_snapshot(NOW).await.unwrap();
    assert_eq!(snapshot.entries, page.entries);
    other.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_number_of_the_log_is_never_given_again() {
    let dir = Dir::new();
    let store = dir.store().await;
    let ada = user(&tenant(&store), "ada").await;
    let audit = Audit::default();
    let revoke = async || {
        let (grant, code) = grant(ada);
        let _ = tenant(&store).issue_code(&grant, &code, NOW, &audit).await.unwrap();
        let _ = tenant(&store).revoke_grant(grant.id, NOW, &audit).await.unwrap();
    };
    revoke().await;
    let cursor = store.revocation_snapshot(NOW).await.unwrap().cursor;
    let later = NOW.plus(Duration::from_hours(48));
    let cleaned = store.cleanup_expired_data(later, 100, false).await.unwrap();
    assert!(cleaned.total() > 0);
    assert!(store.revocation_snapshot(NOW).await.unwrap().entries.is_empty());
    revoke().await;
    let Tail::Page(page) = store.revocation_tail(&cursor, 10).await.unwrap() else {
        panic!("the epoch is the same")
    };
    assert_eq!(page.entries.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn every_table_with_a_tenant_is_purged_with_it_or_outlives_it_on_purpose() {
    let dir = Dir::new();
    let store = dir.store().await;
    let tables = sql!(
        "SELECT t.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
         WHERE t.type = 'table' AND c.name = 'tenant_uid'"
    );
    let rows = store.rows(tables).await.unwrap();
    assert!(rows.len() > 10);
    for row in rows {
        let table: String = row.get("name").unwrap();
        let delete = format!("DELETE FROM {table} WHERE tenant_uid = ?1");
        let kept = ["audit_logs", "revocations"].contains(&table.as_str());
        assert!(kept != tenants::OF_TENANT.contains(&delete.as_str()), "{table}");
    }
    store.close().await;
}

#[tokio::test]
async fn closing_folds_the_log_into_the_file() {
    let dir = Dir::new();
    let store = dir.store().await;
    let ada = user(&tenant(&store), "ada").await;
    store.close().await;
    assert!(!PathBuf::from(format!("{}-wal", dir.file().display())).exists());
    assert!(matches!(tenant(&store).find_user(ada).await, Err(StoreError::Unavailable(_))));
    let again = open(&dir.file()).await;
    assert!(tenant(&again).find_user(ada).await.unwrap().is_some());
    again.close().await;
}

#[tokio::test]
async fn look_ups_do_not_walk_through_a_table() {
    let dir = Dir::new();
    let store = dir.store().await;
    for (text, index) in [
        (users::FIND_BY_LOGIN, "users_username (tenant_uid=? AND login_username=?)"),
        (users::FIND_BY_LOGIN, "users_email (tenant_uid=? AND login_email=?)"),
        (revocations::MATCHING, "revocations_key (tenant_uid=? AND kind=? AND key=?)"),
    ] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
        let rows = store.rows(sql!(explain)).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail").unwrap()).collect();
        assert!(plan.iter().any(|step| step.ends_with(index)), "{plan:?}");
    }
    store.close().await;
}
