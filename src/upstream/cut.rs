//! Ends one exchange from outside: revocation that waits neither for the next request nor for a client that reads on.
//!
//! Both bodies live in here, and whoever moves them borrows them for one step. So a cut frees the client's body, the
//! upstream's connection and what was held for them at once, also when nobody asks for the next step any more.

use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::{BodyError, Download, Pace, Received};

/// How long a client may leave a piece of its response untaken: above any pause of a client that still reads, and short
/// enough that one that does not holds no place for long.
const STALL: Duration = Duration::from_secs(60);

/// What is held until a request's body is gone.
pub type Held = Arc<dyn Any + Send + Sync>;

/// One exchange with an upstream, to be cut from anywhere.
#[derive(Clone, Default)]
pub struct Cut(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cut: bool,
    request: Option<Incoming>,
    held: Option<Held>,
    response: Option<Received>,
    /// Of a request's body that is not finished when the response's head is here.
    pace: Option<Pace>,
    /// Waits for the client's next piece.
    up: Option<Waker>,
    /// Waits for the response's head, then for its next piece.
    down: Option<Waker>,
    /// Since when there is no wait for the upstream, as far as anybody looked.
    idle_since: Option<Instant>,
}

/// A piece of a body, and whether it was the last.
pub(super) type Piece = (Frame<Bytes>, bool);

