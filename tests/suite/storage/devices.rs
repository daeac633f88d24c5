use std::time::Duration;

use pmp_auth::base::Timestamp;
use pmp_auth::model::audit::{Action, Audit};
use pmp_auth::model::device::{DeviceRecord, DeviceStatus};
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::{ClientId, SessionId, UserId};
use pmp_auth::storage::{
    DecideDevice, DeviceApproval, DevicePoll, DeviceRedemption, EndReason, IssueDevice, NewDevice,
    NewGrant, PollDevice, RedeemDevice, RefreshVerdict, TenantHandle,
};

use super::make::*;
use crate::support::engines::Bed;

on_every_engine! {
    a_device_is_asked_for_and_found_by_its_user_code
    a_user_code_that_is_known_under_any_key_is_taken
    a_poll_that_comes_too_early_slows_the_device_down_for_good
    what_a_node_knew_of_the_pace_is_added
    an_approved_device_is_redeemed_once_and_its_grant_gets_a_refresh_token
    a_device_may_be_redeemed_with_an_opaque_token_and_without_a_refresh_token
    a_denied_device_stays_denied
    a_device_is_decided_once
    an_expired_device_is_neither_decided_nor_redeemed
    a_device_is_not_approved_by_a_user_or_session_or_client_that_is_not_live
    an_approved_device_whose_grant_or_owner_is_gone_is_revoked
    the_grant_of_a_device_outlives_the_session_of_its_user
    another_client_learns_and_changes_nothing
    decided_devices_are_told_apart_from_pending_ones
    devices_of_two_tenants_do_not_touch
    the_tenants_of_a_user_code_are_those_where_it_waits
    decisions_are_announced_once_they_can_be_seen
}

pub async fn polled(t: &TenantHandle, device: &NewDevice, seconds: u64) -> PollDevice {
    t.poll_device(&poll(device), after(seconds)).await.unwrap()
}

async fn status(t: &TenantHandle, device: &NewDevice) -> DeviceStatus {
    t.peek_device(&device.digest).await.unwrap().unwrap().status
}

pub async fn redeemed(
    t: &TenantHandle,
    who: &SignedIn,
    device: &NewDevice,
    at: u64,
) -> RedeemDevice {
    let redemption = device_redemption(device.digest, who.user, after(at));
    t.redeem_device(&redemption, after(at), &AUDIT).await.unwrap()
}

pub async fn denied(t: &TenantHandle, device: &NewDevice, seconds: u64) -> DecideDevice {
    t.deny_device(&device.digest, None, after(seconds), &AUDIT).await.unwrap()
}

async fn a_device_is_asked_for_and_found_by_its_user_code(bed: Bed) {
    let t = bed.tenant("acme").await;
    let device = new_device(NOW);
    let audit = Audit {
        ip: Some("203.0.113.7".into()),
        user_agent: Some("TV/1".into()),
        ..Audit::default()
    };
    assert_eq!(t.issue_device(&device, NOW, &audit).await.unwrap(), IssueDevice::Issued);
    let expected = DeviceRecord {
        client: app(),
        scope: device.scope.clone(),
        resources: device.resources.clone(),
        terms: device.terms.clone(),
        status: DeviceStatus::Pending,
        user: None,
        grant: None,
        interval: Duration::from_secs(5),
        requested_ip: Some("203.0.113.7".into()),
        requested_user_agent: Some("TV/1".into()),
        created_at: NOW,
        expires_at: after(600),
    };
    let codes = [user_code(9, "another"), device.user_code[0]];
    let found = t.find_device(&codes).await.unwrap();
    assert_eq!(found, Some((device.digest, expected.clone())));
    assert_eq!(t.peek_device(&device.digest).await.unwrap(), Some(expected.clone()));
    assert_eq!(polled(&t, &device, 0).await, PollDevice::Pending(expected));
    // The same letters under another key are another digest.
    let other = user_code(2, "x");
    assert_eq!(t.find_device(&[other]).await.unwrap(), None);
    assert_eq!(t.find_device(&[]).await.unwrap(), None);
    assert_eq!(t.peek_device(&digest("other")).await.unwrap(), None);
    let record = &t.list_audit(1).await.unwrap()[0];
    assert_eq!((record.action, record.client.clone()), (Action::DeviceRequested, Some(app())));
    assert_eq!(record.resource.as_ref().unwrap().0, "device_code");
}

