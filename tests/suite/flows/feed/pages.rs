use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pmp_auth::base::{Clock as _, base64url};
use pmp_auth::model::{Revocation, RevocationKey};
use pmp_auth::storage::Engine;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};

use super::{House, answer, cursor, has, hash, hashes, names};
use crate::support::engines::Place;
use crate::support::flow::SignedIn;
use crate::support::server::{API, SECRET, TestServer};

on_every_server! {
    a_revoked_token_is_in_the_snapshot_and_after_the_cursor_before_it
    a_long_feed_comes_in_pages_that_miss_nothing
    what_has_not_changed_is_not_sent
    a_long_poll_is_answered_when_something_comes_or_the_wait_is_over
    a_reader_sees_its_own_audiences_alone
    after_a_restart_a_reader_goes_on_or_is_told_to_begin_again
    only_a_live_token_with_the_scope_reads
}

async fn a_revoked_token_is_in_the_snapshot_and_after_the_cursor_before_it(engine: Engine) {
    let house = House::new(engine).await;
    let before = house.page("").await;
    let token = house.server.client_token("web").await;
    let told = house.server.introspect("web", &token.clone().into()).await;
    let jti = told["jti"].as_str().unwrap();
    let url = house.server.url("acme", "/revoke");
    let revoked = house.server.post(&url, Some(("web", SECRET)), &[("token", &token)]).await;
    assert_eq!(revoked.status, 200);

    let page = house.page(&format!("?after={}", cursor(&before))).await;
    assert_eq!(hashes(&page), [hash(jti)], "before anyone else had a chance to look");
    let entry = &page["entries"][0];
    assert_eq!((&entry["k"], entry.get("nbf")), (&json!("jti"), None));
    assert_eq!(entry["exp"].as_i64(), told["exp"].as_i64().map(|exp| exp + 60));
    assert_eq!(page["more"], false);
    assert_eq!(page["as_of"], house.server.clock.now().millis());
    let snapshot = house.page("").await;
    assert!(has(&snapshot, "jti", jti));
    let nothing = house.page(&format!("?after={}", cursor(&page))).await;
    assert_eq!(nothing["entries"], json!([]));
    house.server.stop().await;
}

