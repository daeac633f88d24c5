//! What the pages ask about whatever waits for its user, be it an application in the browser or a
//! device elsewhere. Each kind decides its own next step; here is only who is asked.

use std::sync::Arc;

use super::authorize::{self, PageCause, Refused, SignInFirst, Step};
use super::{Call, device};
use crate::model::{Client, Session};
use crate::session::Waiting;

/// The application that waits, if it is known by now; it may have been disabled meanwhile.
pub async fn client(call: &Call<'_>, waiting: &Waiting) -> Result<Option<Arc<Client>>, Refused> {
    let id = match waiting {
        Waiting::Authorization(pending) => &pending.client,
        Waiting::Device(pending) => match pending.device() {
            Some(device) => &device.client,
            None => return Ok(None),
        },
    };
    let client = call.tenant.client(id).await?.filter(|client| client.enabled);
    client.map(Some).ok_or(Refused::Page(PageCause::UnknownClient))
}

/// Whether the login page is what comes next.
pub async fn sign_in_first(
    call: &Call<'_>,
    waiting: &Waiting,
    session: Option<&Session>,
) -> Result<SignInFirst, Refused> {
    Ok(match waiting {
        Waiting::Authorization(pending) => {
            match authorize::next_step(call, pending, session).await? {
                Step::Login => SignInFirst::Login,
                Step::Reauthenticate => SignInFirst::Reauthenticate,
                Step::Consent | Step::Respond | Step::Refuse(_) => SignInFirst::No,
            }
        }
        Waiting::Device(pending) => match device::next(pending, session) {
            device::Step::Login => SignInFirst::Login,
            device::Step::Enter | device::Step::Card | device::Step::Decide => SignInFirst::No,
        },
    })
}