async fn a_user_code_that_is_known_under_any_key_is_taken(bed: Bed) {
    let t = bed.tenant("acme").await;
    let first = asked(&t).await;
    let known = first.user_code[0];
    for codes in [vec![known], vec![user_code(2, "new"), known], vec![known, user_code(0, "old")]] {
        let device = NewDevice { user_code: codes, ..new_device(NOW) };
        let outcome = t.issue_device(&device, NOW, &AUDIT).await.unwrap();
        assert_eq!(outcome, IssueDevice::UserCodeTaken);
        assert_eq!(t.peek_device(&device.digest).await.unwrap(), None);
    }
    // Even when it has expired or was decided: its row stands.
    let late = NewDevice { user_code: vec![known], ..new_device(after(700)) };
    let outcome = t.issue_device(&late, after(700), &AUDIT).await.unwrap();
    assert_eq!(outcome, IssueDevice::UserCodeTaken);
    assert_eq!(times(&t, Action::DeviceRequested).await, 1);
    // The same mac under another key is another code.
    let other = NewDevice {
        user_code: vec![pmp_auth::model::device::UserCodeDigest { kid: 2, ..known }],
        ..new_device(NOW)
    };
    ask(&t, &other, NOW).await;
    // One that is stored is enough: the second of its digests is free.
    let two =
        NewDevice { user_code: vec![user_code(2, "a"), user_code(1, "a")], ..new_device(NOW) };
    ask(&t, &two, NOW).await;
    assert!(t.find_device(&[user_code(2, "a")]).await.unwrap().is_some());
    assert!(t.issue_device(&first, NOW, &AUDIT).await.is_ok());
    let twin = NewDevice { user_code: vec![user_code(1, "b")], ..first };
    assert!(t.issue_device(&twin, NOW, &AUDIT).await.is_err(), "a device code is drawn once");
}

pub fn interval(told: &PollDevice) -> (bool, u64) {
    match told {
        PollDevice::Pending(record) => (false, record.interval.as_secs()),
        PollDevice::TooEarly(record) => (true, record.interval.as_secs()),
        other => panic!("not pending: {other:?}"),
    }
}

async fn a_poll_that_comes_too_early_slows_the_device_down_for_good(bed: Bed) {
    let t = bed.tenant("acme").await;
    let device = asked(&t).await;
    let at = async |now: Timestamp| interval(&t.poll_device(&poll(&device), now).await.unwrap());
    assert_eq!(at(NOW).await, (false, 5), "the first is never early");
    assert_eq!(at(after(5)).await, (false, 5));
    let just = Duration::from_millis(1);
    assert_eq!(at(after(10).minus(just)).await, (true, 10));
    assert_eq!(at(after(20).minus(just)).await, (false, 10), "arrival to arrival");
    assert_eq!(at(after(29)).await, (true, 15));
    // A clock behind: early, and what is stored does not move back.
    assert_eq!(at(after(20)).await, (true, 20));
    assert_eq!(at(after(49)).await, (false, 20));
    assert_eq!(t.peek_device(&device.digest).await.unwrap().unwrap().interval.as_secs(), 20);
}

