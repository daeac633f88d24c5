//! What only a server shared by several nodes can do: commit out of order, wait for locks, vanish,
//! become a standby.

use std::sync::Arc;
use std::time::Duration;

use pmp_auth::base::{Digest, Secret};
use pmp_auth::model::device::DeviceCode;
use pmp_auth::model::{RevocationKey, TenantUid};
use pmp_auth::storage::postgres::{Postgres, PostgresSettings};
use pmp_auth::storage::{
    ChangeUser, IssueCode, LogCursor, RedeemCode, Result, RevocationLog as _, Storage, StoreError,
    Tail,
};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::broadcast;

use super::make::*;
use crate::support::engines::{Bed, Place};
use crate::support::race::{RACERS, race};

on_engine!(
    postgres,
    Postgres,
    an_entry_that_commits_late_is_delivered_all_the_same
    a_restored_database_is_another_epoch
    another_node_is_hinted_and_sees_the_entry
    another_node_is_told_of_a_decision_and_of_nothing_else
    what_is_told_of_devices_is_not_trusted
    a_grant_that_is_made_while_its_user_is_disabled_is_revoked
    what_waits_too_long_for_a_lock_has_changed_nothing
    a_writer_whose_connection_was_ended_does_not_know
    connections_that_died_while_idle_cost_one_answer_each_at_most
    a_server_that_only_reads_is_unavailable_until_it_writes_again
    a_text_that_cannot_be_stored_is_nobodys
    the_common_case_of_each_operation_is_one_statement
    what_is_found_by_its_key_costs_the_same_however_much_its_owner_has
    rows_written_by_hand_are_as_good_as_ours
);

fn url(bed: &Bed) -> &str {
    match &bed.place {
        Place::Postgres(database) => database.url(),
        _ => panic!("not a server"),
    }
}

async fn node(bed: &Bed, connections: u32) -> Postgres {
    let connection = Secret::new(url(bed).to_owned());
    let settings = PostgresSettings { connection, listen: None, max_connections: connections };
    Postgres::connect(&settings).await.expect("a connection")
}

async fn connection(bed: &Bed) -> PgConnection {
    PgConnection::connect(url(bed)).await.expect("a connection")
}

async fn keys(bed: &Bed, cursor: &mut LogCursor) -> Vec<String> {
    let Tail::Page(page) = bed.revocation_tail(cursor, 100).await.unwrap() else {
        panic!("the epoch does not change")
    };
    *cursor = page.cursor;
    page.entries.iter().map(|entry| entry.revocation.key.key().to_owned()).collect()
}

async fn an_entry_that_commits_late_is_delivered_all_the_same(bed: Bed) {
    let t = bed.tenant("acme").await;
    let mut cursor = bed.revocation_snapshot(NOW).await.unwrap().cursor;
    let mut late = connection(&bed).await;
    late.execute("BEGIN").await.unwrap();
    late.execute(
        "INSERT INTO revocations (tenant_uid, kind, key, exp) VALUES ('default', 'jti', 'late', now() + interval '1 hour')",
    )
    .await
    .unwrap();
    t.append_revocations(&[entry(RevocationKey::Jti("early".into()))], NOW, &AUDIT).await.unwrap();
    assert_eq!(keys(&bed, &mut cursor).await, ["early"]);
    assert!(keys(&bed, &mut cursor).await.is_empty());
    late.execute("COMMIT").await.unwrap();
    assert_eq!(keys(&bed, &mut cursor).await, ["late"], "its number is the lower one");
    assert!(keys(&bed, &mut cursor).await.is_empty());
}

async fn a_restored_database_is_another_epoch(bed: Bed) {
    let t = bed.tenant("acme").await;
    t.append_revocations(&[entry(RevocationKey::Jti("before".into()))], NOW, &AUDIT).await.unwrap();
    let old = bed.revocation_snapshot(NOW).await.unwrap().cursor;
    bed.place.sql("UPDATE store_identity SET id = gen_random_uuid()").await;
    assert!(matches!(bed.revocation_tail(&old, 10).await.unwrap(), Tail::Gone));
    let page = bed.revocation_snapshot(NOW).await.unwrap();
    assert_ne!(page.cursor.epoch, old.epoch);
    assert_eq!(page.entries.len(), 1, "a snapshot has what every epoch wrote");
    let seen = bed.place.sql("SELECT epoch FROM epochs ORDER BY epoch").await;
    assert!(seen.contains(&old.epoch) && seen.contains(&page.cursor.epoch), "{seen:?}");
}

