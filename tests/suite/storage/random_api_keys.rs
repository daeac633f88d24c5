//! API keys in the random run.

use std::time::Duration;

use pmp_auth::base::Timestamp;
use pmp_auth::model::UserId;
use pmp_auth::model::api_key::{ApiKeyId, Owner, PepperedDigest};
use pmp_auth::storage::{ApiKeyUse, NewApiKey, OwnerId, TenantHandle};

use super::api_keys::new_api_key;
use super::make::*;
use super::random::{Dice, Told, some_client, told};

/// One operation with all its arguments.
#[derive(Debug, Clone)]
pub enum ApiKeyStep {
    Create(NewApiKey, u32),
    Find(ApiKeyId),
    List(Option<OwnerId>, Option<ApiKeyId>, u32),
    Rehash(ApiKeyId, PepperedDigest, PepperedDigest),
    Rotate(ApiKeyId, NewApiKey, Timestamp),
    Revoke(ApiKeyId),
    Use(Vec<ApiKeyUse>),
    Count,
}

/// What has been made so far.
#[derive(Default)]
pub struct ApiKeys {
    made: Vec<NewApiKey>,
}

impl ApiKeys {
    pub fn plan(&self, dice: &mut Dice, users: &[UserId], now: Timestamp) -> Option<ApiKeyStep> {
        Some(match dice.below(12) {
            0..=2 => {
                let owner = some_owner(dice, users)?;
                ApiKeyStep::Create(new(dice, &owner, now), u32::try_from(dice.below(6)).unwrap())
            }
            3 | 4 => ApiKeyStep::Find(dice.pick(&self.made)?.key.id),
            5 => {
                let owner = some_owner(dice, users).map(|owner| OwnerId::from(&owner));
                let after = dice.pick(&self.made).map(|new| new.key.id);
                let limit = u32::try_from(dice.below(8)).unwrap();
                ApiKeyStep::List(
                    owner.filter(|_| dice.one_in(2)),
                    after.filter(|_| dice.one_in(2)),
                    limit,
                )
            }
            6 => {
                let id = dice.pick(&self.made)?.key.id;
                let from = dice.pick(&self.made)?.digest;
                ApiKeyStep::Rehash(id, from, PepperedDigest { pepper: 2, ..from })
            }
            7 | 8 => {
                let old = dice.pick(&self.made)?.key;
                let grace = Duration::from_secs(dice.roll() % 600);
                ApiKeyStep::Rotate(old.id, new(dice, &old.owner, now), now.plus(grace))
            }
            9 => ApiKeyStep::Revoke(dice.pick(&self.made)?.key.id),
            10 => ApiKeyStep::Use(self.uses(dice, now)),
            _ => ApiKeyStep::Count,
        })
    }

    fn uses(&self, dice: &mut Dice, now: Timestamp) -> Vec<ApiKeyUse> {
        let mut uses = vec![used(ApiKeyId(uuid()), 1, now, None)];
        for n in 0..dice.below(5) {
            let Some(key) = dice.pick(&self.made) else { break };
            let at = now.minus(Duration::from_secs(dice.roll() % 90));
            let ip = ["192.0.2.1", "2001:db8::1"][dice.below(2)];
            let ip = Some(ip).filter(|_| !dice.one_in(4));
            uses.push(used(key.key.id, n as u64, at, ip));
        }
        uses
    }

    /// Notes what became of a step.
    pub fn learn(&mut self, step: &ApiKeyStep, text: &str) {
        match step {
            ApiKeyStep::Create(new, _) if text == "Created" => self.made.push(new.clone()),
            ApiKeyStep::Rotate(_, new, _) if text == "Rotated" => self.made.push(new.clone()),
            _ => {}
        }
    }
}

fn some_owner(dice: &mut Dice, users: &[UserId]) -> Option<Owner> {
    if dice.one_in(3) {
        return Some(Owner::Client(some_client(dice)));
    }
    let client = some_client(dice);
    Some(Owner::User { user: dice.pick(users)?, client: Some(client).filter(|_| dice.one_in(2)) })
}

fn new(dice: &mut Dice, owner: &Owner, now: Timestamp) -> NewApiKey {
    let mut new = new_api_key(owner, now);
    if dice.one_in(3) {
        new.key.expires_at = now.plus(Duration::from_mins(5));
    }
    if dice.one_in(3) {
        new.key.description = None;
        new.key.allowed_ips.clear();
    }
    new
}

pub fn used(id: ApiKeyId, count: u64, last_at: Timestamp, last_ip: Option<&str>) -> ApiKeyUse {
    ApiKeyUse { id, count, last_at, last_ip: last_ip.map(|ip| ip.parse().unwrap()) }
}

pub async fn run(t: &TenantHandle, step: &ApiKeyStep, now: Timestamp) -> Told {
    match step {
        ApiKeyStep::Create(new, at_most) => {
            told(t.create_api_key(new, *at_most, now, &AUDIT).await)
        }
        ApiKeyStep::Find(id) => told(t.find_api_key(*id).await),
        ApiKeyStep::List(owner, after, limit) => {
            told(t.list_api_keys(owner.as_ref(), *after, *limit).await)
        }
        ApiKeyStep::Rehash(id, from, to) => told(t.rehash_api_key(*id, from, to).await),
        ApiKeyStep::Rotate(id, successor, grace_until) => {
            told(t.rotate_api_key(*id, successor, *grace_until, now, &AUDIT).await)
        }
        ApiKeyStep::Revoke(id) => told(t.revoke_api_key(*id, &change(now)).await),
        ApiKeyStep::Use(uses) => told(t.note_api_key_uses(uses).await),
        ApiKeyStep::Count => told(t.count_api_keys_by_pepper(now).await),
    }
}
