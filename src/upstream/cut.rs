//! Ends one exchange from outside: revocation that waits neither for the next request nor for a client that reads on.
//!
//! Both bodies live in here, and whoever moves them borrows them for one step. So a cut frees the client's body, the
//! upstream's connection and what was held for them at once, also when nobody asks for the next step any more.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::SizeHint;

use super::body::{BodyError, Download, Pace};
use super::exchange::{Exchange, Failure};
use super::http1::Head;

/// How long a client may leave a piece of its response untaken: above any pause of a client that still reads, and short
/// enough that one that does not holds no place for long.
const STALL: Duration = Duration::from_secs(60);

/// One exchange with an upstream, to be cut from anywhere.
#[derive(Clone, Default)]
pub struct Cut(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Why it goes no further.
    ended: Option<BodyError>,
    /// Until both halves are over.
    exchange: Option<Exchange>,
    /// The response's head is here.
    answered: bool,
    /// Until the request is sent and the response's head is here.
    pace: Option<Pace>,
    /// Waits for the client's next piece.
    up: Option<Waker>,
    /// Waits for the response's head, then for its next piece.
    down: Option<Waker>,
    /// Since when there is no wait for the upstream, as far as anybody looked.
    idle_since: Option<Instant>,
}

impl Cut {
    /// Ends the exchange, because it may not go on.
    pub fn cut(&self) {
        self.end(BodyError::Cut);
    }

    /// Ends the exchange.
    pub fn end(&self, why: BodyError) {
        let mut state = self.lock();
        state.ended.get_or_insert(why);
        // What it holds may come back here when it is dropped: after the lock.
        let exchange = state.exchange.take();
        let wakers = [state.up.take(), state.down.take()];
        drop(state);
        drop(exchange);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// When the exchange wants to be looked at, if it does; one that has not begun, `within` from `now`.
    pub fn due(&self, now: Instant, within: Duration) -> Option<Instant> {
        let state = self.lock();
        let begins = !state.answered && state.ended.is_none();
        state.pace.as_ref().map(Pace::due).or_else(|| begins.then(|| now + within))
    }

    /// Why the exchange is to end, if it is: the response's head is late, the client's body comes too slowly, or the
    /// client has left a piece of its response untaken for too long. The piece may be the last one, when both bodies are
    /// gone from here and the exchange is still not over.
    pub fn check(&self, now: Instant) -> Result<(), BodyError> {
        let mut state = self.lock();
        let answered = state.answered;
        if let Some(pace) = &mut state.pace {
            pace.check(answered, now)?;
        }
        let is_begun = answered || state.ended.is_some();
        let is_uploading = state.exchange.as_ref().is_some_and(Exchange::is_received);
        if state.down.is_some() || !is_begun || is_uploading {
            return Ok(());
        }
        let since = *state.idle_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= STALL { Err(BodyError::Cut) } else { Ok(()) }
    }

    /// The wait for the response's head begins. To give it up is a cut.
    pub(super) fn wait(&self, pace: Pace) -> Wait<'_> {
        self.lock().pace = Some(pace);
        Wait { cut: self, over: false }
    }

    /// Takes the exchange in.
    pub(super) fn begin(&self, exchange: Exchange) {
        let mut state = self.lock();
        if state.ended.is_none() {
            state.exchange = Some(exchange);
        }
    }

    /// The response's head is here: what comes now is its body.
    fn receive(&self) -> Download {
        let mut state = self.lock();
        state.answered = true;
        state.down = None;
        state.pace.take_if(|pace| pace.is_over());
        let over = state.exchange.as_ref().is_some_and(Exchange::is_received);
        let exchange = state.take_over();
        drop(state);
        exchange.into_iter().for_each(Exchange::end);
        Download::new(self.clone(), over)
    }

    /// Whether something of the request is still to be sent.
    pub(super) fn is_sending(&self) -> bool {
        self.lock().exchange.as_ref().is_some_and(|exchange| !exchange.is_sent())
    }

    /// Sends the request's body until it is sent, or the exchange over.
    pub(super) fn poll_request(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let Some(exchange) = &mut state.exchange else { return Poll::Ready(()) };
        let Poll::Ready(sent) = exchange.poll_send(cx) else {
            park(&mut state.up, cx);
            return Poll::Pending;
        };
        let released = exchange.release();
        let exchange = state.take_over();
        drop(state);
        drop(released);
        match sent {
            Ok(()) => exchange.into_iter().for_each(Exchange::end),
            Err(error) => self.end(error),
        }
        Poll::Ready(())
    }

