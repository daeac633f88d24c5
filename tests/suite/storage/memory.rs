//! What only memory does: it starts from nothing, and it is bounded.

use pmp_auth::base::Timestamp;
use pmp_auth::model::audit::{Action, Audit, AuditRecord};
use pmp_auth::model::limit::LimitRule;
use pmp_auth::model::{RevocationKey, TenantSlug, TenantUid};
use pmp_auth::storage::memory::{Caps, Memory};
use pmp_auth::storage::{
    RememberJti, Storage as _, StoreError, TakePushed, TenantHandle, Tenants as _,
};

use super::make::*;

const CAPS: Caps = Caps { pushed_requests: 2, devices: 2, attempts: 2, jtis: 2, audit_records: 5 };

async fn bounded() -> (Memory, TenantHandle) {
    let store = Memory::with_caps("e", NOW, CAPS);
    let (slug, uid) = (TenantSlug::parse("acme").unwrap(), TenantUid::stored("t"));
    store.ensure_tenant(&slug, &uid, NOW, &AUDIT).await.unwrap();
    let tenant = store.tenant(&uid);
    (store, tenant)
}

fn refused<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn tokens_of_an_earlier_process_are_dead() {
    let started_at = Timestamp::from_millis(NOW.millis() + 700);
    let store = Memory::new("e", started_at);
    let (slug, uid) = (TenantSlug::parse("acme").unwrap(), TenantUid::stored("t"));
    store.ensure_tenant(&slug, &uid, after(500), &AUDIT).await.unwrap();
    store.ensure_tenant(&slug, &uid, after(501), &AUDIT).await.unwrap();
    let entry = the_entry(&store.tenant(&uid), RevocationKey::Tenant, after(500)).await;
    assert_eq!(entry.not_before, Some(Timestamp::from_seconds(NOW.seconds() - 1)));
    assert!(entry.expires_at > after(24 * 3600));
}

#[tokio::test]
async fn past_a_bound_requests_are_refused_and_none_is_forgotten() {
    let (store, t) = bounded().await;
    for id in ["a", "b"] {
        t.push_request(&digest(id), id, after(60), NOW).await.unwrap();
    }
    refused(&t.push_request(&digest("c"), "c", after(60), NOW).await);
    assert_eq!(t.take_request(&digest("a"), NOW).await.unwrap(), TakePushed::Taken("a".into()));
    t.push_request(&digest("c"), "c", after(90), NOW).await.unwrap();
    refused(&t.push_request(&digest("d"), "d", after(90), NOW).await);
    store.cleanup_expired_data(after(60), 100, false).await.unwrap();
    t.push_request(&digest("d"), "d", after(90), NOW).await.unwrap();
}

#[tokio::test]
async fn past_a_bound_expired_requests_make_room() {
    let (_, t) = bounded().await;
    t.push_request(&digest("a"), "a", after(60), NOW).await.unwrap();
    t.push_request(&digest("b"), "b", after(90), NOW).await.unwrap();
    refused(&t.push_request(&digest("c"), "c", after(119), after(59)).await);
    t.push_request(&digest("c"), "c", after(120), after(60)).await.unwrap();
    refused(&t.push_request(&digest("d"), "d", after(120), after(60)).await);
    for id in ["b", "c"] {
        let taken = t.take_request(&digest(id), after(60)).await.unwrap();
        assert_eq!(taken, TakePushed::Taken(id.into()));
    }
}

#[tokio::test]
async fn past_a_bound_identifiers_are_refused_and_none_is_forgotten() {
    let (store, t) = bounded().await;
    let see = async |n: u8| t.remember_jti("p", &[n; 32], after(60), NOW).await;
    for n in [1, 2] {
        assert_eq!(see(n).await.unwrap(), RememberJti::Fresh);
    }
    refused(&see(3).await);
    assert_eq!(see(1).await.unwrap(), RememberJti::Replayed);
    store.cleanup_expired_data(after(60), 100, false).await.unwrap();
    assert_eq!(see(3).await.unwrap(), RememberJti::Fresh);
}

#[tokio::test]
async fn past_a_bound_new_counters_are_refused_and_old_ones_count_on() {
    let (_, t) = bounded().await;
    let rule = LimitRule {
        free: 1,
        first_delay: std::time::Duration::ZERO,
        max_delay: std::time::Duration::ZERO,
        hard: 1,
        window: std::time::Duration::from_mins(1),
    };
    for key in ["a", "b"] {
        let _ = t.attempt(&digest(key), &rule, NOW).await.unwrap();
    }
    refused(&t.attempt(&digest("c"), &rule, NOW).await);
    let known = t.attempt(&digest("a"), &rule, NOW).await.unwrap();
    assert_eq!(known, pmp_auth::model::limit::Attempt::Refused { until: after(60) });
}

#[tokio::test]
async fn past_a_bound_failures_are_not_recorded_but_changes_are() {
    let (_, t) = bounded().await;
    let failure = AuditRecord {
        at: NOW,
        action: Action::LoginFailed,
        user: None,
        client: None,
        session: None,
        resource: None,
        success: false,
        detail: None,
        context: Audit::default(),
    };
    // The tenant's own record is the first of five.
    t.record_audit(&vec![failure.clone(); 4]).await.unwrap();
    refused(&t.record_audit(std::slice::from_ref(&failure)).await);
    user(&t, "ada").await;
    assert_eq!(times(&t, Action::UserCreated).await, 1);
    for n in 0..20 {
        user(&t, &format!("user{n}")).await;
    }
    assert_eq!(actions(&t).await.len(), 10, "twice the bound, however much is changed");
}

#[tokio::test]
async fn past_a_bound_devices_are_refused_until_some_have_expired() {
    let (_, t) = bounded().await;
    let who = signed_in(&t, "ada").await;
    let (first, second) = (asked(&t).await, asked(&t).await);
    refused(&t.issue_device(&new_device(NOW), after(599), &AUDIT).await);
    approve(&t, &who, &first, NOW).await;
    let redemption = device_redemption(first.digest, who.user, NOW);
    let _ = t.redeem_device(&redemption, NOW, &AUDIT).await.unwrap();
    // The expired one makes room, its user code with it; the redeemed one is remembered.
    let third = pmp_auth::storage::NewDevice {
        user_code: second.user_code.clone(),
        ..new_device(after(600))
    };
    let taken = t.issue_device(&third, after(600), &AUDIT).await.unwrap();
    assert_eq!(taken, pmp_auth::storage::IssueDevice::UserCodeTaken);
    ask(&t, &new_device(after(600)), after(600)).await;
    assert_eq!(t.find_device(&second.user_code).await.unwrap(), None);
    let told = t.poll_device(&poll(&first), after(600)).await.unwrap();
    assert_eq!(told, pmp_auth::storage::PollDevice::Redeemed);
    refused(&t.issue_device(&new_device(after(600)), after(600), &AUDIT).await);
}
