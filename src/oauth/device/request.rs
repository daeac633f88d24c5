//! A device asks to be signed in (RFC 8628 §3.1, §3.2).

use serde::Serialize;
use tracing::info;

use super::user_code_digests;
use crate::base::{CredentialKind, Digest, Secret, base64url};
use crate::limits::Limited;
use crate::model::client::GrantType;
use crate::model::device::{DeviceTerms, UserCode};
use crate::model::{Client, Scope};
use crate::oauth::client::{AuthenticatedClient, Presented};
use crate::oauth::{Call, Cause, Params, TokenError, client, target};
use crate::storage::{IssueDevice, NewDevice};

/// So often is a user code drawn again when it is taken; one in billions is.
const DRAWS: u32 = 8;

/// A longer `nonce` is not kept.
const LONGEST_NONCE: usize = 512;

/// The answer (RFC 8628 §3.2).
#[derive(Debug)]
pub struct DeviceAuthorization {
    device_code: Secret<String>,
    user_code: UserCode,
    verification_uri: String,
    verification_uri_complete: String,
    expires_in: u64,
    interval: u64,
}

impl DeviceAuthorization {
    /// The JSON body.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            device_code: &'a str,
            user_code: String,
            verification_uri: &'a str,
            verification_uri_complete: &'a str,
            expires_in: u64,
            interval: u64,
        }
        let body = Body {
            device_code: self.device_code.reveal(),
            user_code: self.user_code.to_string(),
            verification_uri: &self.verification_uri,
            verification_uri_complete: &self.verification_uri_complete,
            expires_in: self.expires_in,
            interval: self.interval,
        };
        serde_json::to_string(&body).unwrap_or_default() // text and numbers: nothing can fail
    }
}

/// What a device asks for, checked.
struct Asked {
    scope: Scope,
    resources: Vec<String>,
    terms: DeviceTerms,
}

/// Answers a device authorization request.
pub async fn request(
    call: &Call<'_>,
    presented: &Presented,
    form: &Params,
) -> Result<DeviceAuthorization, TokenError> {
    let client = client::authenticate(call, presented).await?;
    permit(call, &client)?;
    let asked = read(call, &client, form)?;
    // RFC 8628 §5.2: the codes that one client can have at once are bounded by how fast it gets them
    // and by how long they live.
    client.count(call, Limited::DeviceRequest)?;
    let issued = issue(call, &client, &asked).await?;
    info!(
        tenant = call.tenant.slug.as_str(),
        client.id = client.id().as_str(),
        "a device asks to be signed in"
    );
    Ok(issued)
}

fn permit(call: &Call<'_>, client: &AuthenticatedClient) -> Result<(), Cause> {
    if !call.tenant.settings.grants.contains(&GrantType::DeviceCode) {
        return Err(Cause::UnsupportedGrantType);
    }
    if !client.client().may_use(GrantType::DeviceCode) {
        return Err(Cause::GrantNotAllowed(GrantType::DeviceCode.as_str()));
    }
    Ok(())
}

fn read(call: &Call<'_>, client: &AuthenticatedClient, form: &Params) -> Result<Asked, Cause> {
    let nonce = form.get("nonce");
    let fits = |text: &str| text.len() <= LONGEST_NONCE && !text.chars().any(char::is_control);
    if nonce.is_some_and(|nonce| !fits(nonce)) {
        return Err(Cause::Unfit("nonce"));
    }
    Ok(Asked {
        scope: scope(call, client.client(), form)?,
        resources: resources(call, client.client(), form)?,
        terms: DeviceTerms {
            version: 1,
            code_challenge: challenge(form)?.map(str::to_owned),
            nonce: nonce.map(str::to_owned),
            confidential: !client.is_public(),
        },
    })
}

/// RFC 6749 §3.3: what the client may ask for, or its default.
fn scope(call: &Call<'_>, client: &Client, form: &Params) -> Result<Scope, Cause> {
    let scope = match form.get("scope") {
        None => client.default_scopes.clone(),
        Some(text) => Scope::parse(text).map_err(|_| Cause::ScopeMalformed)?,
    };
    if !scope.is_subset_of(&client.scopes)
        || !scope.is_subset_of(&call.tenant.settings.all_scopes())
    {
        return Err(Cause::ScopeTooWide);
    }
    // OpenID Connect Core §11: offline_access means nothing to a client without refresh tokens.
    let refreshes = client.may_use(GrantType::RefreshToken);
    Ok(scope.filter(|token| refreshes || token != Scope::OFFLINE_ACCESS))
}

/// RFC 8707 §2: each one must exist, and be the client's to ask for.
fn resources(call: &Call<'_>, client: &Client, form: &Params) -> Result<Vec<String>, Cause> {
    let tenant = &call.tenant.settings;
    let resources = target::requested(form);
    let known = |resource: &String| {
        let exists = *resource == tenant.default_audience
            || tenant.resources.iter().any(|known| known.uri == *resource);
        exists && target::may_ask(tenant, client, resource)
    };
    if resources.iter().all(known) { Ok(resources) } else { Err(Cause::TargetNotAllowed) }
}

