//! What `login`, `token` and `logout` share: which sign-in is meant, and how its server is reached.

use std::path::Path;

use clap::Args;

use super::exit::Failure;
use crate::base::Secret;
use crate::config::{Environment, read_secret_file};
use crate::fetch::Remote;
use crate::rp::builtin;
use crate::rp::device::{DeviceClient, DeviceError};
use crate::rp::kept::{Keeper, SignIn};
use crate::rp::provider::Provider;

/// The issuer of `serve --dev`.
pub(super) const DEV_ISSUER: &str = "http://127.0.0.1:8080/t/dev";

/// Which server, as which client.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// The server's issuer URL
    #[arg(long, value_name = "URL")]
    pub(super) issuer: Option<String>,
    /// The client to sign in as
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,
}

impl Place {
    /// The sign-in that is meant: the only one that fits.
    pub(super) fn choose(&self, keeper: &Keeper) -> Result<SignIn, Failure> {
        let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
        let mut all = keeper.all()?;
        all.retain(|kept| {
            self.issuer.as_ref().is_none_or(|issuer| same(issuer, &kept.issuer))
                && self.client_id.as_ref().is_none_or(|id| *id == kept.client_id)
        });
        if all.len() > 1 {
            let list = all.iter().map(options).collect::<Vec<_>>().join("\n    ");
            return Err(Failure::because(format!(
                "more than one sign-in is kept; say which:\n    {list}"
            )));
        }
        all.pop().ok_or_else(|| {
            let issuer = self.issuer.as_ref().map_or_else(String::new, |i| format!(" at {i}"));
            let again = again(self.issuer.as_deref(), self.client_id.as_deref());
            Failure::because(format!("nobody is signed in{issuer}\n    fix: {again}"))
        })
    }
}

/// The options that mean a sign-in.
fn options(kept: &SignIn) -> String {
    match kept.client_id.as_str() {
        builtin::CLI => format!("--issuer {}", kept.issuer),
        id => format!("--issuer {} --client-id {id}", kept.issuer),
    }
}

/// The command that signs in.
pub(super) fn again(issuer: Option<&str>, client_id: Option<&str>) -> String {
    let mut text = "pmp-auth login --device".to_owned();
    if let Some(issuer) = issuer.filter(|issuer| *issuer != DEV_ISSUER) {
        text = format!("{text} --issuer {issuer}");
    }
    if let Some(id) = client_id.filter(|id| *id != builtin::CLI) {
        text = format!("{text} --client-id {id}");
    }
    text
}

/// Where sign-ins are kept.
pub(super) fn keeper() -> Result<Keeper, Failure> {
    let home = Environment::data_home().ok_or_else(|| {
        Failure::because("there is nowhere to keep a sign-in\n    fix: set HOME or XDG_DATA_HOME")
    })?;
    Ok(Keeper::below(&home))
}

/// The secret in a file.
pub(super) fn secret(file: Option<&Path>) -> Result<Option<Secret<String>>, Failure> {
    let read = file.map(read_secret_file).transpose();
    read.map_err(|(message, fix)| Failure::because(format!("{message}\n    fix: {fix}")))
}

/// A client at a server that was discovered.
pub(super) fn client<'a>(
    remote: &'a Remote,
    provider: &'a Provider,
    client_id: &'a str,
    secret: Option<&'a Secret<String>>,
) -> DeviceClient<'a> {
    DeviceClient { fetch: remote, provider, client_id, secret, agent: None }
}

/// Says what the server refused, and how that is usually mended.
pub(super) fn refused(error: DeviceError, provider: &Provider, client_id: &str) -> Failure {
    let DeviceError::Refused { code, .. } = &error else { return error.into() };
    let fix = match code.as_str() {
        "invalid_client" | "unauthorized_client" => format!(
            "have a public client with the device grant registered at {}, and name it with \
             --client-id (this was `{client_id}`)",
            provider.issuer
        ),
        "invalid_scope" => format!(
            "choose with --scope; the server knows: {}",
            provider
                .scopes
                .as_ref()
                .map_or_else(|| "it does not say".to_owned(), |all| all.join(" "))
        ),
        _ => return error.into(),
    };
    Failure::because(format!("{error}\n    fix: {fix}"))
}
