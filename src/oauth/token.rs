//! The token endpoint (RFC 6749 §3.2): the one pipeline of every grant, so that none can forget a
//! step. Parse, authenticate, permit, then the grant's own part in `grants/`, then the response.

use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};

use super::client::{AuthenticatedClient, Presented};
use super::device::Patience;
use super::{Call, Cause, Params, TokenError, client, grants, target};
use crate::base::Secret;
use crate::limits::Limited;
use crate::model::Scope;
use crate::model::client::GrantType;

/// A token request, read once.
#[derive(Debug)]
pub(in crate::oauth) enum GrantRequest {
    /// RFC 6749 §4.1.3, RFC 7636 §4.5.
    AuthorizationCode(CodeGrant),
    /// RFC 6749 §6.
    RefreshToken(RefreshGrant),
    /// RFC 6749 §4.4.
    ClientCredentials(CredentialsGrant),
    /// RFC 8628 §3.4.
    DeviceCode(DeviceGrant),
    /// RFC 8693 §2.1.
    TokenExchange(ExchangeGrant),
}

/// The parameters of a code's redemption.
#[derive(Debug)]
pub(in crate::oauth) struct CodeGrant {
    pub(in crate::oauth) code: Secret<String>,
    pub(in crate::oauth) redirect_uri: Option<String>,
    pub(in crate::oauth) verifier: Option<Secret<String>>,
    pub(in crate::oauth) resources: Vec<String>,
}

/// The parameters of a refresh.
#[derive(Debug)]
pub(in crate::oauth) struct RefreshGrant {
    pub(in crate::oauth) token: Secret<String>,
    pub(in crate::oauth) scope: Option<Scope>,
    pub(in crate::oauth) resources: Vec<String>,
}

/// The parameters of a client that asks for itself.
#[derive(Debug)]
pub(in crate::oauth) struct CredentialsGrant {
    pub(in crate::oauth) scope: Option<Scope>,
    pub(in crate::oauth) resources: Vec<String>,
}

/// The parameters of a device's poll.
#[derive(Debug)]
pub(in crate::oauth) struct DeviceGrant {
    pub(in crate::oauth) code: Secret<String>,
    pub(in crate::oauth) verifier: Option<Secret<String>>,
    pub(in crate::oauth) resources: Vec<String>,
}

/// The parameters of an exchange.
#[derive(Debug)]
pub(in crate::oauth) struct ExchangeGrant {
    pub(in crate::oauth) subject_token: Secret<String>,
    pub(in crate::oauth) scope: Option<Scope>,
    /// What `resource` and `audience` name.
    pub(in crate::oauth) audiences: Vec<String>,
}

impl GrantRequest {
    /// Reads the form; parameters that the grant does not know are ignored (RFC 6749 §3.2).
    pub(in crate::oauth) fn parse(form: &Params) -> Result<Self, Cause> {
        let need = |name: &'static str| form.get(name).ok_or(Cause::Missing(name));
        let secret = |text: &str| Secret::new(text.to_owned());
        let resources = target::requested(form);
        Ok(match need("grant_type")? {
            "authorization_code" => Self::AuthorizationCode(CodeGrant {
                code: secret(need("code")?),
                redirect_uri: form.get("redirect_uri").map(str::to_owned),
                verifier: form.get("code_verifier").map(secret),
                resources,
            }),
            "refresh_token" => Self::RefreshToken(RefreshGrant {
                token: secret(need("refresh_token")?),
                scope: scope(form)?,
                resources,
            }),
            "client_credentials" => {
                Self::ClientCredentials(CredentialsGrant { scope: scope(form)?, resources })
            }
            "urn:ietf:params:oauth:grant-type:device_code" => Self::DeviceCode(DeviceGrant {
                code: secret(need("device_code")?),
                verifier: form.get("code_verifier").map(secret),
                resources,
            }),
            "urn:ietf:params:oauth:grant-type:token-exchange" => {
                Self::TokenExchange(grants::token_exchange::parse(form, resources, scope(form)?)?)
            }
            _ => return Err(Cause::UnsupportedGrantType),
        })
    }

    fn grant_type(&self) -> GrantType {
        match self {
            Self::AuthorizationCode(_) => GrantType::AuthorizationCode,
            Self::RefreshToken(_) => GrantType::RefreshToken,
            Self::ClientCredentials(_) => GrantType::ClientCredentials,
            Self::DeviceCode(_) => GrantType::DeviceCode,
            Self::TokenExchange(_) => GrantType::TokenExchange,
        }
    }
}

fn scope(form: &Params) -> Result<Option<Scope>, Cause> {
    form.get("scope").map(Scope::parse).transpose().map_err(|_| Cause::ScopeMalformed)
}

/// Answers a token request.
pub async fn answer(
    call: &Call<'_>,
    presented: &Presented,
    form: &Params,
) -> Result<TokenResponse, TokenError> {
    answer_patient(call, presented, form, None).await
}

