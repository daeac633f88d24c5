use pmp_auth::model::RevocationKey;
use pmp_auth::model::audit::Action;

use super::make::*;
use crate::support::engines::Bed;

on_every_engine! {
    an_opaque_token_says_what_was_written
    a_token_of_a_revoked_grant_says_so
    a_revoked_token_is_in_the_log_and_its_row_is_gone
    a_signed_token_is_revoked_without_a_row
    tokens_of_two_tenants_do_not_touch
}

async fn an_opaque_token_says_what_was_written(bed: Bed) {
    let t = bed.tenant("acme").await;
    let mut token = opaque(None, NOW);
    token.claims.acr = Some("2".into());
    token.claims.audience.push("https://other.example".into());
    t.issue_access_token(&token).await.unwrap();
    let found = t.find_access_token(&token.digest).await.unwrap().unwrap();
    assert_eq!(found.claims, token.claims);
    assert!(found.grant_live, "it has no grant that could be revoked");
    assert_eq!(t.find_access_token(&digest("other")).await.unwrap(), None);
    assert!(actions(&t).await.iter().all(|action| *action != Action::TokenRevoked));
}

async fn a_token_of_a_revoked_grant_says_so(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let mut token = opaque(Some(family.issued.grant), NOW);
    token.claims.user = Some(family.issued.who.user);
    token.claims.session = Some(family.issued.who.session);
    token.claims.generation = Some(1);
    t.issue_access_token(&token).await.unwrap();
    let found = t.find_access_token(&token.digest).await.unwrap().unwrap();
    assert_eq!((found.claims, found.grant_live), (token.claims.clone(), true));
    let _ = t.revoke_grant(family.issued.grant, NOW, &AUDIT).await.unwrap();
    let found = t.find_access_token(&token.digest).await.unwrap().unwrap();
    assert_eq!((found.claims, found.grant_live), (token.claims, false));
}

async fn a_revoked_token_is_in_the_log_and_its_row_is_gone(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (token, other) = (opaque(None, NOW), opaque(None, NOW));
    t.issue_access_token(&token).await.unwrap();
    t.issue_access_token(&other).await.unwrap();
    t.revoke_access_token(&token.claims, &change(after(1))).await.unwrap();
    t.revoke_access_token(&token.claims, &change(after(2))).await.unwrap();
    assert_eq!(t.find_access_token(&token.digest).await.unwrap(), None);
    assert!(t.find_access_token(&other.digest).await.unwrap().is_some());
    let entry = the_entry(&t, RevocationKey::Jti(token.claims.jti.clone()), after(2)).await;
    assert_eq!((entry.at, entry.expires_at), (after(1), after(3601)));
    assert_eq!(times(&t, Action::TokenRevoked).await, 1);
}

async fn a_signed_token_is_revoked_without_a_row(bed: Bed) {
    let t = bed.tenant("acme").await;
    let claims = opaque(None, NOW).claims;
    t.revoke_access_token(&claims, &change(NOW)).await.unwrap();
    the_entry(&t, RevocationKey::Jti(claims.jti), NOW).await;
}

async fn tokens_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let token = opaque(None, NOW);
    a.issue_access_token(&token).await.unwrap();
    assert_eq!(b.find_access_token(&token.digest).await.unwrap(), None);
    b.revoke_access_token(&token.claims, &change(NOW)).await.unwrap();
    assert!(a.find_access_token(&token.digest).await.unwrap().is_some());
    assert!(entries(&a, &[RevocationKey::Jti(token.claims.jti.clone())], NOW).await.is_empty());
    let mut twin = token.clone();
    twin.claims.scope = scope("write");
    b.issue_access_token(&twin).await.unwrap();
    let found = a.find_access_token(&token.digest).await.unwrap().unwrap();
    assert_eq!(found.claims, token.claims);
}
