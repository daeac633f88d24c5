use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pmp_auth::base::{Digest, Timestamp};
use pmp_auth::model::api_key::{ApiKey, ApiKeyId, KeyRate, Owner, PepperedDigest};
use pmp_auth::model::audit::Action;
use pmp_auth::model::code::Code;
use pmp_auth::model::{ClientId, Revocation, RevocationKey, UserId};
use pmp_auth::storage::{
    ApiKeyRecord, CreateApiKey, Kind, LogEntry, NewApiKey, OwnerId, RevokeApiKey, RotateApiKey,
    Sink, TenantHandle,
};

use super::make::*;
use super::random_api_keys::used;
use crate::support::engines::Bed;

on_every_engine! {
    a_key_is_found_as_it_was_made
    an_owner_has_no_more_live_keys_than_it_may
    a_key_is_dead_while_its_owner_is_disabled
    keys_are_listed_newest_first_page_by_page
    a_digest_is_replaced_only_if_it_is_the_stored_one
    a_key_is_rotated_once_and_the_old_one_has_its_grace
    what_is_not_live_is_not_rotated
    a_revoked_key_is_in_the_log_and_stays_revoked
    a_reasserted_entry_ends_the_key
    uses_add_up_and_times_never_move_backwards
    live_keys_are_counted_by_pepper
    keys_go_with_their_user
    keys_go_with_their_client_and_leave_their_entries
    a_key_is_kept_for_90_days_after_its_end
    keys_of_two_tenants_do_not_touch
}

on_durable_engines! {
    keys_survive_a_restart
}

const DAY: u64 = 24 * 3600;

pub fn of_user(user: UserId) -> Owner {
    Owner::User { user, client: None }
}

pub fn of_client(client: &str) -> Owner {
    Owner::Client(ClientId::new(client))
}

/// A key of 30 days.
pub fn new_api_key(owner: &Owner, now: Timestamp) -> NewApiKey {
    let n = unique();
    let networks = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
    NewApiKey {
        key: ApiKey {
            id: ApiKeyId(uuid()),
            owner: owner.clone(),
            name: format!("key {n}"),
            description: Some("for the build".into()),
            prefix: format!("pak_{n}"),
            scope: scope("read write"),
            audiences: vec!["https://api.example".into(), "https://b.example".into()],
            exchange: true,
            allowed_ips: networks.iter().map(|network| network.parse().unwrap()).collect(),
            rate: KeyRate { limit: 100, window: Duration::from_mins(1) },
            created_at: now,
            expires_at: now.plus(Duration::from_hours(30 * 24)),
            last_used_at: None,
            last_used_ip: None,
            usage_count: 0,
            revoked_at: None,
            replaced_by: None,
            grace_until: None,
        },
        digest: PepperedDigest {
            pepper: 1,
            mac: *Digest::<Code>::of(format!("secret {n}").as_bytes()).as_bytes(),
        },
    }
}

pub async fn make(t: &TenantHandle, new: &NewApiKey, now: Timestamp) {
    let outcome = t.create_api_key(new, 1000, now, &AUDIT).await.unwrap();
    assert_eq!(outcome, CreateApiKey::Created);
}

/// A key that was made at [`NOW`].
pub async fn made(t: &TenantHandle, owner: &Owner) -> NewApiKey {
    let new = new_api_key(owner, NOW);
    make(t, &new, NOW).await;
    new
}

pub async fn find(t: &TenantHandle, id: ApiKeyId) -> ApiKeyRecord {
    t.find_api_key(id).await.unwrap().expect("the key")
}

/// An id that no key has.
fn nobodys() -> ApiKeyId {
    ApiKeyId(uuid())
}

fn ids(keys: &[ApiKey]) -> Vec<ApiKeyId> {
    keys.iter().map(|key| key.id).collect()
}

