use std::time::Duration;

use pmp_auth::model::audit::Action;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::{ClientId, RevocationKey, SessionId};
use pmp_auth::storage::{
    CountVerifier, EndReason, IssueCode, NewGrant, RedeemCode, Redemption, Retry, TenantHandle,
};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    a_code_is_issued_with_its_grant_and_peeked_at
    a_code_is_not_issued_for_a_user_or_session_or_client_that_is_not_live
    a_code_is_redeemed_once_and_its_grant_gets_a_refresh_token
    a_code_may_be_redeemed_without_a_refresh_token
    an_opaque_token_is_stored_with_the_redemption
    a_second_use_revokes_the_grant
    a_second_use_by_another_client_changes_nothing
    an_expired_code_is_not_redeemed
    a_code_dies_of_wrong_verifiers
    a_spent_code_counts_no_verifiers
    a_code_whose_grant_or_owner_is_gone_is_revoked
    a_retry_is_answered_again_only_in_its_window_with_its_fingerprint_and_before_a_rotation
    one_of_many_redeemers_wins
    many_wrong_verifiers_kill_once
    codes_of_two_tenants_do_not_touch
}

async fn a_code_is_issued_with_its_grant_and_peeked_at(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let (grant, code) = (new_grant(&who, &app(), NOW), new_code(NOW));
    issue(&t, grant.clone(), code.clone(), NOW).await;
    let record = t.peek_code(&code.digest).await.unwrap().unwrap();
    assert_eq!(record.client, app());
    assert_eq!(record.user, who.user);
    assert_eq!(record.session, Some(who.session));
    assert_eq!(record.grant, grant.id);
    assert_eq!(record.terms, code.terms);
    assert_eq!(record.grant_terms, grant.terms);
    assert!(record.offline);
    assert_eq!((record.issued_at, record.expires_at), (NOW, after(60)));
    let stored = t.find_grant(grant.id).await.unwrap().unwrap();
    assert_eq!(stored.state, GrantState::Live);
    assert_eq!((stored.created_at, stored.expires_at), (NOW, grant.expires_at));
    assert_eq!(stored.refresh, None);
    assert_eq!(t.peek_code(&digest("other")).await.unwrap(), None);
    let record = &t.list_audit(1).await.unwrap()[0];
    assert_eq!(record.action, Action::GrantCreated);
    assert_eq!((record.user, record.client.clone()), (Some(who.user), Some(app())));
    assert!(record.success);
}

async fn a_code_is_not_issued_for_a_user_or_session_or_client_that_is_not_live(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let refused = async |grant: NewGrant, seconds: u64| {
        let code = new_code(NOW);
        let outcome = t.issue_code(&grant, &code, after(seconds), &AUDIT).await.unwrap();
        assert_eq!(outcome, IssueCode::NotLive);
        assert_eq!(t.peek_code(&code.digest).await.unwrap(), None);
        assert_eq!(t.find_grant(grant.id).await.unwrap(), None);
    };
    let good = || new_grant(&who, &app(), NOW);
    let nobody = pmp_auth::model::UserId(uuid());
    refused(NewGrant { user: Some(nobody), ..good() }, 0).await;
    refused(NewGrant { session: Some(SessionId(uuid())), ..good() }, 0).await;
    refused(good(), 1800).await;
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    refused(good(), 0).await;
    let _ = t.set_client_disabled(&app(), false, &change(NOW)).await.unwrap();
    let ended = session(&t, who.user, NOW).await;
    let _ = t.end_session(ended.session, EndReason::Logout, &change(NOW)).await.unwrap();
    refused(NewGrant { session: Some(ended.session), ..good() }, 0).await;
    let _ = t.set_user_disabled(who.user, true, &change(NOW)).await.unwrap();
    refused(NewGrant { session: None, ..good() }, 0).await;
}

