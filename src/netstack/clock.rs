//! The clocks that smoltcp sees.
//!
//! Time comes in as [`Instant`]s of the owner; out come smoltcp's timestamps. TLS over TCP below us loses nothing and
//! reorders nothing, so whatever has not been acknowledged yet is late, never lost: a retransmission inside the tunnel
//! can only make a slow link slower. smoltcp has no switch for its timers, so its time is bent instead:
//!
//! 1. [`LinkClock`], one per stack: stands still while packets wait for room in the owner's buffer.
//! 2. [`StreamClock`], one per connection: follows the link's clock at most [`LIVE`] beyond the last segment that the
//!    client sent on this connection, and at a quarter of its pace ([`PACE`]). Only a silence in which nothing was on its
//!    way is counted in full once it ends, for no timer but that of challenge acknowledgements is set then.
//!
//! What this relies on in smoltcp 0.14: the retransmission timeout is clamped to 1 s from below and starts at 1 s
//! (`RTTE_MIN_RTO`, `RTTE_INITIAL_RTO`), the first zero-window probe waits for one retransmission timeout, and both
//! timers are set at the time of a call into the socket. [`LIVE`] is half of that minimum even before the slowing down,
//! so neither can fire on a connection whose client is silent. The one exception, a probe without any delay when
//! something is written into an empty buffer while the client's window is closed, is kept away by the connection, which
//! does not take bytes then. Fast retransmission needs three duplicate acknowledgements, hence a client that talks.

use std::time::{Duration, Instant};

/// How far a connection's clock runs on without a segment from the client: enough for the delayed acknowledgement, and
/// less than smoltcp's shortest retransmission timeout of 1 s.
pub(super) const LIVE: Duration = Duration::from_millis(500);

/// Milliseconds of the link for one of smoltcp's. It lifts the shortest retransmission timeout from 1 s to 4 s, far above
/// what an outer connection that recovers from a loss, or a queue in front of a slow access line, adds to a round trip
/// while the client talks.
const PACE: u32 = 4;

/// A span of the link's time in smoltcp's.
pub(super) fn paced(span: Duration) -> smoltcp::time::Duration {
    (span / PACE).into()
}

/// Time on the link since the stack was made: the owner's time without the stalls.
#[derive(Debug)]
pub(super) struct LinkClock {
    elapsed: Duration,
    read: Instant,
    stalled: bool,
}

impl LinkClock {
    pub(super) fn new(now: Instant) -> Self {
        Self { elapsed: Duration::ZERO, read: now, stalled: false }
    }

    /// Reads the clock. The owner's time may repeat but does not go back; if it does, the link's stands still.
    pub(super) fn advance(&mut self, now: Instant) -> Duration {
        self.elapsed = self.peek(now);
        self.read = self.read.max(now);
        self.elapsed
    }

    /// The time on the link, without remembering that it was asked for.
    pub(super) fn peek(&self, now: Instant) -> Duration {
        match self.stalled {
            true => self.elapsed,
            false => self.elapsed + now.saturating_duration_since(self.read),
        }
    }

    /// Whether packets wait for room, from the moment of the last [`advance`](Self::advance) on.
    pub(super) fn set_stalled(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }
}

/// Time on one connection, as smoltcp sees it.
#[derive(Debug)]
pub(super) struct StreamClock {
    /// When the client was heard last, in the link's time.
    heard: Duration,
    /// Up to where the link's time has been counted.
    seen: Duration,
    /// The part of the link's time during which the client was live.
    live: Duration,
}

impl StreamClock {
    /// A clock for a connection whose first segment arrived at `at`.
    pub(super) fn new(at: Duration) -> Self {
        Self { heard: at, seen: at, live: Duration::ZERO }
    }

    /// A segment of this connection arrived. If it was `idle`, nothing of ours was waiting for an acknowledgement.
    ///
    /// smoltcp answers a keep-alive without data as it challenges: once a second, which is how often a client may probe.
    pub(super) fn hear(&mut self, at: Duration, idle: bool) {
        self.advance(at);
        if idle && at > self.limit() {
            self.live += PACE * (at - self.heard);
        }
        self.heard = at;
    }

