//! A quota: so many cells in so much time, and so many at once.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::time::Duration;

/// The longest time that a bucket may need to fill: all sums of the arithmetic stay far from the end of 64 bits of
/// nanoseconds, and a limit that looks back further than a year is not one that a process can keep in memory.
const MAX_FILL: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Why these numbers are no quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuota {
    /// Less than a nanosecond for a cell, or no time at all.
    #[error("more than one in a nanosecond")]
    TooFast,
    /// The bucket would not fill in reasonable time.
    #[error("a bucket would need more than {} days to fill", .limit.as_secs() / 86_400)]
    TooSlow { limit: Duration },
}

/// So many cells in so much time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    gcra: governor::Quota,
}

impl Quota {
    /// `cells` in every `per`, evenly; at most `burst` at once.
    pub fn new(cells: NonZeroU32, per: Duration, burst: NonZeroU32) -> Result<Self, BadQuota> {
        let interval = per / cells.get();
        let fills = interval.checked_mul(burst.get()).is_some_and(|fill| fill <= MAX_FILL);
        if !fills {
            return Err(BadQuota::TooSlow { limit: MAX_FILL });
        }
        let gcra = governor::Quota::with_period(interval).ok_or(BadQuota::TooFast)?;
        Ok(Self { gcra: gcra.allow_burst(burst) })
    }

    /// The most cells at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.gcra.burst_size()
    }

    /// The time in which one cell comes back.
    pub fn interval(&self) -> Duration {
        self.gcra.replenish_interval()
    }

    /// The time in which an empty bucket fills.
    pub fn window(&self) -> Duration {
        self.gcra.burst_size_replenished_in()
    }

    pub(super) fn gcra(&self) -> governor::Quota {
        self.gcra
    }
}

impl Hash for Quota {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u128((self.interval().as_nanos() << u32::BITS) | u128::from(self.burst().get()));
    }
}
