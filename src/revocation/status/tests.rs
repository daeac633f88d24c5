use std::io::Read as _;
use std::time::Duration;

use flate2::read::ZlibDecoder;
use serde_json::Value;

use super::list::set;
use super::*;
use crate::base::{SystemEntropy, base64url};
use crate::model::token::AccessClaims;
use crate::model::{Audit, ClientId, Revocation, RevocationKey, Scope};
use crate::storage::Storage as _;
use crate::tenant::testing::{House, NOW};

const KEEPER: &str = "
server: { public_url: 'https://id.example' }
tenants:
  acme:
    status_lists: { ttl: 20s }
    clients:
      - { client_id: app, type: public, redirect_uris: ['https://app.example/cb'] }
";

fn inflate(lst: &str) -> Vec<u8> {
    let packed = base64url::decode(lst).unwrap();
    let mut bits = Vec::new();
    ZlibDecoder::new(&packed[..]).read_to_end(&mut bits).unwrap();
    bits
}

fn bits(size: usize, indices: &[u32]) -> Vec<u8> {
    let mut bits = vec![0; size];
    set(&mut bits, indices);
    bits
}

/// draft §4.1: the statuses of sixteen tokens, and their list in §4.2.
#[test]
fn the_first_example_of_the_draft_reads_as_it_says() {
    let small = bits(2, &[0, 3, 4, 5, 7, 8, 9, 13, 15]);
    assert_eq!(small, [0xb9, 0xa3]);
    assert_eq!(inflate("eNrbuRgAAhcBXQ"), small);
    assert_eq!(inflate(&compress(&small).unwrap()), small);
}

/// draft, test vectors for one bit: a list of 2^20 tokens.
#[test]
fn the_test_vector_of_one_bit_reads_as_it_says() {
    let vector = concat!(
        "eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogEAAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAAA",
        "7KpLAAAAAAAAAAAAAAAAAAAAAJsLCQAAAAAAAAAAADjelAAAAAAAAAAAKjDMAQAAAACAZC8L2AEb",
    );
    let revoked =
        [0, 1993, 25460, 159_495, 495_669, 554_353, 645_645, 723_232, 854_545, 934_534, 1_000_345];
    let list = bits(1 << 17, &revoked);
    assert_eq!(inflate(vector), list);
    let ours = compress(&list).unwrap();
    assert_eq!(inflate(&ours), list);
    assert!(ours.len() <= vector.len() + 16, "{} for {}", ours.len(), vector.len());
}

#[test]
fn setting_what_is_set_changes_nothing_and_what_does_not_fit_is_left_out() {
    let mut list = vec![0; 2];
    assert!(set(&mut list, &[9]));
    assert!(!set(&mut list, &[9, 16]));
    assert_eq!(list, [0, 2]);
}

/// A tenant that keeps lists, and a node of it.
struct Office {
    house: House,
    view: Arc<View>,
    statuses: Statuses,
}

impl Office {
    async fn new() -> Self {
        let house = House::new(KEEPER).await;
        let (view, statuses) = Self::node(&house).await;
        Self { house, view, statuses }
    }

    async fn node(house: &House) -> (Arc<View>, Statuses) {
        let view = View::new(Arc::new(house.store.clone()), Arc::new(house.clock.clone()));
        view.sync().await.unwrap();
        let statuses = Statuses::new(Arc::clone(&view), Arc::new(SystemEntropy));
        (view, statuses)
    }

    async fn token(&self, jti: &str) -> AccessClaims {
        let tenant = self.house.tenant("acme");
        let expires_at = NOW.plus(Duration::from_mins(10));
        let status = self.statuses.place(&tenant, expires_at, NOW).await.unwrap();
        let claims = AccessClaims {
            jti: jti.into(),
            client: ClientId::new("app"),
            user: None,
            subject: "app".into(),
            audience: vec!["https://api.example".into()],
            scope: Scope::default(),
            grant: None,
            session: None,
            generation: None,
            auth_time: None,
            acr: None,
            amr: vec![],
            issued_at: NOW,
            expires_at,
            status,
        };
        tenant.store.issue_access_token(&row(&claims).unwrap()).await.unwrap();
        claims
    }

    async fn revoke(&self, key: RevocationKey) {
        let expires_at = NOW.plus(Duration::from_mins(11));
        let entry = Revocation { key, audience: None, not_before: None, expires_at, at: NOW };
        let store = &self.house.tenant("acme").store;
        store.append_revocations(&[entry], NOW, &Audit::default()).await.unwrap();
        self.view.sync().await.unwrap();
    }

    async fn shows(&self, claims: &AccessClaims, now: Timestamp) -> Value {
        Self::shown(&self.statuses, &self.house, claims, now).await
    }

