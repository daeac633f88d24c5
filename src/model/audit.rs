//! Audit records: what happened, to whom, from where. Written in the transaction of the change.

use serde_json::Value;

use super::{ClientId, SessionId, UserId};
use crate::base::Timestamp;

/// Who and where, the same for every record of a request. A storage method that changes something
/// takes it, knows its own [`Action`], and writes the record in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Peer address after trusted proxies; none for commands and jobs.
    pub ip: Option<String>,
    /// User agent, cut to 512 bytes.
    pub user_agent: Option<String>,
    /// The request's id, as in logs and on error pages.
    pub request_id: Option<String>,
    /// Who acted, where it is not the user or client concerned: `cli`, `job`, `config`.
    pub actor: Option<&'static str>,
}

/// A record on its own, for events that change nothing else (failures are written in batches).
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// The user concerned.
    pub user: Option<UserId>,
    /// The client concerned.
    pub client: Option<ClientId>,
    /// The session concerned.
    pub session: Option<SessionId>,
    /// What kind of thing was changed, and which: `grant` and its id, …
    pub resource: Option<(&'static str, String)>,
    /// Whether it succeeded.
    pub success: bool,
    /// More, never a secret.
    pub detail: Option<Value>,
    /// From where.
    pub context: Audit,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What happened. The text is what is stored and searched for; it never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action { $($(#[$doc])* $name,)* }
        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The stored text.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// From storage.
            pub fn parse(text: &str) -> Option<Self> { match text { $($text => Some(Self::$name),)* _ => None } }
        }
    };
}

actions! {
    /// A tenant was seen for the first time.
    TenantCreated = "tenant.created",
    /// A tenant was suspended.
    TenantSuspended = "tenant.suspended",
    /// A tenant serves again.
    TenantResumed = "tenant.resumed",
    /// A tenant was deleted with all that is its.
    TenantDeleted = "tenant.deleted",
    /// A run-time client was created.
    ClientCreated = "client.created",
    /// A client was disabled.
    ClientDisabled = "client.disabled",
    /// A client was enabled again.
    ClientEnabled = "client.enabled",
    /// A run-time client was deleted with all that is its.
    ClientDeleted = "client.deleted",
    /// A client failed to prove itself.
    ClientAuthenticationFailed = "client.authentication_failed",
    /// A user was created.
    UserCreated = "user.created",
    /// A user was disabled.
    UserDisabled = "user.disabled",
    /// A user was enabled again.
    UserEnabled = "user.enabled",
    /// A user was deleted.
    UserDeleted = "user.deleted",
    /// A password was set.
    PasswordChanged = "user.password_changed",
    /// A user signed in.
    LoginSucceeded = "login.succeeded",
    /// A sign-in failed.
    LoginFailed = "login.failed",
    /// A sign-in was refused without being tried: too many.
    LoginThrottled = "login.throttled",
    /// A session ended: logout, or someone ended it.
    SessionEnded = "session.ended",
    /// A user allowed a client something; the grant and its code were made.
    GrantCreated = "grant.created",
    /// A user denied a client.
    ConsentDenied = "consent.denied",
    /// A user's consent was remembered.
    ConsentRemembered = "consent.remembered",
    /// A remembered consent was withdrawn and its grants revoked.
    ConsentWithdrawn = "consent.withdrawn",
    /// A grant was revoked.
    GrantRevoked = "grant.revoked",
    /// An authorization code was redeemed.
    CodeRedeemed = "code.redeemed",
    /// A redeemed code was presented again; its grant was revoked.
    CodeReplayed = "code.replayed",
    /// A code was killed by too many wrong verifiers.
    CodeKilled = "code.killed",
    /// A device asked to be signed in (RFC 8628).
    DeviceRequested = "device.requested",
    /// A user looked at what a device asks for.
    DeviceViewed = "device.viewed",
    /// A user allowed a device; the grant was made.
    DeviceApproved = "device.approved",
    /// A user denied a device.
    DeviceDenied = "device.denied",
    /// A device was still asking when its time was over.
    DeviceExpired = "device.expired",
    /// A device got its tokens.
    DeviceRedeemed = "device.redeemed",
    /// A user code was typed that is nobody's: a mistake, or a guess.
    DeviceGuessed = "device.guessed",
    /// A refresh token was rotated.
    RefreshRotated = "refresh.rotated",
    /// A lost refresh response was answered again.
    RefreshRepeated = "refresh.repeated",
    /// A refresh token that never arrived was replaced.
    RefreshReplaced = "refresh.replaced",
    /// A refresh token of a lost timeline was adopted.
    RefreshAdopted = "refresh.adopted",
    /// A spent refresh token was used again; its grant was revoked.
    RefreshReused = "refresh.reused",
    /// A refresh token from a future that never was: the ring may be compromised.
    RefreshForged = "refresh.forged",
    /// An access token was revoked.
    TokenRevoked = "token.revoked",
    /// An API key was made.
    ApiKeyCreated = "api_key.created",
    /// An API key got a successor.
    ApiKeyRotated = "api_key.rotated",
    /// An API key was revoked.
    ApiKeyRevoked = "api_key.revoked",
    /// A signing key was made.
    KeyCreated = "key.created",
    /// A signing key took over.
    KeyRotated = "key.rotated",
    /// A signing key was declared compromised.
    KeyCompromised = "key.compromised",
    /// The revocation log was raised to a not-before by an operator.
    NotBeforeRaised = "revocation.not_before",
}

#[cfg(test)]
mod tests {
    use super::Action;

    #[test]
    fn every_action_reads_back() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Some(*action));
        }
    }
}