async fn a_key_is_found_as_it_was_made(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ada = user(&t, "ada").await;
    for owner in [of_user(ada), Owner::User { user: ada, client: Some(app()) }, of_client("app")] {
        let new = made(&t, &owner).await;
        let record = ApiKeyRecord { key: new.key.clone(), digest: new.digest, owner_live: true };
        assert_eq!(t.find_api_key(new.key.id).await.unwrap(), Some(record));
    }
    let mut plain = new_api_key(&of_user(ada), after(1));
    plain.key.description = None;
    plain.key.exchange = false;
    plain.key.allowed_ips.clear();
    plain.digest.pepper = 255;
    make(&t, &plain, after(1)).await;
    assert_eq!(find(&t, plain.key.id).await.key, plain.key);
    assert_eq!(find(&t, plain.key.id).await.digest, plain.digest);

    let mut odd = new_api_key(&of_user(ada), after(2));
    odd.key.allowed_ips = vec!["10.1.2.3/8".parse().unwrap()];
    (odd.key.revoked_at, odd.key.usage_count) = (Some(NOW), 7);
    make(&t, &odd, after(2)).await;
    let kept = find(&t, odd.key.id).await.key;
    assert_eq!(kept.allowed_ips, ["10.0.0.0/8".parse().unwrap()], "a network has no host bits");
    assert_eq!((kept.revoked_at, kept.usage_count), (None, 0), "a new key is new");

    assert_eq!(t.find_api_key(nobodys()).await.unwrap(), None);
    let twice = t.create_api_key(&odd, 1000, after(3), &AUDIT).await;
    assert!(twice.is_err(), "an id is given once");
    assert_eq!(times(&t, Action::ApiKeyCreated).await, 5);
}

async fn an_owner_has_no_more_live_keys_than_it_may(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (ada, bob) = (user(&t, "ada").await, user(&t, "bob").await);
    let through = Owner::User { user: ada, client: Some(app()) };
    let first = made(&t, &of_user(ada)).await;
    let second = made(&t, &through).await;
    let at_most_two = async |owner: &Owner, now| {
        t.create_api_key(&new_api_key(owner, now), 2, now, &AUDIT).await.unwrap()
    };
    assert_eq!(at_most_two(&through, NOW).await, CreateApiKey::TooMany);
    assert_eq!(at_most_two(&of_user(ada), NOW).await, CreateApiKey::TooMany);
    assert_eq!(at_most_two(&of_user(bob), NOW).await, CreateApiKey::Created);
    assert_eq!(at_most_two(&of_client("app"), NOW).await, CreateApiKey::Created);
    assert_eq!(at_most_two(&of_client("app"), NOW).await, CreateApiKey::Created);
    assert_eq!(at_most_two(&of_client("app"), NOW).await, CreateApiKey::TooMany);

    // The dead make room: revoked, past its grace, expired.
    let _ = t.revoke_api_key(second.key.id, &change(after(1))).await.unwrap();
    assert_eq!(at_most_two(&through, after(1)).await, CreateApiKey::Created);
    assert_eq!(at_most_two(&through, after(1)).await, CreateApiKey::TooMany);
    let next = new_api_key(&of_user(ada), after(2));
    let rotated = t.rotate_api_key(first.key.id, &next, after(60), after(2), &AUDIT).await.unwrap();
    assert_eq!(rotated, RotateApiKey::Rotated);
    let _ = t.revoke_api_key(next.key.id, &change(after(3))).await.unwrap();
    assert_eq!(at_most_two(&of_user(ada), after(59)).await, CreateApiKey::TooMany);
    assert_eq!(at_most_two(&of_user(ada), after(60)).await, CreateApiKey::Created);
    assert_eq!(at_most_two(&of_user(ada), after(30 * DAY)).await, CreateApiKey::TooMany);
    assert_eq!(at_most_two(&of_user(ada), after(30 * DAY + 1)).await, CreateApiKey::Created);
    assert_eq!(times(&t, Action::ApiKeyCreated).await, 8);
}