    async fn shown(
        statuses: &Statuses,
        house: &House,
        claims: &AccessClaims,
        now: Timestamp,
    ) -> Value {
        let place = claims.status.as_ref().unwrap();
        let list = statuses.list(&house.tenant("acme"), &place.list, now).await.unwrap().unwrap();
        let payload = list.jwt.split('.').nth(1).unwrap();
        let mut said: Value = serde_json::from_slice(&base64url::decode(payload).unwrap()).unwrap();
        let bits = inflate(said["status_list"]["lst"].as_str().unwrap());
        said["revoked"] = (bits[place.idx as usize / 8] >> (place.idx % 8) & 1 == 1).into();
        said
    }
}

#[tokio::test]
async fn a_list_says_what_it_is_and_which_of_its_tokens_are_revoked() {
    let office = Office::new().await;
    let (one, other) = (office.token("one").await, office.token("other").await);
    let said = office.shows(&one, NOW).await;
    let place = one.status.clone().unwrap();
    assert_eq!(said["sub"], format!("https://id.example/t/acme/statuslists/{}", place.list));
    assert_eq!((&said["ttl"], &said["status_list"]["bits"]), (&20.into(), &1.into()));
    assert_eq!(said["iat"], NOW.seconds());
    assert_eq!(said["exp"], NOW.seconds() + 300);
    assert_eq!(said["revoked"], false);
    office.revoke(RevocationKey::Jti("one".into())).await;
    assert_eq!(office.shows(&one, NOW).await["revoked"], true);
    assert_eq!(office.shows(&other, NOW).await["revoked"], false);
}

#[tokio::test]
async fn an_unchanged_list_is_signed_again_when_half_of_its_life_is_over() {
    let office = Office::new().await;
    let token = office.token("one").await;
    let iat = |seconds: u64| {
        office.house.clock.set(NOW.plus(Duration::from_secs(seconds)));
        office.shows(&token, NOW.plus(Duration::from_secs(seconds)))
    };
    assert_eq!(iat(0).await["iat"], NOW.seconds());
    assert_eq!(iat(149).await["iat"], NOW.seconds());
    assert_eq!(iat(150).await["iat"], NOW.seconds() + 150);
}

/// A statement that looked before the revocation may commit its token after it.
#[tokio::test]
async fn a_token_that_is_written_just_after_its_revocation_is_found() {
    let office = Office::new().await;
    let first = office.token("one").await;
    assert_eq!(office.shows(&first, NOW).await["revoked"], false);
    office.revoke(RevocationKey::Jti("late".into())).await;
    assert_eq!(office.shows(&first, NOW).await["revoked"], false);
    let late = office.token("late").await;
    let soon = NOW.plus(Duration::from_secs(1));
    office.house.clock.set(soon);
    assert_eq!(office.shows(&late, soon).await["revoked"], true);
}

#[tokio::test]
async fn another_node_and_one_that_was_restarted_show_the_same() {
    let office = Office::new().await;
    let (one, other) = (office.token("one").await, office.token("other").await);
    office.revoke(RevocationKey::Jti("one".into())).await;
    let (_view, statuses) = Office::node(&office.house).await;
    for (token, revoked) in [(&one, true), (&other, false)] {
        let said = Office::shown(&statuses, &office.house, token, NOW).await;
        assert_eq!(said["revoked"], revoked);
    }
}

#[tokio::test]
async fn a_list_is_gone_a_minute_after_its_hour_and_cleaned_up_then() {
    let office = Office::new().await;
    let token = office.token("one").await;
    let place = token.status.clone().unwrap();
    let tenant = office.house.tenant("acme");
    let hour = Timestamp::from_seconds((NOW.seconds() + 600 + 3599) / 3600 * 3600);
    for (after, there) in [(59, true), (60, false)] {
        let at = hour.plus(Duration::from_secs(after));
        office.house.clock.set(at);
        let list = office.statuses.list(&tenant, &place.list, at).await.unwrap();
        assert_eq!(list.is_some(), there, "{after} s");
        office.house.store.cleanup_expired_data(at, 100, false).await.unwrap();
        let row = tenant.store.find_status_list(&place.list).await.unwrap();
        assert_eq!(row.is_some(), there, "{after} s");
    }
}

#[tokio::test]
async fn a_tenant_without_the_switch_has_neither_places_nor_lists() {
    let house = House::new(crate::tenant::testing::TWO).await;
    let (_view, statuses) = Office::node(&house).await;
    let tenant = house.tenant("acme");
    assert_eq!(statuses.place(&tenant, NOW, NOW).await.unwrap(), None);
    assert!(statuses.list(&tenant, "AAAAAAAAAAAAAAAAAAAAAA", NOW).await.unwrap().is_none());
    assert!(statuses.aggregation(&tenant, NOW).await.unwrap().is_none());
}
