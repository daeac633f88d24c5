//! The device's side of the device flow, and its user past the pages.

use std::time::Duration;

use pmp_auth::base::{Clock as _, Digest, Entropy, SystemEntropy};
use pmp_auth::model::device::{DeviceCode, DeviceRecord, UserCode};
use pmp_auth::model::grant::GrantTerms;
use pmp_auth::model::{Audit, GrantId};
use pmp_auth::oauth::device::{Patience, request, user_code_digests};
use pmp_auth::oauth::{Call, TokenError, token};
use pmp_auth::storage::{DecideDevice, DeviceApproval, NewGrant};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::flow::{Form, SignedIn, caller, presented};
use super::server::{Answer, SECRET, TestServer};

/// RFC 8628 §3.4.
pub const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A device that asked to be signed in at tenant `acme`.
#[derive(Debug, Clone)]
pub struct Device {
    /// `tv` or `settop`.
    pub client: &'static str,
    /// Its device code.
    pub code: String,
    /// Its user code, as shown.
    pub user_code: String,
    /// The form that it polls with.
    pub form: Form,
}

impl Device {
    /// A device of `client` that asks for `openid`, `orders:read` and `offline_access`.
    pub async fn of(server: &TestServer, client: &'static str) -> Self {
        let scope = [("scope", "openid orders:read offline_access")];
        Self::asking(server, client, &scope).await
    }

    /// A device that asks with these parameters.
    pub async fn asking(server: &TestServer, client: &'static str, form: &[(&str, &str)]) -> Self {
        let answer = server.device_authorization(client, form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let text = |name: &str| answer.json()[name].as_str().expect("text").to_owned();
        let (code, user_code) = (text("device_code"), text("user_code"));
        let form = Form::of(DEVICE_GRANT).with("device_code", &code);
        Self { client, code, user_code, form }
    }

    /// How storage knows it.
    pub fn digest(&self) -> Digest<DeviceCode> {
        Digest::of(self.code.as_bytes())
    }

    /// It polls.
    pub async fn poll(&self, server: &TestServer) -> Answer {
        server.ask(self.client, &self.form).await
    }

    /// It polls and prefers to wait so many seconds.
    pub async fn wait(&self, server: &TestServer, seconds: u32) -> Answer {
        let mut request = server.http.post(server.url("acme", "/token"));
        request = request.header("Prefer", format!("wait={seconds}"));
        let form = match self.client {
            "settop" => {
                request = request.basic_auth("settop", Some(SECRET));
                self.form.clone()
            }
            public => self.form.clone().with("client_id", public),
        };
        Answer::of(request.form(&form.pairs()).send().await.expect("an answer")).await
    }

    /// As storage has it.
    pub async fn record(&self, server: &TestServer) -> DeviceRecord {
        let found = server.tenant("acme").store.peek_device(&self.digest()).await.unwrap();
        found.expect("the row of a device")
    }

    /// `alice` allows it, found by its user code, as the decision page does it.
    pub async fn approve(&self, server: &TestServer, alice: &SignedIn) -> GrantId {
        let (decided, grant) = self.try_to_approve(server, alice).await;
        assert_eq!(decided, DecideDevice::Decided);
        grant
    }

    /// The same where others may have decided, and the grant that it makes if they have not.
    pub async fn try_to_approve(
        &self,
        server: &TestServer,
        alice: &SignedIn,
    ) -> (DecideDevice, GrantId) {
        let (tenant, now) = (server.tenant("acme"), server.clock.now());
        let code = UserCode::parse(&self.user_code).expect("a user code");
        let digests = user_code_digests(&server.app.ring, &tenant.uid, &code);
        let (device, record) = tenant.store.find_device(&digests).await.unwrap().expect("known");
        assert_eq!(device, self.digest());
        let grant = NewGrant {
            id: GrantId((&SystemEntropy as &dyn Entropy).uuid()),
            client: record.client,
            user: Some(alice.user),
            session: None,
            terms: GrantTerms {
                version: 1,
                scope: record.scope,
                resources: record.resources,
                claims: None,
                acr: None,
                amr: vec!["pwd".into()],
                auth_time: now,
                session_ends: None,
            },
            jkt: None,
            offline: true,
            expires_at: now.plus(tenant.settings.lifetimes.refresh_absolute),
        };
        let id = grant.id;
        let approval = DeviceApproval { device, session: alice.session, grant };
        let decided = tenant.store.approve_device(&approval, now, &Audit::default()).await;
        (decided.unwrap(), id)
    }

    /// Somebody denies it.
    pub async fn deny(&self, server: &TestServer) {
        assert_eq!(self.try_to_deny(server).await, DecideDevice::Decided);
    }

    /// The same where others may have decided.
    pub async fn try_to_deny(&self, server: &TestServer) -> DecideDevice {
        let (store, now) = (&server.tenant("acme").store, server.clock.now());
        store.deny_device(&self.digest(), None, now, &Audit::default()).await.unwrap()
    }

    /// What a poll is told, HTTP left out; `wait` is how long it prefers to wait.
    pub async fn told(
        &self,
        server: &TestServer,
        wait: Option<Duration>,
    ) -> Result<Value, TokenError> {
        let (credentials, params) = presented(self.client, &self.form)?;
        let (tenant, audit) = (server.tenant("acme"), caller());
        let (services, now) = (&server.app.services, server.clock.now());
        let call = Call { services, tenant: &tenant, now, audit: &audit };
        let patience = wait.map(|wait| Patience { wait, gone: CancellationToken::new() });
        let told = token::answer_patient(&call, &credentials, &params, patience.as_ref()).await?;
        Ok(serde_json::from_str(&told.to_json()).expect("JSON"))
    }

    /// Until a long poll of it is held.
    pub async fn is_waited_for(server: &TestServer, polls: usize) {
        for _ in 0..400 {
            if server.app.services.devices.waiting() == polls {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{polls} long polls are not held");
    }
}

impl TestServer {
    /// What a client is told when it asks for a device code, HTTP left out: for a great many.
    pub async fn decide_device(&self, client: &str, scope: &str) -> Result<Value, TokenError> {
        let (credentials, params) = presented(client, &Form::empty().with("scope", scope))?;
        let (tenant, audit) = (self.tenant("acme"), caller());
        let (services, now) = (&self.app.services, self.clock.now());
        let call = Call { services, tenant: &tenant, now, audit: &audit };
        let told = request::request(&call, &credentials, &params).await?;
        Ok(serde_json::from_str(&told.to_json()).expect("JSON"))
    }

    /// POST to the device authorization endpoint of `acme`.
    pub async fn device_authorization(&self, client: &str, form: &[(&str, &str)]) -> Answer {
        let url = self.url("acme", "/device_authorization");
        if client == "tv" {
            return self.post(&url, None, &[form, &[("client_id", client)]].concat()).await;
        }
        self.post(&url, Some((client, SECRET)), form).await
    }
}
