//! How long device codes stay, across restarts and deletions.

use pmp_auth::base::Timestamp;
use pmp_auth::model::ClientId;
use pmp_auth::storage::{DeviceRedemption, Kind, NewDevice, PollDevice, RedeemDevice};

use super::devices::{denied, interval, polled, redeemed};
use super::make::*;
use crate::support::engines::Bed;

on_every_engine! {
    a_device_is_kept_for_a_day_and_a_redeemed_one_until_its_grants_horizon
    the_devices_of_a_deleted_client_are_gone
    the_devices_of_a_deleted_tenant_are_gone
}

on_durable_engines! {
    a_device_flow_goes_on_after_a_restart_between_any_two_steps
}

const DAY: u64 = 24 * 3600;

async fn cleaned(bed: &Bed, now: Timestamp, dry_run: bool) -> u64 {
    let cleaned = bed.cleanup_expired_data(now, 1000, dry_run).await.unwrap();
    let of = |kind| cleaned.counts.iter().find(|(k, _)| *k == kind).map_or(0, |(_, n)| *n);
    of(Kind::DeviceCodes)
}

async fn a_device_is_kept_for_a_day_and_a_redeemed_one_until_its_grants_horizon(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let (pending, no) = (asked(&t).await, asked(&t).await);
    let (yes, short) = (asked(&t).await, asked(&t).await);
    let _ = denied(&t, &no, 0).await;
    approve(&t, &who, &yes, NOW).await;
    approve(&t, &who, &short, NOW).await;
    let _ = redeemed(&t, &who, &yes, 0).await;
    let without = DeviceRedemption {
        refresh: None,
        access_expires_at: after(3 * DAY),
        ..device_redemption(short.digest, who.user, NOW)
    };
    let _ = t.redeem_device(&without, NOW, &AUDIT).await.unwrap();
    assert_eq!(cleaned(&bed, after(599 + DAY), false).await, 0);
    assert_eq!(polled(&t, &pending, 599 + DAY).await, PollDevice::Expired);
    assert_eq!(cleaned(&bed, after(600 + DAY), true).await, 2);
    assert_eq!(cleaned(&bed, after(600 + DAY), false).await, 2);
    assert_eq!(polled(&t, &pending, 600 + DAY).await, PollDevice::Unknown);
    assert_eq!(polled(&t, &no, 600 + DAY).await, PollDevice::Unknown);
    // Its user code is free again.
    let again = NewDevice { user_code: pending.user_code.clone(), ..new_device(after(2 * DAY)) };
    ask(&t, &again, after(2 * DAY)).await;
    assert_eq!(t.find_device(&again.user_code).await.unwrap().unwrap().0, again.digest);
    assert_eq!(cleaned(&bed, after(3 * DAY + 59), false).await, 0);
    assert_eq!(cleaned(&bed, after(3 * DAY + 60), false).await, 1, "60 s after its access token");
    assert_eq!(cleaned(&bed, after(90 * DAY + 59), false).await, 1, "the one asked for later");
    assert_eq!(polled(&t, &yes, 90 * DAY + 59).await, PollDevice::Redeemed);
    assert_eq!(cleaned(&bed, after(90 * DAY + 60), false).await, 1);
}

async fn the_devices_of_a_deleted_client_are_gone(bed: Bed) {
    let t = bed.tenant("acme").await;
    let _ = t.create_client(&client("app"), NOW, &AUDIT).await.unwrap();
    let mine = asked(&t).await;
    let other = NewDevice { client: ClientId::new("other"), ..new_device(NOW) };
    ask(&t, &other, NOW).await;
    assert!(t.delete_client(&app(), NOW, &AUDIT).await.unwrap());
    assert_eq!(polled(&t, &mine, 0).await, PollDevice::Unknown);
    assert_eq!(t.find_device(&mine.user_code).await.unwrap(), None);
    assert!(matches!(polled(&t, &other, 0).await, PollDevice::Pending(_)));
}

async fn the_devices_of_a_deleted_tenant_are_gone(bed: Bed) {
    let (uid, other) = (bed.tenant_uid("acme").await, bed.tenant("bolt").await);
    let t = bed.store.tenant(&uid);
    let (mine, theirs) = (asked(&t).await, asked(&other).await);
    let _ = bed.delete_tenant(&uid, &change(NOW)).await.unwrap();
    assert_eq!(t.peek_device(&mine.digest).await.unwrap(), None);
    assert_eq!(t.find_device(&mine.user_code).await.unwrap(), None);
    let pairs = [(uid, mine.user_code[0])];
    assert_eq!(bed.tenants_of_user_code(&pairs, NOW).await.unwrap(), []);
    assert!(other.peek_device(&theirs.digest).await.unwrap().is_some());
}

async fn a_device_flow_goes_on_after_a_restart_between_any_two_steps(mut bed: Bed) {
    let who = signed_in(&bed.tenant("acme").await, "ada").await;
    let device = asked(&bed.tenant("acme").await).await;
    bed.reopen().await;
    let t = bed.tenant("acme").await;
    assert_eq!(interval(&polled(&t, &device, 0).await), (false, 5));
    assert_eq!(interval(&polled(&t, &device, 1).await), (true, 10));
    bed.reopen().await;
    let t = bed.tenant("acme").await;
    assert_eq!(interval(&polled(&t, &device, 8).await), (true, 15), "the pace is remembered");
    approve(&t, &who, &device, after(10)).await;
    bed.reopen().await;
    let t = bed.tenant("acme").await;
    assert!(matches!(polled(&t, &device, 11).await, PollDevice::Approved(_)));
    bed.reopen().await;
    let t = bed.tenant("acme").await;
    let outcome = redeemed(&t, &who, &device, 12).await;
    assert!(matches!(outcome, RedeemDevice::Redeemed { refresh: Some(_) }));
    bed.reopen().await;
    let t = bed.tenant("acme").await;
    assert_eq!(polled(&t, &device, 13).await, PollDevice::Redeemed);
    assert_eq!(redeemed(&t, &who, &device, 13).await, RedeemDevice::AlreadyRedeemed);
}
