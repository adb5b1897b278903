//! The one reader of the operating system's clocks.
//!
//! The monotonic clock serves deadlines, the wall clock serves certificates, tokens and audit records. The two are
//! never compared.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time, for deadlines and timers.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time, for certificates, tokens and audit records.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// See [`now`].
    pub now: Instant,
    /// See [`wall`].
    pub wall: SystemTime,
}

/// This moment.
pub fn moment() -> Moment {
    Moment { now: now(), wall: wall() }
}

/// Measures how long something takes, by the processor's counter: it costs less than to ask the operating system, and is
/// comparable with nothing else. The first one of a process takes up to 200 ms to get to know that counter; where there
/// are metrics, it is theirs.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(quanta::Instant);

impl Stopwatch {
    /// From now on.
    pub fn start() -> Self {
        Self(quanta::Instant::now())
    }

    /// Until now.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Wall-clock time as seconds since the Unix epoch; 0 before it.
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