/// RFC 7636 §4.3, of which RFC 8628 says nothing: what is sent is enforced when the code is redeemed.
fn challenge(form: &Params) -> Result<Option<&str>, Cause> {
    let method = form.get("code_challenge_method");
    let Some(challenge) = form.get("code_challenge") else {
        return if method.is_none() { Ok(None) } else { Err(Cause::Missing("code_challenge")) };
    };
    // RFC 7636 §4.3: the default would be `plain`.
    if method != Some("S256") {
        return Err(Cause::ChallengeMethod);
    }
    match base64url::decode(challenge) {
        Ok(digest) if digest.len() == 32 => Ok(Some(challenge)),
        _ => Err(Cause::ChallengeMalformed),
    }
}

async fn issue(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    asked: &Asked,
) -> Result<DeviceAuthorization, TokenError> {
    let (tenant, settings) = (call.tenant, &call.tenant.settings.device);
    let device_code = CredentialKind::DeviceCode.generate(&*call.services.entropy);
    for _ in 0..DRAWS {
        let user_code = UserCode::draw(&*call.services.entropy);
        if settings.short_url && is_live_elsewhere(call, &user_code).await? {
            continue;
        }
        let device = NewDevice {
            digest: Digest::of(device_code.reveal().as_bytes()),
            user_code: user_code_digests(&call.services.ring, &tenant.uid, &user_code),
            client: client.id().clone(),
            scope: asked.scope.clone(),
            resources: asked.resources.clone(),
            terms: asked.terms.clone(),
            interval: settings.interval,
            expires_at: call.now.plus(settings.code_ttl),
        };
        let issued = tenant.store.issue_device(&device, call.now, call.audit).await;
        if issued.map_err(Cause::Store)? == IssueDevice::Issued {
            let page = format!("{}/device?user_code={user_code}", tenant.issuer());
            return Ok(DeviceAuthorization {
                device_code,
                user_code,
                verification_uri: settings.verification_uri.clone(),
                verification_uri_complete: page,
                expires_in: settings.code_ttl.as_secs(),
                interval: settings.interval.as_secs(),
            });
        }
    }
    // So many live codes that none is free: not before some have ended.
    Err(Cause::TooMany { retry_after: settings.interval }.into())
}

/// Tenants that share the short address share the space of codes.
async fn is_live_elsewhere(call: &Call<'_>, code: &UserCode) -> Result<bool, Cause> {
    let (services, own) = (call.services, &call.tenant.uid);
    let mut digests = Vec::new();
    for uid in services.devices.at_short_address().into_iter().filter(|uid| uid != own) {
        let of = user_code_digests(&services.ring, &uid, code);
        digests.extend(of.into_iter().map(|digest| (uid.clone(), digest)));
    }
    if digests.is_empty() {
        return Ok(false); // the usual case: one tenant
    }
    let found = services.store.tenants_of_user_code(&digests, call.now).await;
    Ok(!found.map_err(Cause::Store)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7636, appendix B.
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn challenge_of(form: &str) -> Result<Option<String>, Cause> {
        let form = Params::parse(form.as_bytes()).unwrap();
        challenge(&form).map(|found| found.map(str::to_owned))
    }

    #[test]
    fn a_challenge_is_s256_or_refused() {
        let s256 = format!("code_challenge={CHALLENGE}&code_challenge_method=S256");
        assert_eq!(challenge_of(&s256).unwrap().as_deref(), Some(CHALLENGE));
        assert_eq!(challenge_of("").unwrap(), None);
        for (form, method) in [
            (format!("code_challenge={CHALLENGE}&code_challenge_method=plain"), true),
            (format!("code_challenge={CHALLENGE}"), true),
            ("code_challenge=abc&code_challenge_method=S256".to_owned(), false),
        ] {
            let cause = challenge_of(&form).unwrap_err();
            assert_eq!(matches!(cause, Cause::ChallengeMethod), method, "{form}: {cause}");
        }
        let lonely = challenge_of("code_challenge_method=S256").unwrap_err();
        assert!(matches!(lonely, Cause::Missing("code_challenge")));
    }

    #[test]
    fn the_answer_has_every_member_and_numbers_are_numbers() {
        let answer = DeviceAuthorization {
            device_code: Secret::new("pmp_dc_x".into()),
            user_code: UserCode::parse("BCDFGHJK").unwrap(),
            verification_uri: "https://id.example/device".into(),
            verification_uri_complete: "https://id.example/t/a/device?user_code=BCDF-GHJK".into(),
            expires_in: 600,
            interval: 5,
        };
        assert_eq!(
            answer.to_json(),
            "{\"device_code\":\"pmp_dc_x\",\"user_code\":\"BCDF-GHJK\",\
             \"verification_uri\":\"https://id.example/device\",\"verification_uri_complete\":\
             \"https://id.example/t/a/device?user_code=BCDF-GHJK\",\"expires_in\":600,\"interval\":5}"
        );
    }
}