    pub(super) fn heard(&self) -> Duration {
        self.heard
    }

    /// Reads the clock.
    pub(super) fn advance(&mut self, at: Duration) -> smoltcp::time::Instant {
        self.live += at.min(self.limit()).saturating_sub(self.seen);
        self.seen = self.seen.max(at);
        self.shown()
    }

    /// What the clock showed when it was last read.
    pub(super) fn shown(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::ZERO + paced(self.live)
    }

    /// When the clock will show `due` if the client stays silent; `None` if it will not get there.
    pub(super) fn reaches(&self, due: smoltcp::time::Instant) -> Option<Duration> {
        let due = Duration::from(due - smoltcp::time::Instant::ZERO).saturating_mul(PACE);
        let at = self.seen.saturating_add(due.saturating_sub(self.live));
        (at <= self.limit()).then_some(at)
    }

    fn limit(&self) -> Duration {
        self.heard + LIVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary starting point; only differences matter")]
    fn start() -> Instant {
        Instant::now()
    }

    fn paced_instant(live: Duration) -> smoltcp::time::Instant {
        smoltcp::time::Instant::ZERO + paced(live)
    }

    #[test]
    fn the_links_clock_stands_still_in_a_stall() {
        let now = start();
        let mut clock = LinkClock::new(now);
        assert_eq!(clock.advance(now + SECOND), SECOND);
        clock.set_stalled(true);
        assert_eq!(clock.advance(now + 21 * SECOND), SECOND);
        clock.set_stalled(false);
        assert_eq!(clock.peek(now + 22 * SECOND), 2 * SECOND);
    }

    #[test]
    fn a_step_back_of_the_owners_time_changes_nothing() {
        let now = start();
        let mut clock = LinkClock::new(now);
        clock.advance(now + 2 * SECOND);
        assert_eq!(clock.advance(now), 2 * SECOND);
        assert_eq!(clock.advance(now + 3 * SECOND), 3 * SECOND);
    }

    #[test]
    fn a_streams_clock_runs_half_a_second_beyond_the_client() {
        let mut clock = StreamClock::new(SECOND);
        assert_eq!(clock.advance(60 * SECOND), paced_instant(LIVE));
        clock.hear(60 * SECOND, false);
        assert_eq!(clock.advance(60 * SECOND), paced_instant(LIVE), "the silence itself is not made up for");
        assert_eq!(clock.advance(61 * SECOND), paced_instant(2 * LIVE));
    }

    #[test]
    fn a_silence_in_which_nothing_was_on_its_way_counts_in_full() {
        let mut clock = StreamClock::new(SECOND);
        clock.hear(SECOND + LIVE, true);
        assert_eq!(clock.advance(SECOND + LIVE), paced_instant(LIVE), "not yet a silence");
        let before = clock.shown();
        clock.hear(61 * SECOND + LIVE, true);
        assert!(clock.advance(61 * SECOND + LIVE) - before >= smoltcp::time::Duration::from_secs(60));
    }

    #[test]
    fn a_deadline_beyond_the_limit_is_never_announced() {
        let mut clock = StreamClock::new(SECOND);
        let time = clock.advance(SECOND);
        assert_eq!(clock.reaches(time + paced(LIVE)), Some(SECOND + LIVE));
        assert_eq!(clock.reaches(time + paced(LIVE + Duration::from_millis(4))), None);
        assert_eq!(clock.reaches(time), Some(SECOND));
    }

    #[test]
    fn the_announced_time_is_when_the_clock_shows_the_deadline() {
        let mut clock = StreamClock::new(Duration::ZERO);
        clock.hear(Duration::from_micros(1_234_567), false);
        let time = clock.advance(Duration::from_micros(1_300_001));
        let due = time + paced(Duration::from_millis(10));
        let at = clock.reaches(due).unwrap();
        assert!(clock.advance(at) >= due);
    }
}
