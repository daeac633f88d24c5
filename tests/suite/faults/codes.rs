use std::time::Duration;

use pmp_auth::base::base64;
use pmp_auth::config::Settings;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::{Action, GrantId};
use pmp_auth::storage::Engine;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::nodes::{Nodes, TIMES, winners};
use crate::support::flow::{Form, SignedIn};
use crate::support::race::RACERS;
use crate::support::server::{SECRET, TestServer};

on_every_server! {
    fault_f_code_01
    fault_f_code_02
    fault_f_code_03
}

async fn fault_f_code_01(engine: Engine) {
    let nodes = Nodes::start(engine, |_| {}).await;
    let alice = SignedIn::at(nodes.first()).await;
    let mut spent = Vec::with_capacity(TIMES);
    for round in 0..TIMES {
        let client = ["web", "opaque"][round % 2];
        let code = alice.code(nodes.first(), client).await;
        let answers = nodes.at_once(round, |_| (client, code.form.clone())).await;
        let won = winners(&answers);
        assert_eq!(won.len(), 1, "round {round}");
        spent.push((client, code.grant, won[0].clone()));
    }
    nodes.settle().await;
    // The others were replays of a valid request: what the winners got is dead everywhere.
    for (client, grant, tokens) in spent {
        nodes.all_say(false, client, &tokens["access_token"]).await;
        nodes.all_say(false, client, &tokens["refresh_token"]).await;
        let grant = nodes.first().grant(grant).await;
        assert_eq!(grant.refresh.expect("one family").head, 1);
        assert_eq!(grant.state, GrantState::Revoked);
    }
    let server = nodes.first();
    assert_eq!(server.times(Action::GrantCreated).await, TIMES);
    assert_eq!(server.times(Action::CodeRedeemed).await, TIMES);
    assert_eq!(server.times(Action::CodeReplayed).await, TIMES * (RACERS - 1));
    if let Some(grants) = nodes.rows("grants").await {
        assert_eq!(grants, TIMES);
    }
    nodes.stop().await;
}

async fn fault_f_code_02(engine: Engine) {
    a_resent_request_is_a_replay(Nodes::start(engine, |_| {}).await).await;
    let retry = |settings: &mut Settings| {
        for tenant in settings.tenants.values_mut() {
            tenant.code_retry = Some(Duration::from_secs(2));
        }
    };
    a_resent_request_is_answered_again(Nodes::start(engine, retry).await).await;
}

/// The default: the server cannot know who sends it again.
async fn a_resent_request_is_a_replay(nodes: Nodes) {
    let server = nodes.first();
    let alice = SignedIn::at(server).await;
    for _ in 0..TIMES {
        let code = alice.code(server, "web").await;
        let unread = send(server, &code.form).await;
        until_redeemed(server, code.grant).await;
        drop(unread);
        assert!(server.is_live(code.grant).await, "nobody came twice yet");
        server.ask("web", &code.form).await.is_refusal(400, "invalid_grant");
        assert!(!server.is_live(code.grant).await);
    }
    nodes.stop().await;
}

/// `code_retry`: within its time the same request gets the same family, and only the same does.
async fn a_resent_request_is_answered_again(nodes: Nodes) {
    let server = nodes.first();
    let alice = SignedIn::at(server).await;
    let mut codes = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let code = alice.plain_code(server, "web").await;
        let unread = send(server, &code.form).await;
        until_redeemed(server, code.grant).await;
        drop(unread);
        let wrong = code.form.clone().with("code_verifier", &"x".repeat(43));
        let refused = server.decide("web", &wrong).await.expect_err("a wrong verifier");
        assert_eq!(refused.code().as_str(), "invalid_grant");
        codes.push(code);
    }
    nodes.advance(Duration::from_secs(2)).await;
    let mut families = Vec::with_capacity(TIMES);
    for (round, code) in codes.iter().enumerate() {
        let answers = nodes.at_once(round, |_| ("web", code.form.clone())).await;
        let won = winners(&answers);
        assert_eq!(won.len(), RACERS, "every one is the same request again");
        assert!(won.iter().all(|one| one["refresh_token"] == won[0]["refresh_token"]));
        assert!(won.iter().all(|one| one["scope"] == won[0]["scope"]));
        nodes.all_say(true, "web", &won[0]["refresh_token"]).await;
        nodes.all_say(true, "web", &won[RACERS - 1]["access_token"]).await;
        assert_eq!(server.grant(code.grant).await.refresh.expect("one family").head, 1);
        families.push(won[0].clone());
    }
    // Later it is a replay as ever.
    nodes.advance(Duration::from_millis(1)).await;
    for code in &codes {
        server.ask("web", &code.form).await.is_refusal(400, "invalid_grant");
    }
    nodes.settle().await;
    for tokens in families {
        nodes.all_say(false, "web", &tokens["refresh_token"]).await;
        nodes.all_say(false, "web", &tokens["access_token"]).await;
    }
    if let Some(grants) = nodes.rows("grants").await {
        assert_eq!(grants, TIMES);
    }
    nodes.stop().await;
}

/// Sends a token request of `web`, whose answer nobody will have read when the connection is cut.
async fn send(server: &TestServer, form: &Form) -> TcpStream {
    let body = form.encoded();
    let basic = base64::encode(format!("web:{SECRET}"));
    let head = format!(
        "POST /t/acme/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {basic}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream
}

/// Waits until the code of this grant is redeemed.
async fn until_redeemed(server: &TestServer, grant: GrantId) {
    for _ in 0..5_000 {
        if server.grant(grant).await.refresh.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the code is not redeemed");
}

async fn fault_f_code_03(engine: Engine) {
    let nodes = Nodes::start(engine, |_| {}).await;
    let server = nodes.first();
    let alice = SignedIn::at(server).await;
    let mut redeemed = Vec::new();
    for round in 0..TIMES {
        // Half of the racers, or just one of them, send what is right.
        let valid = if round % 2 == 0 { RACERS / 2 } else { 1 };
        let code = alice.code(server, "spa").await;
        let answers = nodes
            .at_once(round, |racer| {
                let form = code.form.clone();
                match racer {
                    _ if racer < valid => ("spa", form),
                    // So few that their address is not slowed down.
                    _ if racer % 4 == 0 => ("spa", form.with("code_verifier", &"x".repeat(43))),
                    _ if racer % 4 == 1 => ("native", form),
                    _ if racer % 4 == 2 => ("web", form),
                    _ => ("spa", form.with("redirect_uri", "http://localhost:5173/other")),
                }
            })
            .await;
        let won = winners(&answers);
        assert_eq!(won.len(), 1, "round {round}");
        assert!(answers[..valid].iter().any(Option::is_some), "a stranger won");
        redeemed.push((valid == 1, code.grant, won[0].clone()));
        server.clock.advance(Duration::from_mins(1));
        // Before the first of the access tokens is over.
        if redeemed.len() == 8 {
            nodes.settle().await;
            for (unseen, grant, tokens) in redeemed.drain(..) {
                assert_eq!(server.is_live(grant).await, unseen, "only a valid replay revokes");
                nodes.all_say(unseen, "api", &tokens["access_token"]).await;
                let refresh = Form::refresh(tokens["refresh_token"].as_str().unwrap());
                assert_eq!(server.decide("spa", &refresh).await.is_ok(), unseen);
            }
        }
    }
    assert!(redeemed.is_empty(), "each was looked at");
    nodes.stop().await;
}
