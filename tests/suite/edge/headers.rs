//! Headers of answers, and which headers of requests count.

use pmp_auth::storage::Engine;

use crate::support::server::{Answer, TENANTS, TestServer};

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_none_goes_without() {
    let server = TestServer::start(Engine::Memory).await;
    for path in ["/livez", "/no/such", "/t/acme/token", "/t/acme/authorize"] {
        let answer = server.get(&format!("{}{path}", server.base)).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-xss-protection", "0"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert!(answer.header("permissions-policy").contains("camera=()"));
        assert_eq!(answer.header("server"), "");
        assert_eq!(answer.header("strict-transport-security"), "", "{path}: http on loopback");
        assert_eq!(answer.header("x-request-id").len(), 12, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_over_https_is_told_to_stay_there() {
    let https = |settings: &mut pmp_auth::config::Settings| {
        settings.server.public_url = "https://id.example.com".parse().unwrap();
    };
    let server = TestServer::configured(Engine::Memory, TENANTS, https);
    let server = server.await;
    let answer = server.get(&format!("{}/livez", server.base)).await;
    assert_eq!(answer.header("strict-transport-security"), "max-age=63072000; includeSubDomains");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_id_is_ours_whatever_the_caller_sends() {
    let server = TestServer::start(Engine::Memory).await;
    let url = format!("{}/livez", server.base);
    let forged = server.http.get(&url).header("x-request-id", "mine").header("traceparent", "x");
    let forged = forged.send().await.unwrap();
    assert_ne!(forged.headers()["x-request-id"], "mine");
    let other = server.get(&url).await;
    assert_ne!(forged.headers()["x-request-id"], other.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_registered_origins_read_answers_of_the_token_endpoint() {
    let server = TestServer::start(Engine::Memory).await;
    let ask = async |origin: &str, preflight: bool| {
        let url = server.url("acme", "/token");
        let request = if preflight {
            let options = server.http.request(reqwest::Method::OPTIONS, url);
            options.header("access-control-request-method", "POST")
        } else {
            server.http.post(url).form(&[("grant_type", "x")])
        };
        let answer = request.header("origin", origin).send().await.unwrap();
        let shared = answer.headers().get("access-control-allow-origin").cloned();
        assert!(answer.headers().get("access-control-allow-credentials").is_none());
        assert_eq!(answer.headers()["vary"], "Origin");
        shared.map(|value| value.to_str().unwrap().to_owned())
    };
    for preflight in [true, false] {
        let registered = "http://localhost:5173";
        assert_eq!(ask(registered, preflight).await.as_deref(), Some(registered));
        for other in ["http://localhost:5174", "null", "https://localhost:5173.evil.example"] {
            assert_eq!(ask(other, preflight).await, None, "{other}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_a_page_and_a_program_json() {
    let server = TestServer::start(Engine::Memory).await;
    let url = format!("{}/no/such", server.base);
    let program = server.get(&url).await;
    assert_eq!((program.status, program.error().as_str()), (404, "not_found"));
    let browser = server.http.get(&url).header("accept", "text/html,*/*;q=0.8").send().await;
    let page = Answer::of(browser.unwrap()).await;
    assert_eq!(page.status, 404);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.body.contains(page.header("x-request-id")), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn published_documents_are_for_everyone_and_may_be_kept() {
    let server = TestServer::start(Engine::Memory).await;
    for path in ["/jwks.json", "/.well-known/openid-configuration"] {
        let answer = server.get(&server.url("acme", path)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        assert!(answer.header("cache-control").starts_with("public, max-age="), "{path}");
    }
}
