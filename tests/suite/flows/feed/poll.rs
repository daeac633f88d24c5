use std::time::{Duration, Instant};

use pmp_auth::base::{Clock as _, base64url};
use pmp_auth::storage::{EndReason, Engine};
use serde_json::{Value, json};

use super::{House, answer, hash, names};
use crate::support::flow::SignedIn;
use crate::support::server::Answer;

on_every_server! { events_come_until_they_are_acknowledged }

async fn poll(house: &House, body: &Value) -> Answer {
    let url = house.server.url("acme", "/revocations/poll");
    answer(house.server.http.post(url).bearer_auth(&house.token).json(body)).await
}

/// The claims of the events by `jti`, and whether there are more.
async fn events(house: &House, body: &Value) -> (Vec<(String, Value)>, bool) {
    let answer = poll(house, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told = answer.json();
    let sets = told["sets"].as_object().expect("sets");
    let claims = sets.iter().map(|(jti, set)| {
        let parts: Vec<_> = set.as_str().unwrap().split('.').collect();
        let part = |n: usize| -> Value {
            serde_json::from_slice(&base64url::decode(parts[n]).unwrap()).unwrap()
        };
        assert_eq!(part(0)["typ"], "secevent+jwt");
        assert_eq!(part(1)["jti"], *jti);
        (jti.clone(), part(1))
    });
    (claims.collect(), told["moreAvailable"] == true)
}

fn jtis(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(jti, _)| jti.as_str()).collect()
}

async fn events_come_until_they_are_acknowledged(engine: Engine) {
    let house = House::new(engine).await;
    // What an engine wrote when it began.
    let (own, _) = events(&house, &json!({"returnImmediately": true})).await;
    let ack = json!({"returnImmediately": true, "ack": jtis(&own)});
    assert!(events(&house, &ack).await.0.is_empty());

    house.revoke(&names(5)).await;
    let (first, more) = events(&house, &json!({"maxEvents": 3})).await;
    assert_eq!((first.len(), more), (3, true));
    let (again, _) = events(&house, &json!({"maxEvents": 3})).await;
    assert_eq!(again, first, "not acknowledged");
    let errors = json!({jtis(&first)[0]: {"err": "invalid_key", "description": "no such key"}});
    let ack = json!({"maxEvents": 9, "ack": &jtis(&first)[1..], "setErrs": errors});
    let (second, more) = events(&house, &ack).await;
    assert_eq!((second.len(), more), (2, false));
    let entry = "/events/urn:pmp-auth:secevent:revocation";
    let mut seen: Vec<_> = first
        .iter()
        .chain(&second)
        .map(|(_, claims)| {
            claims.pointer(entry).expect("an entry")["h"].as_str().unwrap().to_owned()
        })
        .collect();
    let mut expected: Vec<_> = names(5).iter().map(|name| hash(name)).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    let claims = &second[0].1;
    assert_eq!(claims["iss"], house.server.tenant("acme").issuer());
    assert_eq!(claims["aud"], "reader");
    assert_eq!(claims["iat"], house.server.clock.now().seconds());

    // A session is an event that others know, too.
    let alice = SignedIn::at(&house.server).await;
    let ack = json!({"ack": jtis(&second)});
    let end = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let audit = pmp_auth::model::Audit::default();
        let now = house.server.clock.now();
        let not_after = now.plus(Duration::from_hours(1));
        let change = pmp_auth::storage::Change { now, not_after, audit: &audit };
        let store = &house.server.tenant("acme").store;
        let _ = store.end_session(alice.session, EndReason::Logout, &change).await.unwrap();
    };
    let began = Instant::now();
    let ((ended, _), ()) = tokio::join!(events(&house, &ack), end);
    assert!(began.elapsed() < Duration::from_secs(10), "it waits no longer than it must");
    let told = ended.iter().map(|(_, claims)| &claims["events"]);
    let caep = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
    assert!(told.clone().any(|events| events.get(caep).is_some()), "{ended:?}");
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_poll_request_is_refused() {
    let house = House::new(Engine::Memory).await;
    for body in [json!([]), json!({"maxEvents": -1}), json!({"ack": "x"})] {
        assert_eq!(poll(&house, &body).await.status, 400, "{body}");
    }
    let url = house.server.url("acme", "/revocations/poll");
    let form = house.server.http.post(&url).bearer_auth(&house.token).form(&[("a", "b")]);
    assert_eq!(answer(form).await.status, 400);
    let nobody = answer(house.server.http.post(&url).json(&json!({}))).await;
    assert_eq!(nobody.status, 401);
    house.server.stop().await;
}
