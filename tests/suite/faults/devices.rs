use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pmp_auth::base::Clock as _;
use pmp_auth::model::device::{DeviceRecord, DeviceStatus};
use pmp_auth::model::{Action, GrantId};
use pmp_auth::storage::{DecideDevice, Engine, Kind};
use serde_json::Value;

use super::nodes::Nodes;
use crate::support::device::Device;
use crate::support::flow::{Form, SignedIn};
use crate::support::race::race;
use crate::support::server::TestServer;

on_every_server! {
    fault_f_device_01
}

/// So many codes are raced for, one after the other; the first ones over HTTP.
const CODES: usize = 48;
const BY_HTTP: usize = 3;

/// Half of them prefer to wait.
const POLLERS: usize = 50;
const APPROVERS: usize = POLLERS + 2;
const DENIERS: usize = APPROVERS + 2;
const TIME: usize = DENIERS;
const CLEANER: usize = DENIERS + 1;
const ALL: usize = DENIERS + 3;

/// What one racer saw.
#[derive(Debug)]
enum Saw {
    /// What it got or was told in the end, and how often it was slowed down before.
    Poller(Result<Value, String>, usize),
    Approver(DecideDevice, GrantId),
    Denier(DecideDevice),
    /// So many device codes were of no more use.
    Cleaner(u64),
    Nothing,
}

/// Who is a little ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Approvers,
    Deniers,
    Nobody,
    /// … and its time is over at about the same moment.
    Expiry,
}

/// One code that is raced for.
struct Round {
    nodes: Arc<Vec<TestServer>>,
    device: Device,
    alice: SignedIn,
    first: First,
    by_http: bool,
    /// Pollers that do not know yet.
    waiting: AtomicUsize,
}

impl Round {
    async fn take_part(&self, number: usize) -> Saw {
        let node = &self.nodes[number % self.nodes.len()];
        match number {
            0..POLLERS => {
                let saw = self.poll(node, number.is_multiple_of(2)).await;
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                saw
            }
            POLLERS..APPROVERS => {
                self.hesitate(First::Approvers).await;
                let (decided, grant) = self.device.try_to_approve(node, &self.alice).await;
                Saw::Approver(decided, grant)
            }
            APPROVERS..DENIERS => {
                self.hesitate(First::Deniers).await;
                Saw::Denier(self.device.try_to_deny(node).await)
            }
            TIME => {
                if self.first == First::Expiry {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    node.clock.advance(Duration::from_mins(10));
                }
                Saw::Nothing
            }
            CLEANER => self.clean(node).await,
            _ => self.watch(node).await,
        }
    }

    async fn hesitate(&self, of: First) {
        let late = self.first != of && self.first != First::Nobody;
        tokio::time::sleep(Duration::from_millis(if late { 20 } else { 10 })).await;
    }