/// The same for a caller that, while a device's user has not decided, prefers to wait.
pub async fn answer_patient(
    call: &Call<'_>,
    presented: &Presented,
    form: &Params,
    patience: Option<&Patience>,
) -> Result<TokenResponse, TokenError> {
    let request = GrantRequest::parse(form)?;
    let client = client::authenticate(call, presented).await?;
    let grant = request.grant_type();
    // Devices have a pace of their own, each one; the grant counts those that keep to none.
    if grant != GrantType::DeviceCode {
        client.count(call, Limited::TokenRequest)?;
    }
    let answered = granted(call, &client, request, patience).await;
    let (tenant, id) = (call.tenant.slug.as_str(), client.id().as_str());
    match &answered {
        Ok(_) => info!(tenant, client.id = id, grant = grant.as_str(), "issued an access token"),
        // Other refusals are logged where they leave.
        Err(error) if error.is_theft() => {
            warn!(tenant, client.id = id, grant = grant.as_str(), "a stolen credential? {error}");
        }
        Err(_) => {}
    }
    answered
}

async fn granted(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    request: GrantRequest,
    patience: Option<&Patience>,
) -> Result<TokenResponse, TokenError> {
    permit(call, client, request.grant_type())?;
    match request {
        GrantRequest::AuthorizationCode(grant) => {
            grants::authorization_code::redeem(call, client, &grant).await
        }
        GrantRequest::RefreshToken(grant) => {
            grants::refresh_token::refresh(call, client, &grant).await
        }
        GrantRequest::ClientCredentials(grant) => {
            grants::client_credentials::grant(call, client, &grant).await
        }
        GrantRequest::DeviceCode(grant) => {
            grants::device_code::poll(call, client, &grant, patience).await
        }
        GrantRequest::TokenExchange(grant) => {
            grants::token_exchange::exchange(call, client, &grant).await
        }
    }
}

/// Whether tenant and client have this grant type at all.
fn permit(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    grant: GrantType,
) -> Result<(), TokenError> {
    if !call.tenant.settings.grants.contains(&grant) {
        return Err(Cause::UnsupportedGrantType.into());
    }
    if grant == GrantType::ClientCredentials && client.is_public() {
        return Err(Cause::PublicClientCredentials.into());
    }
    let anyones = grant == GrantType::TokenExchange && client.is_public();
    if anyones || !client.client().may_use(grant) {
        return Err(Cause::GrantNotAllowed(grant.as_str()).into());
    }
    Ok(())
}

/// A successful answer (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3).
#[derive(Debug)]
pub struct TokenResponse {
    pub(in crate::oauth) access_token: Secret<String>,
    pub(in crate::oauth) expires_in: Duration,
    pub(in crate::oauth) scope: Scope,
    pub(in crate::oauth) refresh_token: Option<Secret<String>>,
    pub(in crate::oauth) id_token: Option<Secret<String>>,
    /// RFC 8693 §2.2.1; only from an exchange.
    pub(in crate::oauth) issued_token_type: Option<&'static str>,
}

impl TokenResponse {
    /// The JSON body.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            access_token: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            issued_token_type: Option<&'static str>,
            token_type: &'static str,
            expires_in: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            refresh_token: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            id_token: Option<&'a str>,
            scope: &'a Scope,
        }
        let body = Body {
            access_token: self.access_token.reveal(),
            issued_token_type: self.issued_token_type,
            token_type: "Bearer",
            expires_in: self.expires_in.as_secs(),
            refresh_token: self.refresh_token.as_ref().map(|token| token.reveal().as_str()),
            id_token: self.id_token.as_ref().map(|token| token.reveal().as_str()),
            scope: &self.scope,
        };
        serde_json::to_string(&body).unwrap_or_default() // text and numbers: nothing can fail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(form: &str) -> Result<GrantRequest, Cause> {
        GrantRequest::parse(&Params::parse(form.as_bytes()).unwrap())
    }

    #[test]
    fn a_request_without_its_parameters_is_invalid_and_names_them() {
        assert!(matches!(parse("").unwrap_err(), Cause::Missing("grant_type")));
        assert!(matches!(
            parse("grant_type=authorization_code&code=").unwrap_err(),
            Cause::Missing("code")
        ));
        assert!(matches!(
            parse("grant_type=refresh_token").unwrap_err(),
            Cause::Missing("refresh_token")
        ));
        assert!(matches!(parse("grant_type=password").unwrap_err(), Cause::UnsupportedGrantType));
        assert!(matches!(
            parse("grant_type=client_credentials&scope=a++b").unwrap_err(),
            Cause::ScopeMalformed
        ));
    }

    #[test]
    fn an_empty_verifier_is_no_verifier_and_foreign_parameters_are_ignored() {
        let form = "grant_type=authorization_code&code=x&code_verifier=&refresh_token=y&scope=%22";
        let Ok(GrantRequest::AuthorizationCode(grant)) = parse(form) else {
            panic!("it is a code grant")
        };
        assert!(grant.verifier.is_none() && grant.redirect_uri.is_none());
    }

    #[test]
    fn a_response_says_what_was_granted_and_nothing_that_is_not_there() {
        let response = TokenResponse {
            access_token: Secret::new("at".into()),
            expires_in: Duration::from_mins(10),
            scope: Scope::parse("openid read").unwrap(),
            refresh_token: None,
            id_token: None,
            issued_token_type: None,
        };
        assert_eq!(
            response.to_json(),
            r#"{"access_token":"at","token_type":"Bearer","expires_in":600,"scope":"openid read"}"#
        );
    }
}
