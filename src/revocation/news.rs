//! What the view learned lately about tenants that someone follows.

use std::collections::{HashMap, VecDeque};

use crate::base::Timestamp;
use crate::model::{Revocation, RevocationKey, TenantUid};

/// Who falls further behind reads everything anew.
const MOST: usize = 10_000;

/// An entry's key, and its not-before.
pub(super) type Learned = (RevocationKey, Option<Timestamp>);

/// What came after a place.
pub(super) struct News {
    pub(super) entries: Vec<Learned>,
    /// Where to go on.
    pub(super) place: u64,
}

/// The latest entries of the tenants that are followed, in the order in which they came.
#[derive(Default)]
pub(super) struct Latest(HashMap<TenantUid, Column>);

#[derive(Default)]
struct Column {
    /// How many came before the first that is kept.
    gone: u64,
    kept: VecDeque<Learned>,
}

impl Column {
    fn end(&self) -> u64 {
        self.gone + self.kept.len() as u64
    }
}

impl Latest {
    /// A tenant's news are kept from now on; the place from which to ask for them.
    pub(super) fn follow(&mut self, tenant: &TenantUid) -> u64 {
        self.0.entry(tenant.clone()).or_default().end()
    }

    /// An entry came that was not known.
    pub(super) fn add(&mut self, tenant: &TenantUid, entry: &Revocation) {
        let Some(column) = self.0.get_mut(tenant) else { return };
        column.kept.push_back((entry.key.clone(), entry.not_before));
        if column.kept.len() > MOST {
            column.kept.pop_front();
            column.gone += 1;
        }
    }

    /// Whoever follows reads everything anew.
    pub(super) fn lose(&mut self) {
        for column in self.0.values_mut() {
            column.gone = column.end() + 1;
            column.kept.clear();
        }
    }

    /// What came since `place`; none when not all of it is kept.
    pub(super) fn since(&self, tenant: &TenantUid, place: u64) -> Option<News> {
        let column = self.0.get(tenant)?;
        let skip = usize::try_from(place.checked_sub(column.gone)?).ok()?;
        let entries = column.kept.iter().skip(skip).cloned().collect();
        Some(News { entries, place: column.end() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize) -> Revocation {
        Revocation {
            key: RevocationKey::Jti(n.to_string()),
            audience: None,
            not_before: None,
            expires_at: Timestamp::FAR_FUTURE,
            at: Timestamp::from_seconds(0),
        }
    }

    #[test]
    fn who_follows_hears_everything_once_or_that_it_missed_something() {
        let (acme, other) = (TenantUid::stored("acme"), TenantUid::stored("other"));
        let mut latest = Latest::default();
        latest.add(&acme, &entry(0));
        assert!(latest.since(&acme, 0).is_none(), "nobody follows");
        let place = latest.follow(&acme);
        latest.add(&acme, &entry(1));
        latest.add(&other, &entry(2));
        let news = latest.since(&acme, place).unwrap();
        assert_eq!(news.entries, [(RevocationKey::Jti("1".into()), None)]);
        assert!(latest.since(&acme, news.place).unwrap().entries.is_empty());
        for n in 0..MOST {
            latest.add(&acme, &entry(n));
        }
        assert!(latest.since(&acme, place).is_none(), "the first is gone");
        assert_eq!(latest.since(&acme, news.place).unwrap().entries.len(), MOST);
    }
}
