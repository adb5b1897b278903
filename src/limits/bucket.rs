//! One bucket: in go its state and the time, out comes its next state. `governor` does the arithmetic.
//!
//! The state is one number, the theoretical arrival time of the generic cell rate algorithm, in nanoseconds since the
//! start of the process: a bucket is full when that time is not in the future.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};

use super::Quota;

/// A bucket after a cell was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The next state.
    pub(super) tat: u64,
    /// How many more cells are there.
    pub(super) remaining: u32,
}

/// The state of one bucket while it is looked at.
struct Held(Cell<u64>);

impl StateStore for Held {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let before = NonZeroU64::new(self.0.get()).map(|tat| Nanos::from(tat.get()));
        let (value, after) = measure(before)?;
        self.0.set(after.into());
        Ok(value)
    }
}

/// A clock that stands where it is put.
struct Still(Cell<u64>);

impl Clock for Still {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get().into()
    }
}

/// Takes one cell from a bucket in the state `tat`, where 0 is a full one; or tells how long there will be none.
pub(super) fn take(quota: &Quota, tat: u64, now: u64) -> Result<Taken, Duration> {
    // A limiter counts from the time at which it is made, so that is zero.
    let limiter: RateLimiter<NotKeyed, Held, Still, StateInformationMiddleware> =
        RateLimiter::new(quota.gcra(), Held(Cell::new(tat)), Still(Cell::new(0)));
    limiter.clock().0.set(now);
    match limiter.check() {
        Ok(after) => Ok(Taken { remaining: after.remaining_burst_capacity(), tat: limiter.into_state_store().0.get() }),
        Err(not_until) => Err(not_until.wait_time_from(now.into())),
    }
}

/// Nanoseconds since `start`; a time before it is `start`.
pub(super) fn nanos(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX / 2)
}
