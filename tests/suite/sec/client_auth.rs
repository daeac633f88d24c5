//! Cases of client authentication.

use std::net::Ipv4Addr;

use pmp_auth::base::base64;
use pmp_auth::model::Action;
use pmp_auth::storage::Engine;
use reqwest::header::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::flow::Form;
use crate::support::logs::Logs;
use crate::support::server::{Answer, OTHER_SECRET, SECRET, TestServer};

async fn server() -> TestServer {
    TestServer::start(Engine::Memory).await
}

/// What the clients with a secret may ask for.
fn form() -> Form {
    Form::of("client_credentials").with("scope", "orders:read")
}

async fn by_basic(server: &TestServer, client: &str, secret: &str, form: &Form) -> Answer {
    server.post(&server.url("acme", "/token"), Some((client, secret)), &form.pairs()).await
}

async fn by_body(server: &TestServer, form: &Form) -> Answer {
    server.post(&server.url("acme", "/token"), None, &form.pairs()).await
}

#[tokio::test]
async fn sec_clientauth_01() {
    let server = server().await;
    for wrong in ["guess", "", &SECRET[1..], &SECRET.to_lowercase(), OTHER_SECRET] {
        let answer = by_basic(&server, "web", wrong, &form()).await;
        answer.is_refusal(401, "invalid_client");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Basic realm=\""), "{challenge}");
    }
    assert_eq!(server.times(Action::ClientAuthenticationFailed).await, 5);
    server.ask("web", &form()).await.granted();
    server.stop().await;
}

#[tokio::test]
async fn sec_clientauth_03() {
    let logs = Logs::listen();
    let server = server().await;
    for query in [
        format!("client_id=post&client_secret={SECRET}"),
        format!("client_secret={SECRET}"),
        format!("client%5Fsecret={SECRET}"),
    ] {
        let url = format!("{}?{query}", server.url("acme", "/token"));
        let bare = server.post(&url, None, &form().pairs()).await;
        bare.is_refusal(400, "invalid_request");
        let named = form().with("client_id", "post");
        server.post(&url, None, &named.pairs()).await.is_refusal(400, "invalid_request");
        let proved = server.post(&url, Some(("web", SECRET)), &form().pairs()).await;
        proved.is_refusal(400, "invalid_request");
    }
    server.ask("post", &form()).await.granted();
    server.stop().await;
    let logged = logs.text();
    assert!(logged.contains("status=400"), "the requests are logged: {logged}");
    assert!(!logged.contains(SECRET), "{logged}");
    assert!(!logged.contains(&base64::encode(format!("web:{SECRET}"))), "{logged}");
}

#[tokio::test]
async fn sec_clientauth_05() {
    let server = server().await;
    // `web` may have `orders:write`, `opaque` may not; `spa` needs no proof at all.
    let wanted = Form::of("client_credentials").with("scope", "orders:write");
    for other in ["web", "spa", "nobody", "OPAQUE"] {
        let form = wanted.clone().with("client_id", other);
        by_basic(&server, "opaque", SECRET, &form).await.is_refusal(400, "invalid_request");
    }
    let form = wanted.with("client_id", "opaque");
    by_basic(&server, "opaque", SECRET, &form).await.is_refusal(400, "invalid_scope");
    let form = form.with("scope", "orders:read");
    by_basic(&server, "opaque", SECRET, &form).await.granted();
    server.stop().await;
}