async fn what_a_node_knew_of_the_pace_is_added(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (device, other) = (asked(&t).await, asked(&t).await);
    let slower = |seconds| DevicePoll { slower: Duration::from_secs(seconds), ..poll(&device) };
    let at = async |poll: DevicePoll, seconds| {
        interval(&t.poll_device(&poll, after(seconds)).await.unwrap())
    };
    assert_eq!(at(slower(5), 0).await, (false, 10));
    assert_eq!(at(slower(5), 14).await, (true, 20), "added before it is judged");
    let waited = DevicePoll { never_early: true, ..slower(0) };
    assert_eq!(at(waited, 14).await, (false, 20), "after a completed wait");
    let five = Duration::from_secs(5);
    let more = [(device.digest, five), (other.digest, five), (device.digest, five)];
    t.slow_devices(&more).await.unwrap();
    t.slow_devices(&[(digest("none"), five)]).await.unwrap();
    t.slow_devices(&[]).await.unwrap();
    assert_eq!(at(slower(0), 44).await, (false, 30));
    let record = t.peek_device(&other.digest).await.unwrap().unwrap();
    assert_eq!(record.interval, Duration::from_secs(10));
    // No interval grows without end.
    t.slow_devices(&[(other.digest, Duration::MAX)]).await.unwrap();
    let record = t.peek_device(&other.digest).await.unwrap().unwrap();
    assert_eq!(record.interval, Duration::from_hours(24));
    assert_eq!(at(DevicePoll { slower: Duration::MAX, ..poll(&device) }, 45).await.1, 86_400);
    // What was decided has no pace.
    let _ = denied(&t, &other, 60).await;
    t.slow_devices(&[(other.digest, five)]).await.unwrap();
}

async fn an_approved_device_is_redeemed_once_and_its_grant_gets_a_refresh_token(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let device = asked(&t).await;
    let _ = polled(&t, &device, 0).await;
    let approval = approval(&who, &device, after(1));
    let decided = t.approve_device(&approval, after(1), &AUDIT).await.unwrap();
    assert_eq!(decided, DecideDevice::Decided);
    let record = &t.list_audit(1).await.unwrap()[0];
    assert_eq!((record.action, record.user), (Action::DeviceApproved, Some(who.user)));
    assert_eq!(record.session, Some(who.session));
    let id = approval.grant.id;
    let grant = t.find_grant(id).await.unwrap().unwrap();
    assert_eq!((grant.state, grant.user, grant.session), (GrantState::Live, Some(who.user), None));
    assert_eq!((grant.terms, grant.refresh), (approval.grant.terms.clone(), None));
    assert_eq!(redeemed_by(&t, &device).await, None);
    // The poll right after the approval is not early.
    let PollDevice::Approved(record) = polled(&t, &device, 1).await else { panic!("approved") };
    assert_eq!((record.user, record.grant), (Some(who.user), Some(id)));
    assert_eq!(record.interval, Duration::from_secs(5));

    let redemption = device_redemption(device.digest, who.user, after(2));
    let outcome = t.redeem_device(&redemption, after(2), &AUDIT).await.unwrap();
    let RedeemDevice::Redeemed { refresh: Some(head) } = outcome else { panic!("{outcome:?}") };
    let new = redemption.refresh.clone().unwrap();
    assert_eq!((head.head, head.head_nonce, head.kid), (1, new.nonce, 1));
    assert_eq!((head.salt, head.rotated_at, head.pred), ([7; 16], after(2), None));
    let grant = t.find_grant(id).await.unwrap().unwrap();
    assert_eq!(grant.refresh, Some(head.clone()));
    assert_eq!(grant.idle_expires_at, new.idle_expires_at);
    assert_eq!(redeemed(&t, &who, &device, 3).await, RedeemDevice::AlreadyRedeemed);
    assert_eq!(polled(&t, &device, 3).await, PollDevice::Redeemed);
    assert_eq!(polled(&t, &device, 900).await, PollDevice::Redeemed, "expired or not");
    assert_eq!(t.find_grant(id).await.unwrap().unwrap().state, GrantState::Live);
    assert_eq!(times(&t, Action::DeviceRedeemed).await, 1);
    // The refresh token is one like any other.
    let issued = Issued { who, client: app(), code: digest("none"), grant: id };
    let family = Family { issued, head: head.clone() };
    let rotated = t.rotate_refresh(&rotation(&family, &head, after(60)), after(60), &AUDIT).await;
    assert!(matches!(rotated.unwrap(), RefreshVerdict::Rotated(next) if next.head == 2));
}

