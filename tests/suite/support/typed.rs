//! Device codes whose user types them at the pages; issued in the store as the device authorization
//! endpoint does it.

use std::time::Duration;

use pmp_auth::base::{Clock as _, Digest, Entropy, SystemEntropy};
use pmp_auth::model::device::{DeviceCode, DeviceRecord, DeviceTerms, UserCode};
use pmp_auth::model::{Audit, ClientId, Scope};
use pmp_auth::oauth::device::user_code_digests;
use pmp_auth::storage::{IssueDevice, NewDevice};

use super::browser::{Browser, Page};
use super::server::{PASSWORD, TestServer};

/// Where devices ask from, in these tests.
pub const DEVICE_IP: &str = "203.0.113.77";
/// With what.
pub const DEVICE_AGENT: &str = "AcmeTV/1.0 (living room)";

/// A device that asked.
#[derive(Debug, Clone)]
pub struct Device {
    /// What it shows to its user.
    pub code: UserCode,
    /// How storage knows it.
    pub digest: Digest<DeviceCode>,
    /// At which tenant.
    pub tenant: &'static str,
}

/// What a device asks for.
#[derive(Debug, Clone)]
pub struct Asks {
    /// The tenant.
    pub tenant: &'static str,
    /// The client.
    pub client: &'static str,
    /// The scope.
    pub scope: &'static str,
    /// Whether it proved itself.
    pub confidential: bool,
    /// The code, if it must be this one.
    pub code: Option<UserCode>,
}

impl Default for Asks {
    fn default() -> Self {
        Self {
            tenant: "acme",
            client: "native",
            scope: "openid orders:read",
            confidential: false,
            code: None,
        }
    }
}

impl TestServer {
    /// A device of client `native` at `acme`, which asks for `openid` and `orders:read`.
    pub async fn device(&self) -> Device {
        self.device_that(Asks::default()).await
    }

    /// A device that asks for something else.
    pub async fn device_that(&self, asks: Asks) -> Device {
        let (tenant, now) = (self.tenant(asks.tenant), self.clock.now());
        let entropy: &dyn Entropy = &SystemEntropy;
        let code = asks.code.unwrap_or_else(|| UserCode::draw(entropy));
        let digest = Digest::of(&entropy.bytes::<32>());
        let device = NewDevice {
            digest,
            user_code: user_code_digests(&self.app.ring, &tenant.uid, &code),
            client: ClientId::new(asks.client),
            scope: Scope::parse(asks.scope).unwrap(),
            resources: Vec::new(),
            terms: DeviceTerms {
                version: 1,
                code_challenge: None,
                nonce: None,
                confidential: asks.confidential,
            },
            interval: Duration::from_secs(5),
            expires_at: now.plus(Duration::from_mins(10)),
        };
        let audit = Audit {
            ip: Some(DEVICE_IP.into()),
            user_agent: Some(DEVICE_AGENT.into()),
            ..Audit::default()
        };
        let issued = tenant.store.issue_device(&device, now, &audit).await.unwrap();
        assert_eq!(issued, IssueDevice::Issued);
        Device { code, digest, tenant: asks.tenant }
    }

    /// The device as the store has it.
    pub async fn record(&self, device: &Device) -> DeviceRecord {
        let store = &self.tenant(device.tenant).store;
        store.peek_device(&device.digest).await.unwrap().expect("the row of a device")
    }
}

impl Device {
    /// What it shows.
    pub fn shown(&self) -> String {
        self.code.to_string()
    }
}

impl Browser {
    /// Types a code at `acme`, and follows.
    pub async fn enter(&self, server: &TestServer, code: &str) -> Page {
        let page = self.open(server.url("acme", "/device")).await;
        let answer = self.submit(&page, &[("user_code", code)]).await;
        self.follow(answer).await
    }

    /// Goes from the code to the decision page as `user`, who is not signed in yet.
    pub async fn come_to_decide(&self, server: &TestServer, code: &str, user: &str) -> Page {
        let card = self.enter(server, code).await;
        assert_eq!(card.heading(), "Is this your device?", "{}", card.body);
        let login = self.decide(&card, "continue").await;
        assert_eq!(login.heading(), "Sign in", "{}", login.body);
        self.sign_in(&login, user, PASSWORD).await
    }
}
