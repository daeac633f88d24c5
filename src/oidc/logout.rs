//! Logout at the request of an application (OpenID Connect RP-Initiated Logout 1.0).
//!
//! Whatever was asked, the user confirms it on a page of ours, and the browser goes nowhere but to
//! an address that is registered for the application that asked.

use crate::model::{Client, ClientId};
use crate::oauth::authorize::with_query;
use crate::oauth::{Call, Params};
use crate::session::LogoutRequest;
use crate::storage::Result;
use crate::token;

/// The parameters of a logout request (§2).
pub const PARAMETERS: [&str; 6] = [
    "id_token_hint",
    "logout_hint",
    "client_id",
    "post_logout_redirect_uri",
    "state",
    "ui_locales",
];

/// What a logout request comes down to. A hint that cannot be read, a client that is not there and
/// an address that is not registered are left out: the user can sign out all the same.
pub async fn read(call: &Call<'_>, params: &Params) -> Result<LogoutRequest> {
    let hint = match params.get("id_token_hint") {
        Some(hint) => token::id::read_hint(call.tenant, hint, call.now).await?,
        None => None,
    };
    let named = params.get("client_id").filter(|id| !id.contains(char::is_control));
    let id = match (&hint, named) {
        // §2: both must mean the same client.
        (Some(hint), Some(named)) => hint.audience.iter().find(|aud| *aud == named).cloned(),
        (Some(hint), None) => hint.audience.first().cloned(),
        (None, named) => named.map(str::to_owned),
    };
    let client = match id {
        Some(id) => call.tenant.client(&ClientId::new(&id)).await?.filter(|found| found.enabled),
        None => None,
    };
    let asked = params.get("post_logout_redirect_uri");
    let redirect_uri =
        client.as_deref().zip(asked).and_then(|(client, uri)| registered(client, uri));
    Ok(LogoutRequest {
        state: redirect_uri.as_ref().and(params.get("state")).map(str::to_owned),
        redirect_uri,
        client: client.map(|client| client.id.clone()),
        hinted: hint.is_some(),
        began_at: call.now,
    })
}

/// §3: byte for byte one of the client's own.
fn registered(client: &Client, uri: &str) -> Option<String> {
    client.post_logout_redirect_uris.iter().find(|registered| *registered == uri).cloned()
}

/// Where the browser goes when it is done, `state` as it came.
pub fn target(request: &LogoutRequest) -> Option<String> {
    let uri = request.redirect_uri.as_deref()?;
    Some(match request.state.as_deref() {
        Some(state) => with_query(uri, &[("state", state)]),
        None => uri.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn the_state_comes_back_as_it_was() {
        let mut request = LogoutRequest {
            client: None,
            redirect_uri: Some("https://app.example/bye?a=b".into()),
            state: Some("x&y".into()),
            hinted: true,
            began_at: Timestamp::EPOCH,
        };
        assert_eq!(target(&request).as_deref(), Some("https://app.example/bye?a=b&state=x%26y"));
        request.state = None;
        assert_eq!(target(&request).as_deref(), Some("https://app.example/bye?a=b"));
        request.redirect_uri = None;
        assert_eq!(target(&request), None);
    }
}
