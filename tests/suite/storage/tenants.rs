use pmp_auth::base::SystemEntropy;
use pmp_auth::model::audit::Action;
use pmp_auth::model::tenant::{TenantRecord, TenantStatus};
use pmp_auth::model::{RevocationKey, TenantSlug, TenantUid};
use pmp_auth::storage::ChangeTenant;

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, race};

on_every_engine! {
    a_tenant_is_made_once_and_found_by_its_slug
    the_default_tenant_has_the_uid_that_printed_sql_falls_back_to
    tenants_are_listed_by_slug
    a_suspended_tenant_is_found_and_its_tokens_are_dead
    a_deleted_tenant_leaves_only_its_records_and_its_slug_is_free
    many_nodes_get_one_tenant
    a_deleted_tenant_takes_nothing_of_another
}

on_durable_engines! {
    tenants_and_what_is_theirs_survive_a_restart
}

fn slug(text: &str) -> TenantSlug {
    TenantSlug::parse(text).unwrap()
}

fn uid() -> TenantUid {
    TenantUid::generate(&SystemEntropy)
}

async fn a_tenant_is_made_once_and_found_by_its_slug(bed: Bed) {
    let mine = uid();
    let record = bed.ensure_tenant(&slug("acme"), &mine, NOW, &AUDIT).await.unwrap();
    let expected = TenantRecord {
        uid: mine.clone(),
        slug: slug("acme"),
        status: TenantStatus::Active,
        created_at: NOW,
    };
    assert_eq!(record, expected);
    let again = bed.ensure_tenant(&slug("acme"), &uid(), after(5), &AUDIT).await.unwrap();
    assert_eq!(again, expected);
    assert_eq!(bed.find_tenant(&slug("acme")).await.unwrap(), Some(expected));
    assert_eq!(bed.find_tenant(&slug("bolt")).await.unwrap(), None);
    assert_eq!(times(&bed.store.tenant(&mine), Action::TenantCreated).await, 1);
}

async fn the_default_tenant_has_the_uid_that_printed_sql_falls_back_to(bed: Bed) {
    let record = bed.ensure_tenant(&slug("default"), &uid(), NOW, &AUDIT).await.unwrap();
    assert_eq!(record.uid.as_str(), TenantUid::DEFAULT);
    let deleted = bed.delete_tenant(&record.uid, &change(NOW)).await.unwrap();
    assert_eq!(deleted, ChangeTenant::Changed);
    let next = uid();
    let record = bed.ensure_tenant(&slug("default"), &next, NOW, &AUDIT).await.unwrap();
    assert_eq!(record.uid, next, "a uid is never used again");
}

async fn tenants_are_listed_by_slug(bed: Bed) {
    for name in ["zeta", "acme", "bolt"] {
        bed.tenant(name).await;
    }
    let gone = bed.tenant_uid("bolt").await;
    let _ = bed.delete_tenant(&gone, &change(NOW)).await.unwrap();
    let listed = bed.list_tenants().await.unwrap();
    let mut slugs: Vec<_> = listed.iter().map(|t| t.slug.as_str()).collect();
    // A fresh database brings the default tenant along.
    slugs.retain(|slug| *slug != "default");
    assert_eq!(slugs, ["acme", "zeta"]);
}

async fn a_suspended_tenant_is_found_and_its_tokens_are_dead(bed: Bed) {
    let uid = bed.tenant_uid("acme").await;
    let t = bed.store.tenant(&uid);
    let who = signed_in(&t, "ada").await;
    let resume = async || bed.resume_tenant(&uid, after(20), &AUDIT).await.unwrap();
    let suspend = async || bed.suspend_tenant(&uid, &change(after(5))).await.unwrap();
    assert_eq!(resume().await, ChangeTenant::Unchanged);
    assert_eq!(suspend().await, ChangeTenant::Changed);
    assert_eq!(suspend().await, ChangeTenant::Unchanged);
    let found = bed.find_tenant(&slug("acme")).await.unwrap().unwrap();
    assert_eq!(found.status, TenantStatus::Suspended);
    let again = bed.ensure_tenant(&slug("acme"), &self::uid(), NOW, &AUDIT).await.unwrap();
    assert_eq!((again.uid, again.status), (uid.clone(), TenantStatus::Suspended));
    let told = entries(&t, &[RevocationKey::Tenant], after(5)).await;
    let told = told.iter().filter(|entry| entry.not_before == Some(after(15)));
    assert_eq!(told.map(|entry| entry.expires_at).collect::<Vec<_>>(), [after(3605)]);
    assert_eq!(resume().await, ChangeTenant::Changed);
    let found = bed.find_tenant(&slug("acme")).await.unwrap().unwrap();
    assert_eq!(found.status, TenantStatus::Active);
    assert!(t.find_session(&who.cookie, after(20)).await.unwrap().is_some(), "its data stays");
    assert_eq!(times(&t, Action::TenantSuspended).await, 1);
    assert_eq!(times(&t, Action::TenantResumed).await, 1);
    let nobody = TenantUid::stored("nobody");
    let unknown = bed.suspend_tenant(&nobody, &change(NOW)).await.unwrap();
    assert_eq!(unknown, ChangeTenant::Unknown);
    assert_eq!(bed.resume_tenant(&nobody, NOW, &AUDIT).await.unwrap(), ChangeTenant::Unknown);
    assert_eq!(bed.delete_tenant(&nobody, &change(NOW)).await.unwrap(), ChangeTenant::Unknown);
}

