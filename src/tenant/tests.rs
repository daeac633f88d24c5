use std::sync::Arc;
use std::time::Duration;

use super::TenantFault;
use super::testing::{House, NOW, TWO, load, read};
use crate::base::Timestamp;
use crate::model::{Audit, Client, ClientId, TenantSlug};
use crate::storage::memory::Memory;
use crate::storage::{
    Change, ChangeTenant, CreateClient, SetClientState, Storage as _, Tenants as _,
};

fn change(audit: &Audit) -> Change<'_> {
    Change { now: NOW, not_after: NOW.plus(Duration::from_hours(1)), audit }
}

fn slug(text: &str) -> TenantSlug {
    TenantSlug::parse(text).unwrap()
}

/// A client made at run time, in the likeness of `app`.
fn runtime_client(house: &House, id: &str) -> Client {
    let app = house.tenant("acme").settings.clients[0].clone();
    Client { id: ClientId::new(id), ..app }
}

#[tokio::test]
async fn a_tenant_is_found_by_slug_name_and_uid_and_one_with_a_host_by_host_alone() {
    let house =
        House::new(&TWO.replace("  globex:", "  globex:\n    host: id.globex.example")).await;
    let (registry, acme) = (&house.registry, house.tenant("acme"));
    assert_eq!(registry.by_slug("acme").unwrap().uid, acme.uid);
    assert_eq!(registry.by_uid(&acme.uid).unwrap().slug, slug("acme"));
    assert_eq!(acme.issuer(), "https://id.example/t/acme");
    assert!(registry.by_slug("globex").is_none());
    assert_eq!(registry.by_host("id.globex.example").unwrap().slug, slug("globex"));
    assert!(registry.by_host("id.example").is_none());
    assert!(registry.by_slug("Acme").is_none());
    assert_eq!(registry.all().len(), 2);
}

#[tokio::test]
async fn a_suspended_tenant_is_not_there_until_it_is_resumed() {
    let house = House::new(TWO).await;
    let acme = house.tenant("acme");
    let audit = Audit::default();
    let outcome = house.store.suspend_tenant(&acme.uid, &change(&audit)).await.unwrap();
    assert_eq!(outcome, ChangeTenant::Changed);
    house.registry.refresh(NOW).await.unwrap();
    assert!(house.registry.by_slug("acme").is_none());
    assert!(house.registry.by_uid(&acme.uid).is_none());
    assert!(house.registry.by_slug("globex").is_some());
    let _ = house.store.resume_tenant(&acme.uid, NOW, &audit).await.unwrap();
    house.registry.refresh(NOW).await.unwrap();
    assert!(Arc::ptr_eq(&house.tenant("acme"), &acme), "with what was cached");
}

#[tokio::test]
async fn a_slug_that_is_used_again_is_another_tenant_with_other_keys() {
    let house = House::new(TWO).await;
    let old = house.tenant("acme");
    let old_keys = old.keys.jwks(NOW).await.unwrap();
    let _ = house.store.delete_tenant(&old.uid, &change(&Audit::default())).await.unwrap();
    house.registry.refresh(NOW).await.unwrap();
    assert!(house.registry.by_slug("acme").is_none(), "a running node does not bring it back");

    let again = House::on(house.store.clone(), TWO).await.tenant("acme");
    assert_ne!(again.uid, old.uid);
    assert_ne!(again.keys.jwks(NOW).await.unwrap(), old_keys);
    house.registry.refresh(NOW).await.unwrap();
    assert_eq!(house.tenant("acme").uid, again.uid, "other nodes follow");
}