async fn redeemed_by(t: &TenantHandle, device: &NewDevice) -> Option<usize> {
    let redeemed = status(t, device).await == DeviceStatus::Redeemed;
    let count = times(t, Action::DeviceRedeemed).await;
    (redeemed || count > 0).then_some(count)
}

async fn a_device_may_be_redeemed_with_an_opaque_token_and_without_a_refresh_token(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let device = asked(&t).await;
    let grant = approve(&t, &who, &device, NOW).await;
    let token = opaque(Some(grant), NOW);
    let redemption = DeviceRedemption {
        refresh: None,
        opaque: Some(token.clone()),
        ..device_redemption(device.digest, who.user, NOW)
    };
    let outcome = t.redeem_device(&redemption, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemDevice::Redeemed { refresh: None });
    assert_eq!(t.find_grant(grant).await.unwrap().unwrap().refresh, None);
    let found = t.find_access_token(&token.digest).await.unwrap().unwrap();
    assert_eq!(found.claims, token.claims);
    assert!(found.grant_live);
    // A second one writes nothing.
    let second = opaque(Some(grant), NOW);
    let again = DeviceRedemption { opaque: Some(second.clone()), ..redemption };
    let outcome = t.redeem_device(&again, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemDevice::AlreadyRedeemed);
    assert_eq!(t.find_access_token(&second.digest).await.unwrap(), None);
}

async fn a_denied_device_stays_denied(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let device = asked(&t).await;
    let decided = t.deny_device(&device.digest, Some(who.user), NOW, &AUDIT).await.unwrap();
    assert_eq!(decided, DecideDevice::Decided);
    let record = &t.list_audit(1).await.unwrap()[0];
    assert_eq!((record.action, record.user), (Action::DeviceDenied, Some(who.user)));
    assert_eq!(record.client, Some(app()));
    let stored = t.peek_device(&device.digest).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.user), (DeviceStatus::Denied, Some(who.user)));
    assert_eq!(polled(&t, &device, 0).await, PollDevice::Denied);
    assert_eq!(polled(&t, &device, 600).await, PollDevice::Denied, "expired or not");
    assert_eq!(redeemed(&t, &who, &device, 1).await, RedeemDevice::NotApproved);
    let approval = approval(&who, &device, NOW);
    let approved = t.approve_device(&approval, NOW, &AUDIT).await.unwrap();
    assert_eq!(approved, DecideDevice::AlreadyDecided);
    assert_eq!(t.find_grant(approval.grant.id).await.unwrap(), None);
}

async fn a_device_is_decided_once(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let device = asked(&t).await;
    assert_eq!(redeemed(&t, &who, &device, 0).await, RedeemDevice::NotApproved);
    approve(&t, &who, &device, NOW).await;
    let again = approval(&who, &device, NOW);
    let outcome = t.approve_device(&again, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, DecideDevice::AlreadyDecided);
    assert_eq!(t.find_grant(again.grant.id).await.unwrap(), None);
    assert_eq!(denied(&t, &device, 0).await, DecideDevice::AlreadyDecided);
    assert_eq!(denied(&t, &device, 700).await, DecideDevice::AlreadyDecided, "expired or not");
    assert!(matches!(polled(&t, &device, 1).await, PollDevice::Approved(_)));
    let _ = redeemed(&t, &who, &device, 1).await;
    assert_eq!(denied(&t, &device, 2).await, DecideDevice::AlreadyDecided);
    assert_eq!(status(&t, &device).await, DeviceStatus::Redeemed);
    let unknown = t.deny_device(&digest("none"), None, NOW, &AUDIT).await.unwrap();
    assert_eq!(unknown, DecideDevice::Unknown);
    assert_eq!(times(&t, Action::DeviceApproved).await, 1);
    assert_eq!(times(&t, Action::DeviceDenied).await, 0);
}