async fn a_long_feed_comes_in_pages_that_miss_nothing(engine: Engine) {
    let house = House::new(engine).await;
    let start = house.page("").await;
    let all = names(25);
    house.revoke(&all).await;
    let mut expected: Vec<_> = all.iter().map(|name| hash(name)).collect();
    expected.sort();
    for first in [format!("?after={}&limit=10", cursor(&start)), "?limit=10".to_owned()] {
        let snapshot = !first.starts_with("?after");
        let (mut page, mut seen, mut pages) = (house.page(&first).await, Vec::new(), 1);
        loop {
            let found = hashes(&page);
            assert!(found.len() <= 10);
            seen.extend(found);
            if page["more"] == false {
                break;
            }
            page = house.page(&format!("?after={}&limit=10", cursor(&page))).await;
            pages += 1;
        }
        // Behind a page that was cut there may be what was committed since: one more to see.
        assert!((3..=4).contains(&pages), "{first}: {pages}");
        seen.retain(|h| !(snapshot && h.is_empty())); // what an engine wrote when it began
        seen.sort();
        assert_eq!(seen, expected, "{first}");
        let end = house.page(&format!("?after={}", cursor(&page))).await;
        assert_eq!((&end["entries"], &end["more"]), (&json!([]), &json!(false)));
    }
    for bad in ["limit=0", "limit=10001", "wait=31", "after=x", "after=e.%21", "after=a&after=b"] {
        let answer = house.get(&format!("?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    house.server.stop().await;
}

async fn what_has_not_changed_is_not_sent(engine: Engine) {
    let house = House::new(engine).await;
    house.revoke(&names(1)).await;
    let etag = house.get("").await.header("etag").to_owned();
    let conditional = async |query: &str| {
        answer(house.request(query).header("if-none-match", etag.as_str())).await
    };
    let after = format!("?after={}", etag.trim_matches('"'));
    for query in ["", &after] {
        let same = conditional(query).await;
        assert_eq!((same.status, same.body.as_str()), (304, ""));
        assert_eq!(same.header("etag"), etag);
    }
    house.revoke(&["another".to_owned()]).await;
    let changed = conditional("").await.json();
    assert!(has(&changed, "jti", "another") && has(&changed, "jti", "j0"), "all of it");
    assert_eq!(hashes(&conditional(&after).await.json()), [hash("another")], "what came since");
    let unknown = answer(house.request("").header("if-none-match", "\"x.MQ\"")).await;
    assert_eq!(unknown.status, 200);
    house.server.stop().await;
}

async fn a_long_poll_is_answered_when_something_comes_or_the_wait_is_over(engine: Engine) {
    let house = House::new(engine).await;
    let start = house.get("").await;
    let etag = start.header("etag").to_owned();
    let after = format!("after={}", etag.trim_matches('"'));

    let began = Instant::now();
    let empty = house.page(&format!("?{after}&wait=1")).await;
    assert_eq!(empty["entries"], json!([]));
    assert!(began.elapsed() >= Duration::from_secs(1));
    let request = house.request(&format!("?{after}"));
    let request = request.header("prefer", "wait=1").header("if-none-match", etag.as_str());
    let same = answer(request).await;
    assert_eq!((same.status, same.header("preference-applied")), (304, "wait=1"));

    // Longer than other requests may take.
    let began = Instant::now();
    let waiting = format!("?{after}&wait=30");
    let poll = house.page(&waiting);
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        house.revoke(&["now".to_owned()]).await;
        Instant::now()
    };
    let (page, revoked) = tokio::join!(poll, revoke);
    assert_eq!(hashes(&page), [hash("now")]);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(revoked.elapsed() < Duration::from_secs(5));
    // Something that waits already is answered at once.
    let began = Instant::now();
    assert_eq!(hashes(&house.page(&format!("?{after}&wait=30")).await), [hash("now")]);
    assert!(began.elapsed() < Duration::from_secs(5));
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_may_take_longer_than_other_requests() {
    let house = House::new(Engine::Memory).await;
    let start = house.page("").await;
    let (began, url) = (Instant::now(), format!("?after={}&wait=12", cursor(&start)));
    assert_eq!(house.page(&url).await["entries"], json!([]));
    assert!(began.elapsed() >= Duration::from_secs(12));
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_who_waits() {
    let house = House::new(Engine::Memory).await;
    let start = house.page("").await;
    let url = format!("?after={}&wait=30", cursor(&start));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        house.server.begin_stop();
    };
    let began = Instant::now();
    let (page, ()) = tokio::join!(house.page(&url), stop);
    assert_eq!(page["entries"], json!([]));
    assert!(began.elapsed() < Duration::from_secs(10));
}

async fn a_reader_sees_its_own_audiences_alone(engine: Engine) {
    let house = House::new(engine).await;
    let of = |jti: &str, audience: &str| Revocation {
        audience: Some(vec![audience.to_owned()]),
        ..house.entry(jti)
    };
    let start = house.page("").await;
    let entries = [house.entry("all"), of("api", API), of("file", "https://files.acme.example")];
    house.append(&entries).await;
    for (client, visible) in
        [("reader", &["all", "api"][..]), ("files", &["all", "file"]), ("none", &["all"])]
    {
        let token = house.server.client_token(client).await;
        for query in [String::new(), format!("?after={}", cursor(&start))] {
            let url = house.server.url("acme", &format!("/revocations{query}"));
            let page = answer(house.server.http.get(url).bearer_auth(&token)).await.json();
            for jti in ["all", "api", "file"] {
                assert_eq!(has(&page, "jti", jti), visible.contains(&jti), "{client} {jti}");
            }
        }
    }
    let api = &house.page(&format!("?after={}", cursor(&start))).await["entries"][1];
    assert_eq!(api["aud"], json!([API]));
    // Nothing of the tenant shows at another.
    let form = [("grant_type", "client_credentials")];
    let answer = house.server.post(&house.server.url("other", "/revocations"), None, &form).await;
    assert_eq!(answer.status, 405);
    let url = house.server.url("other", "/revocations");
    let foreign = super::answer(house.server.http.get(url).bearer_auth(&house.token)).await;
    assert_eq!(foreign.status, 401);
    house.server.stop().await;
}

async fn after_a_restart_a_reader_goes_on_or_is_told_to_begin_again(engine: Engine) {
    let house = House::new(engine).await;
    house.revoke(&names(2)).await;
    let before = house.page("").await;
    house.revoke(&["late".to_owned()]).await;
    let House { server, token } = house;
    let server = server.restart().await;
    // The keys of memory are gone, and so is what it revoked.
    let house =
        if engine == Engine::Memory { House::of(server).await } else { House { server, token } };
    let answer = house.get(&format!("?after={}", cursor(&before))).await;
    if engine == Engine::Postgres {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(hashes(&answer.json()), [hash("late")]);
    } else {
        assert_eq!(answer.status, 410, "{}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.json()["detail"].as_str().unwrap().contains("snapshot"));
    }
    if engine != Engine::Memory {
        let page = house.page("").await;
        assert!(["j0", "j1", "late"].iter().all(|jti| has(&page, "jti", jti)), "{page}");
    }
    house.server.stop().await;
}

async fn only_a_live_token_with_the_scope_reads(engine: Engine) {
    let house = House::new(engine).await;
    let url = house.server.url("acme", "/revocations");
    let with = async |authorization: &str| {
        answer(house.server.http.get(&url).header("authorization", authorization)).await
    };
    let nobody = answer(house.server.http.get(&url)).await;
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, "Bearer realm=\"acme\""));
    let bad = with("Bearer nonsense").await;
    assert_eq!((bad.status, bad.error().as_str()), (401, "invalid_token"));
    let web = house.server.client_token("web").await;
    let other = with(&format!("Bearer {web}")).await;
    assert_eq!((other.status, other.error().as_str()), (403, "insufficient_scope"));
    assert!(other.header("www-authenticate").ends_with("scope=\"revocations:read\""));
    let in_query =
        answer(house.server.http.get(format!("{url}?access_token={}", house.token))).await;
    assert_eq!(in_query.status, 400);
    let basic = answer(house.server.http.get(&url).basic_auth("reader", Some(SECRET))).await;
    assert_eq!(basic.status, 401);
    // The scope is not everybody's for the asking.
    let form = [("grant_type", "client_credentials"), ("scope", "revocations:read")];
    house.server.token("web", &form).await.is_refusal(400, "invalid_scope");
    // A reader whose token is revoked reads no more, nor does one that was disabled.
    let token = house.server.client_token("reader").await;
    let revoke = house.server.url("acme", "/revoke");
    house.server.post(&revoke, Some(("reader", SECRET)), &[("token", &token)]).await;
    assert_eq!(with(&format!("Bearer {token}")).await.status, 401);
    assert_eq!(with(&format!("Bearer {}", house.token)).await.status, 200);
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_page_says_the_same_under_a_key_of_the_tenant() {
    let house = House::new(Engine::Memory).await;
    house.revoke(&names(3)).await;
    let plain = house.page("").await;
    let signed = answer(house.request("").header("accept", "application/revocations+jwt")).await;
    assert_eq!(signed.header("content-type"), "application/revocations+jwt");
    let (message, signature) = signed.body.rsplit_once('.').unwrap();
    let part = |n: usize| -> Value {
        let text = message.split('.').nth(n).unwrap();
        serde_json::from_slice(&base64url::decode(text).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    assert_eq!(header["typ"], "revocations+jwt");
    let (tenant, now) = (house.server.tenant("acme"), house.server.clock.now());
    let key = tenant.keys.verifier(header["kid"].as_str().unwrap(), now).await.unwrap().unwrap();
    assert!(key.verify(message, signature));
    assert_eq!((&claims["aud"], &claims["iat"]), (&json!("reader"), &json!(now.seconds())));
    for member in ["iss", "cursor", "more", "entries"] {
        assert_eq!(claims[member], plain[member], "{member}");
    }
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_compressed_for_who_can_read_it() {
    let house = House::new(Engine::Memory).await;
    house.revoke(&names(500)).await;
    let plain = house.request("").send().await.unwrap();
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = plain.bytes().await.unwrap();
    let zipped = house.request("").header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    let zipped = zipped.bytes().await.unwrap();
    assert!(zipped.len() < plain.len() * 7 / 10, "{} of {}", zipped.len(), plain.len());
    let mut gzip = Command::new("gzip")
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&zipped).unwrap());
    let unzipped = gzip.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    assert_eq!(unzipped, plain);
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_entries_are_served_whole() {
    let house = House::new(Engine::Memory).await;
    house.revoke(&names(100_000)).await;
    let began = Instant::now();
    let page = house.page("").await;
    println!("100,000 entries in {:?}", began.elapsed());
    assert_eq!(
        page["entries"].as_array().unwrap().iter().filter(|e| e["k"] == "jti").count(),
        100_000
    );
    assert_eq!(page["more"], false);
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_discovery_documents_name_the_feed() {
    let house = House::new(Engine::Memory).await;
    for document in ["openid-configuration", "oauth-authorization-server"] {
        let url = house.server.url("acme", &format!("/.well-known/{document}"));
        let told = house.server.get(&url).await.json();
        assert_eq!(told["revocation_feed_endpoint"], house.server.url("acme", "/revocations"));
    }
    house.server.stop().await;
}

/// A revocation on a connection of its own, written and not committed yet.
async fn uncommitted(server: &TestServer, jti: &str) -> sqlx::PgConnection {
    let Place::Postgres(database) = &*server.place else { panic!("on Postgres") };
    let mut late = sqlx::PgConnection::connect(database.url()).await.unwrap();
    late.execute("BEGIN").await.unwrap();
    let statement =
        "INSERT INTO revocations (tenant_uid, kind, key, exp) VALUES ($1, 'jti', $2, $3)";
    let until = server.clock.now().plus(Duration::from_hours(1)).to_chrono();
    sqlx::query(statement)
        .bind(server.tenant("acme").uid.as_str().to_owned())
        .bind(jti.to_owned())
        .bind(until)
        .execute(&mut late)
        .await
        .unwrap();
    late
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_overtake_one_another_are_all_delivered() {
    let house = House::new(Engine::Postgres).await;
    let two = House { server: house.server.beside().await, token: house.token.clone() };
    let mut at = [house.page("").await, house.page("").await].map(|page| cursor(&page).to_owned());
    for round in 0..5 {
        let (early, late) = (format!("early {round}"), format!("late {round}"));
        let mut open = uncommitted(&house.server, &late).await;
        house.revoke(std::slice::from_ref(&early)).await;
        for (place, node) in at.iter_mut().zip([&house, &two]) {
            node.server.settle().await;
            let page = node.page(&format!("?after={place}")).await;
            assert!(has(&page, "jti", &early) && !has(&page, "jti", &late), "{page}");
            cursor(&page).clone_into(place);
        }
        open.execute("COMMIT").await.unwrap();
        // Where it is goes for each node: readers come from one to the other.
        at.swap(0, 1);
        for (place, node) in at.iter_mut().zip([&house, &two]) {
            node.server.settle().await;
            let page = node.page(&format!("?after={place}&limit=1")).await;
            assert!(has(&page, "jti", &late), "its number is the lower one: {page}");
            let rest = node.page(&format!("?after={}", cursor(&page))).await;
            cursor(&rest).clone_into(place);
        }
    }
    two.server.stop().await;
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_sends_readers_back_to_a_snapshot() {
    let house = House::new(Engine::Postgres).await;
    house.revoke(&names(2)).await;
    let before = house.page("").await;
    house.server.place.sql("UPDATE store_identity SET id = gen_random_uuid()").await;
    house.server.settle().await;
    assert_eq!(house.get(&format!("?after={}", cursor(&before))).await.status, 410);
    let page = house.page("").await;
    assert!(has(&page, "jti", "j0") && has(&page, "jti", "j1"));
    assert_ne!(cursor(&page), cursor(&before));
    // A cursor that no store of ours wrote is no reason to say that the store is away.
    let (epoch, _) = cursor(&page).split_once('.').unwrap();
    for place in ["7", "0:0:", "99999999999999999999:1:", "~", "1:2:'"] {
        let forged = format!("?after={epoch}.{}", base64url::encode(place));
        let status = house.get(&forged).await.status;
        assert!(status == 410 || status == 400, "{place}: {status}");
    }
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_reads_too_and_a_user_may_have_the_scope() {
    let yaml = super::tenants().replacen(
        "grants: [client_credentials]\n        scopes: [\"revocations:read\"",
        "grants: [client_credentials]\n        access_token_format: opaque\n        scopes: [\"revocations:read\"",
        1,
    );
    let house = House::of(TestServer::with(Engine::Memory, &yaml).await).await;
    assert!(house.token.starts_with("pmp_at_"));
    let alice = SignedIn::at(&house.server).await;
    let (_, grant) = alice.tokens(&house.server, "web").await;
    let store = &house.server.tenant("acme").store;
    let now = house.server.clock.now();
    let _ = store.revoke_grant(grant, now, &pmp_auth::model::Audit::default()).await.unwrap();
    assert!(has(&house.page("").await, "grant", &grant.to_string()));
    let not_before = Revocation {
        key: RevocationKey::Client("web".into()),
        not_before: Some(now),
        ..house.entry("")
    };
    house.append(&[not_before]).await;
    let page = house.page("").await;
    let client = page["entries"].as_array().unwrap().iter().find(|e| e["k"] == "client").unwrap();
    assert_eq!((&client["nbf"], &client["h"]), (&json!(now.seconds()), &json!(hash("web"))));
    house.server.stop().await;
}
