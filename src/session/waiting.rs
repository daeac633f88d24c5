use serde::{Deserialize, Serialize};

use super::{Interaction, PendingAuthorization};
use crate::base::{Digest, Timestamp};
use crate::model::device::{DeviceCode, UserCode};
use crate::model::{ClientId, Session, SessionId};

/// What waits while its user signs in and decides. Login, a new sign-in and "use another account"
/// serve all of it alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// An application in the browser (RFC 6749 §4.1.1).
    Authorization(Box<PendingAuthorization>),
    /// A device elsewhere, whose user came to `/device` (RFC 8628 §3.3).
    Device(PendingDevice),
}

impl Interaction for Waiting {
    const KIND: &'static str = "waiting";

    fn began_at(&self) -> Timestamp {
        match self {
            Self::Authorization(pending) => pending.began_at,
            Self::Device(pending) => pending.began_at,
        }
    }
}

/// A user's way from a device's code to the decision about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDevice {
    /// How far the user came.
    pub stage: DeviceStage,
    /// A session that signed in before this must not be used: someone else wants to sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_in_after: Option<Timestamp>,
    /// Nor must this one, whenever it signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_session: Option<SessionId>,
    /// When it began.
    pub began_at: Timestamp,
}

/// How far a user came on the way to a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceStage {
    /// Someone has to sign in before any code is looked at: there were too many wrong ones.
    Entering {
        /// What was typed, if it can be a code.
        typed: Option<UserCode>,
    },
    /// A code was found; its card is to be looked at.
    Card(KnownDevice),
    /// The user saw the card and went on.
    Deciding(KnownDevice),
}

/// A device that was found by its user code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDevice {
    /// How storage knows it: the same user code may be another device's one day.
    #[serde(with = "digest")]
    pub digest: Digest<DeviceCode>,
    /// What the user typed.
    pub code: UserCode,
    /// Who asks.
    pub client: ClientId,
}

impl PendingDevice {
    /// One that begins now.
    pub fn begin(stage: DeviceStage, now: Timestamp) -> Self {
        Self { stage, signed_in_after: None, not_session: None, began_at: now }
    }

    /// The device, once a code was found.
    pub fn device(&self) -> Option<&KnownDevice> {
        match &self.stage {
            DeviceStage::Entering { .. } => None,
            DeviceStage::Card(device) | DeviceStage::Deciding(device) => Some(device),
        }
    }

    /// Someone other than whoever has `session` wants to sign in.
    pub fn ask_for_another(&mut self, session: &Session, now: Timestamp) {
        self.signed_in_after = Some(now);
        self.not_session = Some(session.id);
    }
}

mod digest {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use super::{DeviceCode, Digest};
    use crate::base::base64url;

    pub(super) fn serialize<S: Serializer>(
        digest: &Digest<DeviceCode>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.serialize_str(&base64url::encode(digest.as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Digest<DeviceCode>, D::Error> {
        let bytes = base64url::decode(&String::deserialize(from)?).ok();
        bytes
            .and_then(|bytes| Digest::from_slice(&bytes))
            .ok_or_else(|| D::Error::custom("a digest is not 32 bytes of base64url"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::browser::tests::ring;
    use super::super::{BrowserBinding, OpenInteraction};
    use super::*;
    use crate::base::SystemEntropy;
    use crate::model::TenantUid;

    #[test]
    fn a_device_that_waits_reads_back_and_its_code_is_not_in_the_address() {
        let (ring, acme) = (ring(), TenantUid::stored("acme"));
        let browser = BrowserBinding::generate(&ring, &acme, &SystemEntropy);
        let code = UserCode::draw(&SystemEntropy);
        let device = KnownDevice {
            digest: Digest::of(b"code"),
            code: code.clone(),
            client: ClientId::new("tv"),
        };
        let now = Timestamp::from_seconds(100);
        let waiting = Waiting::Device(PendingDevice::begin(DeviceStage::Deciding(device), now));
        let txn = waiting.seal(&ring, &acme, &browser, &SystemEntropy);
        assert!(!txn.contains(code.letters()));
        let opened = Waiting::open(&ring, &acme, &browser, &txn, now);
        assert_eq!(opened, OpenInteraction::Open(waiting));
    }
}
