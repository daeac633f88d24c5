use pmp_auth::model::audit::{Action, Audit, AuditRecord};
use pmp_auth::model::{SessionId, UserId};

use super::make::*;
use crate::support::engines::Bed;

on_every_engine! {
    records_are_listed_as_they_were_written_newest_first
    a_change_records_who_and_from_where
    records_of_two_tenants_do_not_touch
}

fn record(action: Action, seconds: u64) -> AuditRecord {
    AuditRecord {
        at: after(seconds),
        action,
        user: None,
        client: None,
        session: None,
        resource: None,
        success: false,
        detail: None,
        context: Audit::default(),
    }
}

async fn records_are_listed_as_they_were_written_newest_first(bed: Bed) {
    let t = bed.tenant("acme").await;
    let full = AuditRecord {
        user: Some(UserId(uuid())),
        client: Some(app()),
        session: Some(SessionId(uuid())),
        resource: Some(("grant", "g-1".into())),
        detail: Some(serde_json::json!({ "why": "wrong password", "n": 3 })),
        context: Audit {
            ip: Some("2001:db8::1".into()),
            user_agent: Some("Browser/1 (ü)".into()),
            request_id: Some("r-1".into()),
            actor: Some("cli"),
        },
        ..record(Action::LoginFailed, 10)
    };
    t.record_audit(&[full.clone(), record(Action::LoginThrottled, 20)]).await.unwrap();
    t.record_audit(&[]).await.unwrap();
    let listed = t.list_audit(2).await.unwrap();
    assert_eq!(listed, [record(Action::LoginThrottled, 20), full]);
    assert_eq!(t.list_audit(1).await.unwrap().len(), 1);
}

async fn a_change_records_who_and_from_where(bed: Bed) {
    let t = bed.tenant("acme").await;
    let audit = Audit {
        ip: Some("203.0.113.7".into()),
        user_agent: Some("Browser/1".into()),
        request_id: Some("r-2".into()),
        actor: Some("cli"),
    };
    let new = new_user("ada");
    let _ = t.create_user(&new, NOW, &audit).await.unwrap();
    let told = t.list_audit(1).await.unwrap().remove(0);
    assert_eq!((told.action, told.at, told.success), (Action::UserCreated, NOW, true));
    assert_eq!((told.user, told.context), (Some(new.id), audit));
}

async fn records_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    a.record_audit(&[record(Action::LoginFailed, 10)]).await.unwrap();
    assert_eq!(times(&a, Action::LoginFailed).await, 1);
    assert_eq!(times(&b, Action::LoginFailed).await, 0);
}