async fn a_key_is_dead_while_its_owner_is_disabled(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ada = user(&t, "ada").await;
    let own = made(&t, &of_user(ada)).await;
    let through = made(&t, &Owner::User { user: ada, client: Some(app()) }).await;
    let clients = made(&t, &of_client("app")).await;
    let live = async || {
        let mut live = Vec::new();
        for new in [&own, &through, &clients] {
            let owner_live = find(&t, new.key.id).await.owner_live;
            let again = new_api_key(&new.key.owner, NOW);
            let created = t.create_api_key(&again, 1000, NOW, &AUDIT).await.unwrap();
            let expected =
                if owner_live { CreateApiKey::Created } else { CreateApiKey::OwnerNotLive };
            assert_eq!(created, expected, "none is made that would be dead");
            live.push(owner_live);
        }
        live
    };
    assert_eq!(live().await, [true, true, true]);
    let _ = t.set_user_disabled(ada, true, &change(NOW)).await.unwrap();
    assert_eq!(live().await, [false, false, true]);
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    assert_eq!(live().await, [false, false, false]);
    let _ = t.set_user_disabled(ada, false, &change(NOW)).await.unwrap();
    assert_eq!(live().await, [true, false, false]);
    let _ = t.set_client_disabled(&app(), false, &change(NOW)).await.unwrap();
    assert_eq!(live().await, [true, true, true]);
    let unknown = new_api_key(&of_user(UserId(uuid())), NOW);
    let outcome = t.create_api_key(&unknown, 1, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, CreateApiKey::OwnerNotLive);
}

async fn keys_are_listed_newest_first_page_by_page(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ada = user(&t, "ada").await;
    let mut all = Vec::new();
    for (owner, seconds) in [
        (of_user(ada), 5),
        (of_client("app"), 3),
        (Owner::User { user: ada, client: Some(app()) }, 4),
        (of_user(ada), 4),
        (of_client("other"), 1),
    ] {
        let new = new_api_key(&owner, after(seconds));
        make(&t, &new, after(seconds)).await;
        all.push(new.key);
    }
    all.sort_unstable_by_key(|key| std::cmp::Reverse((key.created_at, key.id)));
    let list = async |owner: Option<OwnerId>, after, limit| {
        t.list_api_keys(owner.as_ref(), after, limit).await.unwrap()
    };
    assert_eq!(list(None, None, 10).await, all);
    let adas = all.iter().filter(|key| key.owner.user() == Some(ada)).cloned().collect::<Vec<_>>();
    assert_eq!(list(Some(OwnerId::User(ada)), None, 10).await, adas);
    let apps = list(Some(OwnerId::Client(app())), None, 10).await;
    assert_eq!(apps.len(), 1, "not what users made through it");
    assert_eq!(apps[0].owner, of_client("app"));

    let mut pages = Vec::new();
    while let Some(page) =
        Some(list(None, pages.last().map(|key: &ApiKey| key.id), 2).await).filter(|p| !p.is_empty())
    {
        assert!(page.len() <= 2);
        pages.extend(page);
    }
    assert_eq!(pages, all);
    let second = list(Some(OwnerId::User(ada)), Some(adas[0].id), 1).await;
    assert_eq!(ids(&second), [adas[1].id]);
    let _ = t.revoke_api_key(adas[0].id, &change(after(9))).await.unwrap();
    assert_eq!(list(None, None, 10).await.len(), 5, "dead ones too");
    assert_eq!(list(None, Some(nobodys()), 10).await, []);
    assert_eq!(list(Some(OwnerId::User(UserId(uuid()))), None, 10).await, []);
}

async fn a_digest_is_replaced_only_if_it_is_the_stored_one(bed: Bed) {
    let t = bed.tenant("acme").await;
    let new = made(&t, &of_client("app")).await;
    let (id, old) = (new.key.id, new.digest);
    let newer = PepperedDigest { pepper: 2, mac: [9; 32] };
    let rehash = async |id, from| t.rehash_api_key(id, &from, &newer).await.unwrap();
    assert!(!rehash(id, PepperedDigest { pepper: 3, ..old }).await);
    assert!(!rehash(id, PepperedDigest { mac: [1; 32], ..old }).await);
    assert!(!rehash(nobodys(), old).await);
    assert_eq!(find(&t, id).await.digest, old);
    assert!(rehash(id, old).await);
    assert_eq!(find(&t, id).await.digest, newer);
    assert!(!rehash(id, old).await);
    let _ = t.revoke_api_key(id, &change(after(1))).await.unwrap();
    assert!(t.rehash_api_key(id, &newer, &old).await.unwrap());
    assert_eq!(find(&t, id).await.key.revoked_at, Some(after(1)), "it revives nothing");
}

