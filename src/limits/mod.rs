//! Person, API, tunnel: is there room for one more request, or not.
//!
//! In go the [`Charge`]s of one request (a limit and its [`Bucket`]) and the time. Out comes the [`Room`]
//! that is left in the tightest bucket, or the [`Exceeded`] limit, and then no bucket has been touched. All buckets of
//! a process are in one [`Limits`], whose memory is fixed when it is made: a bucket that is full again is forgotten
//! first, and when every place holds an active bucket, the newcomer is refused rather than an active bucket forgotten.
//! One limit has at most an eighth of the places, so that a flood of its keys refuses only its own newcomers.
//! [`PreLimit`] is the one bucket of a session that stands before any policy work and shares nothing.
//!
//! The arithmetic is the generic cell rate algorithm of `governor`, on monotonic time: a step of the wall clock means
//! nothing here, and a monotonic time that is earlier than one already seen mints nothing.
//!
//! Keys are not stored, only 64 bits of a hash with a random seed of this process: memory does not depend on what a
//! client puts into a key, and nobody can aim at another's bucket. That two of a million keys share a bucket has a
//! probability of three in a hundred million.

mod bucket;
mod fields;
mod quota;
mod store;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::quota::{BadQuota, Quota};

use self::bucket::Taken;
use self::store::{Slot, Store};

/// The part of all places that one limit may hold: the keys of a limit may be a client's choice (a parameter of the path),
/// and whoever sends many of them must not leave the other limits without places.
const SHARE: usize = 8;

/// What one request takes from one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge<'a> {
    /// The limit, by its stable id `api/id`.
    pub limit: &'a str,
    /// The bucket.
    pub bucket: Bucket,
}

/// Which bucket, as [`Limits::bucket`] names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    quota: Quota,
    address: Address,
}

/// What is left in the tightest bucket of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room<'a> {
    /// The limit.
    pub limit: &'a str,
    /// Its quota.
    pub quota: Quota,
    /// How many more requests would pass now.
    pub remaining: u32,
    /// When the bucket will be full, if nothing more comes.
    pub reset: Duration,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The bucket is empty.
    Spent,
    /// The bucket is new, and every place for it holds an active one, or its limit has active ones enough.
    Full,
}

/// A limit without room: of several, the one that takes longest to recover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit {limit} has no room for {} s", fields::seconds(*.retry_after))]
pub struct Exceeded<'a> {
    /// The limit.
    pub limit: &'a str,
    /// Its quota.
    pub quota: Quota,
    /// Why.
    pub cause: Cause,
    /// When a request could pass, if nothing else comes.
    pub retry_after: Duration,
}

/// The buckets of all limits.
#[derive(Debug)]
pub struct Limits {
    seed: RandomState,
    start: Instant,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    store: Store,
    /// The limits whose buckets count; a bucket of another may be forgotten.
    live: HashSet<u64>,
    /// What this request has changed, for when it is refused. Kept only for its memory.
    changes: Vec<(Slot, store::Bucket)>,
}

/// Where a charge goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    limit: u64,
    tag: u64,
}

impl Limits {
    /// Room for at least `capacity` active buckets, of 24 bytes each, and for an eighth of them of one limit. `start` is any time before the first charge.
    pub fn new(capacity: usize, start: Instant) -> Self {
        let table = Table { store: Store::new(capacity), live: HashSet::new(), changes: Vec::new() };
        Self { seed: RandomState::new(), start, table: Mutex::new(table) }
    }

    /// The bucket of a limit, by its stable id `api/id`, and a key, the values of the limit's key attributes. The same
    /// limit with another quota is another limit.
    pub fn bucket(&self, limit: &str, key: &str, quota: Quota) -> Bucket {
        let mut hasher = self.seed.build_hasher();
        limit.hash(&mut hasher);
        quota.hash(&mut hasher);
        let limit = hasher.finish();
        key.hash(&mut hasher);
        Bucket { quota, address: Address { limit, tag: hasher.finish() } }
    }

