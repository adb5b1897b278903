//! The only reader of the operating system's time in this package.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock in this package")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, for the dates of tokens.
#[expect(clippy::disallowed_methods, reason = "the one reader of the time of day in this package")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