async fn a_code_is_redeemed_once_and_its_grant_gets_a_refresh_token(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let issued = issued(&t, &who).await;
    let redemption = redemption(&issued, after(5));
    let RedeemCode::Redeemed { refresh: Some(head) } =
        t.redeem_code(&redemption, after(5), &AUDIT).await.unwrap()
    else {
        panic!("redeemed, with a refresh token")
    };
    let new = redemption.refresh.unwrap();
    assert_eq!((head.head, head.head_nonce, head.kid), (1, new.nonce, 1));
    assert_eq!((head.salt, head.rotated_at, head.pred), ([7; 16], after(5), None));
    assert_eq!((head.repeats, head.streak, head.differs), (0, 0, false));
    assert_eq!(head.fingerprint, Some([1; 16]));
    let grant = t.find_grant(issued.grant).await.unwrap().unwrap();
    assert_eq!(grant.refresh, Some(head));
    assert_eq!(grant.idle_expires_at, new.idle_expires_at);
    assert!(t.peek_code(&issued.code).await.unwrap().is_some(), "its terms stay");
    assert_eq!(times(&t, Action::CodeRedeemed).await, 1);
}

async fn a_code_may_be_redeemed_without_a_refresh_token(bed: Bed) {
    let t = bed.tenant("acme").await;
    let issued = issued(&t, &signed_in(&t, "ada").await).await;
    let redemption = Redemption { refresh: None, ..redemption(&issued, NOW) };
    let outcome = t.redeem_code(&redemption, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemCode::Redeemed { refresh: None });
    assert_eq!(t.find_grant(issued.grant).await.unwrap().unwrap().refresh, None);
}

async fn an_opaque_token_is_stored_with_the_redemption(bed: Bed) {
    let t = bed.tenant("acme").await;
    let issued = issued(&t, &signed_in(&t, "ada").await).await;
    let mut token = opaque(Some(issued.grant), NOW);
    token.claims.generation = Some(1);
    let redemption = Redemption { opaque: Some(token.clone()), ..redemption(&issued, NOW) };
    let _ = t.redeem_code(&redemption, NOW, &AUDIT).await.unwrap();
    let found = t.find_access_token(&token.digest).await.unwrap().unwrap();
    assert_eq!(found.claims, token.claims);
    assert!(found.grant_live);
}

async fn a_second_use_revokes_the_grant(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let issued = &family.issued;
    let again = Redemption { opaque: Some(opaque(None, NOW)), ..redemption(issued, after(1)) };
    let outcome = t.redeem_code(&again, after(1), &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemCode::Replayed { grant: issued.grant });
    let grant = t.find_grant(issued.grant).await.unwrap().unwrap();
    assert_eq!(grant.state, GrantState::Revoked);
    assert_eq!(t.find_access_token(&again.opaque.unwrap().digest).await.unwrap(), None);
    let entry = the_entry(&t, RevocationKey::Grant(issued.grant.to_string()), after(1)).await;
    assert_eq!((entry.at, entry.not_before), (after(1), None));
    assert!(entry.expires_at >= after(660), "covers the access token: {}", entry.expires_at);
    let record = &t.list_audit(1).await.unwrap()[0];
    assert_eq!((record.action, record.success), (Action::CodeReplayed, false));
    // A third use says the same, and revokes nothing twice.
    let outcome = t.redeem_code(&again_with(issued), after(2), &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemCode::Replayed { grant: issued.grant });
    the_entry(&t, RevocationKey::Grant(issued.grant.to_string()), after(2)).await;
}

fn again_with(issued: &Issued) -> Redemption {
    redemption(issued, after(2))
}

async fn a_second_use_by_another_client_changes_nothing(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let stranger = Redemption { client: ClientId::new("other"), ..redemption(&family.issued, NOW) };
    assert_eq!(t.redeem_code(&stranger, NOW, &AUDIT).await.unwrap(), RedeemCode::Unknown);
    let grant = t.find_grant(family.issued.grant).await.unwrap().unwrap();
    assert_eq!(grant.state, GrantState::Live);
    let unknown = Redemption { code: digest("none"), ..redemption(&family.issued, NOW) };
    assert_eq!(t.redeem_code(&unknown, NOW, &AUDIT).await.unwrap(), RedeemCode::Unknown);
}

async fn an_expired_code_is_not_redeemed(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let (late, in_time) = (issued(&t, &who).await, issued(&t, &who).await);
    let outcome = t.redeem_code(&redemption(&late, after(60)), after(60), &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemCode::Expired);
    let almost = after(60).minus(Duration::from_millis(1));
    let outcome = t.redeem_code(&redemption(&in_time, almost), almost, &AUDIT).await.unwrap();
    assert!(matches!(outcome, RedeemCode::Redeemed { .. }));
    // Spent comes before expired: a late replay still revokes.
    let outcome = t.redeem_code(&redemption(&in_time, after(90)), after(90), &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemCode::Replayed { grant: in_time.grant });
}