#[tokio::test]
async fn sec_clientauth_06() {
    let server = server().await;
    for client in ["web", "opaque", "post", "spa", "native"] {
        let pinned = match client {
            "post" => "client_secret_post",
            "spa" | "native" => "none",
            _ => "client_secret_basic",
        };
        let named = form().with("client_id", client);
        let with_secret = named.clone().with("client_secret", SECRET);
        for (method, answer) in [
            ("client_secret_basic", by_basic(&server, client, SECRET, &form()).await),
            ("client_secret_post", by_body(&server, &with_secret).await),
            ("none", by_body(&server, &named).await),
        ] {
            match pinned {
                // It is past authentication; the grant is not for it.
                "none" if method == pinned => answer.is_refusal(400, "unauthorized_client"),
                _ if method == pinned => drop(answer.granted()),
                _ => answer.is_refusal(401, "invalid_client"),
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_clientauth_11() {
    let server = server().await;
    let basic = |text: &[u8]| format!("Basic {}", base64::encode(text)).into_bytes();
    for header in [
        b"Basic !!!!".to_vec(),
        b"Basic d2Vi".to_vec(),
        b"Basic".to_vec(),
        b"Basic ".to_vec(),
        b"".to_vec(),
        b"Basic \xff\xfe".to_vec(),
        b"Bearer x".to_vec(),
        basic(b":"),
        basic(b"web"),
        basic(b"web\0:x"),
        basic(b"we%00b:x"),
        basic(format!("web:{SECRET}\0").as_bytes()),
        basic(b"web:\xff\xfe"),
        basic(b"\xff\xfe:x"),
        basic(b"web:%zz"),
    ] {
        let request = server.http.post(server.url("acme", "/token")).form(&form().pairs());
        let value = HeaderValue::from_bytes(&header).unwrap();
        let answer = request.header("authorization", value).send().await.unwrap();
        Answer::of(answer).await.is_refusal(401, "invalid_client");
    }
    let heavy = basic(format!("web:{}", "x".repeat(64 * 1024)).as_bytes());
    let request = server.http.post(server.url("acme", "/token")).form(&form().pairs());
    let value = HeaderValue::from_bytes(&heavy).unwrap();
    assert_eq!(request.header("authorization", value).send().await.unwrap().status(), 431);
    server.ask("web", &form()).await.granted();
    server.stop().await;
}

#[tokio::test]
async fn sec_clientauth_23() {
    let server = server().await;
    let elsewhere =
        reqwest::Client::builder().local_address(Some(Ipv4Addr::new(127, 0, 0, 2).into()));
    let elsewhere = elsewhere.no_proxy().build().unwrap();
    let mut limited = None;
    for attempt in 1..=1000 {
        let answer = by_basic(&server, "web", &format!("guess-{attempt}"), &form()).await;
        if answer.status == 429 {
            limited.get_or_insert(attempt);
            answer.is_refusal(429, "temporarily_unavailable");
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        } else {
            answer.is_refusal(401, "invalid_client");
            assert_eq!(limited, None, "it does not open again by asking");
        }
        if attempt % 25 == 0 {
            let request = elsewhere.post(server.url("acme", "/token")).form(&form().pairs());
            let answer = request.basic_auth("web", Some(SECRET)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "attempt {attempt}");
        }
    }
    assert!(limited.is_some_and(|attempt| attempt <= 20), "{limited:?}");
    server.stop().await;
}

#[tokio::test]
async fn sec_clientauth_24() {
    let server = server().await;
    let pem = "-----BEGIN%20CERTIFICATE-----%0AMIIB%0A-----END%20CERTIFICATE-----";
    for (name, value) in [
        ("x-ssl-client-cert", pem),
        ("client-cert", ":MIIB:"),
        ("x-forwarded-client-cert", "Hash=0;Subject=\"CN=web\";URI=spiffe://acme/web"),
        ("x-ssl-client-verify", "SUCCESS"),
        ("x-ssl-client-s-dn", "CN=web"),
    ] {
        for client in ["web", "post"] {
            let named = form().with("client_id", client);
            let request = server.http.post(server.url("acme", "/token")).form(&named.pairs());
            let answer = request.header(name, value).send().await.unwrap();
            Answer::of(answer).await.is_refusal(401, "invalid_client");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_clientauth_25() {
    let server = server().await;
    let hashed = server.app.passwords.evaluated();
    // The length is enough to be refused by.
    let address = server.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /t/acme/token HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 102460\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 1024];
    let read = stream.read(&mut bytes).await.unwrap();
    let answer = String::from_utf8_lossy(&bytes[..read]);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // The longest that do fit into a body and into headers.
    let long = form().with("client_id", "post").with("client_secret", &"x".repeat(60 * 1024));
    by_body(&server, &long).await.is_refusal(401, "invalid_client");
    let answer = by_basic(&server, "web", &"x".repeat(20 * 1024), &form()).await;
    answer.is_refusal(401, "invalid_client");
    assert_eq!(server.app.passwords.evaluated(), hashed, "no slow hash");
    server.ask("web", &form()).await.granted();
    server.stop().await;
}
