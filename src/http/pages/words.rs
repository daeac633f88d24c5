//! What is asked for, in words.

use serde::Serialize;

use super::show::Frame;
use crate::http::extract::Request;
use crate::model::Scope;

/// A scope in words.
#[derive(Serialize)]
pub(super) struct Words {
    text: String,
    why: Option<String>,
}

/// What an application asks for.
pub(super) struct InWords {
    pub(super) scopes: Vec<Words>,
    pub(super) resources: Vec<String>,
}

impl InWords {
    pub(super) fn of(
        frame: &Frame<'_>,
        request: &Request,
        scope: &Scope,
        resources: &[String],
    ) -> Self {
        let settings = &request.tenant.settings;
        let scopes = scope.iter().map(|token| {
            let setting = settings.scopes.iter().find(|setting| setting.name == token);
            words(frame, token, setting.and_then(|setting| setting.description.as_deref()))
        });
        let resources = resources.iter().map(|uri| {
            let known = settings.resources.iter().find(|resource| resource.uri == *uri);
            known.and_then(|resource| resource.name.as_deref()).unwrap_or(uri).to_owned()
        });
        Self { scopes: scopes.collect(), resources: resources.collect() }
    }
}

/// A scope in the tenant's words, else in ours, else by its name.
fn words(frame: &Frame<'_>, token: &str, description: Option<&str>) -> Words {
    let standard = ["openid", "profile", "email", "offline_access"];
    match (description, standard.into_iter().find(|name| *name == token)) {
        (Some(text), _) => Words { text: text.to_owned(), why: None },
        (None, Some("openid")) => {
            Words { text: frame.text("scopes", "openid").to_owned(), why: None }
        }
        (None, None) if token == Scope::API_KEYS => ours(frame, "api_keys", Some("api_keys_why")),
        (None, Some("profile")) => ours(frame, "profile", Some("profile_why")),
        (None, Some("offline_access")) => ours(frame, "offline_access", Some("offline_access_why")),
        (None, Some(name)) => ours(frame, name, None),
        (None, None) => {
            let text = frame.text("scopes", "other").replace("{scope}", token);
            Words { text, why: None }
        }
    }
}

fn ours(frame: &Frame<'_>, key: &'static str, why: Option<&'static str>) -> Words {
    let text = frame.text("scopes", key).to_owned();
    Words { text, why: why.map(|why| frame.text("scopes", why).to_owned()) }
}