async fn another_node_is_hinted_and_sees_the_entry(bed: Bed) {
    let other = node(&bed, 2).await;
    let cursor = other.revocation_snapshot(NOW).await.unwrap().cursor;
    let t = bed.tenant("acme").await;
    let storage: &dyn Storage = &other;
    let mut hints = storage.watch().hints();
    // The first hint says that it listens; what was sent before it is lost, and looked for.
    tokio::time::timeout(Duration::from_secs(5), hints.recv()).await.expect("it listens").unwrap();
    t.append_revocations(&[entry(RevocationKey::Jti("a".into()))], NOW, &AUDIT).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), hints.recv()).await.expect("a hint").unwrap();
    let Tail::Page(page) = other.revocation_tail(&cursor, 10).await.unwrap() else {
        panic!("the epoch does not change")
    };
    assert_eq!(page.entries.len(), 1);
}

/// A node that listens, from then on.
async fn listening(bed: &Bed) -> (Postgres, broadcast::Receiver<Option<Digest<DeviceCode>>>) {
    let other = node(bed, 2).await;
    let storage: &dyn Storage = &other;
    let mut decisions = storage.watch().decisions();
    // The first says that it listens; what was decided before it is lost, and looked for.
    assert_eq!(next(&mut decisions).await, None);
    (other, decisions)
}

async fn next<T: Clone>(news: &mut broadcast::Receiver<T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), news.recv()).await.expect("told").unwrap()
}

async fn another_node_is_told_of_a_decision_and_of_nothing_else(bed: Bed) {
    let (other, mut decisions) = listening(&bed).await;
    let storage: &dyn Storage = &other;
    let mut hints = storage.watch().hints();
    let t = bed.tenant("acme").await;
    // A new tenant is a hint.
    next(&mut hints).await;
    let who = signed_in(&t, "ada").await;
    let (yes, no) = (asked(&t).await, asked(&t).await);
    let _ = t.poll_device(&poll(&yes), NOW).await.unwrap();
    approve(&t, &who, &yes, NOW).await;
    let _ = t.deny_device(&no.digest, None, NOW, &AUDIT).await.unwrap();
    let mut told = [next(&mut decisions).await, next(&mut decisions).await];
    let mut expected = [Some(yes.digest), Some(no.digest)];
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
    let _ =
        t.redeem_device(&device_redemption(yes.digest, who.user, NOW), NOW, &AUDIT).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(hints.try_recv().is_err(), "a decision makes nobody look at the revocation log");
    assert!(decisions.try_recv().is_err());
}

async fn what_is_told_of_devices_is_not_trusted(bed: Bed) {
    let (_other, mut decisions) = listening(&bed).await;
    for (payload, heard) in [("", 1), ("nonsense", 1), ("AAAA,,", 3)] {
        bed.place.sql(&format!("NOTIFY pmp_auth_devices, '{payload}'")).await;
        for _ in 0..heard {
            assert_eq!(next(&mut decisions).await, None, "{payload:?}");
        }
    }
    // A listener that was cut off may have missed some.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'pmp-auth-listen'";
    bed.place.sql(cut).await;
    assert_eq!(next(&mut decisions).await, None);
}

async fn a_grant_that_is_made_while_its_user_is_disabled_is_revoked(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let outcomes = race(RACERS, |number| {
        let t = t.clone();
        async move {
            if number == RACERS / 2 {
                let disabled = t.set_user_disabled(who.user, true, &change(NOW)).await.unwrap();
                assert_eq!(disabled, ChangeUser::Changed);
                return None;
            }
            let grant = new_grant(&who, &app(), NOW);
            let issued = t.issue_code(&grant, &new_code(NOW), NOW, &AUDIT).await.unwrap();
            (issued == IssueCode::Issued).then_some(grant.id)
        }
    })
    .await;
    assert!(t.list_grants(who.user, NOW).await.unwrap().is_empty());
    for grant in outcomes.into_iter().flatten() {
        let grant = t.find_grant(grant).await.unwrap().unwrap();
        assert_eq!(grant.state, pmp_auth::model::grant::GrantState::Revoked);
    }
}

async fn what_waits_too_long_for_a_lock_has_changed_nothing(bed: Bed) {
    let t = bed.tenant("acme").await;
    let issued = issued(&t, &signed_in(&t, "ada").await).await;
    let mut holder = connection(&bed).await;
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT 1 FROM authorization_codes FOR UPDATE").await.unwrap();
    let stuck = t.redeem_code(&redemption(&issued, NOW), NOW, &AUDIT).await;
    assert!(matches!(stuck, Err(StoreError::Unavailable(_))), "{stuck:?}");
    holder.execute("ROLLBACK").await.unwrap();
    let again = t.redeem_code(&redemption(&issued, NOW), NOW, &AUDIT).await.unwrap();
    assert!(matches!(again, RedeemCode::Redeemed { .. }), "{again:?}");
}