async fn a_deleted_tenant_leaves_only_its_records_and_its_slug_is_free(bed: Bed) {
    let uid = bed.tenant_uid("acme").await;
    let t = bed.store.tenant(&uid);
    let family = family(&t, "ada").await;
    let (grant, code) = (family.issued.grant, family.issued.code);
    let key = key("k-1", pmp_auth::model::client::SigningAlg::ES256, NOW);
    let _ = t.add_first_key(&key, &AUDIT).await.unwrap();
    let _ = t.create_client(&client("app"), NOW, &AUDIT).await.unwrap();
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    t.push_request(&digest("id"), "x", after(60), NOW).await.unwrap();
    let _ = t.remember_jti("p", &[1; 32], after(60), NOW).await.unwrap();
    let token = opaque(None, NOW);
    t.issue_access_token(&token).await.unwrap();
    assert_eq!(bed.delete_tenant(&uid, &change(after(5))).await.unwrap(), ChangeTenant::Changed);
    assert_eq!(bed.find_tenant(&slug("acme")).await.unwrap(), None);
    assert!(t.list_users(None, 10).await.unwrap().is_empty());
    assert_eq!(t.find_grant(grant).await.unwrap(), None);
    assert_eq!(t.peek_code(&code).await.unwrap(), None);
    assert_eq!(t.find_client(&app()).await.unwrap(), None);
    assert!(t.client_states().await.unwrap().is_empty());
    assert!(t.list_keys().await.unwrap().is_empty());
    assert_eq!(t.find_access_token(&token.digest).await.unwrap(), None);
    let fresh = t.remember_jti("p", &[1; 32], after(60), NOW).await.unwrap();
    assert_eq!(fresh, pmp_auth::storage::RememberJti::Fresh);
    let told = entries(&t, &[RevocationKey::Tenant], after(5)).await;
    assert!(told.iter().any(|entry| entry.not_before == Some(after(15))), "{told:?}");
    assert!(told.iter().all(|entry| entry.expires_at > after(5)));
    assert_eq!(times(&t, Action::UserCreated).await, 1, "its audit records stay");
    assert_eq!(times(&t, Action::TenantDeleted).await, 1);
    assert_eq!(bed.resume_tenant(&uid, NOW, &AUDIT).await.unwrap(), ChangeTenant::Unknown);
    let next = bed.tenant_uid("acme").await;
    assert_ne!(next, uid);
    assert!(bed.store.tenant(&next).list_users(None, 10).await.unwrap().is_empty());
}

async fn many_nodes_get_one_tenant(bed: Bed) {
    bed.warm().await;
    let records = race(RACERS, |_| {
        let store = bed.store.clone();
        async move { store.ensure_tenant(&slug("acme"), &uid(), NOW, &AUDIT).await.unwrap() }
    })
    .await;
    assert!(records.iter().all(|record| *record == records[0]));
    let t = bed.store.tenant(&records[0].uid);
    assert_eq!(times(&t, Action::TenantCreated).await, 1);
}

async fn a_deleted_tenant_takes_nothing_of_another(bed: Bed) {
    let (a, b) = (bed.tenant_uid("acme").await, bed.tenant_uid("bolt").await);
    let who = signed_in(&bed.store.tenant(&b), "ada").await;
    let grant = issued(&bed.store.tenant(&b), &who).await.grant;
    let _ = bed.delete_tenant(&a, &change(NOW)).await.unwrap();
    let b = bed.store.tenant(&b);
    assert!(b.find_session(&who.cookie, NOW).await.unwrap().is_some());
    assert!(b.find_grant(grant).await.unwrap().is_some());
    let told = entries(&b, &[RevocationKey::Tenant], NOW).await;
    assert!(told.iter().all(|entry| entry.not_before < Some(NOW)), "{told:?}");
}

async fn tenants_and_what_is_theirs_survive_a_restart(mut bed: Bed) {
    let uid = bed.tenant_uid("acme").await;
    let t = bed.store.tenant(&uid);
    let family = family(&t, "ada").await;
    let grant = t.find_grant(family.issued.grant).await.unwrap();
    let _ = bed.suspend_tenant(&uid, &change(NOW)).await.unwrap();
    bed.reopen().await;
    let found = bed.find_tenant(&slug("acme")).await.unwrap().unwrap();
    assert_eq!((found.uid, found.status), (uid.clone(), TenantStatus::Suspended));
    let t = bed.store.tenant(&uid);
    assert_eq!(t.find_grant(family.issued.grant).await.unwrap(), grant);
    let replayed = t.redeem_code(&redemption(&family.issued, NOW), NOW, &AUDIT).await.unwrap();
    assert!(matches!(replayed, pmp_auth::storage::RedeemCode::Replayed { .. }));
}
