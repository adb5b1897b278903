//! An allowed request until both of its bodies are gone, and the connection has written all of the response. When it is
//! over, its `end` record is noted, however it ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::open::Place;
use super::records::Judging;
use super::reply::Refusal;
use crate::audit::{self, DecisionId};
use crate::clock::{self, Stopwatch};
use crate::identity::SessionId;
use crate::upstream::Sent;

/// Held by the request's body, by the response's, and by each of its pieces; the last one ends it.
pub(super) struct Exchange {
    decision: DecisionId,
    watch: Stopwatch,
    sent: Sent,
    /// Not set when the client got no head.
    head: OnceLock<Head>,
    bytes: AtomicU64,
    complete: AtomicBool,
    upstream_failed: AtomicBool,
    /// Of the decision.
    record: audit::Record,
    place: Place,
}

/// The head of the answer.
struct Head {
    status: u16,
    /// How long the upstream took to it; `None` when it is ours.
    upstream: Option<Duration>,
}

impl Exchange {
    pub(super) fn begin(judging: &Judging, record: audit::Record, sent: Sent, place: Place) -> Arc<Self> {
        Arc::new(Self {
            decision: judging.decision,
            watch: judging.watch,
            sent,
            head: OnceLock::new(),
            bytes: AtomicU64::new(0),
            complete: AtomicBool::new(false),
            upstream_failed: AtomicBool::new(false),
            record,
            place,
        })
    }

    /// The request was allowed and still got an answer of ours.
    pub(super) fn refused(&self, refusal: Refusal) -> Refusal {
        self.answered(refusal.status.as_u16(), None);
        if !self.place.is_revoked() {
            self.complete();
        }
        tracing::info!(
            session = %self.session(),
            decision = %self.decision,
            cause = refusal.cause.as_deref(),
            "no response from the upstream"
        );
        refusal.recorded()
    }

    /// The head of the answer goes down.
    pub(super) fn answered(&self, status: u16, upstream: Option<Duration>) {
        let _the_first_counts = self.head.set(Head { status, upstream }).is_err();
    }

    /// So much more of the response's body goes down.
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Nothing of the response is missing.
    pub(super) fn complete(&self) {
        self.complete.store(true, Ordering::Relaxed);
    }

    /// The upstream gave no response, or not all of it.
    pub(super) fn upstream_failed(&self) {
        self.upstream_failed.store(true, Ordering::Relaxed);
    }

    /// A piece of the response was not written.
    pub(super) fn incomplete(&self) {
        self.complete.store(false, Ordering::Relaxed);
    }

    fn session(&self) -> SessionId {
        self.place.connection().caller.login.tunnel().session
    }

    /// The word for how it ended.
    fn result(&self) -> &'static str {
        if self.upstream_failed.load(Ordering::Relaxed) {
            "upstream-failed"
        } else if self.complete.load(Ordering::Relaxed) {
            "complete"
        } else if self.place.is_revoked() {
            "revoked"
        } else {
            "client-gone"
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // Without its decision in the file it did not happen.
        if self.record.is_lost() {
            return;
        }
        let head = self.head.get();
        let record = audit::Event::End(audit::End {
            id: self.decision,
            session: self.session(),
            status: head.map(|head| head.status),
            result: self.result(),
            bytes: self.bytes.load(Ordering::Relaxed),
            request_bytes: self.sent.bytes(),
            took: self.watch.elapsed(),
            upstream: head.and_then(|head| head.upstream),
        });
        self.place.connection().proxy.scribe.note(clock::wall(), &record);
    }
}