async fn a_key_is_rotated_once_and_the_old_one_has_its_grace(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ada = user(&t, "ada").await;
    let owner = Owner::User { user: ada, client: Some(app()) };
    let old = made(&t, &owner).await.key;
    let mut next = new_api_key(&of_client("thief"), after(10));
    next.key.scope = scope("read");
    let rotate = async |successor: &NewApiKey, now| {
        t.rotate_api_key(old.id, successor, after(70), now, &AUDIT).await.unwrap()
    };
    assert_eq!(rotate(&next, after(10)).await, RotateApiKey::Rotated);
    let successor = find(&t, next.key.id).await;
    assert_eq!(successor.key, ApiKey { owner, ..next.key.clone() }, "it stays with its owner");
    assert_eq!((successor.digest, successor.owner_live), (next.digest, true));
    let kept = find(&t, old.id).await.key;
    assert_eq!(kept.replaced_by, Some(next.key.id));
    assert_eq!(kept.grace_until, Some(after(70)));
    assert!(kept.is_live(after(69)) && !kept.is_live(after(70)));

    for now in [after(11), after(80)] {
        let another = new_api_key(&old.owner, now);
        assert_eq!(rotate(&another, now).await, RotateApiKey::AlreadyRotated);
        assert_eq!(t.find_api_key(another.key.id).await.unwrap(), None);
    }
    assert_eq!(find(&t, old.id).await.key, kept);
    let records = t.list_audit(10).await.unwrap();
    let told: Vec<_> = records.iter().filter(|r| r.action == Action::ApiKeyRotated).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].user, told[0].client.as_ref()), (Some(ada), Some(&app())));
    assert_eq!(told[0].resource, Some(("api_key", old.id.to_string())));
}

async fn what_is_not_live_is_not_rotated(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ada = user(&t, "ada").await;
    let revoked = made(&t, &of_client("other")).await.key.id;
    let _ = t.revoke_api_key(revoked, &change(NOW)).await.unwrap();
    let (users, clients) = (made(&t, &of_user(ada)).await, made(&t, &of_client("app")).await);
    let rotate = async |id, now| {
        let next = new_api_key(&of_user(ada), now);
        let outcome = t
            .rotate_api_key(id, &next, now.plus(Duration::from_mins(1)), now, &AUDIT)
            .await
            .unwrap();
        let there = t.find_api_key(next.key.id).await.unwrap().is_some();
        assert_eq!(there, outcome == RotateApiKey::Rotated, "{outcome:?}");
        outcome
    };
    assert_eq!(rotate(nobodys(), NOW).await, RotateApiKey::Unknown);
    assert_eq!(rotate(revoked, NOW).await, RotateApiKey::NotLive);
    assert_eq!(rotate(users.key.id, users.key.expires_at).await, RotateApiKey::NotLive);
    let _ = t.set_user_disabled(ada, true, &change(NOW)).await.unwrap();
    assert_eq!(rotate(users.key.id, NOW).await, RotateApiKey::NotLive);
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    assert_eq!(rotate(clients.key.id, NOW).await, RotateApiKey::NotLive);
    let _ = t.set_client_disabled(&app(), false, &change(NOW)).await.unwrap();
    assert_eq!(rotate(clients.key.id, NOW).await, RotateApiKey::Rotated);
    let _ = t.revoke_api_key(clients.key.id, &change(NOW)).await.unwrap();
    assert_eq!(rotate(clients.key.id, NOW).await, RotateApiKey::NotLive);
}

#[derive(Default)]
struct Heard(Mutex<Vec<LogEntry>>);

impl Sink for Heard {
    fn revoked(&self, entries: &[LogEntry]) {
        self.0.lock().unwrap().extend_from_slice(entries);
    }
}

