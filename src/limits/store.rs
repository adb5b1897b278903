//! The places of the buckets: a table that is as large when it is made as it ever gets.
//!
//! A bucket may be in one of two small sets, which its hash names; a new one goes to the set with more room. So a look
//! touches a few cache lines, nothing is ever moved or swept, and no call does more work than any other. A place is
//! free when its bucket is full again, for a full bucket and none are the same.

/// Places in a set: the tags of a set fill one cache line.
const WAYS: usize = 8;

/// How many sets one call of [`Store::count_active`] looks at: some microseconds.
const COUNTED_SETS: usize = 256;

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
}

impl Store {
    pub(super) fn new(capacity: usize) -> Self {
        let places = capacity.saturating_mul(SPARE.0) / SPARE.1;
        let sets = places.div_ceil(WAYS).next_power_of_two();
        Self { sets: vec![Set::EMPTY; sets].into_boxed_slice() }
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

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.sets.len() * WAYS
    }
}