    /// Polls until there is nothing left to wait for, as fast as no device should.
    async fn poll(&self, node: &TestServer, waits: bool) -> Saw {
        let wait = waits.then_some(Duration::from_secs(2));
        let mut slowed = 0;
        for _ in 0..3_000 {
            let (status, error) = match self.ask(node, wait).await {
                Ok(tokens) => return Saw::Poller(Ok(tokens), slowed),
                Err(told) => told,
            };
            match (status, error.as_str()) {
                (400, "slow_down") => slowed += 1,
                // 503 when time jumped: the node first looks for revocations.
                (400, "authorization_pending") | (503, _) => {}
                (400, _) => return Saw::Poller(Err(error), slowed),
                _ => panic!("{status} {error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} is still told to wait", self.device.client);
    }

    async fn ask(&self, node: &TestServer, wait: Option<Duration>) -> Result<Value, (u16, String)> {
        if !self.by_http {
            let told = self.device.told(node, wait).await;
            return told.map_err(|error| (error.status(), error.code().as_str().to_owned()));
        }
        let answer = match wait {
            Some(_) => self.device.wait(node, 2).await,
            None => self.device.poll(node).await,
        };
        if answer.status == 200 {
            return Ok(answer.granted());
        }
        Err((answer.status, answer.error()))
    }

    fn is_over(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    async fn clean(&self, node: &TestServer) -> Saw {
        let mut gone = 0;
        loop {
            let store = &node.app.store;
            let cleaned = store.cleanup_expired_data(node.clock.now(), 1_000, false).await.unwrap();
            let of = cleaned.counts.iter().find(|(kind, _)| *kind == Kind::DeviceCodes);
            gone += of.map_or(0, |(_, count)| *count);
            if self.is_over() {
                return Saw::Cleaner(gone);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is stored only ever gets slower, and what is decided is decided.
    async fn watch(&self, node: &TestServer) -> Saw {
        let mut before: Option<DeviceRecord> = None;
        while !self.is_over() {
            let now = self.device.record(node).await;
            if let Some(before) = before {
                assert!(now.interval >= before.interval, "{before:?} {now:?}");
                let follows = match before.status {
                    DeviceStatus::Pending => true,
                    DeviceStatus::Approved => {
                        matches!(now.status, DeviceStatus::Approved | DeviceStatus::Redeemed)
                    }
                    last => now.status == last,
                };
                assert!(follows, "{:?} after {:?}", now.status, before.status);
            }
            before = Some(now);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        Saw::Nothing
    }
}

/// How often what came of it.
#[derive(Debug, Default)]
struct Tally {
    approved: usize,
    denied: usize,
    redeemed: Vec<Device>,
    cleaned: u64,
}

async fn fault_f_device_01(engine: Engine) {
    let unlimited = |settings: &mut pmp_auth::config::Settings| {
        for tenant in settings.tenants.values_mut() {
            tenant.device.request_rate = 0;
        }
    };
    let nodes = Nodes::start(engine, unlimited).await;
    let mut tally = Tally::default();
    for number in 0..CODES {
        let first = [First::Nobody, First::Approvers, First::Deniers, First::Expiry][number % 4];
        let client = ["tv", "settop"][number / 4 % 2];
        let round = Arc::new(Round {
            nodes: nodes.all(),
            device: Device::of(nodes.first(), client).await,
            alice: SignedIn::at(nodes.first()).await,
            first,
            by_http: number < BY_HTTP,
            waiting: AtomicUsize::new(POLLERS),
        });
        let saw = race(ALL, |racer| {
            let round = Arc::clone(&round);
            async move { round.take_part(racer).await }
        })
        .await;
        has_one_outcome(&nodes, &round, &saw, &mut tally).await;
        drop(round);
        nodes.advance(Duration::from_hours(2)).await;
    }
    let server = nodes.first();
    assert!(tally.approved > 0 && tally.denied > 0 && tally.cleaned > 0, "{tally:?}");
    assert_eq!(server.times(Action::DeviceApproved).await, tally.approved);
    assert_eq!(server.times(Action::DeviceDenied).await, tally.denied);
    assert_eq!(server.times(Action::DeviceRedeemed).await, tally.redeemed.len());
    if let Some(grants) = nodes.rows("grants").await {
        // One that nothing was redeemed for goes soon after its code.
        assert!((tally.redeemed.len()..=tally.approved).contains(&grants), "{grants} {tally:?}");
    }
    // However much was cleaned up: a code that brought tokens is known to be spent.
    for device in &tally.redeemed {
        device.poll(server).await.is_refusal(400, "invalid_grant");
        assert_eq!(device.record(server).await.status, DeviceStatus::Redeemed);
    }
    nodes.stop().await;
}

/// One decision, one token set, and nobody was told anything else.
async fn has_one_outcome(nodes: &Nodes, round: &Round, saw: &[Saw], tally: &mut Tally) {
    let (mut yes, mut no, mut slower) = (Vec::new(), 0, 0);
    let (mut won, mut told) = (Vec::new(), Vec::new());
    for saw in saw {
        match saw {
            Saw::Poller(outcome, slowed) => {
                slower += slowed;
                match outcome {
                    Ok(tokens) => won.push(tokens),
                    Err(error) => told.push(error.as_str()),
                }
            }
            Saw::Approver(DecideDevice::Decided, grant) => yes.push(*grant),
            Saw::Denier(DecideDevice::Decided) => no += 1,
            Saw::Approver(lost, _) | Saw::Denier(lost) => {
                let late = *lost == DecideDevice::Expired && round.first == First::Expiry;
                assert!(late || *lost == DecideDevice::AlreadyDecided, "{lost:?}");
            }
            Saw::Cleaner(gone) => tally.cleaned += gone,
            Saw::Nothing => {}
        }
    }
    let server = nodes.first();
    let record = round.device.record(server).await;
    let context = format!("{:?}: {yes:?} {no} {told:?} {record:?}", round.first);
    assert!(yes.len() + no <= 1, "both cannot win: {context}");
    assert!(won.len() <= 1, "one token set: {context}");
    assert!(record.interval.as_secs() <= 5 + 5 * slower as u64, "{slower}: {context}");
    let (status, error) = match (yes.len(), no, won.len()) {
        (1, 0, 1) => (DeviceStatus::Redeemed, "invalid_grant"),
        (1, 0, 0) => (DeviceStatus::Approved, "expired_token"),
        (0, 1, 0) => (DeviceStatus::Denied, "access_denied"),
        (0, 0, 0) => (DeviceStatus::Pending, "expired_token"),
        _ => panic!("{context}"),
    };
    assert_eq!(record.status, status, "{context}");
    if round.first == First::Expiry {
        assert!(told.iter().all(|told| [error, "expired_token"].contains(told)), "{context}");
    } else {
        assert_eq!(yes.len() + no, 1, "{context}");
        assert!(told.iter().all(|told| *told == error), "{context}");
        assert_eq!(won.len(), yes.len(), "what was approved brings tokens: {context}");
    }
    tally.approved += yes.len();
    tally.denied += no;
    if let [tokens] = won[..] {
        assert_eq!(server.grant(yes[0]).await.refresh.expect("one family").head, 1);
        if round.first != First::Expiry {
            nodes.settle().await;
            nodes.all_say(true, "api", &tokens["access_token"]).await;
        }
        let refresh = Form::refresh(tokens["refresh_token"].as_str().expect("a refresh token"));
        assert!(server.decide(round.device.client, &refresh).await.is_ok(), "{context}");
        tally.redeemed.push(round.device.clone());
    }
}

mod kept {
    use super::*;
    use pmp_auth::config::Settings;

    on_every_server!(@ sqlite, Sqlite, fault_f_cleanup_03_of_devices);
    on_every_server!(@ postgres, Postgres, fault_f_cleanup_03_of_devices);

    fn lives(seconds: u64) -> impl FnOnce(&mut Settings) {
        move |settings| {
            for tenant in settings.tenants.values_mut() {
                tenant.device.code_ttl = Duration::from_secs(seconds);
            }
        }
    }

    async fn cleaned(server: &TestServer) -> u64 {
        let now = server.clock.now();
        let cleaned = server.app.store.cleanup_expired_data(now, 1_000, false).await.unwrap();
        let of = cleaned.counts.iter().find(|(kind, _)| *kind == Kind::DeviceCodes);
        of.map_or(0, |(_, count)| *count)
    }

    /// Each code goes a day after its own end, whatever is configured by then.
    async fn fault_f_cleanup_03_of_devices(engine: Engine) {
        let mut server = TestServer::start(engine).await;
        let alice = SignedIn::at(&server).await;
        let long = Device::of(&server, "tv").await;
        let (used, plain) = (Device::of(&server, "tv").await, Device::of(&server, "tv").await);
        server = server.restart_with(lives(30)).await;
        let short = Device::of(&server, "tv").await;
        server = server.restart_with(lives(300)).await;
        let middle = Device::of(&server, "tv").await;
        used.approve(&server, &alice).await;
        let tokens = used.poll(&server).await.granted();
        server.clock.advance(Duration::from_secs(30));
        short.poll(&server).await.is_refusal(400, "expired_token");
        middle.poll(&server).await.is_refusal(400, "authorization_pending");
        long.poll(&server).await.is_refusal(400, "authorization_pending");
        let a_day = Duration::from_hours(24);
        let mut at = Duration::from_secs(30);
        for (end, gone) in [(30, &short), (300, &middle)] {
            let due = Duration::from_secs(end) + a_day;
            server.clock.advance(due.saturating_sub(at + Duration::from_secs(1)));
            assert_eq!(cleaned(&server).await, 0, "{end}");
            gone.poll(&server).await.is_refusal(400, "expired_token");
            server.clock.advance(Duration::from_secs(1));
            assert_eq!(cleaned(&server).await, 1, "{end}");
            gone.poll(&server).await.is_refusal(400, "invalid_grant");
            at = due;
        }
        server.clock.advance(Duration::from_mins(5));
        assert_eq!(cleaned(&server).await, 2, "asked for first, gone last");
        for device in [&long, &plain] {
            device.poll(&server).await.is_refusal(400, "invalid_grant");
        }
        // What was redeemed is known for as long as its grant can be refreshed.
        server.settle().await;
        assert_eq!(used.record(&server).await.status, DeviceStatus::Redeemed);
        let refresh = Form::refresh(tokens["refresh_token"].as_str().unwrap());
        server.ask("tv", &refresh).await.granted();
        server.stop().await;
    }
}