async fn a_revoked_key_is_in_the_log_and_stays_revoked(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ada = user(&t, "ada").await;
    let key = made(&t, &of_user(ada)).await.key;
    let heard = Arc::new(Heard::default());
    bed.watch().set_sink(heard.clone());
    let revoke = async |id, now| t.revoke_api_key(id, &change(now)).await.unwrap();
    assert_eq!(revoke(key.id, after(1)).await, RevokeApiKey::Revoked);
    let entry = Revocation {
        key: RevocationKey::ApiKey(key.id.to_string()),
        audience: Some(key.audiences.clone()),
        not_before: None,
        expires_at: after(3601),
        at: after(1),
    };
    let told = heard.0.lock().unwrap().pop().map(|entry| entry.revocation);
    assert_eq!(told, Some(entry.clone()));
    assert_eq!(the_entry(&t, entry.key.clone(), after(3600)).await, entry);
    assert_eq!(revoke(key.id, after(2)).await, RevokeApiKey::AlreadyRevoked);
    assert_eq!(revoke(nobodys(), after(2)).await, RevokeApiKey::Unknown);
    the_entry(&t, entry.key, after(2)).await;
    assert!(heard.0.lock().unwrap().is_empty());
    assert_eq!(find(&t, key.id).await.key, ApiKey { revoked_at: Some(after(1)), ..key.clone() });
    let records = t.list_audit(10).await.unwrap();
    let told: Vec<_> = records.iter().filter(|r| r.action == Action::ApiKeyRevoked).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].user, told[0].success), (Some(ada), true));
    assert_eq!(told[0].resource, Some(("api_key", key.id.to_string())));
}

async fn a_reasserted_entry_ends_the_key(bed: Bed) {
    let uid = bed.tenant_uid("acme").await;
    let t = bed.store.tenant(&uid);
    let [lost, other] = [made(&t, &of_client("app")).await, made(&t, &of_client("app")).await];
    let named = |name: &str| LogEntry {
        tenant: uid.clone(),
        revocation: entry(RevocationKey::ApiKey(name.to_owned())),
    };
    let held = [named(&lost.key.id.to_string()), named("not an id")];
    assert_eq!(bed.reassert_revocations(&held, after(10)).await.unwrap(), 2);
    assert_eq!(find(&t, lost.key.id).await.key.revoked_at, Some(after(10)));
    assert_eq!(find(&t, other.key.id).await.key.revoked_at, None);
    assert_eq!(cleaned(&bed, after(90 * DAY + 9)).await, 0);
    assert_eq!(cleaned(&bed, after(90 * DAY + 10)).await, 1);
}

async fn uses_add_up_and_times_never_move_backwards(bed: Bed) {
    let t = bed.tenant("acme").await;
    let [a, b] = [made(&t, &of_client("app")).await, made(&t, &of_client("app")).await];
    let (a, b) = (a.key.id, b.key.id);
    let seen = async |id| {
        let key = find(&t, id).await.key;
        (key.usage_count, key.last_used_at, key.last_used_ip)
    };
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    t.note_api_key_uses(&[]).await.unwrap();
    t.note_api_key_uses(&[
        used(a, 2, after(60), Some("192.0.2.1")),
        used(nobodys(), 1, after(60), None),
        used(b, 1, after(5), Some("2001:db8::1")),
        used(a, 3, after(30), Some("192.0.2.2")),
    ])
    .await
    .unwrap();
    assert_eq!(seen(a).await, (5, Some(after(60)), ip("192.0.2.1")));
    assert_eq!(seen(b).await, (1, Some(after(5)), ip("2001:db8::1")));
    // Another node was slower to write.
    t.note_api_key_uses(&[used(a, 4, after(59), Some("192.0.2.3"))]).await.unwrap();
    assert_eq!(seen(a).await, (9, Some(after(60)), ip("192.0.2.1")));
    t.note_api_key_uses(&[used(a, 1, after(61), None)]).await.unwrap();
    assert_eq!(seen(a).await, (10, Some(after(61)), None));
    assert_eq!(seen(b).await, (1, Some(after(5)), ip("2001:db8::1")));
}

