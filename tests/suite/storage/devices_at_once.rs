//! One device, many who poll it, decide about it and redeem it at once.

use std::time::Duration;

use pmp_auth::base::Timestamp;
use pmp_auth::model::audit::Action;
use pmp_auth::model::device::DeviceStatus;
use pmp_auth::model::grant::GrantState;
use pmp_auth::storage::{
    ChangeUser, DecideDevice, DevicePoll, DeviceRedemption, IssueDevice, NewDevice, PollDevice,
    RedeemDevice, Storage, TenantHandle,
};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    pollers_deciders_and_expiry_at_once_have_one_outcome
    one_of_many_redeemers_gets_tokens
    no_slow_down_is_lost
    a_user_code_is_issued_once_however_many_draw_it
    an_approval_while_its_user_is_disabled_leaves_no_live_grant
}

/// What one racer saw.
#[derive(Debug)]
enum Saw {
    Polls(Vec<PollDevice>, Option<RedeemDevice>),
    Approval(DecideDevice),
    Denial(DecideDevice),
    Late(DecideDevice, PollDevice),
}

/// Polls until there is nothing to wait for, and redeems.
async fn wait(t: &TenantHandle, who: &SignedIn, device: &NewDevice, from: Timestamp) -> Saw {
    let mut polls = Vec::new();
    for n in 0..12 {
        let now = from.plus(Duration::from_millis(n * 50));
        let told = t.poll_device(&poll(device), now).await.unwrap();
        let goes_on = matches!(told, PollDevice::Pending(_) | PollDevice::TooEarly(_));
        let approved = matches!(told, PollDevice::Approved(_));
        polls.push(told);
        if approved {
            let redemption = device_redemption(device.digest, who.user, now);
            let outcome = t.redeem_device(&redemption, now, &AUDIT).await.unwrap();
            return Saw::Polls(polls, Some(outcome));
        }
        if !goes_on {
            break;
        }
        tokio::task::yield_now().await;
    }
    Saw::Polls(polls, None)
}

async fn take_part(number: usize, t: TenantHandle, who: SignedIn, device: NewDevice) -> Saw {
    match number {
        0 | 1 => {
            let approval = approval(&who, &device, NOW);
            Saw::Approval(t.approve_device(&approval, NOW, &AUDIT).await.unwrap())
        }
        2 | 3 => {
            let user = Some(who.user);
            Saw::Denial(t.deny_device(&device.digest, user, NOW, &AUDIT).await.unwrap())
        }
        4 => {
            // For this one its time is over already.
            let late = after(600);
            let approval = approval(&who, &device, late);
            let decided = t.approve_device(&approval, late, &AUDIT).await.unwrap();
            Saw::Late(decided, t.poll_device(&poll(&device), late).await.unwrap())
        }
        _ => wait(&t, &who, &device, NOW).await,
    }
}

async fn pollers_deciders_and_expiry_at_once_have_one_outcome(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let (mut approved, mut refused) = (0, 0);
    for _ in 0..6 {
        let device = asked(&t).await;
        let saw =
            race(RACERS + 5, |number| take_part(number, t.clone(), who, device.clone())).await;
        if one_outcome(&t, &device, &who, &saw).await {
            approved += 1;
        } else {
            refused += 1;
        }
    }
    assert_eq!(times(&t, Action::DeviceApproved).await, approved);
    assert_eq!(times(&t, Action::DeviceDenied).await, refused);
    assert_eq!(times(&t, Action::DeviceRedeemed).await, approved);
    assert_eq!(t.list_grants(who.user, NOW).await.unwrap().len(), approved);
}

/// Whether that was an approval.
async fn one_outcome(t: &TenantHandle, device: &NewDevice, who: &SignedIn, saw: &[Saw]) -> bool {
    let yes = count(saw, |s| matches!(s, Saw::Approval(DecideDevice::Decided)));
    let no = count(saw, |s| matches!(s, Saw::Denial(DecideDevice::Decided)));
    assert_eq!(yes + no, 1, "one decides");
    let mut tokens = 0;
    let mut early = 0;
    let mut slowest = 5;
    for saw in saw {
        match saw {
            Saw::Approval(told) | Saw::Denial(told) => {
                assert!(matches!(told, DecideDevice::Decided | DecideDevice::AlreadyDecided));
            }
            Saw::Late(decided, polled) => {
                let lost = [DecideDevice::Expired, DecideDevice::AlreadyDecided];
                assert!(lost.contains(decided), "{decided:?}");
                assert!(
                    matches!(
                        polled,
                        PollDevice::Expired | PollDevice::Denied | PollDevice::Redeemed
                    ),
                    "{polled:?}"
                );
            }
            Saw::Polls(polls, redeemed) => {
                let mut interval = 5;
                for told in polls {
                    match told {
                        PollDevice::Pending(record) | PollDevice::TooEarly(record) => {
                            early += u64::from(matches!(told, PollDevice::TooEarly(_)));
                            let next = record.interval.as_secs();
                            assert!(next >= interval, "{next} after {interval}");
                            interval = next;
                            slowest = slowest.max(next);
                        }
                        PollDevice::Approved(_) | PollDevice::Redeemed => assert_eq!(yes, 1),
                        PollDevice::Denied => assert_eq!(no, 1),
                        other => panic!("{other:?}"),
                    }
                }
                match redeemed {
                    None | Some(RedeemDevice::AlreadyRedeemed) => {}
                    Some(RedeemDevice::Redeemed { refresh: Some(_) }) => tokens += 1,
                    Some(other) => panic!("{other:?}"),
                }
            }
        }
    }
    assert!(tokens <= 1, "{tokens} token sets");
    let stands = t.peek_device(&device.digest).await.unwrap().unwrap();
    assert_eq!(stands.interval.as_secs(), 5 + 5 * early, "each early poll counts, once");
    assert_eq!(stands.interval.as_secs(), slowest);
    let last = t.redeem_device(&device_redemption(device.digest, who.user, NOW), NOW, &AUDIT).await;
    match (yes, tokens, last.unwrap()) {
        (1, 1, RedeemDevice::AlreadyRedeemed) | (1, 0, RedeemDevice::Redeemed { .. }) => {}
        (0, 0, RedeemDevice::NotApproved) => assert_eq!(stands.status, DeviceStatus::Denied),
        other => panic!("{other:?}"),
    }
    yes == 1
}

