use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::exit::Failure;
use super::output;
use super::sign_ins::{DEV_ISSUER, Place, again, client, keeper, refused, secret};
use crate::base::{Clock as _, SystemClock, SystemEntropy};
use crate::config::Environment;
use crate::fetch::Remote;
use crate::model::Scope;
use crate::rp::builtin;
use crate::rp::device::{Codes, Decision, DeviceClient, DeviceError};
use crate::rp::kept::SignIn;
use crate::rp::provider::{DiscoveryError, Provider, discover, name, shown};
use crate::rp::qr::{Ink, Qr};

/// Sign in at any server that has the device flow, and keep the tokens for `pmp-auth token`
///
/// Without --issuer that is `pmp-auth serve --dev` on this machine.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// By the device flow (RFC 8628): a code is shown here, the browser is on any device
    #[arg(long, required = true)]
    device: bool,
    #[command(flatten)]
    place: Place,
    /// The scopes to ask for, separated by spaces [default: openid profile email offline_access, as
    /// far as the server has them]
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// A file with the client's secret, for servers that give devices one
    #[arg(long, value_name = "PATH")]
    client_secret_file: Option<PathBuf>,
    /// Show the QR code although this is no terminal
    #[arg(long)]
    qr: bool,
}

impl Login {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let keeper = keeper()?;
        let client_id = self.place.client_id.as_deref().unwrap_or(builtin::CLI);
        let client_secret = secret(self.client_secret_file.as_deref())?;
        let remote = Remote::new()?;
        let provider = self.discover(&remote).await?;
        let client = client(&remote, &provider, client_id, client_secret.as_ref());
        let scope = self.scope.clone().or_else(|| usual_scopes(&provider));
        let codes = client.begin(scope.as_deref(), &SystemEntropy).await;
        let codes = codes.map_err(|error| refused(error, &provider, client_id))?;
        self.show(&provider, &codes);
        let decision = wait(&client, &codes).await;
        let tokens = match decision.map_err(|error| refused(error, &provider, client_id))? {
            Decision::Granted(tokens) => *tokens,
            Decision::Denied => return Err(Failure::because("the sign-in was declined")),
            Decision::Expired => {
                let again = again(Some(&provider.issuer), Some(client_id));
                return Err(Failure::because(format!(
                    "the code expired before anyone used it\n    fix: get a new one: {again}"
                )));
            }
        };
        let name = name(&remote, &provider, &tokens.access).await;
        let sign_in = SignIn {
            issuer: provider.issuer.clone(),
            client_id: client_id.to_owned(),
            secret_file: self.client_secret_file.as_deref().map(std::path::absolute).transpose()?,
            access: tokens.access.clone(),
            expires_at: None,
            refresh: None,
            scope: None,
        };
        let sign_in = sign_in.with(tokens, SystemClock.now());
        let _lock = keeper.lock(&sign_in.issuer, client_id).await?;
        let path = keeper.keep(&sign_in)?;
        let name = name.map_or_else(String::new, |name| format!(" as {name}"));
        output::talk(&format!(
            "  Signed in{name} at {}.\n  The tokens are in {}; `pmp-auth token` prints one that \
             works.",
            shown(&provider.issuer),
            path.display()
        ));
        if sign_in.refresh.is_none() {
            output::talk("  No refresh token came: when the access token ends, sign in again.");
        }
        Ok(())
    }

    async fn discover(&self, remote: &Remote) -> Result<Provider, Failure> {
        let issuer = self.place.issuer.as_deref().unwrap_or(DEV_ISSUER);
        let provider = discover(remote, issuer).await;
        provider.map_err(|error| match (&self.place.issuer, &error) {
            (None, DiscoveryError::Unreachable { .. } | DiscoveryError::Nothing { .. }) => {
                Failure::because(format!(
                    "{error}\n    fix: start a server with `pmp-auth serve --dev`, or name yours \
                     with --issuer"
                ))
            }
            _ => error.into(),
        })
    }

    fn show(&self, provider: &Provider, codes: &Codes) {
        let terminal = std::io::stderr().is_terminal();
        let mut text = format!(
            "\n  To sign in at {}, open this address in a browser, here or on your phone:\n\n      \
             {}\n\n  and enter the code:\n\n      {}\n",
            shown(&provider.issuer),
            codes.verification_uri,
            codes.user_code,
        );
        if (terminal || self.qr)
            && let Some(qr) = Qr::of(codes.link())
        {
            let ink = if terminal && !Environment::no_color() { Ink::Colours } else { Ink::Plain };
            text.push_str("\n  Or scan this, and check that the code is the same:\n\n");
            for line in qr.lines(ink) {
                text = format!("{text}  {line}\n");
            }
        }
        if !terminal {
            let life = minutes(codes.expires_in);
            text = format!("{text}\n  Waiting; the code works for {life} minutes.");
        }
        output::talk(&text);
    }
}

/// Waits for the decision; on a terminal it shows how long the code still works.
async fn wait(client: &DeviceClient<'_>, codes: &Codes) -> Result<Decision, DeviceError> {
    let terminal = std::io::stderr().is_terminal();
    let end = Instant::now() + codes.expires_in;
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let decision = client.decision(codes);
    tokio::pin!(decision);
    let decision = loop {
        tokio::select! {
            decision = &mut decision => break decision,
            _ = second.tick(), if terminal => {
                let left = end.saturating_duration_since(Instant::now()).as_secs();
                output::progress(&format!(
                    "  Waiting for you … {}:{:02} left (Ctrl-C gives up)", left / 60, left % 60
                ));
            }
        }
    };
    if terminal {
        output::progress("");
    }
    decision
}

fn minutes(life: Duration) -> u64 {
    life.as_secs().div_ceil(60)
}

/// What we ask for when nothing is said: who the user is, and to stay signed in.
fn usual_scopes(provider: &Provider) -> Option<String> {
    let known = provider.scopes.as_ref()?;
    let usual = ["openid", "profile", "email", Scope::OFFLINE_ACCESS];
    let wanted: Vec<&str> =
        usual.into_iter().filter(|scope| known.iter().any(|known| known == scope)).collect();
    (!wanted.is_empty()).then(|| wanted.join(" "))
}