#[tokio::test]
async fn a_tenant_that_the_configuration_does_not_name_is_not_served_and_not_touched() {
    let house = House::new(TWO).await;
    let one = read(&TWO[..TWO.find("  globex:").unwrap()]);
    let registry = load(&house.store, &one).await.unwrap();
    assert!(registry.by_slug("globex").is_none());
    assert_eq!(house.store.list_tenants().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_disabled_client_is_seen_at_the_next_refresh() {
    let house = House::new(TWO).await;
    let acme = house.tenant("acme");
    let (app, other) = (ClientId::new("app"), ClientId::new("other"));
    assert!(acme.client(&app).await.unwrap().unwrap().enabled);
    let audit = Audit::default();
    let outcome = acme.store.set_client_disabled(&app, true, &change(&audit)).await.unwrap();
    assert_eq!(outcome, SetClientState::Changed);
    house.registry.refresh(NOW).await.unwrap();
    assert!(!acme.client(&app).await.unwrap().unwrap().enabled);
    assert!(acme.client(&other).await.unwrap().unwrap().enabled);
    let globex = house.tenant("globex").client(&app).await.unwrap().unwrap();
    assert!(globex.enabled, "another tenant's client of the same id");
    let _ = acme.store.set_client_disabled(&app, false, &change(&audit)).await.unwrap();
    house.registry.refresh(NOW).await.unwrap();
    assert!(acme.client(&app).await.unwrap().unwrap().enabled);
}

#[tokio::test]
async fn a_hint_makes_a_running_registry_look() {
    let house = House::new(TWO).await;
    let acme = house.tenant("acme");
    let app = ClientId::new("app");
    assert!(acme.client(&app).await.unwrap().is_some());
    let stop = tokio_util::sync::CancellationToken::new();
    let clock = Arc::new(house.clock.clone());
    let run = tokio::spawn(Arc::clone(&house.registry).run(clock, stop.clone()));
    tokio::task::yield_now().await;
    let _ = acme.store.set_client_disabled(&app, true, &change(&Audit::default())).await.unwrap();
    house.store.watch().hint();
    let mut seen = false;
    for _ in 0..500 {
        seen = seen || !acme.client(&app).await.unwrap().unwrap().enabled;
        tokio::time::sleep(Duration::from_millis(if seen { 0 } else { 10 })).await;
    }
    assert!(seen);
    stop.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn run_time_clients_are_found_deleted_and_never_shared_between_tenants() {
    let house = House::new(TWO).await;
    let (acme, globex) = (house.tenant("acme"), house.tenant("globex"));
    let id = ClientId::new("made-later");
    assert!(acme.client(&id).await.unwrap().is_none());
    let made = runtime_client(&house, "made-later");
    let audit = Audit::default();
    let outcome = acme.store.create_client(&made, NOW, &audit).await.unwrap();
    assert_eq!(outcome, CreateClient::Created);
    house.registry.refresh(NOW).await.unwrap();
    assert_eq!(*acme.client(&id).await.unwrap().unwrap(), made);
    assert!(globex.client(&id).await.unwrap().is_none());
    let _ = acme.store.set_client_disabled(&id, true, &change(&audit)).await.unwrap();
    house.registry.refresh(NOW).await.unwrap();
    assert!(!acme.client(&id).await.unwrap().unwrap().enabled);
    assert!(acme.store.delete_client(&id, NOW, &audit).await.unwrap());
    house.registry.refresh(NOW).await.unwrap();
    assert!(acme.client(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_run_time_client_with_the_id_of_a_configured_one_is_a_fault() {
    let house = House::new(TWO).await;
    let twin = runtime_client(&house, "app");
    let audit = Audit::default();
    let _ = house.tenant("acme").store.create_client(&twin, NOW, &audit).await.unwrap();
    let Err(fault) = load(&house.store, &house.settings).await else { panic!("it was loaded") };
    assert!(matches!(&fault, TenantFault::ClientTwice { tenant, client }
        if tenant.as_str() == "acme" && client.as_str() == "app"));
}

#[tokio::test]
async fn many_nodes_that_start_at_once_agree_on_the_tenants() {
    let store = Memory::new("e1", Timestamp::EPOCH);
    let settings = read(TWO);
    let (one, two) = tokio::join!(load(&store, &settings), load(&store, &settings));
    let uid = |registry: &super::Registry| registry.named("acme").unwrap().uid.clone();
    assert_eq!(uid(&one.unwrap()), uid(&two.unwrap()));
}