async fn a_code_dies_of_wrong_verifiers(bed: Bed) {
    let t = bed.tenant("acme").await;
    let issued = issued(&t, &signed_in(&t, "ada").await).await;
    let wrong = async || t.count_wrong_verifier(&issued.code, 3, NOW, &AUDIT).await.unwrap();
    assert_eq!(wrong().await, CountVerifier::Counted);
    assert_eq!(wrong().await, CountVerifier::Counted);
    assert_eq!(wrong().await, CountVerifier::Dead);
    assert_eq!(wrong().await, CountVerifier::Dead);
    assert_eq!(times(&t, Action::CodeKilled).await, 1);
    let outcome = t.redeem_code(&redemption(&issued, NOW), NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemCode::Dead);
    let unknown = t.count_wrong_verifier(&digest("none"), 3, NOW, &AUDIT).await.unwrap();
    assert_eq!(unknown, CountVerifier::NotLive);
}

async fn a_spent_code_counts_no_verifiers(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let counted = t.count_wrong_verifier(&family.issued.code, 1, NOW, &AUDIT).await.unwrap();
    assert_eq!(counted, CountVerifier::NotLive);
    assert_eq!(times(&t, Action::CodeKilled).await, 0);
}

async fn a_code_whose_grant_or_owner_is_gone_is_revoked(bed: Bed) {
    let t = bed.tenant("acme").await;
    let outcome =
        async |issued: &Issued| t.redeem_code(&redemption(issued, NOW), NOW, &AUDIT).await.unwrap();
    let grant = issued(&t, &signed_in(&t, "ada").await).await;
    let _ = t.revoke_grant(grant.grant, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome(&grant).await, RedeemCode::Revoked);

    let left = issued(&t, &signed_in(&t, "bob").await).await;
    let _ = t.end_session(left.who.session, EndReason::Logout, &change(NOW)).await.unwrap();
    assert_eq!(outcome(&left).await, RedeemCode::Revoked);

    let disabled = issued(&t, &signed_in(&t, "cyd").await).await;
    let _ = t.set_user_disabled(disabled.who.user, true, &change(NOW)).await.unwrap();
    let _ = t.set_user_disabled(disabled.who.user, false, &change(NOW)).await.unwrap();
    assert_eq!(outcome(&disabled).await, RedeemCode::Revoked, "enabling brings nothing back");

    let deleted = issued(&t, &signed_in(&t, "dan").await).await;
    let _ = t.delete_user(deleted.who.user, &change(NOW)).await.unwrap();
    assert_eq!(outcome(&deleted).await, RedeemCode::Revoked);

    let of_client = issued(&t, &signed_in(&t, "eve").await).await;
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    assert_eq!(outcome(&of_client).await, RedeemCode::Revoked);
}

fn retry(issued: &Issued, fingerprint: u8) -> Redemption {
    Redemption {
        retry: Some(Retry { fingerprint: [fingerprint; 32], window: Duration::from_secs(2) }),
        ..redemption(issued, NOW)
    }
}

async fn a_retry_is_answered_again_only_in_its_window_with_its_fingerprint_and_before_a_rotation(
    bed: Bed,
) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let spent = async |first: u8| {
        let issued = issued(&t, &who).await;
        let outcome = t.redeem_code(&retry(&issued, first), NOW, &AUDIT).await.unwrap();
        let RedeemCode::Redeemed { refresh: Some(head) } = outcome else { panic!("{outcome:?}") };
        Family { issued, head }
    };
    let answer = async |family: &Family, redemption: &Redemption, seconds: u64| {
        let outcome = t.redeem_code(redemption, after(seconds), &AUDIT).await.unwrap();
        match outcome {
            RedeemCode::Repeated { refresh } => {
                assert_eq!(refresh.as_ref(), Some(&family.head));
                true
            }
            RedeemCode::Replayed { .. } => false,
            other => panic!("{other:?}"),
        }
    };
    let family = spent(1).await;
    let token = opaque(Some(family.issued.grant), NOW);
    let again = Redemption { opaque: Some(token.clone()), ..retry(&family.issued, 1) };
    assert!(answer(&family, &again, 2).await);
    assert!(t.find_access_token(&token.digest).await.unwrap().is_some());
    assert!(!answer(&family, &retry(&family.issued, 1), 3).await, "too late");
    let family = spent(1).await;
    assert!(!answer(&family, &retry(&family.issued, 2), 0).await, "another request");
    let family = spent(1).await;
    let plain = redemption(&family.issued, NOW);
    assert!(!answer(&family, &plain, 0).await, "the tenant does not allow it");
    let family = spent(1).await;
    let _ = t.rotate_refresh(&rotation(&family, &family.head, NOW), NOW, &AUDIT).await.unwrap();
    assert!(!answer(&family, &retry(&family.issued, 1), 0).await, "it arrived: it was rotated");
}

