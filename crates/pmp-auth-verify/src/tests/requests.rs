//! What a caller of an API sees.

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::{Request, Response};
use axum::routing::get;
use tower::ServiceExt as _;

use super::issuer::{TestIssuer, TestKey};
use super::{options, ready};
use crate::{Mode, Token, Verifier};

const METADATA: &str = "https://api.example/.well-known/oauth-protected-resource";

fn router(verifier: &Verifier) -> Router {
    let layered = Router::new()
        .route("/orders", get(whose).layer(verifier.require_scope("orders:read")))
        .route("/admin", get(whose).layer(verifier.require_scope("orders:read").and("admin")))
        .route("/hello", get(whose))
        .layer(verifier.layer());
    let extracted =
        Router::new().route("/me", get(|token: Token| async move { token.subject().to_owned() }));
    layered.merge(extracted.with_state(verifier.clone()))
}

async fn whose(Extension(token): Extension<Token>) -> String {
    token.subject().to_owned()
}

async fn ask(router: &Router, path: &str, authorization: &[&str]) -> Response<Body> {
    let mut request = Request::get(path);
    for value in authorization {
        request = request.header("authorization", *value);
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn challenge(response: &Response<Body>) -> &str {
    response.headers()["www-authenticate"].to_str().unwrap()
}

#[tokio::test]
async fn good_tokens_pass_and_refusals_are_those_of_rfc_6750() {
    let issuer = TestIssuer::start().await;
    let builder = options(&issuer, Mode::Local).realm("a \"b\"").resource_metadata(METADATA);
    let router = router(&ready(builder).await);
    let good = format!("bearer {}", issuer.token("a"));
    for path in ["/orders", "/hello", "/me"] {
        let answer = ask(&router, path, &[&good]).await;
        assert_eq!(answer.status(), 200, "{path}");
        let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(body, "alice");
        assert_eq!(ask(&router, path, &[]).await.status(), 401, "{path}");
    }
    let metadata = format!("resource_metadata=\"{METADATA}\"");
    let realm = "realm=\"a \\\"b\\\"\"";

    let none = ask(&router, "/hello", &[]).await;
    assert_eq!(challenge(&none), format!("Bearer {realm}, {metadata}"));
    assert_eq!(none.headers()["cache-control"], "no-store");
    let basic = ask(&router, "/hello", &["Basic YTpi"]).await;
    assert_eq!((basic.status().as_u16(), challenge(&basic)), (401, challenge(&none)));

    let other = TestKey::new("k1").sign("at+jwt", &issuer.claims("a"));
    let bad = ask(&router, "/hello", &[&format!("Bearer {other}")]).await;
    assert_eq!(bad.status(), 401);
    let description = "error_description=\"The access token is not valid.\"";
    let wanted = format!("Bearer {realm}, error=\"invalid_token\", {description}, {metadata}");
    assert_eq!(challenge(&bad), wanted);

    for twice in [&["Bearer a b"][..], &["Bearer"], &["Bearer a", "Bearer b"]] {
        let answer = ask(&router, "/hello", twice).await;
        assert_eq!(answer.status(), 400, "{twice:?}");
        assert!(challenge(&answer).contains("error=\"invalid_request\""));
    }

    let lacking = ask(&router, "/admin", &[&good]).await;
    assert_eq!(lacking.status(), 403);
    assert!(challenge(&lacking).contains("error=\"insufficient_scope\""));
    assert!(challenge(&lacking).contains("scope=\"orders:read admin\""));
}

#[tokio::test]
async fn what_cannot_be_known_is_503_and_says_when_to_come_again() {
    let issuer = TestIssuer::start().await;
    issuer.change(|inner| inner.down = true);
    let router = router(&options(&issuer, Mode::Feed).build().unwrap());
    let answer = ask(&router, "/hello", &[&format!("Bearer {}", issuer.token("a"))]).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert!(!answer.headers().contains_key("www-authenticate"));
}