async fn one_of_many_redeemers_gets_tokens(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let device = asked(&t).await;
    let grant = approve(&t, &who, &device, NOW).await;
    let outcomes = race(RACERS, |_| {
        let (t, token) = (t.clone(), opaque(Some(grant), NOW));
        let redemption = DeviceRedemption {
            opaque: Some(token.clone()),
            ..device_redemption(device.digest, who.user, NOW)
        };
        async move {
            let outcome = t.redeem_device(&redemption, NOW, &AUDIT).await.unwrap();
            let stored = t.find_access_token(&token.digest).await.unwrap().is_some();
            (outcome, stored)
        }
    })
    .await;
    let won = |(o, stored): &(RedeemDevice, bool)| {
        matches!(o, RedeemDevice::Redeemed { refresh: Some(_) }) && *stored
    };
    let lost = |told: &(RedeemDevice, bool)| *told == (RedeemDevice::AlreadyRedeemed, false);
    assert_eq!((count(&outcomes, won), count(&outcomes, lost)), (1, RACERS - 1));
    let state = t.find_grant(grant).await.unwrap().unwrap().state;
    assert_eq!(state, GrantState::Live, "a second poll is no theft");
    assert_eq!(times(&t, Action::DeviceRedeemed).await, 1);
}

async fn no_slow_down_is_lost(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let device = asked(&t).await;
    let polls = race(RACERS, |number| {
        let (t, device) = (t.clone(), device.clone());
        async move {
            if number % 10 == 9 {
                t.slow_devices(&[(device.digest, Duration::from_secs(5))]).await.unwrap();
                return true;
            }
            let poll = DevicePoll { slower: Duration::from_secs(5), ..poll(&device) };
            let told = t.poll_device(&poll, NOW).await.unwrap();
            matches!(told, PollDevice::TooEarly(_))
        }
    })
    .await;
    assert_eq!(count(&polls, |early| !early), 1, "the first is never early");
    let interval = t.peek_device(&device.digest).await.unwrap().unwrap().interval.as_secs();
    // Five were added by hand, 45 with polls, of which all but one were early.
    assert_eq!(interval, 5 + 5 * 5 + 45 * 5 + 44 * 5);
}

async fn a_user_code_is_issued_once_however_many_draw_it(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let outcomes = race(RACERS, |_| {
        let device = NewDevice { user_code: vec![user_code(1, "same")], ..new_device(NOW) };
        let t = t.clone();
        async move { t.issue_device(&device, NOW, &AUDIT).await.unwrap() }
    })
    .await;
    let taken = count(&outcomes, |o| *o == IssueDevice::UserCodeTaken);
    assert_eq!((count(&outcomes, |o| *o == IssueDevice::Issued), taken), (1, RACERS - 1));
    assert_eq!(times(&t, Action::DeviceRequested).await, 1);
}

async fn an_approval_while_its_user_is_disabled_leaves_no_live_grant(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let mut devices = Vec::new();
    for _ in 0..RACERS {
        devices.push(asked(&t).await);
    }
    let grants = race(RACERS, |number| {
        let (t, device) = (t.clone(), devices[number].clone());
        async move {
            if number == RACERS / 2 {
                let disabled = t.set_user_disabled(who.user, true, &change(NOW)).await.unwrap();
                assert_eq!(disabled, ChangeUser::Changed);
                return None;
            }
            let approval = approval(&who, &device, NOW);
            let decided = t.approve_device(&approval, NOW, &AUDIT).await.unwrap();
            let redemption = device_redemption(device.digest, who.user, NOW);
            let redeemed = t.redeem_device(&redemption, NOW, &AUDIT).await.unwrap();
            match (decided, redeemed) {
                (DecideDevice::Decided, RedeemDevice::Redeemed { .. } | RedeemDevice::Revoked) => {
                    Some(approval.grant.id)
                }
                (DecideDevice::NotLive, RedeemDevice::NotApproved) => None,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert!(t.list_grants(who.user, NOW).await.unwrap().is_empty());
    for grant in grants.into_iter().flatten() {
        let grant = t.find_grant(grant).await.unwrap().unwrap();
        assert_eq!(grant.state, GrantState::Revoked);
    }
    let store: &dyn Storage = &*bed.store;
    assert!(store.ready().await.is_ok());
}
