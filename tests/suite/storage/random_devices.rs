//! Device codes in the random run.

use std::time::Duration;

use pmp_auth::base::{Digest, Timestamp};
use pmp_auth::model::UserId;
use pmp_auth::model::device::DeviceCode;
use pmp_auth::storage::{
    DeviceApproval, DevicePoll, DeviceRedemption, NewDevice, NewSession, RedeemDevice, TenantHandle,
};

use super::make::*;
use super::random::{Dice, Told, plain, some_client, told};

/// One operation with all its arguments.
#[derive(Debug, Clone)]
pub enum DeviceStep {
    Ask(NewDevice),
    Find(NewDevice),
    Peek(NewDevice),
    Poll(DevicePoll),
    Slow(Vec<(Digest<DeviceCode>, Duration)>),
    Approve(DeviceApproval),
    Deny(NewDevice, Option<UserId>),
    Redeem(DeviceRedemption),
    Decided(Vec<Digest<DeviceCode>>),
}

/// What has been asked for so far, and what was allowed.
#[derive(Default)]
pub struct Devices {
    asked: Vec<NewDevice>,
    approved: Vec<DeviceApproval>,
}

impl Devices {
    pub fn plan(
        &self,
        dice: &mut Dice,
        sessions: &[NewSession],
        now: Timestamp,
    ) -> Option<DeviceStep> {
        Some(match dice.below(16) {
            0..=2 => DeviceStep::Ask(ask(dice, now)),
            3 => DeviceStep::Find(dice.pick(&self.asked)?),
            4 => DeviceStep::Peek(dice.pick(&self.asked)?),
            5..=8 => DeviceStep::Poll(self.poll(dice)?),
            9 => DeviceStep::Slow(self.slower(dice)),
            10 | 11 => DeviceStep::Approve(self.approve(dice, sessions, now)?),
            12 if dice.one_in(2) => {
                let user = dice.pick(sessions).map(|session| session.user);
                DeviceStep::Deny(dice.pick(&self.asked)?, user.filter(|_| dice.one_in(2)))
            }
            13 | 14 => DeviceStep::Redeem(self.redeem(dice, now)?),
            _ => DeviceStep::Decided(
                self.asked.iter().rev().take(6).map(|device| device.digest).collect(),
            ),
        })
    }

    fn poll(&self, dice: &mut Dice) -> Option<DevicePoll> {
        let device = dice.pick(&self.asked)?;
        let mut poll = poll(&device);
        if dice.one_in(12) {
            poll.client = some_client(dice);
        }
        if dice.one_in(4) {
            poll.slower = Duration::from_millis(dice.roll() % 12_000);
        }
        poll.never_early = dice.one_in(6);
        Some(poll)
    }

    /// Some of them twice, some of them nobody's.
    fn slower(&self, dice: &mut Dice) -> Vec<(Digest<DeviceCode>, Duration)> {
        let mut slower = vec![(digest("nobody's"), Duration::from_secs(5))];
        for _ in 0..dice.below(4) {
            let device = dice.pick(&self.asked).map(|device| device.digest);
            slower.extend(device.map(|device| (device, Duration::from_secs(dice.roll() % 30))));
        }
        slower
    }

    fn approve(
        &self,
        dice: &mut Dice,
        sessions: &[NewSession],
        now: Timestamp,
    ) -> Option<DeviceApproval> {
        let (device, session) = (dice.pick(&self.asked)?, dice.pick(sessions)?);
        let who = SignedIn { user: session.user, session: session.id, cookie: session.cookie };
        let mut approval = approval(&who, &device, now);
        if dice.one_in(12) {
            approval.grant.client = some_client(dice);
        }
        if dice.one_in(12) {
            // The session of somebody else, as often as not.
            approval.session = dice.pick(sessions)?.id;
        }
        if dice.one_in(6) {
            approval.grant.session = Some(session.id);
            approval.grant.offline = dice.one_in(2);
        }
        if dice.one_in(6) {
            approval.grant.expires_at = now.plus(Duration::from_mins(2));
        }
        Some(approval)
    }

    fn redeem(&self, dice: &mut Dice, now: Timestamp) -> Option<DeviceRedemption> {
        let approval = dice.pick(&self.approved)?;
        let user = approval.grant.user?;
        let mut redemption = device_redemption(approval.device, user, now);
        redemption.client = approval.grant.client;
        if dice.one_in(10) {
            redemption.client = some_client(dice);
        }
        if dice.one_in(10) {
            redemption.device = dice.pick(&self.asked)?.digest;
        }
        if dice.one_in(3) {
            redemption.refresh = None;
        }
        if dice.one_in(2) {
            let mut token = opaque(Some(approval.grant.id), now);
            token.claims.generation = redemption.refresh.as_ref().map(|_| 1);
            redemption.opaque = Some(token);
        }
        Some(redemption)
    }

    /// Notes what became of a step; a grant that was redeemed.
    pub fn learn(&mut self, step: &DeviceStep, text: &str) -> Option<Issued> {
        match step {
            DeviceStep::Ask(device) if text == "Issued" => self.asked.push(device.clone()),
            DeviceStep::Approve(approval) if text == "Decided" => {
                self.approved.push(approval.clone());
            }
            DeviceStep::Redeem(redemption) if text.starts_with("Redeemed") => {
                let approved = self.approved.iter().find(|a| a.device == redemption.device)?;
                let who = SignedIn {
                    user: redemption.user,
                    session: approved.session,
                    cookie: digest(""),
                };
                let code = digest(&format!("no code {}", unique()));
                let (client, grant) = (redemption.client.clone(), approved.grant.id);
                return Some(Issued { who, client, code, grant });
            }
            _ => {}
        }
        None
    }
}

fn ask(dice: &mut Dice, now: Timestamp) -> NewDevice {
    let mut device = new_device(now);
    device.client = some_client(dice);
    if dice.one_in(4) {
        device.user_code = vec![user_code(1, &format!("{}", dice.below(4)))];
    }
    if dice.one_in(3) {
        device.user_code.insert(0, user_code(2, &format!("newer {}", dice.below(400))));
    }
    device.interval = Duration::from_millis(dice.roll() % 9_000);
    if dice.one_in(6) {
        device.expires_at = now.plus(Duration::from_secs(5));
    }
    device
}

pub async fn run(t: &TenantHandle, step: &DeviceStep, now: Timestamp) -> Told {
    match step {
        DeviceStep::Ask(device) => told(t.issue_device(device, now, &AUDIT).await),
        DeviceStep::Find(device) => told(t.find_device(&device.user_code).await),
        DeviceStep::Peek(device) => told(t.peek_device(&device.digest).await),
        DeviceStep::Poll(poll) => told(t.poll_device(poll, now).await),
        DeviceStep::Slow(slower) => told(t.slow_devices(slower).await),
        DeviceStep::Approve(approval) => told(t.approve_device(approval, now, &AUDIT).await),
        DeviceStep::Deny(device, user) => {
            told(t.deny_device(&device.digest, *user, now, &AUDIT).await)
        }
        DeviceStep::Redeem(redemption) => {
            let mut outcome = t.redeem_device(redemption, now, &AUDIT).await;
            let mut head = None;
            if let Ok(RedeemDevice::Redeemed { refresh: Some(new) }) = &mut outcome {
                plain(new);
                head = Some(new.clone());
            }
            Told { head, ..told(outcome) }
        }
        DeviceStep::Decided(devices) => told(t.decided_devices(devices).await),
    }
}