async fn live_keys_are_counted_by_pepper(bed: Bed) {
    let t = bed.tenant("acme").await;
    let owner = of_client("app");
    let mut keys = Vec::new();
    for pepper in [1, 1, 2, 2, 255] {
        let mut new = new_api_key(&owner, NOW);
        new.digest.pepper = pepper;
        make(&t, &new, NOW).await;
        keys.push(new);
    }
    let count = async |now| t.count_api_keys_by_pepper(now).await.unwrap();
    assert_eq!(count(NOW).await, [(1, 2), (2, 2), (255, 1)]);
    let _ = t.revoke_api_key(keys[0].key.id, &change(after(1))).await.unwrap();
    let newer = PepperedDigest { pepper: 3, mac: [3; 32] };
    assert!(t.rehash_api_key(keys[4].key.id, &keys[4].digest, &newer).await.unwrap());
    let next = new_api_key(&owner, after(1));
    let _ = t.rotate_api_key(keys[2].key.id, &next, after(60), after(1), &AUDIT).await.unwrap();
    assert_eq!(count(after(59)).await, [(1, 2), (2, 2), (3, 1)]);
    assert_eq!(count(after(60)).await, [(1, 2), (2, 1), (3, 1)]);
    assert_eq!(count(after(30 * DAY)).await, [(1, 1)], "only the one of a second later is left");
}

async fn keys_go_with_their_user(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (ada, bob) = (user(&t, "ada").await, user(&t, "bob").await);
    let adas = made(&t, &of_user(ada)).await.key.id;
    let bobs = made(&t, &of_user(bob)).await.key.id;
    let _ = t.delete_user(ada, &change(after(1))).await.unwrap();
    assert_eq!(t.find_api_key(adas).await.unwrap(), None);
    assert_eq!(ids(&t.list_api_keys(None, None, 10).await.unwrap()), [bobs]);
}

async fn keys_go_with_their_client_and_leave_their_entries(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ada = user(&t, "ada").await;
    let _ = t.create_client(&client("app"), NOW, &AUDIT).await.unwrap();
    let own = made(&t, &of_client("app")).await.key;
    let through = made(&t, &Owner::User { user: ada, client: Some(app()) }).await.key;
    let revoked = made(&t, &of_client("app")).await.key;
    let _ = t.revoke_api_key(revoked.id, &change(NOW)).await.unwrap();
    let others = [made(&t, &of_user(ada)).await.key.id, made(&t, &of_client("other")).await.key.id];
    let next = new_api_key(&own.owner, NOW);
    let _ = t.rotate_api_key(own.id, &next, after(60), NOW, &AUDIT).await.unwrap();
    assert!(t.delete_client(&app(), after(1), &AUDIT).await.unwrap());
    // Of the rotated one, too: what was exchanged for it outlives its grace.
    let until = after(30 * DAY + 60);
    for id in [own.id, through.id] {
        assert_eq!(t.find_api_key(id).await.unwrap(), None);
        let entry = the_entry(&t, RevocationKey::ApiKey(id.to_string()), after(1)).await;
        assert_eq!((entry.expires_at, entry.at), (until, after(1)));
        assert_eq!(entry.audience, Some(own.audiences.clone()));
    }
    assert_eq!(t.find_api_key(next.key.id).await.unwrap(), None);
    the_entry(&t, RevocationKey::ApiKey(next.key.id.to_string()), after(1)).await;
    let one = the_entry(&t, RevocationKey::ApiKey(revoked.id.to_string()), after(1)).await;
    assert_eq!(one.at, NOW, "nothing is revoked twice");
    let mut left = ids(&t.list_api_keys(None, None, 10).await.unwrap());
    left.sort_unstable();
    assert_eq!(left, others);
}

async fn cleaned(bed: &Bed, now: Timestamp) -> u64 {
    let cleaned = bed.cleanup_expired_data(now, 1000, false).await.unwrap();
    cleaned.counts.iter().find(|(kind, _)| *kind == Kind::ApiKeys).map_or(0, |(_, count)| *count)
}

