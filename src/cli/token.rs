use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use super::output;
use super::sign_ins::{Place, again, client, keeper, refused, secret};
use crate::base::{Clock as _, SystemClock};
use crate::fetch::Remote;
use crate::rp::device::DeviceError;
use crate::rp::kept::{Keeper, SignIn};
use crate::rp::provider::discover;

/// A token that is printed lives for at least so long, where the server lets it.
const AT_LEAST: Duration = Duration::from_mins(1);

/// Print an access token of a sign-in; it is refreshed when it has less than a minute left
#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(flatten)]
    place: Place,
}

/// End a sign-in: its tokens are revoked and forgotten
#[derive(Debug, Args)]
pub(super) struct Logout {
    #[command(flatten)]
    place: Place,
}

impl Token {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let keeper = keeper()?;
        let mut sign_in = self.place.choose(&keeper)?;
        if !sign_in.is_fresh(AT_LEAST, SystemClock.now()) {
            sign_in = refreshed(&keeper, sign_in).await?;
        }
        output::data(sign_in.access.reveal());
        Ok(())
    }
}

/// The sign-in with a fresh access token. Of several processes one refreshes, the others find its
/// result.
async fn refreshed(keeper: &Keeper, stale: SignIn) -> Result<SignIn, Failure> {
    let _lock = keeper.lock(&stale.issuer, &stale.client_id).await?;
    let again = again(Some(&stale.issuer), Some(&stale.client_id));
    let over = |why: &str| Failure::because(format!("{why}\n    fix: sign in again: {again}"));
    let found = keeper.find(&stale.issuer, &stale.client_id)?;
    let sign_in = found.ok_or_else(|| over("the sign-in has ended"))?;
    let now = SystemClock.now();
    if sign_in.is_fresh(AT_LEAST, now) {
        return Ok(sign_in);
    }
    let alive = sign_in.is_fresh(Duration::from_secs(1), now);
    let Some(refresh) = &sign_in.refresh else {
        let why = "the access token has ended, and the server gave no refresh token";
        return if alive { Ok(sign_in) } else { Err(over(why)) };
    };
    let secret = secret(sign_in.secret_file.as_deref())?;
    let remote = Remote::new()?;
    let provider = match discover(&remote, &sign_in.issuer).await {
        Ok(provider) => provider,
        Err(_) if alive => return Ok(sign_in),
        Err(error) => return Err(error.into()),
    };
    let client = client(&remote, &provider, &sign_in.client_id, secret.as_ref());
    match client.refresh(refresh).await {
        Ok(tokens) => {
            let sign_in = sign_in.with(tokens, SystemClock.now());
            keeper.keep(&sign_in)?;
            Ok(sign_in)
        }
        // RFC 6749 §5.2: expired, revoked, or not ours any more.
        Err(DeviceError::Refused { code, .. }) if code == "invalid_grant" => {
            keeper.forget(&sign_in.issuer, &sign_in.client_id)?;
            Err(over("the sign-in has ended: the server refuses its refresh token"))
        }
        // Whatever ails the server, what it gave before still works.
        Err(_) if alive => Ok(sign_in),
        Err(error) => Err(refused(error, &provider, &sign_in.client_id)),
    }
}

impl Logout {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let keeper = keeper()?;
        let chosen = self.place.choose(&keeper)?;
        let _lock = keeper.lock(&chosen.issuer, &chosen.client_id).await?;
        let found = keeper.find(&chosen.issuer, &chosen.client_id)?;
        let sign_in = found.unwrap_or(chosen);
        let revoked = revoke(&sign_in).await;
        keeper.forget(&sign_in.issuer, &sign_in.client_id)?;
        match revoked {
            Ok(true) => output::talk(&format!("signed out at {}", sign_in.issuer)),
            Ok(false) => output::talk(&format!(
                "forgotten here; {} takes no tokens back, so they live until they end",
                sign_in.issuer
            )),
            Err(Failure::Failed(why)) => {
                return Err(Failure::because(format!(
                    "{why}\n    the tokens are forgotten here, but live on at the server until they end"
                )));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

/// Gives the refresh token back, and with it the grant (RFC 7009 §2.1); else the access token.
async fn revoke(sign_in: &SignIn) -> Result<bool, Failure> {
    let secret = secret(sign_in.secret_file.as_deref())?;
    let remote = Remote::new()?;
    let provider = discover(&remote, &sign_in.issuer).await?;
    let client = client(&remote, &provider, &sign_in.client_id, secret.as_ref());
    let token = sign_in.refresh.as_ref().unwrap_or(&sign_in.access);
    Ok(client.revoke(token).await?)
}