const END_OTHERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'pmp-auth' AND pid <> pg_backend_pid()";

async fn a_writer_whose_connection_was_ended_does_not_know(bed: Bed) {
    let t = bed.tenant("acme").await;
    let issued = issued(&t, &signed_in(&t, "ada").await).await;
    let mut holder = connection(&bed).await;
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT 1 FROM authorization_codes FOR UPDATE").await.unwrap();
    let (store, code) = (t.clone(), redemption(&issued, NOW));
    let writer = tokio::spawn(async move { store.redeem_code(&code, NOW, &AUDIT).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    holder.execute(END_OTHERS).await.unwrap();
    let lost = writer.await.unwrap();
    assert!(matches!(lost, Err(StoreError::Unknown(_))), "{lost:?}");
    holder.execute("ROLLBACK").await.unwrap();
}

async fn connections_that_died_while_idle_cost_one_answer_each_at_most(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let mut other = connection(&bed).await;
    other.execute(END_OTHERS).await.unwrap();
    let mut failures = 0;
    for _ in 0..20 {
        failures += usize::from(t.find_user(who.user).await.is_err());
    }
    assert!(failures <= 10, "{failures} of 20 although the server is there");
    assert!(t.find_user(who.user).await.unwrap().is_some());
}

async fn a_server_that_only_reads_is_unavailable_until_it_writes_again(bed: Bed) {
    let t = bed.tenant("acme").await;
    let only_reads = |yes: &str| {
        format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {yes}',
               current_database()); END $$"
        )
    };
    bed.place.sql(&only_reads("on")).await;
    let mut other = connection(&bed).await;
    other.execute("SET default_transaction_read_only = off").await.unwrap();
    other.execute(END_OTHERS).await.unwrap();
    let write = async || -> Result<()> {
        let new = new_user(&format!("u{}", unique()));
        t.create_user(&new, NOW, &AUDIT).await.map(drop)
    };
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(write().await);
    }
    let last = answers.pop().unwrap();
    assert!(matches!(last, Err(StoreError::Unavailable(_))), "{last:?}");
    assert!(bed.ready().await.is_err());
    other.execute(sqlx::AssertSqlSafe(only_reads("off"))).await.expect("this session may write");
    // The connections that only read were closed, so the next ones are new and write.
    write().await.unwrap();
    bed.ready().await.unwrap();
}

async fn a_text_that_cannot_be_stored_is_nobodys(bed: Bed) {
    let t = bed.tenant("acme").await;
    let client = pmp_auth::model::ClientId::new("a\0b");
    assert_eq!(t.find_client(&client).await.unwrap(), None);
    let login = pmp_auth::model::user::LoginName::canonical("a\0b");
    assert!(t.find_user_by_login(&login).await.unwrap().is_none());
    let audit = pmp_auth::model::Audit { user_agent: Some("x\0y".into()), ..AUDIT.clone() };
    let created = t.create_user(&new_user("ada"), NOW, &audit).await;
    assert!(created.is_ok(), "{created:?}");
}

async fn the_common_case_of_each_operation_is_one_statement(bed: Bed) {
    let uid: TenantUid = bed.tenant_uid("acme").await;
    let t = bed.store.tenant(&uid);
    let who = signed_in(&t, "ada").await;
    let store = Arc::clone(&bed.store);
    let mut before = store.round_trips();
    let mut sent = move || {
        let (now, then) = (store.round_trips(), before);
        before = now;
        now - then
    };
    let issued = issued(&t, &who).await;
    assert_eq!(sent(), 1, "issue a code");
    let family = redeem(&t, issued, NOW).await;
    assert_eq!(sent(), 1, "redeem it");
    let next = rotation(&family, &family.head, after(60));
    let _ = t.rotate_refresh(&next, after(60), &AUDIT).await.unwrap();
    assert_eq!(sent(), 1, "rotate");
    let token = opaque(None, NOW);
    t.issue_access_token(&token).await.unwrap();
    assert_eq!(sent(), 1, "issue an opaque token");
    assert!(t.find_access_token(&token.digest).await.unwrap().is_some());
    assert_eq!(sent(), 1, "find it");
    t.revoke_access_token(&token.claims, &change(NOW)).await.unwrap();
    assert_eq!(sent(), 1, "revoke it");
    let devices = [asked(&t).await, asked(&t).await];
    assert_eq!(sent(), 2, "ask for two devices");
    let digests = devices.each_ref().map(|device| device.digest);
    for _ in 0..2 {
        let _ = t.poll_device(&poll(&devices[0]), NOW).await.unwrap();
        assert_eq!(sent(), 1, "poll one of them, early or not");
    }
    t.slow_devices(&digests.map(|device| (device, Duration::from_secs(5)))).await.unwrap();
    assert_eq!(sent(), 1, "slow both down");
    approve(&t, &who, &devices[0], NOW).await;
    assert_eq!(sent(), 1, "approve one");
    let _ = t.deny_device(&digests[1], None, NOW, &AUDIT).await.unwrap();
    assert_eq!(sent(), 1, "deny the other");
    assert_eq!(t.decided_devices(&digests).await.unwrap(), digests);
    assert_eq!(sent(), 1, "look at both");
    let _ =
        t.redeem_device(&device_redemption(digests[0], who.user, NOW), NOW, &AUDIT).await.unwrap();
    assert_eq!(sent(), 1, "redeem");
}

