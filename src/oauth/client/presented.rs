use crate::base::{Secret, base64};
use crate::model::ClientId;
use crate::model::client::AuthMethod;
use crate::oauth::params::form_decode;
use crate::oauth::{Cause, Params, TokenError};

/// What a request says about its client: at most one name, at most one method.
#[derive(Debug)]
pub struct Presented {
    pub(super) id: Option<ClientId>,
    pub(super) secret: Option<Secret<String>>,
    pub(super) method: AuthMethod,
}

/// Longer ids are nobody's (`ClientId`).
const LONGEST_ID: usize = 255;

impl Presented {
    /// Resolves the `Authorization` header values of a request and its form to one identity.
    /// Both may name the client if they name the same; only one may carry the secret
    /// (RFC 6749 §2.3).
    pub fn read(authorization: &[&[u8]], form: &Params) -> Result<Self, TokenError> {
        if form.get("client_assertion").or(form.get("client_assertion_type")).is_some() {
            return Err(Cause::Assertion.into());
        }
        match authorization {
            [] => Ok(Self::in_form(form)),
            [header] => {
                Self::in_header(header, form).map_err(|cause| TokenError::from(cause).over_basic())
            }
            _ => Err(Cause::TwoMethods.into()),
        }
    }

    fn in_form(form: &Params) -> Self {
        let secret = form.get("client_secret").map(|text| Secret::new(text.to_owned()));
        let method = match secret {
            Some(_) => AuthMethod::ClientSecretPost,
            None => AuthMethod::None,
        };
        Self { id: form.get("client_id").map(ClientId::new), secret, method }
    }

    fn in_header(header: &[u8], form: &Params) -> Result<Self, Cause> {
        let (id, secret) = basic(header).ok_or(Cause::MalformedBasic)?;
        if form.get("client_secret").is_some() {
            return Err(Cause::TwoMethods);
        }
        if form.get("client_id").is_some_and(|other| other != id) {
            return Err(Cause::TwoClients);
        }
        Ok(Self {
            id: Some(ClientId::new(&id)),
            // Old libraries send `id:` for a public client.
            secret: Some(secret).filter(|secret| !secret.reveal().is_empty()),
            method: AuthMethod::ClientSecretBasic,
        })
    }

    /// The client named, if any could have this name: 1 to 255 printable ASCII characters.
    pub(super) fn possible_id(&self) -> Option<&ClientId> {
        let fits = |id: &&ClientId| {
            let text = id.as_str();
            (1..=LONGEST_ID).contains(&text.len())
                && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        };
        self.id.as_ref().filter(fits)
    }

    pub(super) fn refuse(&self, cause: impl Into<TokenError>) -> TokenError {
        let error = cause.into();
        if self.method == AuthMethod::ClientSecretBasic { error.over_basic() } else { error }
    }
}

/// Reads `Basic` credentials (RFC 7617 §2): each half is form-urlencoded (RFC 6749 §2.3.1).
fn basic(header: &[u8]) -> Option<(String, Secret<String>)> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = Secret::new(base64::decode(std::str::from_utf8(rest).ok()?.trim()).ok()?);
    let colon = decoded.reveal().iter().position(|byte| *byte == b':')?;
    let (id, secret) = (&decoded.reveal()[..colon], &decoded.reveal()[colon + 1..]);
    Some((form_decode(id)?, Secret::new(form_decode(secret)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: Option<&str>, form: &str) -> Result<Presented, TokenError> {
        let header = header.map(str::as_bytes);
        Presented::read(header.as_slice(), &Params::parse(form.as_bytes()).unwrap())
    }

    fn basic_of(pair: &str) -> String {
        format!("Basic {}", base64::encode(pair))
    }

    #[test]
    fn basic_halves_are_form_urlencoded() {
        let header = basic_of("a%3Ab:p%40ss+w%25rd");
        let found = read(Some(&header), "client_id=a:b").unwrap();
        assert_eq!(found.id.unwrap().as_str(), "a:b");
        assert_eq!(found.secret.unwrap().reveal(), "p@ss w%rd");
        assert_eq!(found.method, AuthMethod::ClientSecretBasic);
    }

    #[test]
    fn one_client_and_one_method_or_none_at_all() {
        let app = basic_of("app:secret");
        let refused = |header: Option<&str>, form| read(header, form).unwrap_err();
        assert!(matches!(refused(Some(&app), "client_id=other").cause(), Cause::TwoClients));
        assert!(matches!(
            refused(Some(&app), "client_id=app&client_secret=secret").cause(),
            Cause::TwoMethods
        ));
        assert!(matches!(refused(None, "client_assertion=x").cause(), Cause::Assertion));
        let twice = [app.as_bytes(), app.as_bytes()];
        assert!(matches!(
            Presented::read(&twice, &Params::default()).unwrap_err().cause(),
            Cause::TwoMethods
        ));
        assert_eq!(read(None, "").unwrap().possible_id(), None);
        assert_eq!(read(None, "client_id=app").unwrap().method, AuthMethod::None);
    }

    #[test]
    fn what_is_not_basic_is_invalid_client_and_challenged() {
        let nul = basic_of("a%00:b");
        assert_eq!(read(Some(&nul), "").unwrap().possible_id(), None, "no client has such a name");
        for bad in ["", "Basic", "Basic !!!", "Bearer x", "Basic YQ==", "Basic /zo=", "Basic%20x"] {
            let error = read(Some(bad), "").unwrap_err();
            assert!(matches!(error.cause(), Cause::MalformedBasic), "{bad}");
            assert!(error.challenges_basic(), "{bad}");
        }
    }
}