async fn an_expired_device_is_neither_decided_nor_redeemed(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let (pending, approved) = (asked(&t).await, asked(&t).await);
    let grant = approve(&t, &who, &approved, after(599)).await;
    for device in [&pending, &approved] {
        assert_eq!(polled(&t, device, 600).await, PollDevice::Expired);
    }
    assert_eq!(denied(&t, &pending, 600).await, DecideDevice::Expired);
    let late = approval(&who, &pending, after(600));
    let outcome = t.approve_device(&late, after(600), &AUDIT).await.unwrap();
    assert_eq!(outcome, DecideDevice::Expired);
    assert_eq!(t.find_grant(late.grant.id).await.unwrap(), None);
    assert_eq!(redeemed(&t, &who, &pending, 600).await, RedeemDevice::NotApproved);
    assert_eq!(redeemed(&t, &who, &approved, 600).await, RedeemDevice::Expired);
    assert_eq!(t.find_grant(grant).await.unwrap().unwrap().refresh, None);
    // Just before, all is well.
    let just = after(600).minus(Duration::from_millis(1));
    assert_eq!(denied(&t, &pending, 599).await, DecideDevice::Decided);
    let redemption = device_redemption(approved.digest, who.user, just);
    let outcome = t.redeem_device(&redemption, just, &AUDIT).await.unwrap();
    assert!(matches!(outcome, RedeemDevice::Redeemed { .. }));
}

async fn a_device_is_not_approved_by_a_user_or_session_or_client_that_is_not_live(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let bob = signed_in(&t, "bob").await;
    let device = asked(&t).await;
    let refused = async |approval: DeviceApproval, seconds: u64| {
        let outcome = t.approve_device(&approval, after(seconds), &AUDIT).await.unwrap();
        assert_eq!(outcome, DecideDevice::NotLive);
        assert_eq!(t.find_grant(approval.grant.id).await.unwrap(), None);
    };
    let good = || approval(&who, &device, NOW);
    let by = |user| NewGrant { user, ..good().grant };
    refused(DeviceApproval { grant: by(Some(UserId(uuid()))), ..good() }, 0).await;
    refused(DeviceApproval { grant: by(None), ..good() }, 0).await;
    refused(DeviceApproval { session: SessionId(uuid()), ..good() }, 0).await;
    refused(DeviceApproval { session: bob.session, ..good() }, 0).await;
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    refused(good(), 0).await;
    let _ = t.set_client_disabled(&app(), false, &change(NOW)).await.unwrap();
    let ended = session(&t, who.user, NOW).await;
    let _ = t.end_session(ended.session, EndReason::Logout, &change(NOW)).await.unwrap();
    refused(DeviceApproval { session: ended.session, ..good() }, 0).await;
    let _ = t.set_user_disabled(who.user, true, &change(NOW)).await.unwrap();
    refused(good(), 0).await;
    assert_eq!(status(&t, &device).await, DeviceStatus::Pending);
    assert_eq!(times(&t, Action::DeviceApproved).await, 0);
    approve(&t, &bob, &device, NOW).await;
}

async fn an_approved_device_whose_grant_or_owner_is_gone_is_revoked(bed: Bed) {
    let t = bed.tenant("acme").await;
    let approved = async |name: &str| {
        let who = signed_in(&t, name).await;
        let device = asked(&t).await;
        let grant = approve(&t, &who, &device, NOW).await;
        (who, device, grant)
    };
    let (who, device, grant) = approved("ada").await;
    let _ = t.revoke_grant(grant, NOW, &AUDIT).await.unwrap();
    assert_eq!(redeemed(&t, &who, &device, 1).await, RedeemDevice::Revoked);

    let (who, device, grant) = approved("bob").await;
    let _ = t.set_user_disabled(who.user, true, &change(NOW)).await.unwrap();
    assert_eq!(redeemed(&t, &who, &device, 1).await, RedeemDevice::Revoked);
    assert_eq!(t.find_grant(grant).await.unwrap().unwrap().state, GrantState::Revoked);
    let _ = t.set_user_disabled(who.user, false, &change(NOW)).await.unwrap();
    assert_eq!(redeemed(&t, &who, &device, 1).await, RedeemDevice::Revoked, "for good");

    let (who, device, _) = approved("cyd").await;
    let _ = t.delete_user(who.user, &change(NOW)).await.unwrap();
    assert_eq!(redeemed(&t, &who, &device, 1).await, RedeemDevice::Revoked);

    // Somebody else's lock is no lock.
    let (_, device, _) = approved("dan").await;
    let eve = signed_in(&t, "eve").await;
    assert_eq!(redeemed(&t, &eve, &device, 1).await, RedeemDevice::Revoked);

    let (who, device, _) = approved("fay").await;
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    assert_eq!(redeemed(&t, &who, &device, 1).await, RedeemDevice::Revoked);
    assert_eq!(times(&t, Action::DeviceRedeemed).await, 0);
}

