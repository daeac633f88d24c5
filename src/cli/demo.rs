use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use pmp_auth_verify::{Credentials, Event, Mode, Verifier};
use tokio::net::TcpListener;

use super::exit::Failure;
use super::output;
use super::sign_ins::{DEV_ISSUER, secret};
use crate::base::{Clock as _, SystemClock};
use crate::config::Environment;
use crate::http::sample_api::SampleApi;

/// The API's client in `serve --dev`.
pub(super) const DEV_CLIENT: &str = "api";

/// Programs to try the server with
#[derive(Debug, Args)]
pub(super) struct Demo {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Api(Api),
}

/// Run a protected API: it checks tokens by itself, follows the revocation feed, and prints each
/// decision and how long each revocation took to arrive
///
/// GET /hello takes any token, GET /orders one with the scope. Without options it is the API of
/// `pmp-auth serve --dev` on this machine, which prints the whole command.
#[derive(Debug, Args)]
struct Api {
    /// The issuer of the tokens
    #[arg(long, value_name = "URL", default_value = DEV_ISSUER)]
    issuer: String,
    /// Where the API listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// The API's client at the issuer; it needs the scope `revocations:read`
    #[arg(long, value_name = "ID", default_value = DEV_CLIENT)]
    client_id: String,
    /// A file with the client's secret [default: the variable PMP_AUTH_CLIENT_SECRET]
    #[arg(long, value_name = "PATH")]
    client_secret_file: Option<PathBuf>,
    /// What the API is called in `aud`
    #[arg(long, value_name = "URL", default_value = "https://api.example")]
    audience: String,
    /// What GET /orders needs
    #[arg(long, value_name = "SCOPE", default_value = "orders:read")]
    scope: String,
}

impl Demo {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let What::Api(api) = self.what;
        api.run().await
    }
}

impl Api {
    async fn run(self) -> Result<(), Failure> {
        let secret = match secret(self.client_secret_file.as_deref())? {
            Some(secret) => secret,
            None => Environment::client_secret().ok_or_else(|| {
                Failure::because(format!(
                    "the secret of the client `{}` is not known\n    fix: set \
                     PMP_AUTH_CLIENT_SECRET, as `pmp-auth serve --dev` prints it, or name its file \
                     with --client-secret-file",
                    self.client_id
                ))
            })?,
        };
        let verifier = Verifier::builder()
            .issuer(self.issuer.as_str())
            .audience(&self.audience)
            .mode(Mode::Feed)
            .credentials(Credentials::new(&self.client_id, secret.reveal()))
            .on_event(tell)
            .build()?;
        let listener = TcpListener::bind(self.listen).await.map_err(|error| {
            Failure::because(format!(
                "cannot listen on {}: {error}\n    fix: choose another address with --listen",
                self.listen
            ))
        })?;
        let address = listener.local_addr()?;
        output::talk(&format!(
            "\n  An API of {} is at http://{address}\n\n    \
             curl -i -H \"Authorization: Bearer $TOKEN\" http://{address}/hello\n    \
             curl -i -H \"Authorization: Bearer $TOKEN\" http://{address}/orders   # needs the scope {}\n",
            self.issuer, self.scope,
        ));
        let say: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(output::data);
        let api = SampleApi { verifier, scope: self.scope, say };
        tokio::select! {
            served = api.serve(listener) => served?,
            stopped = tokio::signal::ctrl_c() => stopped?,
        }
        Ok(())
    }
}

/// Says what the feed said.
fn tell(event: &Event) {
    let line = match event {
        Event::FeedLoaded { .. } => "---  ready: the feed's snapshot is loaded".to_owned(),
        Event::FeedLost { .. } => "---  the feed is lost: every request is answered 503".to_owned(),
        Event::FeedLive { .. } => "---  the feed is back".to_owned(),
        Event::FeedFailed { error, .. } => format!("---  the feed cannot be read: {error}"),
        Event::KeysFailed { error, .. } => format!("---  the keys cannot be had: {error}"),
        Event::Revoked { entries, at, .. } => {
            let things = if *entries == 1 { "thing" } else { "things" };
            let now = u64::try_from(SystemClock.now().millis()).ok().map(Duration::from_millis);
            let late = at.zip(now).map(|(at, now)| now.saturating_sub(at));
            let late = late.map_or_else(String::new, |late| {
                format!(", {} ms after the server revoked", late.as_millis())
            });
            format!("---  {entries} {things} revoked{late}")
        }
        _ => return,
    };
    output::data(&line);
}
