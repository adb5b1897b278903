//! The places of the buckets: a table that is as large when it is made as it ever gets.
//!
//! A bucket may be in one of two small sets, which its hash names; a new one goes to the set with more room. So a look
//! touches a few cache lines, nothing is ever moved or swept, and no call does more work than any other. A place is
//! free when its bucket is full again, for a full bucket and none are the same.
//!
//! The places that each limit has ever taken and not given back are counted, so that one limit cannot have them all.
//! A count is of places, also of those whose bucket is full by now: [`Store::sweep`] gives these back.

use std::collections::HashMap;

/// Places in a set: the tags of a set fill one cache line.
const WAYS: usize = 8;

/// How many sets one call of [`Store::count_active`] looks at: some microseconds.
const COUNTED_SETS: usize = 256;

/// How many sets one call of [`Store::sweep`] looks at: some microseconds.
const SWEPT_SETS: usize = 256;

/// With two choices, sets of [`WAYS`] places fill evenly up to nine tenths; so much more than asked for is made.
const SPARE: (usize, usize) = (5, 4);

/// What stands in a place. `tat` is 0 where nothing ever stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) tag: u64,
    pub(super) tat: u64,
    pub(super) limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    set: usize,
    way: usize,
}

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Set {
    tags: [u64; WAYS],
    tats: [u64; WAYS],
    limits: [u64; WAYS],
}

impl Set {
    const EMPTY: Self = Self { tags: [0; WAYS], tats: [0; WAYS], limits: [0; WAYS] };

    fn active(&self, now: u64) -> usize {
        self.tats.iter().filter(|&&tat| tat > now).count()
    }
}

#[derive(Debug)]
pub(super) struct Store {
    /// A power of two of them.
    sets: Box<[Set]>,
    /// The places where something stands, by limit: no limit more than there are places.
    held: HashMap<u64, usize>,
    /// The set where the next sweep begins.
    next: usize,
    /// No bucket that stands somewhere is full before this time, so that a sweep would find nothing.
    calm_until: u64,
    /// The same, as far as the sweeps since the beginning of the table know.
    seen_until: u64,
}

impl Store {
    pub(super) fn new(capacity: usize) -> Self {
        let places = capacity.saturating_mul(SPARE.0) / SPARE.1;
        let sets = places.div_ceil(WAYS).next_power_of_two();
        let sets = vec![Set::EMPTY; sets].into_boxed_slice();
        Self { sets, held: HashMap::new(), next: 0, calm_until: 0, seen_until: u64::MAX }
    }

    pub(super) fn places(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// The places of a limit, those included whose buckets are full by now and were not swept.
    pub(super) fn held(&self, limit: u64) -> usize {
        self.held.get(&limit).copied().unwrap_or(0)
    }

    /// Gives back the places of full buckets in a part of the table, each time in the next one.
    pub(super) fn sweep(&mut self, now: u64) {
        if now < self.calm_until {
            return;
        }
        for _ in 0..SWEPT_SETS.min(self.sets.len()) {
            let Set { tats, limits, .. } = &mut self.sets[self.next];
            for (tat, limit) in tats.iter_mut().zip(limits).filter(|(tat, _)| **tat != 0) {
                if *tat <= now {
                    *tat = 0;
                    release(&mut self.held, *limit);
                } else {
                    self.seen_until = self.seen_until.min(*tat);
                }
            }
            self.next = (self.next + 1) % self.sets.len();
            if self.next == 0 {
                self.calm_until = std::mem::replace(&mut self.seen_until, u64::MAX);
            }
        }
    }

    /// The two sets of a tag.
    fn choices(&self, tag: u64) -> [usize; 2] {
        let mask = self.sets.len() - 1;
        [tag as usize & mask, (tag >> 32) as usize & mask]
    }

    pub(super) fn find(&self, tag: u64) -> Option<Slot> {
        self.choices(tag).into_iter().find_map(|set| {
            let Set { tags, tats, .. } = &self.sets[set];
            let way = tags.iter().zip(tats).position(|(&found, &tat)| found == tag && tat != 0)?;
            Some(Slot { set, way })
        })
    }

    /// A place for a new bucket: one whose bucket is full, else one whose limit is not live. An error is the time at
    /// which the first of the buckets that stand there will be full.
    pub(super) fn place(&self, tag: u64, now: u64, is_live: impl Fn(u64) -> bool) -> Result<Slot, u64> {
        let [a, b] = self.choices(tag);
        let sets = if self.sets[b].active(now) < self.sets[a].active(now) { [b, a] } else { [a, b] };
        let find = |is_free: &dyn Fn(&Set, usize) -> bool| {
            sets.into_iter().find_map(|set| {
                let way = (0..WAYS).find(|&way| is_free(&self.sets[set], way))?;
                Some(Slot { set, way })
            })
        };
        find(&|set, way| set.tats[way] <= now)
            .or_else(|| find(&|set, way| !is_live(set.limits[way])))
            .ok_or_else(|| sets.into_iter().flat_map(|set| self.sets[set].tats).min().unwrap_or(now))
    }

    pub(super) fn bucket(&self, slot: Slot) -> Bucket {
        let Set { tags, tats, limits } = &self.sets[slot.set];
        Bucket { tag: tags[slot.way], tat: tats[slot.way], limit: limits[slot.way] }
    }

    pub(super) fn put(&mut self, slot: Slot, bucket: Bucket) {
        let before = self.bucket(slot);
        if bucket.tat != 0 {
            self.calm_until = self.calm_until.min(bucket.tat);
            self.seen_until = self.seen_until.min(bucket.tat);
        }
        let holder = |bucket: Bucket| (bucket.tat != 0).then_some(bucket.limit);
        if holder(before) != holder(bucket) {
            if let Some(limit) = holder(before) {
                release(&mut self.held, limit);
            }
            if let Some(limit) = holder(bucket) {
                *self.held.entry(limit).or_default() += 1;
            }
        }
        let Set { tags, tats, limits } = &mut self.sets[slot.set];
        tags[slot.way] = bucket.tag;
        tats[slot.way] = bucket.tat;
        limits[slot.way] = bucket.limit;
    }

    /// How many buckets are active in the part `at` of the table; `None` beyond its end.
    pub(super) fn count_active(&self, at: usize, now: u64) -> Option<usize> {
        let part = self.sets.chunks(COUNTED_SETS).nth(at)?;
        Some(part.iter().map(|set| set.active(now)).sum())
    }
}

fn release(held: &mut HashMap<u64, usize>, limit: u64) {
    if let Some(places) = held.get_mut(&limit) {
        *places = places.saturating_sub(1);
        if *places == 0 {
            held.remove(&limit);
        }
    }
}