impl Cut {
    /// Ends the exchange.
    pub fn cut(&self) {
        let mut state = self.lock();
        state.cut = true;
        // What these hold may come back here when it is dropped: after the lock.
        let bodies = (state.request.take(), state.held.take(), state.response.take());
        let wakers = [state.up.take(), state.down.take()];
        drop(state);
        drop(bodies);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Whether the client has left a piece of its response untaken for too long, or sends the rest of its body too
    /// slowly. The piece may be the last one, when both bodies are gone from here and the exchange is still not over.
    pub fn is_stalled(&self, now: Instant) -> bool {
        let mut state = self.lock();
        if state.pace.as_mut().is_some_and(|pace| pace.is_slow(now)) {
            return true;
        }
        let is_uploading = state.response.is_none() && state.request.is_some();
        if state.down.is_some() || is_uploading {
            return false;
        }
        let since = *state.idle_since.get_or_insert(now);
        now.saturating_duration_since(since) >= STALL
    }

    /// Runs `work` until it is done, or gives `None` when the exchange is cut.
    pub(super) async fn guard<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            {
                let mut state = self.lock();
                if state.cut {
                    return Poll::Ready(None);
                }
                park(&mut state.down, cx);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    pub(super) fn begin(&self, request: Incoming) {
        let mut state = self.lock();
        if !state.cut {
            state.request = Some(request);
        }
    }

    pub(super) fn hold(&self, held: Held) {
        let mut state = self.lock();
        if !state.cut {
            state.held = Some(held);
        }
    }

    /// Takes the response's body in, and what the request's has to keep to.
    pub(super) fn receive(&self, response: Received, pace: Option<Pace>) -> Download {
        let over = response.is_end_stream();
        let mut state = self.lock();
        state.down = None;
        state.pace = pace;
        state.response = (!over && !state.cut).then_some(response);
        drop(state);
        Download::new(self.clone(), over)
    }

    pub(super) fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.cut {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        let Some(request) = &mut state.request else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *request).poll_frame(cx);
        if polled.is_pending() {
            park(&mut state.up, cx);
        }
        let over = request.is_end_stream();
        polled.map(|frame| {
            frame.map(|frame| frame.map(|frame| (frame, over)).map_err(|error| BodyError::Broken(error.to_string())))
        })
    }

    pub(super) fn poll_response(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.cut {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        state.idle_since = None;
        let Some(response) = &mut state.response else { return Poll::Ready(None) };
        let Poll::Ready(frame) = response.poll_frame(cx) else {
            park(&mut state.down, cx);
            return Poll::Pending;
        };
        state.down = None;
        let over = response.is_end_stream();
        if over || !matches!(frame, Some(Ok(_))) {
            // The place at the upstream is free before the client has taken the last piece.
            state.response = None;
        }
        Poll::Ready(
            frame.map(|frame| frame.map(|frame| (frame, over)).map_err(|error| BodyError::Broken(error.to_string()))),
        )
    }

    /// Nothing is known of the length of a body that was cut: one of no bytes would be whole.
    pub(super) fn request_hint(&self) -> SizeHint {
        self.lock().request.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }

    /// As [`Cut::request_hint`].
    pub(super) fn response_hint(&self) -> SizeHint {
        self.lock().response.as_ref().map_or_else(SizeHint::default, Received::size_hint)
    }

    /// The request's body is gone, whole or not.
    pub(super) fn end_request(&self) {
        let mut state = self.lock();
        let gone = (state.request.take(), state.held.take());
        drop(state);
        drop(gone);
    }

    /// Nobody reads the response any more.
    pub(super) fn end_response(&self) {
        let gone = self.lock().response.take();
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    use super::*;
    use crate::upstream::MIN_BODY;
    use crate::upstream::body::Progress;

    struct Told(Arc<AtomicBool>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_cut_ends_a_wait_and_frees_what_is_held_though_nobody_asks_for_it() {
        let (cut, freed) = (Cut::default(), Arc::new(AtomicBool::new(false)));
        cut.hold(Arc::new(Told(Arc::clone(&freed))));
        let mut waiting = std::pin::pin!(cut.guard(std::future::pending::<()>()));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        cut.cut();
        assert!(freed.load(Ordering::Relaxed));
        assert_eq!(waiting.await, None);
        let late = Arc::new(AtomicBool::new(false));
        cut.hold(Arc::new(Told(Arc::clone(&late))));
        assert!(late.load(Ordering::Relaxed), "nothing is held for what was cut");
    }

    #[test]
    fn both_bodies_break_off_after_a_cut() {
        let (cut, mut cx) = (Cut::default(), Context::from_waker(Waker::noop()));
        assert!(matches!(cut.poll_request(&mut cx), Poll::Ready(None)));
        cut.cut();
        assert!(matches!(cut.poll_request(&mut cx), Poll::Ready(Some(Err(BodyError::Cut)))));
        assert!(matches!(cut.poll_response(&mut cx), Poll::Ready(Some(Err(BodyError::Cut)))));
    }

    #[test]
    fn a_body_that_was_cut_does_not_look_like_an_empty_one() {
        let cut = Cut::default();
        cut.cut();
        assert_eq!((cut.request_hint().exact(), cut.response_hint().exact()), (None, None));
    }

    /// A response of two pieces, of which the second has not come.
    async fn half_a_response() -> (tokio::io::DuplexStream, tokio::task::JoinSet<()>, Received) {
        use http_body_util::Empty;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut upstream, ours) = tokio::io::duplex(4096);
        let io = hyper_util::rt::TokioIo::new(ours);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(io).await.expect("a connection");
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let answer = async {
            let read = upstream.read(&mut [0; 256]).await.expect("a request");
            assert!(read > 0);
            upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.expect("room");
        };
        let (response, ()) = tokio::join!(sender.send_request(http::Request::new(Empty::new())), answer);
        let response = response.expect("a head");
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let place = places.try_acquire_owned().expect("a place");
        (upstream, tasks, Received::new(response.into_body(), place))
    }

    #[tokio::test]
    async fn a_piece_that_nobody_takes_is_a_stall_and_a_wait_for_the_upstream_is_none() {
        let (_upstream, _tasks, received) = half_a_response().await;
        let (cut, now) = (Cut::default(), crate::clock::now());
        let mut body = cut.receive(received, None);
        assert!(!cut.is_stalled(now) && !cut.is_stalled(now + STALL / 2));
        assert!(cut.is_stalled(now + STALL), "nobody asked for the first piece");
        let next = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
        assert!(next.is_some_and(|frame| frame.is_ok()));
        assert!(!cut.is_stalled(now + STALL), "it was taken");
        let mut cx = Context::from_waker(Waker::noop());
        assert!(http_body::Body::poll_frame(Pin::new(&mut body), &mut cx).is_pending());
        assert!(!cut.is_stalled(now + STALL) && !cut.is_stalled(now + STALL * 9), "the upstream is waited for");
    }

    #[tokio::test]
    async fn a_last_piece_that_nobody_takes_is_a_stall_too() {
        let (mut upstream, _tasks, received) = half_a_response().await;
        let (cut, now) = (Cut::default(), crate::clock::now());
        let mut body = cut.receive(received, None);
        tokio::io::AsyncWriteExt::write_all(&mut upstream, b"world").await.expect("room");
        while !http_body::Body::is_end_stream(&body) {
            let next = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
            assert!(next.is_some_and(|frame| frame.is_ok()));
        }
        drop(body);
        assert!(!cut.is_stalled(now) && cut.is_stalled(now + STALL), "it waits in the client's connection");
    }

    #[tokio::test]
    async fn an_upload_that_goes_on_after_the_responses_head_keeps_its_pace() {
        let (_upstream, _tasks, received) = half_a_response().await;
        let (progress, within, now) = (Arc::<Progress>::default(), Duration::from_secs(30), crate::clock::now());
        let cut = Cut::default();
        let mut body = cut.receive(received, Some(Pace::new(Arc::clone(&progress), within)));
        let mut cx = Context::from_waker(Waker::noop());
        while http_body::Body::poll_frame(Pin::new(&mut body), &mut cx).is_ready() {}
        assert!(!cut.is_stalled(now) && !cut.is_stalled(now + within / 2));
        progress.add(MIN_BODY);
        assert!(!cut.is_stalled(now + within), "it came fast enough");
        progress.add(MIN_BODY - 1);
        assert!(cut.is_stalled(now + within * 2), "and then it did not");
        progress.finish();
        assert!(!cut.is_stalled(now + within * 9), "nothing is missing of it");
    }
}
