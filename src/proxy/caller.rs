//! Whose streams these are: one session's login, and what all its requests share.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::clock;
use crate::identity::Identity;
use crate::limits::{PreLimit, Quota};

use super::turns::Turns;

/// Requests of one session that are not over: twice what one HTTP/2 connection may have, and so few that one session
/// is far from taking all places of an API.
const MAX_IN_FLIGHT: usize = 256;

/// Refusals of one session that get a record of their own, in a second, and alarms: more than a person with a broken
/// script needs to be found, and so few that a hostile one fills no disk.
const RECORDS: NonZeroU32 = NonZeroU32::new(20).expect("it is not zero");

/// And so many at once.
const RECORDS_AT_ONCE: NonZeroU32 = NonZeroU32::new(200).expect("it is not zero");

/// Records of their own that a session gets for one kind of event, and the count of the events beyond.
struct Records {
    room: Mutex<PreLimit>,
    over: AtomicU64,
}

/// A session.
pub struct Caller {
    /// What the login proved.
    pub login: Identity,
    prelimit: Mutex<PreLimit>,
    refusals: Records,
    /// Apart from the refusals: whoever causes an alarm causes as many of those as they like.
    alarms: Records,
    in_flight: Arc<Semaphore>,
    turns: Arc<Turns>,
    requests: Arc<AtomicU64>,
    over_rate: AtomicU64,
    over_flight: AtomicU64,
    /// Told when there is something to sum.
    summed: Notify,
}

/// What has no record of its own, since this was last asked: for the summed audit records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summed {
    /// Requests that the pre-limit refused.
    pub over_rate: u64,
    /// Requests that would have been too many at the same time.
    pub over_flight: u64,
    /// Refusals beyond those that are recorded one by one.
    pub over_refusals: u64,
    /// And alarms.
    pub over_alarms: u64,
}

impl Summed {
    /// The sums that are not zero, by the word of their limit in records.
    pub fn by_limit(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("max_requests", self.over_rate),
            ("max_in_flight", self.over_flight),
            ("refusals", self.over_refusals),
            ("alarms", self.over_alarms),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }
}

/// A request of the session that is not over.
pub(super) struct Flight(#[expect(dead_code, reason = "its drop is what counts")] OwnedSemaphorePermit);

/// Why a session has no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Too many in a second.
    Rate,
    /// Too many at the same time.
    InFlight,
}

impl Caller {
    /// The caller of a session; `requests` counts them for whoever lists sessions.
    pub fn new(login: Identity, prelimit: PreLimit, requests: Arc<AtomicU64>) -> Self {
        Self {
            login,
            prelimit: Mutex::new(prelimit),
            refusals: Records::new(),
            alarms: Records::new(),
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            turns: Arc::default(),
            requests,
            over_rate: AtomicU64::new(0),
            over_flight: AtomicU64::new(0),
            summed: Notify::new(),
        }
    }

    /// Waits until there is something to sum.
    pub async fn pre_limited(&self) {
        self.summed.notified().await;
    }

    /// What is to be summed since this was last asked.
    pub fn take_pre_limited(&self) -> Summed {
        Summed {
            over_rate: self.over_rate.swap(0, Ordering::Relaxed),
            over_flight: self.over_flight.swap(0, Ordering::Relaxed),
            over_refusals: self.refusals.over.swap(0, Ordering::Relaxed),
            over_alarms: self.alarms.over.swap(0, Ordering::Relaxed),
        }
    }

    /// Whose turn it is among the session's tasks.
    pub(super) fn turns(&self) -> Arc<Turns> {
        Arc::clone(&self.turns)
    }

    /// Room for one more request.
    pub(super) fn admit(&self, now: Instant) -> Result<Flight, Full> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !take(&self.prelimit, now) {
            self.sum(&self.over_rate);
            return Err(Full::Rate);
        }
        Arc::clone(&self.in_flight).try_acquire_owned().map(Flight).map_err(|_| {
            self.sum(&self.over_flight);
            Full::InFlight
        })
    }

    /// Whether one more refusal gets a record of its own; if not, it is in the sum.
    pub(super) fn may_record_refusal(&self) -> bool {
        self.may_record(&self.refusals)
    }

    /// Whether one more alarm does.
    pub(super) fn may_record_alarm(&self) -> bool {
        self.may_record(&self.alarms)
    }

    fn may_record(&self, records: &Records) -> bool {
        let room = take(&records.room, clock::now());
        if !room {
            self.sum(&records.over);
        }
        room
    }

    fn sum(&self, count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
        self.summed.notify_one();
    }
}

impl Records {
    fn new() -> Self {
        let quota = Quota::new(RECORDS, Duration::from_secs(1), RECORDS_AT_ONCE).expect("it can be counted");
        Self { room: Mutex::new(PreLimit::new(quota, clock::now())), over: AtomicU64::new(0) }
    }
}

fn take(bucket: &Mutex<PreLimit>, now: Instant) -> bool {
    bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now)
}