async fn the_grant_of_a_device_outlives_the_session_of_its_user(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let device = asked(&t).await;
    let grant = approve(&t, &who, &device, NOW).await;
    let _ = t.end_session(who.session, EndReason::Logout, &change(NOW)).await.unwrap();
    let outcome = redeemed(&t, &who, &device, 1).await;
    assert!(matches!(outcome, RedeemDevice::Redeemed { refresh: Some(_) }), "{outcome:?}");
    assert_eq!(t.find_grant(grant).await.unwrap().unwrap().state, GrantState::Live);
}

async fn another_client_learns_and_changes_nothing(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let device = asked(&t).await;
    let other = ClientId::new("other");
    let stranger = DevicePoll { client: other.clone(), ..poll(&device) };
    let ask = async |seconds| t.poll_device(&stranger, after(seconds)).await.unwrap();
    assert_eq!(ask(0).await, PollDevice::Unknown);
    assert_eq!(interval(&polled(&t, &device, 1).await), (false, 5), "it was not the first poll");
    let mut approval = approval(&who, &device, NOW);
    approval.grant.client = other.clone();
    let outcome = t.approve_device(&approval, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, DecideDevice::Unknown);
    approve(&t, &who, &device, NOW).await;
    assert_eq!(ask(2).await, PollDevice::Unknown);
    let redemption =
        DeviceRedemption { client: other, ..device_redemption(device.digest, who.user, NOW) };
    let outcome = t.redeem_device(&redemption, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, RedeemDevice::Unknown);
    let outcome = redeemed(&t, &who, &device, 3).await;
    assert!(matches!(outcome, RedeemDevice::Redeemed { .. }));
    let unknown = DevicePoll { device: digest("none"), ..poll(&device) };
    assert_eq!(t.poll_device(&unknown, NOW).await.unwrap(), PollDevice::Unknown);
}

async fn decided_devices_are_told_apart_from_pending_ones(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let (waits, no, yes) = (asked(&t).await, asked(&t).await, asked(&t).await);
    let _ = denied(&t, &no, 0).await;
    approve(&t, &who, &yes, NOW).await;
    let gone = digest("gone");
    let all = [waits.digest, no.digest, gone, yes.digest];
    assert_eq!(t.decided_devices(&all).await.unwrap(), [no.digest, gone, yes.digest]);
    assert_eq!(t.decided_devices(&[waits.digest]).await.unwrap(), []);
    assert_eq!(t.decided_devices(&[]).await.unwrap(), []);
    let _ = redeemed(&t, &who, &yes, 0).await;
    assert_eq!(t.decided_devices(&[yes.digest]).await.unwrap(), [yes.digest]);
}

