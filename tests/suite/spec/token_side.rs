//! The endpoints that programs call: methods, forms, headers.

use pmp_auth::storage::Engine;

use crate::support::server::{Answer, SECRET, TestServer};

const CLIENT_CREDENTIALS: &[(&str, &str)] = &[("grant_type", "client_credentials")];

fn is_json_error(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status, answer.error().as_str()), (status, error), "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("location"), "");
    assert!(answer.json()["error_description"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_answer_is_json_that_nobody_keeps() {
    let server = TestServer::start(Engine::Memory).await;
    let answer = server.token("web", CLIENT_CREDENTIALS).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.json()["token_type"], "Bearer");
    assert_eq!(answer.json()["expires_in"], 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_form_takes_post_alone() {
    let server = TestServer::start(Engine::Memory).await;
    for path in ["/token", "/introspect", "/revoke"] {
        let url = server.url("acme", path);
        let answer = server.get(&format!("{url}?token=x&grant_type=client_credentials")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_belong_in_the_body() {
    let server = TestServer::start(Engine::Memory).await;
    let url = server.url("acme", "/token");
    let all = "grant_type=client_credentials&client_id=post&client_secret=";
    let in_url = server.http.post(format!("{url}?{all}{SECRET}"));
    is_json_error(&Answer::of(in_url.send().await.unwrap()).await, 400, "invalid_request");
    let secret_in_url = format!("{url}?client_secret={SECRET}");
    let form = [("grant_type", "client_credentials"), ("client_id", "post")];
    is_json_error(&server.post(&secret_in_url, None, &form).await, 400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_form_is_read() {
    let server = TestServer::start(Engine::Memory).await;
    let body = "grant_type=client_credentials";
    for kind in [
        None,
        Some("text/plain"),
        Some("multipart/form-data; boundary=x"),
        Some("application/json"),
    ] {
        let request =
            server.http.post(server.url("acme", "/token")).basic_auth("web", Some(SECRET));
        let request =
            kind.map_or(request.try_clone().unwrap(), |kind| request.header("content-type", kind));
        let answer = Answer::of(request.body(body).send().await.unwrap()).await;
        is_json_error(&answer, 400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_comes_once() {
    let server = TestServer::start(Engine::Memory).await;
    for twice in ["grant_type", "scope", "client_id"] {
        let form = [("grant_type", "client_credentials"), (twice, "a"), (twice, "a")];
        is_json_error(&server.token("web", &form).await, 400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_basic_is_challenged_and_a_failed_post_is_not() {
    let server = TestServer::start(Engine::Memory).await;
    let url = server.url("acme", "/token");
    let wrong = server.post(&url, Some(("web", "guess")), CLIENT_CREDENTIALS).await;
    is_json_error(&wrong, 401, "invalid_client");
    assert!(wrong.header("www-authenticate").starts_with("Basic realm="));
    let form =
        [("grant_type", "client_credentials"), ("client_id", "post"), ("client_secret", "x")];
    let wrong = server.post(&url, None, &form).await;
    is_json_error(&wrong, 401, "invalid_client");
    assert_eq!(wrong.header("www-authenticate"), "");
    for bad in ["Basic !!!", "Basic YQ==", "Basic /w==", "Basic", "Negotiate x"] {
        let request = server.http.post(&url).header("authorization", bad).form(CLIENT_CREDENTIALS);
        let answer = Answer::of(request.send().await.unwrap()).await;
        is_json_error(&answer, 401, "invalid_client");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_is_named_and_one_method_used() {
    let server = TestServer::start(Engine::Memory).await;
    let grant = ("grant_type", "client_credentials");
    let same = server.token("web", &[grant, ("client_id", "web")]).await;
    assert_eq!(same.status, 200, "{}", same.body);
    is_json_error(
        &server.token("web", &[grant, ("client_id", "api")]).await,
        400,
        "invalid_request",
    );
    let both = [grant, ("client_id", "web"), ("client_secret", SECRET)];
    is_json_error(&server.token("web", &both).await, 400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guesser_is_told_when_to_come_back() {
    let server = TestServer::start(Engine::Memory).await;
    let url = server.url("acme", "/token");
    let mut limited = None;
    for attempt in 1..=20 {
        let answer = server.post(&url, Some(("web", "guess")), CLIENT_CREDENTIALS).await;
        if answer.status == 429 {
            assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
            limited.get_or_insert(attempt);
        } else {
            is_json_error(&answer, 401, "invalid_client");
        }
    }
    assert!(limited.is_some());
    assert_eq!(server.client_token("opaque").await.get(..7), Some("pmp_at_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_answers_with_nothing_and_introspection_without_scripts() {
    let server = TestServer::start(Engine::Memory).await;
    let token = server.client_token("opaque").await;
    let form = [("token", token.as_str()), ("callback", "foo")];
    let introspect = server.url("acme", "/introspect");
    let active = server.post(&introspect, Some(("opaque", SECRET)), &form).await;
    assert_eq!(active.json()["active"], true);
    assert!(!active.body.contains("foo"));
    assert_eq!(active.header("access-control-allow-origin"), "");

    let revoked =
        server.post(&server.url("acme", "/revoke"), Some(("opaque", SECRET)), &form).await;
    assert_eq!((revoked.status, revoked.body.as_str()), (200, ""));
    let after = server.post(&introspect, Some(("opaque", SECRET)), &form).await;
    assert_eq!((after.status, after.body.as_str()), (200, r#"{"active":false}"#));
    assert_eq!(after.header("cache-control"), "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn userinfo_challenges_as_rfc_6750_says() {
    let server = TestServer::start(Engine::Memory).await;
    let url = server.url("acme", "/userinfo");
    let bare = server.get(&url).await;
    assert_eq!((bare.status, bare.header("www-authenticate")), (401, r#"Bearer realm="acme""#));
    let with = async |value: String| {
        let request = server.http.get(&url).header("authorization", value);
        Answer::of(request.send().await.unwrap()).await
    };
    let unknown = with("Bearer abc".into()).await;
    is_json_error(&unknown, 401, "invalid_token");
    assert!(unknown.header("www-authenticate").contains(r#"error="invalid_token""#));
    let token = server.client_token("web").await;
    let narrow = with(format!("bearer {token}")).await;
    is_json_error(&narrow, 403, "insufficient_scope");
    for bad in
        [format!("Bearer\t{token}"), format!("Bearer  {token}"), format!("Bearer {token},{token}")]
    {
        assert_eq!(with(bad.clone()).await.status, 401, "{bad}");
    }
    is_json_error(
        &server.get(&format!("{url}?access_token={token}")).await,
        400,
        "invalid_request",
    );
    let twice = server.http.post(&url).bearer_auth(&token).form(&[("access_token", &token)]);
    is_json_error(&Answer::of(twice.send().await.unwrap()).await, 400, "invalid_request");
    let posted = server.post(&url, None, &[("access_token", &token)]).await;
    is_json_error(&posted, 403, "insufficient_scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_with_a_nul_is_wrong_like_any_other() {
    let server = TestServer::start(Engine::Memory).await;
    let code = [("grant_type", "authorization_code"), ("code", "pmp_ac_\0")];
    is_json_error(&server.token("web", &code).await, 400, "invalid_grant");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", "pmp_rt_\0")];
    is_json_error(&server.token("web", &refresh).await, 400, "invalid_grant");
    let scope = [("grant_type", "client_credentials"), ("scope", "a\0")];
    is_json_error(&server.token("web", &scope).await, 400, "invalid_request");
    for path in ["/introspect", "/revoke"] {
        let url = server.url("acme", path);
        let answer = server.post(&url, Some(("web", SECRET)), &[("token", "pmp_at_\0")]).await;
        assert_eq!(answer.status, 200, "{path}");
    }
}
