use std::time::Duration;

use pmp_auth::model::Action;

use super::house::{House, NOBODY, SECRET, Who, basic};

const FORM: &str = "grant_type=client_credentials";

#[tokio::test]
async fn each_client_is_pinned_to_its_method() {
    let house = House::in_memory().await;
    let by_post = |client: &str| format!("{FORM}&client_id={client}&client_secret={SECRET}");
    assert!(house.token(basic("worker"), FORM).await.is_ok());
    let error = house.answer(NOBODY, &by_post("worker")).await.unwrap_err();
    assert_eq!((error.status(), error.code().as_str()), (401, "invalid_client"));
    assert!(error.description().contains("client_secret_basic"), "it names the fix");
    // `post` has no client_credentials: it gets past authentication by its own method alone.
    let refused = house.token(NOBODY, &by_post("post")).await.unwrap_err();
    assert_eq!(refused, "400 unauthorized_client");
    assert_eq!(house.token(basic("post"), FORM).await.unwrap_err(), "401 invalid_client");
}

#[tokio::test]
async fn an_unknown_client_and_a_wrong_secret_are_told_the_same() {
    let house = House::in_memory().await;
    let wrong = Who { basic: Some(("worker", "guess")), ..NOBODY };
    let unknown = Who { basic: Some(("nobody", "guess")), ..NOBODY };
    let (wrong, unknown) = (
        house.answer(wrong, FORM).await.unwrap_err(),
        house.answer(unknown, FORM).await.unwrap_err(),
    );
    assert_eq!((wrong.status(), wrong.code()), (unknown.status(), unknown.code()));
    assert_eq!(wrong.description(), unknown.description());
    assert!(wrong.challenges_basic() && unknown.challenges_basic());
}

#[tokio::test]
async fn a_confidential_client_that_only_names_itself_is_told_to_prove_it() {
    let house = House::in_memory().await;
    let error = house.answer(NOBODY, &format!("{FORM}&client_id=worker")).await.unwrap_err();
    assert_eq!((error.status(), error.code().as_str()), (401, "invalid_client"));
    assert!(error.description().contains("HTTP Basic or as client_secret"));
    assert!(!error.challenges_basic());
}

#[tokio::test]
async fn guessing_closes_the_client_to_the_guessers_address_alone() {
    let house = House::in_memory().await;
    let guess = Who { basic: Some(("worker", "guess")), ..NOBODY };
    let mut limited = None;
    for attempt in 1..=30 {
        let error = house.answer(guess, FORM).await.unwrap_err();
        if error.status() == 429 {
            assert!(error.retry_after().is_some());
            limited.get_or_insert(attempt);
        }
    }
    assert!(limited.is_some_and(|attempt| attempt <= 20), "{limited:?}");
    assert!(house.token(Who { ip: "192.0.2.2", ..basic("worker") }, FORM).await.is_ok());
    assert!(house.token(basic("opaque"), FORM).await.is_ok(), "another client");
    assert_eq!(
        house.token(basic("worker"), FORM).await.unwrap_err(),
        "429 temporarily_unavailable",
        "past the limit nothing is evaluated"
    );
    house.advance(Duration::from_mins(1)).await;
    assert!(house.token(basic("worker"), FORM).await.is_ok());
}

#[tokio::test]
async fn a_failure_is_recorded_without_its_secret() {
    let house = House::in_memory().await;
    let wrong = Who { basic: Some(("worker", "hunter2hunter2")), ..NOBODY };
    house.answer(wrong, FORM).await.unwrap_err();
    house.services.recorder.flush().await;
    let records = house.tenant.store.list_audit(10).await.unwrap();
    let record = records
        .iter()
        .find(|record| record.action == Action::ClientAuthenticationFailed)
        .expect("a record of the failure");
    assert_eq!(record.client.as_ref().unwrap().as_str(), "worker");
    assert_eq!(record.context.ip.as_deref(), Some("192.0.2.1"));
    assert!(!record.success && !format!("{record:?}").contains("hunter2"));
}
