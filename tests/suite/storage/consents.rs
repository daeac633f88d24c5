use pmp_auth::model::audit::Action;
use pmp_auth::model::consent::Consent;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::{ClientId, RevocationKey, UserId};
use pmp_auth::storage::{NewGrant, TenantHandle, WithdrawConsent};

use super::make::*;
use crate::support::engines::Bed;

on_every_engine! {
    a_consent_grows_with_what_is_added_for_the_same_resources
    a_consent_for_other_resources_takes_the_place_of_what_was_there
    the_consents_of_a_user_are_listed_by_client
    a_withdrawn_consent_revokes_its_grants
    a_grant_without_a_remembered_consent_is_withdrawn_too
    consents_of_two_tenants_do_not_touch
}

fn consent(user: UserId, text: &str, resources: &[&str], seconds: u64) -> Consent {
    Consent {
        user,
        client: app(),
        scope: scope(text),
        resources: resources.iter().map(ToString::to_string).collect(),
        granted_at: after(seconds),
    }
}

async fn remember(t: &TenantHandle, consent: &Consent) {
    t.remember_consent(consent, &AUDIT).await.unwrap();
}

async fn a_consent_grows_with_what_is_added_for_the_same_resources(bed: Bed) {
    let t = bed.tenant("acme").await;
    let user = user(&t, "ada").await;
    assert_eq!(t.find_consent(user, &app()).await.unwrap(), None);
    let resources = ["https://b.example", "https://a.example"];
    remember(&t, &consent(user, "openid email", &["https://a.example", "https://b.example"], 1))
        .await;
    remember(&t, &consent(user, "email profile", &resources, 2)).await;
    let sum = consent(user, "openid email profile", &resources, 2);
    assert_eq!(t.find_consent(user, &app()).await.unwrap(), Some(sum));
    assert_eq!(t.find_consent(user, &ClientId::new("other")).await.unwrap(), None);
    assert_eq!(times(&t, Action::ConsentRemembered).await, 2);
}

async fn a_consent_for_other_resources_takes_the_place_of_what_was_there(bed: Bed) {
    let t = bed.tenant("acme").await;
    let user = user(&t, "ada").await;
    let (a, b) = ("https://a.example", "https://b.example");
    let steps: [(&str, &[&str]); 4] =
        [("openid read", &[a]), ("write", &[b]), ("email", &[a, b]), ("read", &[b])];
    for (seconds, (scope, resources)) in (1..).zip(steps) {
        let only = consent(user, scope, resources, seconds);
        remember(&t, &only).await;
        assert_eq!(t.find_consent(user, &app()).await.unwrap(), Some(only));
    }
}

async fn the_consents_of_a_user_are_listed_by_client(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (ada, bob) = (user(&t, "ada").await, user(&t, "bob").await);
    for id in ["web", "api"] {
        let consent = Consent { client: ClientId::new(id), ..consent(ada, "openid", &[], 1) };
        remember(&t, &consent).await;
    }
    remember(&t, &consent(bob, "openid", &[], 1)).await;
    let listed = t.list_consents(ada).await.unwrap();
    let clients: Vec<_> = listed.iter().map(|consent| consent.client.as_str()).collect();
    assert_eq!(clients, ["api", "web"]);
}

async fn a_withdrawn_consent_revokes_its_grants(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    remember(&t, &consent(who.user, "openid", &[], 1)).await;
    let mine = [issued(&t, &who).await.grant, issued(&t, &who).await.grant];
    let revoked = issued(&t, &who).await.grant;
    let _ = t.revoke_grant(revoked, NOW, &AUDIT).await.unwrap();
    let other = NewGrant { client: ClientId::new("other"), ..new_grant(&who, &app(), NOW) };
    let other = issue(&t, other, new_code(NOW), NOW).await.grant;
    let bobs = issued(&t, &signed_in(&t, "bob").await).await.grant;
    let withdraw = async || t.withdraw_consent(who.user, &app(), after(5), &AUDIT).await.unwrap();
    assert_eq!(withdraw().await, WithdrawConsent::Withdrawn { grants: 2 });
    assert_eq!(withdraw().await, WithdrawConsent::Unknown);
    assert_eq!(t.find_consent(who.user, &app()).await.unwrap(), None);
    for id in mine {
        let state = t.find_grant(id).await.unwrap().unwrap().state;
        assert_eq!(state, GrantState::Revoked);
        the_entry(&t, RevocationKey::Grant(id.to_string()), after(5)).await;
    }
    for id in [other, bobs] {
        assert_eq!(t.find_grant(id).await.unwrap().unwrap().state, GrantState::Live);
    }
    assert_eq!(times(&t, Action::ConsentWithdrawn).await, 1);
}

async fn a_grant_without_a_remembered_consent_is_withdrawn_too(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    issued(&t, &who).await;
    let outcome = t.withdraw_consent(who.user, &app(), NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, WithdrawConsent::Withdrawn { grants: 1 });
}

async fn consents_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let who = signed_in(&a, "ada").await;
    let grant = issued(&a, &who).await.grant;
    remember(&a, &consent(who.user, "openid", &[], 1)).await;
    assert_eq!(b.find_consent(who.user, &app()).await.unwrap(), None);
    assert!(b.list_consents(who.user).await.unwrap().is_empty());
    let outcome = b.withdraw_consent(who.user, &app(), NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, WithdrawConsent::Unknown);
    remember(&b, &consent(who.user, "email", &[], 1)).await;
    let found = a.find_consent(who.user, &app()).await.unwrap().unwrap();
    assert_eq!(found.scope, scope("openid"));
    assert_eq!(a.find_grant(grant).await.unwrap().unwrap().state, GrantState::Live);
}
