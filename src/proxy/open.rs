//! The requests of one connection that have a permit and are not over: looked at again, and cut when they may not go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::Connection;
use super::caller::Flight;
use crate::clock::{self, Moment};
use crate::identity::authn;
use crate::request::CanonicalRequest;
use crate::upstream::{BodyError, Cut};

/// How often open requests are looked at at least, although nothing happened: an issuer may have withdrawn a key, a
/// client may have stopped to read.
const LOOK: Duration = Duration::from_secs(10);

/// How long a request that was cut may take to leave. One that stays has a client that takes not even its end, and
/// only the end of the connection frees what it holds.
const LEAVE: Duration = Duration::from_millis(500);

/// How long after the end of a token its requests are looked at: the wall clock and the timers' differ a little.
const ENDED: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Default)]
pub(super) struct Open {
    requests: Mutex<Requests>,
    sooner: Notify,
}

#[derive(Default)]
struct Requests {
    next: u64,
    open: BTreeMap<u64, OpenRequest>,
    /// When they want to be looked at.
    look_at: Option<Instant>,
}

/// What is needed to judge a request again.
pub(super) struct OpenRequest {
    pub(super) request: CanonicalRequest,
    pub(super) evidence: Option<authn::Verdict>,
    cut: Cut,
    cut_at: Option<Instant>,
    /// It was cut because it is no longer allowed.
    revoked: bool,
    /// What its upstream has for its answer.
    timeout: Duration,
    /// When the evidence ends.
    ends: Option<Instant>,
    /// When it wants to be looked at.
    look_at: Instant,
}

impl OpenRequest {
    pub(super) fn new(
        request: CanonicalRequest,
        evidence: Option<authn::Verdict>,
        cut: Cut,
        timeout: Duration,
        Moment { now, wall }: Moment,
    ) -> Self {
        let until = |end: SystemTime| now + end.duration_since(wall).unwrap_or_default() + ENDED;
        let ends = evidence.as_ref().map(|evidence| until(evidence.counts_until()));
        let look_at = next_look(now, [ends, Some(now + timeout)]);
        Self { request, evidence, cut, cut_at: None, revoked: false, timeout, ends, look_at }
    }

    /// Looks at it; gives why it is to be cut, if it is.
    fn look(&mut self, is_allowed: impl Fn(&Self) -> bool, now: Instant) -> Result<(), BodyError> {
        self.revoked = !is_allowed(self);
        let checked = if self.revoked { Err(BodyError::Cut) } else { self.cut.check(now) };
        if checked.is_err() {
            self.cut_at = Some(now);
            self.look_at = now + LEAVE;
        } else {
            self.look_at = next_look(now, [self.ends, self.cut.due(now, self.timeout)]);
        }
        checked
    }
}

/// The first of these times that is still to come, and not too late.
fn next_look(now: Instant, wishes: [Option<Instant>; 2]) -> Instant {
    wishes.into_iter().flatten().filter(|at| now < *at).fold(now + LOOK, Instant::min)
}

/// A request's place among the open ones, until it is dropped.
pub(super) struct Place {
    connection: Arc<Connection>,
    number: u64,
    _flight: Flight,
}

/// The end of all open requests: with the connection, whoever asked for them is gone.
pub(super) struct LastCut<'a>(&'a Open);

impl Open {
    pub(super) fn enter(&self, connection: &Arc<Connection>, request: OpenRequest, flight: Flight) -> Place {
        let look_at = request.look_at;
        let mut requests = self.requests();
        let number = requests.next;
        requests.next += 1;
        requests.open.insert(number, request);
        // Later than planned is no news: a look at nothing, every ten seconds, is cheaper than a new plan per request.
        let sooner = requests.look_at.is_none_or(|planned| look_at < planned);
        if sooner {
            requests.look_at = Some(look_at);
            self.sooner.notify_one();
        }
        Place { connection: Arc::clone(connection), number, _flight: flight }
    }

    /// Waits until the open requests want to be looked at.
    pub(super) async fn due(&self) {
        loop {
            let look_at = self.requests().look_at;
            let time = async {
                match look_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => return,
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Cuts the requests that are no longer allowed, and those that are too slow. False when one that was cut did not
    /// leave.
    pub(super) fn look(&self, is_allowed: impl Fn(&OpenRequest) -> bool) -> bool {
        let now = clock::now();
        let mut cuts = Vec::new();
        let mut all_leave = true;
        let mut requests = self.requests();
        for open in requests.open.values_mut() {
            match open.cut_at {
                Some(cut_at) => all_leave &= now < cut_at + LEAVE,
                None => {
                    if let Err(why) = open.look(&is_allowed, now) {
                        cuts.push((open.cut.clone(), why));
                    }
                }
            }
        }
        requests.look_at = requests.open.values().map(|open| open.look_at).min();
        drop(requests);
        self.sooner.notify_one();
        // A cut may drop a place, which comes back here: after the lock.
        cuts.into_iter().for_each(|(cut, why)| cut.end(why));
        all_leave
    }

    pub(super) fn last_cut(&self) -> LastCut<'_> {
        LastCut(self)
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whose it is.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether the request was cut because it is no longer allowed.
    pub(super) fn is_revoked(&self) -> bool {
        self.connection.open.requests().open.get(&self.number).is_some_and(|open| open.revoked)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.connection.open.requests().open.remove(&self.number);
        drop(left);
    }
}

impl Drop for LastCut<'_> {
    fn drop(&mut self) {
        let cuts: Vec<Cut> = self.0.requests().open.values().map(|open| open.cut.clone()).collect();
        cuts.iter().for_each(Cut::cut);
    }
}
