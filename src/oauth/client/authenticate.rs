use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq as _};

use super::Presented;
use crate::base::Digest;
use crate::limits::{Limited, Rate, network};
use crate::model::audit::AuditRecord;
use crate::model::client::{AuthMethod, ClientSecret};
use crate::model::{Action, Client, ClientId};
use crate::oauth::{Call, Cause, TokenError};

/// A longer secret is nobody's: it is refused without being hashed.
const LONGEST_SECRET: usize = 1024;

/// A client that proved itself, or a public one that named itself. Only [`authenticate`] makes it.
#[derive(Debug, Clone)]
pub struct AuthenticatedClient {
    client: Arc<Client>,
    secret: Option<Digest<ClientSecret>>,
}

impl AuthenticatedClient {
    /// `client_id`.
    pub fn id(&self) -> &ClientId {
        &self.client.id
    }

    /// All about it.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Whether anyone could have claimed to be it.
    pub fn is_public(&self) -> bool {
        self.client.is_public()
    }

    /// This client, if it has proved itself by a secret; endpoints that show or count something
    /// need that.
    pub fn confidential(self) -> Result<Self, TokenError> {
        if self.is_public() { Err(Cause::PublicClient.into()) } else { Ok(self) }
    }

    /// Counts one more request of this client, or says when to come back. Anyone can claim to be a
    /// public client: those are counted by network, too, so that no stranger uses up what is theirs.
    pub(in crate::oauth) fn count(&self, call: &Call<'_>, what: Limited) -> Result<(), TokenError> {
        let (client, tenant) = (&self.client, &call.tenant.settings);
        let times = match what {
            Limited::Introspection => {
                client.introspection_rate.unwrap_or(tenant.introspection_rate)
            }
            Limited::DeviceRequest => tenant.device.request_rate,
            _ => client.token_rate.unwrap_or(tenant.token_rate),
        };
        let Some(rate) = Rate::per_second(times) else { return Ok(()) };
        let shared;
        let key = match call.peer().filter(|_| self.is_public()) {
            Some(peer) => {
                shared = format!("{} {}", network(peer), client.id);
                &shared
            }
            None => client.id.as_str(),
        };
        let counted = call.services.limiter.check_rate(what, &call.tenant.uid, key, rate);
        counted.map_err(|often| Cause::TooMany { retry_after: often.retry_after }.into())
    }

    /// The digest of the secret that it proved itself by.
    pub(in crate::oauth) fn secret(&self) -> Option<&Digest<ClientSecret>> {
        self.secret.as_ref()
    }
}

/// Proves that the request comes from the client that it names, by the method that the client is
/// pinned to (OpenID Connect Core §9). Failures are counted by client and address: past the limit
/// nothing is evaluated and the answer is 429; other addresses are not concerned.
pub async fn authenticate(
    call: &Call<'_>,
    presented: &Presented,
) -> Result<AuthenticatedClient, TokenError> {
    if presented.id.is_none() {
        return Err(presented.refuse(Cause::NoClient));
    }
    let key = limit_key(call, presented);
    call.services
        .limiter
        .closed(Limited::ClientAuthentication, &call.tenant.uid, &key)
        .map_err(|often| Cause::TooMany { retry_after: often.retry_after })?;
    let client = match presented.possible_id() {
        Some(id) => call.tenant.client(id).await.map_err(Cause::Store)?,
        None => None,
    };
    match evaluate(client, presented) {
        Ok(proof) => Ok(proof),
        Err(cause) => Err(failed(call, presented, &key, cause)),
    }
}

fn evaluate(
    client: Option<Arc<Client>>,
    presented: &Presented,
) -> Result<AuthenticatedClient, Cause> {
    let secret = match &presented.secret {
        Some(secret) if secret.reveal().len() > LONGEST_SECRET => return Err(Cause::WrongSecret),
        Some(secret) => Some(Digest::of(secret.reveal().as_bytes())),
        None => None,
    };
    // RFC 6749 §2.3.1: an empty secret in the header is none at all.
    let method = if secret.is_none() { AuthMethod::None } else { presented.method };
    // An unknown client costs the same comparison as a known one.
    let right = secret.is_some_and(|secret| {
        let nobody = [Digest::from_bytes([0; 32])];
        is_one_of(&secret, client.as_ref().map_or(&nobody, |client| &client.secrets))
    });
    match (client, secret) {
        (None, Some(_)) => Err(Cause::UnknownClient),
        (Some(_), Some(_)) if !right => Err(Cause::WrongSecret),
        (None, None) => Err(Cause::NoSecret),
        (Some(client), None) if !client.is_public() => Err(Cause::NoSecret),
        (Some(client), _) if client.auth_method != method => {
            Err(Cause::WrongMethod(client.auth_method))
        }
        (Some(client), _) if !client.enabled => Err(Cause::ClientDisabled),
        (Some(client), secret) => Ok(AuthenticatedClient { client, secret }),
    }
}

