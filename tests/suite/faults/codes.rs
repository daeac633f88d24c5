use std::time::Duration;

use pmp_auth::base::base64;
use pmp_auth::config::Settings;
use pmp_auth::model::Action;
use pmp_auth::storage::Engine;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::nodes::{Nodes, winners};
use crate::support::flow::{Form, SignedIn};
use crate::support::race::RACERS;
use crate::support::server::{SECRET, TestServer};

on_every_server! {
    fault_f_code_01
    fault_f_code_02
    fault_f_code_03
}

/// So many codes are raced for, one after the other.
const CODES: usize = 6;

async fn fault_f_code_01(engine: Engine) {
    let nodes = Nodes::start(engine, |_| {}).await;
    let alice = SignedIn::at(nodes.first()).await;
    for round in 0..CODES {
        let client = ["web", "opaque"][round % 2];
        let code = alice.code(nodes.first(), client).await;
        let answers = nodes.at_once(|_| (client, code.form.clone())).await;
        let won = winners(&answers);
        assert_eq!(won.len(), 1, "round {round}");
        nodes.settle().await;
        // The others were replays of a valid request: what the winner got is dead everywhere.
        nodes.all_say(false, client, &won[0]["access_token"]).await;
        nodes.all_say(false, client, &won[0]["refresh_token"]).await;
        let grant = nodes.first().grant(code.grant).await;
        assert_eq!(grant.refresh.expect("one family").head, 1);
        assert!(!nodes.first().is_live(code.grant).await);
    }
    let server = nodes.first();
    assert_eq!(server.times(Action::GrantCreated).await, CODES);
    assert_eq!(server.times(Action::CodeRedeemed).await, CODES);
    assert_eq!(server.times(Action::CodeReplayed).await, CODES * (RACERS - 1));
    if let Some(grants) = nodes.rows("grants").await {
        assert_eq!(grants, CODES);
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
    for done in 1..=CODES {
        let code = alice.code(server, "web").await;
        let unread = send(server, &code.form).await;
        until_redeemed(server, done).await;
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
    for done in 1..=CODES {
        let code = alice.code(server, "web").await;
        let unread = send(server, &code.form).await;
        until_redeemed(server, done).await;
        drop(unread);
        let wrong = code.form.clone().with("code_verifier", &"x".repeat(43));
        server.ask("web", &wrong).await.is_refusal(400, "invalid_grant");
        nodes.advance(Duration::from_secs(2)).await;
        let answers = nodes.at_once(|_| ("web", code.form.clone())).await;
        let won = winners(&answers);
        assert_eq!(won.len(), RACERS, "every one is the same request again");
        assert!(won.iter().all(|one| one["refresh_token"] == won[0]["refresh_token"]));
        assert!(won.iter().all(|one| one["scope"] == won[0]["scope"]));
        nodes.all_say(true, "web", &won[0]["refresh_token"]).await;
        nodes.all_say(true, "web", &won[RACERS - 1]["access_token"]).await;
        assert_eq!(server.grant(code.grant).await.refresh.expect("one family").head, 1);
        // Later it is a replay as ever.
        nodes.advance(Duration::from_millis(1)).await;
        server.ask("web", &code.form).await.is_refusal(400, "invalid_grant");
        nodes.settle().await;
        nodes.all_say(false, "web", &won[0]["refresh_token"]).await;
        nodes.all_say(false, "web", &won[0]["access_token"]).await;
    }
    if let Some(grants) = nodes.rows("grants").await {
        assert_eq!(grants, CODES);
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

/// Waits until so many codes are redeemed.
async fn until_redeemed(server: &TestServer, codes: usize) {
    for _ in 0..500 {
        if server.times(Action::CodeRedeemed).await == codes {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the code is not redeemed");
}

async fn fault_f_code_03(engine: Engine) {
    let nodes = Nodes::start(engine, |_| {}).await;
    let server = nodes.first();
    let alice = SignedIn::at(server).await;
    for round in 0..CODES {
        // Half of the racers, or just one of them, send what is right.
        let valid = if round % 2 == 0 { RACERS / 2 } else { 1 };
        let code = alice.code(server, "spa").await;
        let answers = nodes
            .at_once(|racer| {
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
        assert!(answers[..valid].iter().any(|answer| answer.status == 200), "a stranger won");
        nodes.settle().await;
        let unseen = valid == 1;
        assert_eq!(server.is_live(code.grant).await, unseen, "only a valid replay revokes");
        nodes.all_say(unseen, "api", &won[0]["access_token"]).await;
        let refresh = Form::refresh(won[0]["refresh_token"].as_str().unwrap());
        assert_eq!(server.ask("spa", &refresh).await.status == 200, unseen);
        nodes.advance(Duration::from_mins(1)).await;
    }
    nodes.stop().await;
}