async fn one_of_many_redeemers_wins(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let issued = issued(&t, &signed_in(&t, "ada").await).await;
    let outcomes = race(RACERS, |_| {
        let (t, redemption) = (t.clone(), redemption(&issued, NOW));
        async move { t.redeem_code(&redemption, NOW, &AUDIT).await.unwrap() }
    })
    .await;
    let redeemed = count(&outcomes, |o| matches!(o, RedeemCode::Redeemed { refresh: Some(_) }));
    let replayed = count(&outcomes, |o| *o == RedeemCode::Replayed { grant: issued.grant });
    assert_eq!((redeemed, replayed), (1, RACERS - 1));
    let grant = t.find_grant(issued.grant).await.unwrap().unwrap();
    assert_eq!(grant.state, GrantState::Revoked);
    the_entry(&t, RevocationKey::Grant(issued.grant.to_string()), NOW).await;
    assert_eq!(times(&t, Action::CodeRedeemed).await, 1);
    assert_eq!(times(&t, Action::CodeReplayed).await, RACERS - 1);
}

async fn many_wrong_verifiers_kill_once(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let issued = issued(&t, &signed_in(&t, "ada").await).await;
    let outcomes = race(RACERS, |_| {
        let (t, code): (TenantHandle, _) = (t.clone(), issued.code);
        async move { t.count_wrong_verifier(&code, 6, NOW, &AUDIT).await.unwrap() }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == CountVerifier::Counted), 5);
    assert_eq!(count(&outcomes, |o| *o == CountVerifier::Dead), RACERS - 5);
    assert_eq!(times(&t, Action::CodeKilled).await, 1);
}

async fn codes_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let family = family(&a, "ada").await;
    let issued = &family.issued;
    assert_eq!(b.peek_code(&issued.code).await.unwrap(), None);
    let stolen = b.redeem_code(&redemption(issued, NOW), NOW, &AUDIT).await.unwrap();
    assert_eq!(stolen, RedeemCode::Unknown);
    let counted = b.count_wrong_verifier(&issued.code, 1, NOW, &AUDIT).await.unwrap();
    assert_eq!(counted, CountVerifier::NotLive);
    // The same identifiers in the other tenant are other things.
    let mut user = new_user("ada");
    user.id = issued.who.user;
    let _ = b.create_user(&user, NOW, &AUDIT).await.unwrap();
    let mut session = new_session(user.id, NOW);
    session.id = issued.who.session;
    let _ = b.create_session(&session, NOW, &AUDIT).await.unwrap();
    let mut grant = new_grant(&issued.who, &app(), NOW);
    grant.id = issued.grant;
    let mut code = new_code(NOW);
    code.digest = issued.code;
    let twin = issue(&b, grant, code, NOW).await;
    let outcome = b.redeem_code(&redemption(&twin, NOW), NOW, &AUDIT).await.unwrap();
    assert!(matches!(outcome, RedeemCode::Redeemed { .. }));
    let outcome = b.redeem_code(&redemption(&twin, NOW), NOW, &AUDIT).await.unwrap();
    assert!(matches!(outcome, RedeemCode::Replayed { .. }));
    let state = async |t: &TenantHandle| t.find_grant(issued.grant).await.unwrap().unwrap().state;
    assert_eq!((state(&a).await, state(&b).await), (GrantState::Live, GrantState::Revoked));
    assert!(entries(&a, &[RevocationKey::Grant(issued.grant.to_string())], NOW).await.is_empty());
}
