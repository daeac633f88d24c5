//! No table with a tenant is forgotten: by cleanup, or by the deletion of the tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pmp_auth::base::Timestamp;
use pmp_auth::model::TenantUid;
use pmp_auth::model::client::SigningAlg::ES256;
use pmp_auth::model::consent::Consent;
use pmp_auth::model::limit::LimitRule;
use pmp_auth::storage::{Engine, KINDS, PlacesWanted};

use super::api_keys::{made, of_client};
use super::make::*;
use crate::support::engines::Bed;

on_engine!(
    sqlite,
    Sqlite,
    every_table_with_a_tenant_is_cleaned_up_or_kept_on_purpose
    every_row_of_a_deleted_tenant_is_gone_but_its_records
);
on_engine!(
    postgres,
    Postgres,
    every_table_with_a_tenant_is_cleaned_up_or_kept_on_purpose
    every_row_of_a_deleted_tenant_is_gone_but_its_records
    the_sql_function_cleans_up_as_the_store_does
);

/// Tables that no cleanup touches, and why not.
const KEPT: &[(&str, &str)] = &[
    ("clients", "until someone deletes the client"),
    ("client_states", "until someone enables the client"),
    ("users", "until someone deletes the user"),
    ("consents", "until someone withdraws it"),
    ("failed_login_attempts", "nothing is written to it yet"),
];

/// What outlives its tenant.
const OUTLIVES: [&str; 2] = ["audit_logs", "revocations"];

async fn tables(bed: &Bed) -> BTreeSet<String> {
    let sql = match bed.engine() {
        Engine::Postgres => {
            "SELECT c.table_name::text FROM information_schema.columns c \
             JOIN information_schema.tables t USING (table_schema, table_name) \
             WHERE c.table_schema = 'public' AND c.column_name = 'tenant_uid' \
             AND t.table_type = 'BASE TABLE'"
        }
        _ => {
            "SELECT t.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND c.name = 'tenant_uid'"
        }
    };
    bed.place.sql(sql).await.into_iter().collect()
}

async fn every_table_with_a_tenant_is_cleaned_up_or_kept_on_purpose(bed: Bed) {
    let cleaned = KINDS.iter().map(|horizon| horizon.table);
    let known: BTreeSet<String> =
        cleaned.chain(KEPT.iter().map(|(table, _)| *table)).map(str::to_owned).collect();
    let tables = tables(&bed).await;
    assert!(tables.len() > 10, "{tables:?}");
    let forgotten: Vec<_> = tables.difference(&known).collect();
    assert!(forgotten.is_empty(), "neither cleaned up nor kept on purpose: {forgotten:?}");
}

/// A row in every table, for one tenant.
async fn fill(bed: &Bed, uid: &TenantUid) {
    let t = bed.store.tenant(uid);
    let family = family(&t, "ada").await;
    let _ = t.create_client(&client("app"), NOW, &AUDIT).await.unwrap();
    let other = pmp_auth::model::ClientId::new("other");
    let _ = t.set_client_disabled(&other, true, &change(NOW)).await.unwrap();
    let consent = Consent {
        user: family.issued.who.user,
        client: app(),
        scope: scope("openid"),
        resources: vec![],
        granted_at: NOW,
    };
    t.remember_consent(&consent, &AUDIT).await.unwrap();
    t.issue_access_token(&opaque(None, NOW)).await.unwrap();
    let places = PlacesWanted {
        ends_at: after(60),
        number: 0,
        count: 1,
        capacity: 1,
        id: "L".into(),
        seed: [1; 32],
    };
    t.take_places(&places, NOW).await.unwrap().expect("a place");
    let _ = t.remember_jti("p", &[1; 32], after(60), NOW).await.unwrap();
    asked(&t).await;
    t.push_request(&digest("id"), "x", after(60), NOW).await.unwrap();
    let rule = LimitRule {
        free: 1,
        first_delay: Duration::ZERO,
        max_delay: Duration::ZERO,
        hard: 9,
        window: Duration::from_mins(1),
    };
    let _ = t.attempt(&digest("k"), &rule, NOW).await.unwrap();
    let _ = t.add_first_key(&key(&format!("{uid}-1"), ES256, NOW), &AUDIT).await.unwrap();
    made(&t, &of_client("app")).await;
    // A table whose operations are still to come.
    let sql =
        format!("INSERT INTO failed_login_attempts (tenant_uid, reason) VALUES ('{uid}', 'r')");
    bed.place.sql(&sql).await;
}

async fn counts(bed: &Bed, uid: &TenantUid) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for table in tables(bed).await {
        let sql = format!("SELECT count(*) FROM {table} WHERE tenant_uid = '{uid}'");
        let count = bed.place.sql(&sql).await[0].parse().unwrap();
        counts.insert(table, count);
    }
    counts
}

async fn every_row_of_a_deleted_tenant_is_gone_but_its_records(bed: Bed) {
    let (a, b) = (bed.tenant_uid("acme").await, bed.tenant_uid("bolt").await);
    fill(&bed, &a).await;
    fill(&bed, &b).await;
    let before = counts(&bed, &b).await;
    let empty: Vec<_> = before.iter().filter(|(_, count)| **count == 0).collect();
    assert!(empty.is_empty(), "the test fills every table, but not {empty:?}");
    let _ = bed.delete_tenant(&a, &change(NOW)).await.unwrap();
    for (table, count) in counts(&bed, &a).await {
        assert_eq!(count > 0, OUTLIVES.contains(&table.as_str()), "{table}: {count} rows");
    }
    assert_eq!(counts(&bed, &b).await, before, "the other tenant keeps everything");
}

/// It goes by the database's clock, for which all of this is long ago.
async fn the_sql_function_cleans_up_as_the_store_does(bed: Bed) {
    let t = bed.tenant("acme").await;
    let past = Timestamp::from_seconds(1_000_000_000);
    for n in 0..3 {
        t.push_request(&digest(&n.to_string()), "x", past, NOW).await.unwrap();
    }
    t.push_request(&digest("live"), "x", Timestamp::FAR_FUTURE, NOW).await.unwrap();
    let deleted = bed.place.sql("SELECT cleanup_expired_data()").await;
    assert_eq!(deleted, ["3"]);
    let left = bed.place.sql("SELECT count(*) FROM par_requests").await;
    assert_eq!(left, ["1"]);
}
