use crate::model::Session;
use crate::oauth::authorize::SignInFirst;
use crate::oauth::authorize::steps::{Demand, sign_in};
use crate::session::{DeviceStage, PendingDevice};

/// What comes next on a user's way to the decision about a device. Only this function decides it:
/// the pages never route to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The code is typed in (RFC 8628 §3.3).
    Enter,
    /// The user looks at who asks and for what, before anything else.
    Card,
    /// Someone has to sign in.
    Login,
    /// The user decides. Always asked: an answer is for this one device.
    Decide,
}

/// What comes next.
pub fn next(pending: &PendingDevice, session: Option<&Session>) -> Step {
    let demand = Demand {
        signed_in_after: pending.signed_in_after,
        not_session: pending.not_session,
        // A new sign-in is only ever wanted for someone else.
        another: true,
    };
    let after_sign_in = match pending.stage {
        DeviceStage::Card(_) => return Step::Card,
        DeviceStage::Entering { .. } => Step::Enter,
        DeviceStage::Deciding(_) => Step::Decide,
    };
    match sign_in(demand, session) {
        SignInFirst::No => after_sign_in,
        SignInFirst::Login | SignInFirst::Reauthenticate => Step::Login,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, SystemEntropy, Timestamp};
    use crate::model::ClientId;
    use crate::model::device::UserCode;
    use crate::oauth::authorize::tests::session;
    use crate::session::KnownDevice;

    fn device() -> KnownDevice {
        KnownDevice {
            digest: Digest::of(b"d"),
            code: UserCode::draw(&SystemEntropy),
            client: ClientId::new("tv"),
        }
    }

    fn at(stage: DeviceStage) -> PendingDevice {
        PendingDevice::begin(stage, Timestamp::from_seconds(1_000))
    }

    #[test]
    fn the_card_comes_before_login_and_login_before_the_decision() {
        let (card, deciding) =
            (at(DeviceStage::Card(device())), at(DeviceStage::Deciding(device())));
        assert_eq!(next(&card, None), Step::Card);
        assert_eq!(next(&card, Some(&session(1))), Step::Card);
        assert_eq!(next(&deciding, None), Step::Login);
        assert_eq!(next(&deciding, Some(&session(1))), Step::Decide);
    }

    #[test]
    fn who_wants_another_account_signs_in_again_under_another_session() {
        let mut deciding = at(DeviceStage::Deciding(device()));
        deciding.ask_for_another(&session(1), session(1).auth_time);
        assert_eq!(next(&deciding, Some(&session(1))), Step::Login);
        assert_eq!(next(&deciding, Some(&session(2))), Step::Decide);
    }

    #[test]
    fn a_code_that_waits_for_a_sign_in_is_entered_after_it() {
        let entering = at(DeviceStage::Entering { typed: None });
        assert_eq!(next(&entering, None), Step::Login);
        assert_eq!(next(&entering, Some(&session(1))), Step::Enter);
    }
}