    /// The next piece of the response's body, and whether it was the last.
    pub(super) fn poll_response(&self, cx: &mut Context<'_>) -> Poll<Option<Result<(Bytes, bool), BodyError>>> {
        let mut state = self.lock();
        if let Some(why) = &state.ended {
            return Poll::Ready(Some(Err(why.clone())));
        }
        state.idle_since = None;
        let Some(exchange) = &mut state.exchange else { return Poll::Ready(None) };
        let Poll::Ready(piece) = exchange.poll_piece(cx) else {
            park(&mut state.down, cx);
            return Poll::Pending;
        };
        let over = exchange.is_received();
        state.down = None;
        // The place at the upstream is free before the client has taken the last piece.
        let exchange = state.take_over();
        drop(state);
        exchange.into_iter().for_each(Exchange::end);
        Poll::Ready(match piece {
            None => None,
            Some(Ok(data)) => Some(Ok((data, over))),
            Some(Err(failure)) => {
                // The connection to the client throws away what it has not written when it learns of this: not in the
                // same turn, in which it may have been given the pieces before.
                self.end(BodyError::Upstream(failure.to_string()));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    /// Nothing is known of the length of a body that was cut: one of no bytes would be whole.
    pub(super) fn response_hint(&self) -> SizeHint {
        let left = self.lock().exchange.as_ref().and_then(Exchange::left);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Nobody reads the response any more.
    pub(super) fn end_response(&self) {
        let mut state = self.lock();
        let gone = state.exchange.take_if(|exchange| !exchange.is_received());
        let sender = state.up.take();
        drop(state);
        drop(gone);
        // What it waits for may be gone with the exchange.
        sender.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait for a response's head.
pub(super) struct Wait<'a> {
    cut: &'a Cut,
    over: bool,
}

impl Wait<'_> {
    /// Runs `work` until it is done, or the exchange is cut.
    pub(super) async fn guard<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, BodyError> {
        std::future::poll_fn(|cx| {
            self.cut.lock().poll_ended(cx)?;
            work.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// The response's head, and its body.
    pub(super) async fn receive(mut self) -> Result<(Head, Download), Failure> {
        let head = std::future::poll_fn(|cx| self.poll_head(cx)).await?;
        self.over = true;
        Ok((head, self.cut.receive()))
    }

    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Head, Failure>> {
        let mut state = self.cut.lock();
        state.poll_ended(cx).map_err(Failure::Body)?;
        let Some(exchange) = &mut state.exchange else { return Poll::Pending };
        let polled = exchange.poll_head(cx);
        let released = exchange.release();
        drop(state);
        drop(released);
        polled
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.cut.cut();
        }
    }
}

impl State {
    /// Wakes this task when the exchange ends, unless it has.
    fn poll_ended(&mut self, cx: &Context<'_>) -> Result<(), BodyError> {
        if let Some(why) = &self.ended {
            return Err(why.clone());
        }
        park(&mut self.down, cx);
        Ok(())
    }

    /// The exchange, when both of its halves are over.
    fn take_over(&mut self) -> Option<Exchange> {
        self.exchange.take_if(|exchange| exchange.is_received() && exchange.is_sent())
    }
}

fn park(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::upstream::MIN_BODY;
    use crate::upstream::body::{Progress, RequestBody};
    use crate::upstream::exchange::Outgoing;
    use crate::upstream::pool::{Idle, Pool};

    const WITHIN: Duration = Duration::from_secs(30);

    struct Told(Arc<AtomicBool>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// A body of which nothing ever comes.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }

    /// An exchange with this body, and the upstream's side of its connection.
    fn exchange(body: RequestBody) -> (DuplexStream, Exchange) {
        let (upstream, ours) = tokio::io::duplex(4096);
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let place = places.try_acquire_owned().expect("a place");
        let request = Outgoing { method: "POST", target: "/", headers: &[], body };
        let back_to = (Arc::<Pool>::default(), 0);
        (upstream, Exchange::new(Idle::new(Box::new(ours)), request, 8192, back_to, place))
    }

    fn no_body() -> RequestBody {
        RequestBody::new(Empty::<Bytes>::new(), 0)
    }

    /// The pace of an exchange without a body, from now on.
    fn pace() -> Pace {
        let progress = Progress::default();
        progress.finish();
        Pace::new(Arc::new(progress), WITHIN, crate::clock::now())
    }

    #[tokio::test]
    async fn a_cut_ends_a_wait_and_frees_what_is_held_though_nobody_asks_for_it() {
        let (cut, freed) = (Cut::default(), Arc::new(AtomicBool::new(false)));
        let endless = || RequestBody::new(Endless, 10);
        let mut body = endless();
        body.hold(Arc::new(Told(Arc::clone(&freed))));
        let (mut upstream, held) = exchange(body);
        let wait = cut.wait(pace());
        cut.begin(held);
        let mut waiting = std::pin::pin!(wait.receive());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(!freed.load(Ordering::Relaxed));
        cut.cut();
        assert!(freed.load(Ordering::Relaxed));
        assert!(matches!(waiting.await, Err(Failure::Body(BodyError::Cut))));
        let mut seen = Vec::new();
        upstream.read_to_end(&mut seen).await.expect("the connection is gone");
        let late = Arc::new(AtomicBool::new(false));
        let mut body = endless();
        body.hold(Arc::new(Told(Arc::clone(&late))));
        cut.begin(exchange(body).1);
        assert!(late.load(Ordering::Relaxed), "nothing is held for what was cut");
    }

    #[tokio::test]
    async fn a_cut_ends_a_wait_for_a_connection() {
        let cut = Cut::default();
        let wait = cut.wait(pace());
        let mut connecting = std::pin::pin!(std::future::pending::<()>());
        let mut waiting = std::pin::pin!(wait.guard(connecting.as_mut()));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        cut.end(BodyError::Late { within: WITHIN });
        assert_eq!(waiting.await, Err(BodyError::Late { within: WITHIN }));
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_frees_what_is_held() {
        let (cut, freed) = (Cut::default(), Arc::new(AtomicBool::new(false)));
        let mut body = RequestBody::new(Endless, 10);
        body.hold(Arc::new(Told(Arc::clone(&freed))));
        let (mut upstream, held) = exchange(body);
        {
            let wait = cut.wait(pace());
            cut.begin(held);
            let mut waiting = std::pin::pin!(wait.receive());
            assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(freed.load(Ordering::Relaxed), "though somebody may still cut it");
        let mut seen = Vec::new();
        upstream.read_to_end(&mut seen).await.expect("an end");
    }

    #[tokio::test]
    async fn a_response_breaks_off_after_a_cut() {
        let mut cx = Context::from_waker(Waker::noop());
        let (_upstream, cut, mut body) = half_a_response().await;
        let mut next = || http_body::Body::poll_frame(Pin::new(&mut body), &mut cx);
        assert!(matches!(next(), Poll::Ready(Some(Ok(_)))));
        assert!(next().is_pending());
        cut.cut();
        assert!(matches!(next(), Poll::Ready(Some(Err(BodyError::Cut)))));
    }

    #[test]
    fn a_body_that_was_cut_does_not_look_like_an_empty_one() {
        let cut = Cut::default();
        cut.cut();
        assert_eq!(cut.response_hint().exact(), None);
    }

    /// A response of two pieces, of which the second has not come.
    async fn half_a_response() -> (DuplexStream, Cut, Download) {
        let (mut upstream, exchange) = exchange(no_body());
        let cut = Cut::default();
        let wait = cut.wait(pace());
        cut.begin(exchange);
        let answer = async {
            let read = upstream.read(&mut [0; 256]).await.expect("a request");
            assert!(read > 0);
            upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.expect("room");
        };
        let (received, ()) = tokio::join!(wait.receive(), answer);
        let (_, body) = received.expect("a head");
        (upstream, cut, body)
    }

    #[test]
    fn an_upstream_has_its_time_for_a_head_and_a_client_for_its_body() {
        let (progress, now) = (Arc::<Progress>::default(), crate::clock::now());
        let cut = Cut::default();
        let at = |windows: u32| now + WITHIN * windows;
        assert_eq!((cut.check(at(9)), cut.due(at(9), WITHIN)), (Ok(()), Some(at(10))), "it has not begun");
        let _wait = cut.wait(Pace::new(Arc::clone(&progress), WITHIN, now));
        let due = || cut.due(now, Duration::ZERO);
        let late = Err(BodyError::Late { within: WITHIN });
        assert_eq!(due(), Some(at(1)));
        assert_eq!(cut.check(at(1) - Duration::from_millis(1)), Ok(()));
        progress.add(MIN_BODY);
        assert_eq!((cut.check(at(1)), due()), (Ok(()), Some(at(2))), "a body that comes has time");
        progress.add(MIN_BODY - 1);
        assert_eq!(cut.check(at(2)), late, "the upstream took too little");
        progress.set_hungry(true);
        assert_eq!(
            cut.check(at(3)),
            Err(BodyError::Slow { minimum: MIN_BODY, within: WITHIN }),
            "the client gave too little"
        );
        progress.add(1);
        progress.finish();
        assert_eq!(cut.check(at(4)), Ok(()), "the last of the body came in this time");
        assert_eq!(cut.check(at(5)), late);
    }

    fn is_late(cut: &Cut, now: Instant) -> bool {
        cut.check(now).is_err()
    }

    #[tokio::test]
    async fn a_piece_that_nobody_takes_is_a_stall_and_a_wait_for_the_upstream_is_none() {
        let (_upstream, cut, mut body) = half_a_response().await;
        let now = crate::clock::now();
        assert!(!is_late(&cut, now) && !is_late(&cut, now + STALL / 2));
        assert!(is_late(&cut, now + STALL), "nobody asked for the first piece");
        let next = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
        assert!(next.is_some_and(|frame| frame.is_ok()));
        assert!(!is_late(&cut, now + STALL), "it was taken");
        let mut cx = Context::from_waker(Waker::noop());
        assert!(http_body::Body::poll_frame(Pin::new(&mut body), &mut cx).is_pending());
        assert!(!is_late(&cut, now + STALL) && !is_late(&cut, now + STALL * 9), "the upstream is waited for");
    }

    #[tokio::test]
    async fn a_last_piece_that_nobody_takes_is_a_stall_too() {
        let (mut upstream, cut, mut body) = half_a_response().await;
        let now = crate::clock::now();
        upstream.write_all(b"world").await.expect("room");
        while !http_body::Body::is_end_stream(&body) {
            let next = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
            assert!(next.is_some_and(|frame| frame.is_ok()));
        }
        drop(body);
        assert!(!is_late(&cut, now) && is_late(&cut, now + STALL), "it waits in the client's connection");
    }

    #[tokio::test]
    async fn an_upload_that_goes_on_after_the_responses_head_keeps_its_pace() {
        let (_upstream, cut, mut body) = half_a_response().await;
        let (progress, within, now) = (Arc::<Progress>::default(), WITHIN, crate::clock::now());
        cut.lock().pace = Some(Pace::new(Arc::clone(&progress), within, now));
        let mut cx = Context::from_waker(Waker::noop());
        while http_body::Body::poll_frame(Pin::new(&mut body), &mut cx).is_ready() {}
        assert!(!is_late(&cut, now) && !is_late(&cut, now + within / 2));
        progress.add(MIN_BODY);
        assert!(!is_late(&cut, now + within), "it came fast enough");
        progress.add(MIN_BODY - 1);
        assert!(is_late(&cut, now + within * 2), "and then it did not");
        progress.finish();
        assert!(!is_late(&cut, now + within * 9), "nothing is missing of it");
    }

    #[tokio::test]
    async fn who_sends_the_request_learns_that_nobody_reads_the_response() {
        let (mut upstream, exchange) = exchange(RequestBody::new(Endless, 10));
        let cut = Cut::default();
        let wait = cut.wait(pace());
        cut.begin(exchange);
        upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.expect("room");
        let (_, body) = wait.receive().await.expect("a head");
        let mut rest = tokio::task::JoinSet::new();
        rest.spawn(body.rest_of_request().expect("a rest"));
        tokio::task::yield_now().await;
        drop(body);
        tokio::time::timeout(Duration::from_secs(10), rest.join_all()).await.expect("in time");
    }
}