async fn devices_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let (ada, bob) = (signed_in(&a, "ada").await, signed_in(&b, "bob").await);
    let device = asked(&a).await;
    assert_eq!(b.find_device(&device.user_code).await.unwrap(), None);
    assert_eq!(b.peek_device(&device.digest).await.unwrap(), None);
    assert_eq!(polled(&b, &device, 0).await, PollDevice::Unknown);
    assert_eq!(denied(&b, &device, 0).await, DecideDevice::Unknown);
    let outcome = b.approve_device(&approval(&bob, &device, NOW), NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, DecideDevice::Unknown);
    assert_eq!(redeemed(&b, &bob, &device, 0).await, RedeemDevice::Unknown);
    b.slow_devices(&[(device.digest, Duration::from_secs(5))]).await.unwrap();
    assert_eq!(b.decided_devices(&[device.digest]).await.unwrap(), [device.digest]);
    let record = a.peek_device(&device.digest).await.unwrap().unwrap();
    assert_eq!((record.status, record.interval.as_secs()), (DeviceStatus::Pending, 5));
    // The same codes in the other tenant are other devices, to be approved by its own users.
    ask(&b, &device, NOW).await;
    let outcome = b.approve_device(&approval(&ada, &device, NOW), NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, DecideDevice::NotLive);
    approve(&b, &bob, &device, NOW).await;
    assert_eq!(
        (status(&a, &device).await, status(&b, &device).await),
        (DeviceStatus::Pending, DeviceStatus::Approved)
    );
}

async fn the_tenants_of_a_user_code_are_those_where_it_waits(bed: Bed) {
    let mut uids = Vec::new();
    for slug in ["acme", "bolt", "cell"] {
        uids.push(bed.tenant_uid(slug).await);
    }
    uids.sort_unstable();
    let handles: Vec<_> = uids.iter().map(|uid| bed.store.tenant(uid)).collect();
    let device = new_device(NOW);
    let code = device.user_code[0];
    // Each tenant is asked for with a digest of its own for each key.
    let pairs: Vec<_> = uids
        .iter()
        .flat_map(|uid| [(uid.clone(), user_code(2, "x")), (uid.clone(), code)])
        .collect();
    let found = async |seconds| bed.tenants_of_user_code(&pairs, after(seconds)).await.unwrap();
    assert_eq!(found(0).await, []);
    ask(&handles[1], &device, NOW).await;
    assert_eq!(found(0).await, [uids[1].clone()]);
    ask(&handles[2], &device, NOW).await;
    assert_eq!(found(0).await, uids[1..]);
    ask(&handles[0], &device, NOW).await;
    assert_eq!(found(0).await.len(), 2, "two are as good as none");
    assert_eq!(bed.tenants_of_user_code(&pairs[..2], NOW).await.unwrap(), [uids[0].clone()]);
    assert_eq!(bed.tenants_of_user_code(&[], NOW).await.unwrap(), []);
    let _ = denied(&handles[0], &device, 0).await;
    let _ = denied(&handles[1], &device, 0).await;
    assert_eq!(found(0).await, [uids[2].clone()], "decided ones do not wait");
    assert_eq!(found(600).await, [], "nor do expired ones");
}

async fn decisions_are_announced_once_they_can_be_seen(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let (yes, no) = (asked(&t).await, asked(&t).await);
    let mut decisions = bed.watch().decisions();
    let (store, device) = (t.clone(), yes.digest);
    let waiter = tokio::spawn(async move {
        // At the start a listener may say that it listens.
        while decisions.recv().await.unwrap() != Some(device) {}
        (store.peek_device(&device).await.unwrap().unwrap().status, decisions)
    });
    approve(&t, &who, &yes, NOW).await;
    let (seen, mut decisions) =
        tokio::time::timeout(Duration::from_secs(5), waiter).await.expect("announced").unwrap();
    assert_eq!(seen, DeviceStatus::Approved);
    // What decided nothing announces nothing of it.
    assert_eq!(denied(&t, &yes, 0).await, DecideDevice::AlreadyDecided);
    assert_eq!(denied(&t, &no, 700).await, DecideDevice::Expired);
    let _ = redeemed(&t, &who, &yes, 0).await;
    assert_eq!(denied(&t, &no, 0).await, DecideDevice::Decided);
    let next = loop {
        let next = decisions.try_recv().expect("announced before it was answered");
        // The echo of this node's own notification.
        if next.is_some() && next != Some(yes.digest) {
            break next;
        }
    };
    assert_eq!(next, Some(no.digest));
}