async fn a_key_is_kept_for_90_days_after_its_end(bed: Bed) {
    let t = bed.tenant("acme").await;
    let owner = of_client("app");
    let [revoked, rotated, late] =
        [made(&t, &owner).await.key, made(&t, &owner).await.key, made(&t, &owner).await.key];
    let _ = t.revoke_api_key(revoked.id, &change(after(60))).await.unwrap();
    let next = new_api_key(&owner, after(60));
    let _ = t.rotate_api_key(rotated.id, &next, after(120), after(60), &AUDIT).await.unwrap();
    // Its end was earlier than that.
    let _ = t.revoke_api_key(late.id, &change(after(40 * DAY))).await.unwrap();
    assert_eq!(cleaned(&bed, after(59 + 90 * DAY)).await, 0);
    assert_eq!(cleaned(&bed, after(60 + 90 * DAY)).await, 1);
    assert_eq!(t.find_api_key(revoked.id).await.unwrap(), None);
    assert_eq!(cleaned(&bed, after(119 + 90 * DAY)).await, 0);
    assert_eq!(cleaned(&bed, after(120 + 90 * DAY)).await, 1);
    assert_eq!(t.find_api_key(rotated.id).await.unwrap(), None);
    assert_eq!(cleaned(&bed, after(120 * DAY)).await, 1);
    assert_eq!(t.find_api_key(late.id).await.unwrap(), None);
    assert_eq!(cleaned(&bed, after(120 * DAY + 59)).await, 0);
    assert_eq!(cleaned(&bed, after(120 * DAY + 60)).await, 1);
    assert_eq!(t.list_api_keys(None, None, 10).await.unwrap(), []);
}

async fn keys_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let owner = of_client("app");
    let theirs = made(&a, &owner).await;
    let mut same = new_api_key(&owner, NOW);
    same.key.id = theirs.key.id;
    let _ = b.create_api_key(&same, 1, NOW, &AUDIT).await.unwrap();
    assert_eq!(find(&b, same.key.id).await.key, same.key, "an id is unique in its tenant");
    let newer = PepperedDigest { pepper: 2, ..same.digest };
    assert!(!b.rehash_api_key(same.key.id, &theirs.digest, &newer).await.unwrap());
    assert!(b.rehash_api_key(same.key.id, &same.digest, &newer).await.unwrap());
    b.note_api_key_uses(&[used(same.key.id, 3, after(1), None)]).await.unwrap();
    let next = new_api_key(&owner, after(1));
    let _ = b.rotate_api_key(same.key.id, &next, after(60), after(1), &AUDIT).await.unwrap();
    let _ = b.revoke_api_key(same.key.id, &change(after(2))).await.unwrap();
    let _ = b.set_client_disabled(&app(), true, &change(after(2))).await.unwrap();
    assert_eq!(a.list_api_keys(None, None, 10).await.unwrap(), std::slice::from_ref(&theirs.key));
    let record = find(&a, theirs.key.id).await;
    assert_eq!((record.digest, record.owner_live), (theirs.digest, true));
    assert_eq!(a.count_api_keys_by_pepper(after(1)).await.unwrap(), [(1, 1)]);
    assert_eq!(a.find_api_key(next.key.id).await.unwrap(), None);
    assert_eq!(times(&a, Action::ApiKeyRevoked).await, 0);
}

async fn keys_survive_a_restart(mut bed: Bed) {
    let uid = bed.tenant_uid("acme").await;
    let t = bed.store.tenant(&uid);
    let [revoked, live] = [made(&t, &of_client("app")).await, made(&t, &of_client("app")).await];
    let _ = t.revoke_api_key(revoked.key.id, &change(after(1))).await.unwrap();
    bed.reopen().await;
    let t = bed.store.tenant(&uid);
    assert_eq!(find(&t, revoked.key.id).await.key.revoked_at, Some(after(1)));
    assert_eq!(find(&t, live.key.id).await.key, live.key);
}