    /// Takes one cell for each charge, or nothing at all. `None` when there is no charge. The charges are asked for
    /// while the buckets are locked, so they should be at hand.
    pub fn take<'a>(
        &self,
        charges: impl Iterator<Item = Charge<'a>>,
        now: Instant,
    ) -> Result<Option<Room<'a>>, Exceeded<'a>> {
        self.judge(charges, now, true)
    }

    /// What [`Limits::take`] would answer; takes nothing.
    pub fn peek<'a>(
        &self,
        charges: impl Iterator<Item = Charge<'a>>,
        now: Instant,
    ) -> Result<Option<Room<'a>>, Exceeded<'a>> {
        self.judge(charges, now, false)
    }

    /// A new bundle is in force: these are its limits. Buckets of a limit with the same id and quota keep their state;
    /// the others give up their places when these are needed.
    pub fn reload<'a>(&self, limits: impl Iterator<Item = (&'a str, Quota)>) {
        let live = limits.map(|(limit, quota)| self.bucket(limit, "", quota).address.limit).collect();
        self.lock().live = live;
    }

    /// How many buckets are active, which is: not full. Looks at every place, a few at a time.
    pub fn len(&self, now: Instant) -> usize {
        let now = self.nanos(now);
        let mut count = 0;
        let mut at = 0;
        while let Some(active) = self.lock().store.count_active(at, now) {
            count += active;
            at += 1;
        }
        count
    }

    /// Whether no bucket is active.
    pub fn is_empty(&self, now: Instant) -> bool {
        self.len(now) == 0
    }

    fn judge<'a>(
        &self,
        charges: impl Iterator<Item = Charge<'a>>,
        now: Instant,
        keep: bool,
    ) -> Result<Option<Room<'a>>, Exceeded<'a>> {
        let now = self.nanos(now);
        let mut room: Option<Room<'a>> = None;
        let mut exceeded: Option<Exceeded<'a>> = None;
        let mut guard = self.lock();
        let table = &mut *guard;
        table.changes.clear();
        for Charge { limit, bucket: Bucket { quota, address } } in charges {
            match table.charge(address, &quota, now) {
                Ok(Taken { tat, remaining }) => {
                    let reset = Duration::from_nanos(tat.saturating_sub(now));
                    if room.is_none_or(|room| (remaining, room.reset) < (room.remaining, reset)) {
                        room = Some(Room { limit, quota, remaining, reset });
                    }
                }
                Err((cause, retry_after)) => {
                    if exceeded.is_none_or(|exceeded| exceeded.retry_after < retry_after) {
                        exceeded = Some(Exceeded { limit, quota, cause, retry_after });
                    }
                }
            }
        }
        if exceeded.is_some() || !keep {
            table.undo();
        }
        match exceeded {
            Some(exceeded) => Err(exceeded),
            None => Ok(room),
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        bucket::nanos(self.start, now)
    }

    /// A panic of another thread leaves at worst a request counted that was refused.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes one cell, and remembers how it was before.
    fn charge(&mut self, address: Address, quota: &Quota, now: u64) -> Result<Taken, (Cause, Duration)> {
        let slot = match self.store.find(address.tag) {
            Some(slot) => slot,
            None => self.place(address, quota, now)?,
        };
        let before = self.store.bucket(slot);
        let tat = if before.tag == address.tag { before.tat } else { 0 };
        let taken = bucket::take(quota, tat, now).map_err(|wait| (Cause::Spent, wait))?;
        self.changes.push((slot, before));
        self.store.put(slot, store::Bucket { tag: address.tag, tat: taken.tat, limit: address.limit });
        Ok(taken)
    }

    fn place(&mut self, address: Address, quota: &Quota, now: u64) -> Result<Slot, (Cause, Duration)> {
        let Self { store, live, .. } = self;
        let share = store.places() / SHARE;
        if store.held(address.limit) >= share {
            store.sweep(now);
            if store.held(address.limit) >= share {
                // The bucket that fills first has a cell to get back.
                return Err((Cause::Full, quota.interval()));
            }
        }
        live.insert(address.limit);
        store
            .place(address.tag, now, |limit| live.contains(&limit))
            .map_err(|free_at| (Cause::Full, Duration::from_nanos(free_at.saturating_sub(now))))
    }

    /// Puts everything back, last change first: a bucket that was charged twice ends as it was before the first.
    fn undo(&mut self) {
        while let Some((slot, before)) = self.changes.pop() {
            self.store.put(slot, before);
        }
    }
}

/// The bucket of one session that stands before any policy work.
#[derive(Clone, Debug)]
pub struct PreLimit {
    quota: Quota,
    start: Instant,
    tat: u64,
}

impl PreLimit {
    /// A full bucket.
    pub fn new(quota: Quota, start: Instant) -> Self {
        Self { quota, start, tat: 0 }
    }

    /// Takes one cell; `false` when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        match bucket::take(&self.quota, self.tat, bucket::nanos(self.start, now)) {
            Ok(taken) => {
                self.tat = taken.tat;
                true
            }
            Err(_) => false,
        }
    }
}