/// Plans are made while tables are empty and nothing is known of them: then any index that begins
/// with the tenant looks as good as the key, and reads all that the user or the client has.
async fn what_is_found_by_its_key_costs_the_same_however_much_its_owner_has(bed: Bed) {
    const GRANTS: usize = 100;
    bed.place.sql("ALTER TABLE grants SET (autovacuum_enabled = false)").await;
    let who = signed_in(&bed.tenant("acme").await, "ada").await;
    let node = node(&bed, 1).await;
    let t = node.tenant(&bed.tenant_uid("acme").await);
    for _ in 0..GRANTS {
        let family = redeem(&t, issued(&t, &who).await, NOW).await;
        let next = rotation(&family, &family.head, after(60));
        let _ = t.rotate_refresh(&next, after(60), &AUDIT).await.unwrap();
    }
    // Its statistics are written when the connection ends.
    node.close().await;
    let read = "SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0)
        FROM pg_stat_user_tables WHERE relname = 'grants'";
    let mut rows: usize = 0;
    for _ in 0..50 {
        rows = bed.place.sql(read).await[0].parse().expect("a number");
        if rows >= 2 * GRANTS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((2 * GRANTS..6 * GRANTS).contains(&rows), "{rows} rows read");
}

async fn rows_written_by_hand_are_as_good_as_ours(bed: Bed) {
    bed.place
        .sql(
            "INSERT INTO users (email, username, password_hash, is_verified)
             VALUES (' Admin@Example.com', 'Admin', '$2b$12$x', true);
             INSERT INTO api_keys (client_id, name, api_key_hash, created_at)
             VALUES ('a-client', 'migrated-legacy', 'a-hash', NOW());",
        )
        .await;
    let t = bed.tenant("default").await;
    for typed in ["admin@example.com", "ADMIN"] {
        let login = pmp_auth::model::user::LoginName::canonical(typed);
        let found = t.find_user_by_login(&login).await.unwrap().expect(typed);
        assert!(found.email_verified && !found.disabled);
    }
    bed.place.sql("UPDATE users SET email = 'root@example.com'").await;
    let login = pmp_auth::model::user::LoginName::canonical("root@example.com");
    assert!(t.find_user_by_login(&login).await.unwrap().is_some());
    // Without an end, an owner's digest or a pepper of ours it opens nothing, but it is seen.
    let listed = t.list_api_keys(None, None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].name == "migrated-legacy" && !listed[0].is_live(listed[0].created_at));
    assert_eq!(t.find_api_key(listed[0].id).await.unwrap(), None);
    let revoked = t.revoke_api_key(listed[0].id, &change(NOW)).await.unwrap();
    assert_eq!(revoked, pmp_auth::storage::RevokeApiKey::Revoked);
    let printed = "SELECT version, filename, execution_time_ms >= 0 FROM schema_migrations
        ORDER BY applied_at DESC LIMIT 10";
    let applied = [
        "004|004_status_lists.up.sql|t",
        "003|003_api_keys.up.sql|t",
        "002|002_cheaper_writes.up.sql|t",
        "001|001_initial_schema.up.sql|t",
    ];
    assert_eq!(bed.place.sql(printed).await, applied);
    let held = "SELECT email, failed_login_attempts, account_locked_until FROM users
        WHERE failed_login_attempts > 0";
    assert!(bed.place.sql(held).await.is_empty());
}