/// Compares with each, in time that does not depend on which (if any) it is.
fn is_one_of(secret: &Digest<ClientSecret>, known: &[Digest<ClientSecret>]) -> bool {
    known
        .iter()
        .fold(Choice::from(0), |found, other| found | secret.as_bytes().ct_eq(other.as_bytes()))
        .into()
}

fn limit_key(call: &Call<'_>, presented: &Presented) -> String {
    let id = presented.id.as_ref().map_or("", ClientId::as_str);
    format!("{} {id}", call.address())
}

fn failed(call: &Call<'_>, presented: &Presented, key: &str, cause: Cause) -> TokenError {
    let record = AuditRecord {
        at: call.now,
        action: Action::ClientAuthenticationFailed,
        user: None,
        client: presented.possible_id().cloned(),
        session: None,
        resource: None,
        success: false,
        detail: Some(serde_json::json!({ "cause": cause.to_string() })),
        context: call.audit.clone(),
    };
    call.services.recorder.record(&call.tenant.uid, record);
    let counted = call.services.limiter.check(Limited::ClientAuthentication, &call.tenant.uid, key);
    match counted {
        Ok(()) => presented.refuse(cause),
        Err(often) => Cause::TooMany { retry_after: often.retry_after }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;
    use crate::model::client::AuthMethod;
    use crate::oauth::testing;

    fn present(client: &Client, secret: Option<&str>, method: AuthMethod) -> Presented {
        Presented {
            id: Some(client.id.clone()),
            secret: secret.map(|text| Secret::new(text.to_owned())),
            method,
        }
    }

    fn cause(client: Option<&Client>, presented: &Presented) -> Cause {
        evaluate(client.cloned().map(Arc::new), presented).unwrap_err()
    }

    #[test]
    fn only_the_right_secret_by_the_pinned_method_is_a_proof() {
        use AuthMethod::{ClientSecretBasic as Basic, ClientSecretPost as Post, None as Nothing};
        let app = testing::confidential_client("app", "s3cret");
        let right = present(&app, Some("s3cret"), Basic);
        assert!(evaluate(Some(Arc::new(app.clone())), &right).is_ok());
        let by_post = present(&app, Some("s3cret"), Post);
        assert!(matches!(cause(Some(&app), &by_post), Cause::WrongMethod(Basic)));
        for wrong in ["", "s3cre", "s3cret ", "S3cret"] {
            let presented = present(&app, Some(wrong), Basic);
            assert!(matches!(cause(Some(&app), &presented), Cause::WrongSecret), "{wrong}");
        }
        assert!(matches!(cause(None, &right), Cause::UnknownClient));
        assert!(matches!(cause(Some(&app), &present(&app, None, Nothing)), Cause::NoSecret));
        let long = "x".repeat(LONGEST_SECRET + 1);
        assert!(matches!(
            cause(Some(&app), &present(&app, Some(&long), Basic)),
            Cause::WrongSecret
        ));
    }

    #[test]
    fn a_public_client_proves_nothing_and_no_secret_is_right() {
        let spa = testing::public_client("spa");
        let named = present(&spa, None, AuthMethod::None);
        assert!(evaluate(Some(Arc::new(spa.clone())), &named).unwrap().is_public());
        let guessed = present(&spa, Some("x"), AuthMethod::ClientSecretPost);
        assert!(matches!(cause(Some(&spa), &guessed), Cause::WrongSecret));
    }

    #[test]
    fn a_disabled_client_learns_so_only_by_its_secret() {
        let app = Client { enabled: false, ..testing::confidential_client("app", "s3cret") };
        let right = present(&app, Some("s3cret"), AuthMethod::ClientSecretBasic);
        assert!(matches!(cause(Some(&app), &right), Cause::ClientDisabled));
        let wrong = present(&app, Some("guess"), AuthMethod::ClientSecretBasic);
        assert!(matches!(cause(Some(&app), &wrong), Cause::WrongSecret));
    }
}
