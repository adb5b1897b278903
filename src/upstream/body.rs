//! The two bodies of an exchange: counted and limited on the way up, counted as in flight on the way down.

use std::any::Any;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use super::MIN_BODY;
use super::cut::Cut;

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
    /// No head of the response came within the API's timeout.
    #[error("no response within {within:?}")]
    Late {
        /// The time given.
        within: Duration,
    },
    /// Its sender broke off, or its framing is wrong.
    #[error("broke off: {0}")]
    Broken(String),
    /// The upstream broke off, or what came from it is no response.
    #[error("the upstream: {0}")]
    Upstream(String),
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

    pub(super) fn set_hungry(&self, hungry: bool) {
        self.hungry.store(hungry, Ordering::Relaxed);
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed)
    }
}

/// Whether an exchange keeps to its API's timeout: within each, some of the client's body goes up, and within one after
/// that the response's head comes.
pub(super) struct Pace {
    progress: Arc<Progress>,
    within: Duration,
    /// How far the body had come.
    sent: u64,
    /// When that was.
    since: Instant,
    /// The response's head was here at the last look.
    answered: bool,
}

impl Pace {
    pub(super) fn new(progress: Arc<Progress>, within: Duration, now: Instant) -> Self {
        let sent = progress.sent();
        Self { progress, within, sent, since: now, answered: false }
    }

    /// When it wants to be looked at.
    pub(super) fn due(&self) -> Instant {
        self.since + self.within
    }

    /// Whether nothing more can be late once the response's head is here.
    pub(super) fn is_over(&self) -> bool {
        self.progress.is_finished()
    }

    /// Why it is too slow, if it is.
    pub(super) fn check(&mut self, answered: bool, now: Instant) -> Result<(), BodyError> {
        let sent = self.progress.sent();
        if answered && !self.answered {
            // What was missing before the head was the upstream's to take: a whole time begins.
            (self.answered, self.sent, self.since) = (true, sent, now);
            return Ok(());
        }
        if now < self.due() {
            return Ok(());
        }
        let came = sent - std::mem::replace(&mut self.sent, sent);
        self.since = now;
        let within = self.within;
        if self.progress.is_finished() {
            return if answered || came > 0 { Ok(()) } else { Err(BodyError::Late { within }) };
        }
        if came >= MIN_BODY {
            Ok(())
        } else if answered || self.progress.is_hungry() {
            Err(BodyError::Slow { minimum: MIN_BODY, within })
        } else {
            Err(BodyError::Late { within })
        }
    }
}

/// A client's body on its way up: counted, and ended at the API's `max_body`.
pub struct RequestBody {
    /// Until it is whole.
    incoming: Option<UnsyncBoxBody<Bytes, BodyError>>,
    limit: u64,
    progress: Arc<Progress>,
    /// Until the body is gone.
    held: Option<Held>,
}

/// What is held until a request's body is gone.
pub type Held = Arc<dyn Any + Send + Sync>;

impl RequestBody {
    /// A body that may have at most `limit` bytes.
    pub fn new<B>(incoming: B, limit: u64) -> Self
    where
        B: Body<Data = Bytes, Error: Display> + Send + 'static,
    {
        let broken = |error: B::Error| BodyError::Broken(error.to_string());
        let incoming = (!incoming.is_end_stream()).then(|| incoming.map_err(broken).boxed_unsync());
        let progress = Progress { finished: AtomicBool::new(incoming.is_none()), ..Progress::default() };
        Self { incoming, limit, progress: Arc::new(progress), held: None }
    }

    /// Holds this until the body is gone.
    pub fn hold(&mut self, held: Held) {
        self.held = self.incoming.is_some().then_some(held);
    }

    /// Tells how much of it went up, when it is gone itself.
    pub fn sent(&self) -> Sent {
        Sent(Arc::clone(&self.progress))
    }

    /// Whether its announced length is beyond its limit.
    pub(super) fn check_announced(&self) -> Result<(), BodyError> {
        let announced = self.incoming.as_ref().map_or(0, |incoming| incoming.size_hint().lower());
        if announced > self.limit { Err(BodyError::TooLarge { limit: self.limit }) } else { Ok(()) }
    }

    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// What is known of its length; `None` where there is no body.
    pub(super) fn hint(&self) -> Option<SizeHint> {
        self.incoming.as_ref().map(Body::size_hint)
    }

    pub(super) fn is_over(&self) -> bool {
        self.incoming.is_none()
    }

    /// The next piece; `None` at the end. Trailers are dropped: nothing that comes after the judgement may say more than
    /// what was judged.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
            let polled = Pin::new(&mut *incoming).poll_frame(cx);
            self.progress.set_hungry(polled.is_pending());
            let frame = match ready!(polled) {
                None => {
                    self.incoming = None;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
            };
            if incoming.is_end_stream() {
                self.incoming = None;
            }
            let Ok(data) = frame.into_data() else { continue };
            let sent = self.progress.add(data.len() as u64);
            return Poll::Ready(Some(if sent <= self.limit {
                Ok(data)
            } else {
                Err(BodyError::TooLarge { limit: self.limit })
            }));
        }
    }

    /// Nothing more of it goes up. What is held for it stays until [`RequestBody::release`].
    pub(super) fn finish(&mut self) {
        self.incoming = None;
        self.progress.finish();
    }

    /// What was held for a body that is finished.
    pub(super) fn release(&mut self) -> Option<Held> {
        self.held.take_if(|_| self.progress.is_finished())
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

/// An upstream's body on its way down.
pub struct Download {
    cut: Cut,
    over: bool,
}

impl Download {
    pub(super) fn new(cut: Cut, over: bool) -> Self {
        Self { cut, over }
    }

    /// What is left of the request's body, to be sent beside the response: runs until that is done, or the exchange over.
    pub fn rest_of_request(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let cut = self.cut.clone();
        cut.is_sending().then_some(async move { std::future::poll_fn(|cx| cut.poll_request(cx)).await })
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
        Poll::Ready(piece.map(|piece| piece.map(|(data, _)| Frame::data(data))))
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
