//! Revocation on several nodes while something goes wrong between them.

use std::time::{Duration, Instant};

use pmp_auth::base::{Digest, base64url};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, Node, Proxy, Said, Way, is_linear, part};

/// How long a node may not know what another revoked, while notifications arrive …
const HINTED: Duration = Duration::from_secs(1);
/// … and while they do not.
const UNHINTED: Duration = Duration::from_secs(5);
const ARRIVING: &str = "pmp_auth_notifications_arriving";
const LOST: &str = "pmp_auth_notifications_lost_total";

fn bases(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| node.base.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_races_introspection_on_three_nodes_is_linear() {
    let fleet = Fleet::new();
    let nodes = [fleet.node(), fleet.node(), fleet.node()];
    for round in 0..4 {
        let mut racing = Vec::new();
        for (n, (tenant, bound)) in
            [("acme", HINTED), ("acme", HINTED), ("strict", Duration::ZERO)].into_iter().enumerate()
        {
            let at = (round + n) % nodes.len();
            let token = fleet.token(&nodes[(at + 1) % nodes.len()], tenant, "web").await;
            let race = fleet.clone().race(bases(&nodes), at, tenant, token, bound);
            racing.push(tokio::spawn(race));
        }
        for race in racing {
            race.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_notifications_do_not_reach_finds_out_and_keeps_its_bound() {
    let fleet = Fleet::new();
    let proxy = Proxy::to(fleet.database()).await;
    let nodes = [fleet.node(), fleet.node_that_hears(Some(&proxy))];
    fleet.wait_for(&nodes[1], ARRIVING, |up| up == 1).await;
    for way in [Way::Blocked, Way::Cut, Way::Open] {
        proxy.set(way);
        for _ in 0..2 {
            let mut racing = Vec::new();
            for (tenant, bound) in [("acme", UNHINTED), ("strict", Duration::ZERO)] {
                let token = fleet.token(&nodes[1], tenant, "web").await;
                let race = fleet.clone().race(bases(&nodes), 0, tenant, token, bound);
                racing.push(tokio::spawn(race));
            }
            for race in racing {
                race.await.unwrap();
            }
        }
        // A connection on which nothing comes, and which nobody ends, is found out as well.
        let up = u64::from(way == Way::Open);
        fleet.wait_for(&nodes[1], ARRIVING, |arriving| arriving == up).await;
        assert_eq!(fleet.metric(&nodes[0], ARRIVING).await, 1);
    }
    assert!(fleet.metric(&nodes[1], LOST).await >= 1);
    assert_eq!(fleet.metric(&nodes[0], LOST).await, 0);
}

/// Ends the connections on which nodes listen.
fn deafen(fleet: &Fleet) {
    fleet.database().psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'pmp-auth-listen' AND datname = current_database()",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_f_notify_01() {
    let fleet = Fleet::new();
    let nodes = [fleet.node(), fleet.node()];
    for round in 0..5_u64 {
        for node in &nodes {
            fleet.wait_for(node, ARRIVING, |up| up == 1).await;
        }
        deafen(&fleet);
        let token = fleet.token(&nodes[1], "acme", "web").await;
        // What is revoked while nobody listens is known as soon as somebody does.
        let before = Instant::now();
        fleet.clone().race(bases(&nodes), 0, "acme", token, UNHINTED).await;
        assert!(before.elapsed() < UNHINTED, "{:?}", before.elapsed());
        for node in &nodes {
            fleet.wait_for(node, LOST, |times| times > round).await;
        }
    }
}

async fn kids(fleet: &Fleet, node: &Node) -> Vec<String> {
    let answer = fleet.get(node, "/t/acme/jwks.json").send().await.unwrap();
    let set: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let keys = set["keys"].as_array().expect("keys").iter();
    keys.map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_f_keys_02() {
    let fleet = Fleet::new();
    let proxy = Proxy::to(fleet.database()).await;
    // The last one hears of nothing.
    let nodes = [fleet.node(), fleet.node(), fleet.node_that_hears(Some(&proxy))];
    let token = fleet.token(&nodes[0], "acme", "web").await;
    let kid = part(&token, 0)["kid"].as_str().expect("a kid").to_owned();
    for node in &nodes {
        assert!(kids(&fleet, node).await.contains(&kid));
        assert_eq!(part(&fleet.token(node, "acme", "web").await, 0)["kid"], kid.as_str());
    }
    proxy.set(Way::Blocked);
    let stop = CancellationToken::new();
    let watching: Vec<_> = bases(&nodes)
        .into_iter()
        .map(|node| fleet.clone().watch(node, "acme", token.clone(), stop.clone()))
        .map(tokio::spawn)
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    let told = fleet.run(&["keys", "compromise", "--tenant", "acme", &kid]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let declared = Instant::now();
    for (number, watching) in watching.into_iter().enumerate() {
        let looks = watching.await.unwrap();
        is_linear(&looks, asked, declared + HINTED, &format!("node {number}"));
    }
    stop.cancel();
    // Nobody signs with it, nor shows it, a few seconds later; on the node that hears nothing, too.
    for (number, node) in nodes.iter().enumerate() {
        loop {
            let new = fleet.token(node, "acme", "web").await;
            let own = part(&new, 0)["kid"].as_str().expect("a kid").to_owned();
            let shown = kids(&fleet, node).await;
            if own != kid && !shown.contains(&kid) {
                assert!(shown.contains(&own), "node {number}");
                for other in &nodes {
                    let look = fleet.look(&other.base, "acme", &new).await;
                    assert_eq!(look.said(), Said::Active, "node {number}");
                }
                break;
            }
            let late = declared.elapsed();
            assert!(late < UNHINTED, "node {number} uses the key after {late:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_know_answers_503_until_it_can() {
    let fleet = Fleet::new();
    let node = fleet.node();
    let live = fleet.token(&node, "acme", "web").await;
    let dead = fleet.token(&node, "acme", "web").await;
    fleet.revoke(&node.base, "acme", &dead).await;
    fleet.database().set_open(false);
    let gone = Instant::now();
    let verify = async || {
        let request = fleet.get(&node, "/t/acme/verify").bearer_auth(&live);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    };
    loop {
        let (late, look) = (gone.elapsed(), fleet.look(&node.base, "acme", &live).await);
        assert_ne!(look.said(), Said::Inactive, "nobody knows that after {late:?}");
        assert_ne!(fleet.look(&node.base, "acme", &dead).await.said(), Said::Active, "{late:?}");
        if look.said() == Said::Unknown {
            break;
        }
        assert!(late < UNHINTED + HINTED, "still answers from memory after {late:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(verify().await, (503, true));
    let form = [("grant_type", "client_credentials")];
    let (status, body, back) = fleet.post(&node.base, "/t/acme/token", "web", &form).await;
    assert_eq!((status, back), (503, true), "{body}");
    let (status, body, back) =
        fleet.post(&node.base, "/t/acme/revoke", "web", &[("token", &live)]).await;
    assert_eq!((status, back), (503, true), "{body}");
    fleet.database().set_open(true);
    let back = Instant::now();
    while fleet.look(&node.base, "acme", &live).await.said() != Said::Active {
        assert!(back.elapsed() < UNHINTED, "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(verify().await.0, 204);
    assert_eq!(fleet.look(&node.base, "acme", &dead).await.said(), Said::Inactive);
}

/// A fail-over that lost its tail, or a backup that was put in place of the database.
fn lose_the_log(fleet: &Fleet) {
    fleet.database().psql(
        "BEGIN; DELETE FROM revocations; UPDATE store_identity SET id = gen_random_uuid(); COMMIT",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_revoked_token_comes_back_with_a_store_that_lost_it_while_a_node_lives_that_knew() {
    let fleet = Fleet::new();
    let nodes = [fleet.node(), fleet.node()];
    let live = fleet.token(&nodes[0], "acme", "web").await;
    let mut dead = Vec::new();
    for _ in 0..5 {
        let token = fleet.token(&nodes[0], "acme", "web").await;
        fleet.revoke(&nodes[0].base, "acme", &token).await;
        dead.push(token);
    }
    let reader = fleet.token(&nodes[0], "acme", "reader").await;
    let read = async |query: &str| {
        let path = format!("/t/acme/revocations{query}");
        let answer = fleet.get(&nodes[1], &path).bearer_auth(&reader).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (status, body)
    };
    let has_all = |page: &Value| {
        let entries = page["entries"].as_array().expect("entries");
        dead.iter().all(|token| {
            let claims = part(token, 1);
            let jti = claims["jti"].as_str().expect("a jti");
            let hash = base64url::encode(&Digest::<()>::of(jti.as_bytes()).as_bytes()[..16]);
            entries.iter().any(|entry| entry["h"] == hash.as_str())
        })
    };
    tokio::time::sleep(HINTED).await;
    let (_, before) = read("").await;
    assert!(has_all(&before), "{before}");
    lose_the_log(&fleet);
    // From then on nobody accepts one, whoever noticed what by then.
    let lost = Instant::now();
    while lost.elapsed() < 2 * HINTED {
        for node in &nodes {
            for token in &dead {
                assert_eq!(fleet.look(&node.base, "acme", token).await.said(), Said::Inactive);
            }
            assert_eq!(fleet.look(&node.base, "acme", &live).await.said(), Said::Active);
        }
    }
    let cursor = before["cursor"].as_str().expect("a cursor");
    assert_eq!(read(&format!("?after={cursor}")).await.0, 410);
    let (status, after) = read("").await;
    assert!(status == 200 && has_all(&after), "{after}");
    // It is in the store again: a node that was not there knows it, too.
    let new = fleet.node();
    for token in &dead {
        assert_eq!(fleet.look(&new.base, "acme", token).await.said(), Said::Inactive);
    }
    assert_eq!(fleet.look(&new.base, "acme", &live).await.said(), Said::Active);
}
