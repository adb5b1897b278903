//! The two bodies of an exchange: counted and limited on the way up, counted as in flight on the way down.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::MIN_BODY;
use super::cut::{Cut, Held};

/// Why a body is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than the API's `max_body`.
    #[error("longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Fewer than `minimum` bytes came within the API's timeout.
    #[error("less than {minimum} bytes within {within:?}")]
    Slow {
        /// What must come.
        minimum: u64,
        /// In this time.
        within: Duration,
    },
    /// Its sender broke off, or its framing is wrong.
    #[error("broke off: {0}")]
    Broken(String),
    /// The exchange was cut.
    #[error("the request is no longer allowed")]
    Cut,
}

/// How far a client's body has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    sent: AtomicU64,
    finished: AtomicBool,
    /// The client is waited for; else the upstream takes no more.
    hungry: AtomicBool,
}

impl Progress {
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Counts so much more, and gives how much that makes.
    pub(super) fn add(&self, bytes: u64) -> u64 {
        self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed)
    }
}

/// Whether a client's body comes fast enough once the response's head is here, as [`super::patient`] asks before it.
pub(super) struct Pace {
    progress: Arc<Progress>,
    within: Duration,
    /// How far it had come, and when.
    seen: Option<(u64, Instant)>,
}

impl Pace {
    pub(super) fn new(progress: Arc<Progress>, within: Duration) -> Self {
        Self { progress, within, seen: None }
    }

    /// Less than [`MIN_BODY`] came in the last `within`, as far as anybody looked.
    pub(super) fn is_slow(&mut self, now: Instant) -> bool {
        let sent = self.progress.sent();
        let (before, since) = *self.seen.get_or_insert((sent, now));
        if self.progress.is_finished() || now.saturating_duration_since(since) < self.within {
            return false;
        }
        self.seen = Some((sent, now));
        sent - before < MIN_BODY
    }
}

/// A client's body on its way up: counted, and ended at the API's `max_body`.
pub struct RequestBody {
    cut: Cut,
    limit: u64,
    over: bool,
    progress: Arc<Progress>,
}

impl RequestBody {
    /// A body that may have at most `limit` bytes, of an exchange that `cut` ends.
    pub fn new(incoming: Incoming, limit: u64, cut: Cut) -> Self {
        let over = incoming.is_end_stream();
        cut.begin(incoming);
        let progress = Progress { finished: AtomicBool::new(over), ..Progress::default() };
        Self { cut, limit, over, progress: Arc::new(progress) }
    }

    /// Holds this until the body is gone.
    pub fn hold(&self, held: Held) {
        self.cut.hold(held);
    }

    /// Tells how much of it went up, when it is gone itself.
    pub fn sent(&self) -> Sent {
        Sent(Arc::clone(&self.progress))
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn cut(&self) -> &Cut {
        &self.cut
    }

    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

/// How much of a request's body went up.
#[derive(Clone, Debug)]
pub struct Sent(Arc<Progress>);

impl Sent {
    /// In bytes.
    pub fn bytes(&self) -> u64 {
        self.0.sent()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let polled = self.cut.poll_request(cx);
            self.progress.hungry.store(polled.is_pending(), Ordering::Relaxed);
            let (frame, over) = match ready!(polled) {
                None => {
                    self.over = true;
                    self.progress.finish();
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(piece)) => piece,
            };
            self.over = over;
            // Trailers are dropped: nothing that comes after the judgement may say more than what was judged.
            let Ok(data) = frame.into_data() else { continue };
            let sent = self.progress.add(data.len() as u64);
            if over {
                self.progress.finish();
            }
            return Poll::Ready(Some(if sent <= self.limit {
                Ok(Frame::data(data))
            } else {
                Err(BodyError::TooLarge { limit: self.limit })
            }));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        self.cut.request_hint()
    }
}

impl Drop for RequestBody {
    /// Whoever sends it wants no more of it, so what comes next is the upstream's answer.
    fn drop(&mut self) {
        self.progress.finish();
        self.cut.end_request();
    }
}

/// An upstream's body as it arrives. While it lives, its request counts as in flight.
pub(super) struct Received {
    incoming: Incoming,
    _place: OwnedSemaphorePermit,
}

impl Received {
    pub(super) fn new(incoming: Incoming, place: OwnedSemaphorePermit) -> Self {
        Self { incoming, _place: place }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An upstream's body on its way down.
pub struct Download {
    cut: Cut,
    over: bool,
}

impl Download {
    pub(super) fn new(cut: Cut, over: bool) -> Self {
        Self { cut, over }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let piece = ready!(self.cut.poll_response(cx));
        self.over = piece.as_ref().is_none_or(|piece| piece.as_ref().is_ok_and(|(_, over)| *over));
        Poll::Ready(piece.map(|piece| piece.map(|(frame, _)| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        if self.over { SizeHint::with_exact(0) } else { self.cut.response_hint() }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.cut.end_response();
    }
}
