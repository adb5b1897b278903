//! Cuts one open request when a new judgement says no: revocation that does not wait for the next request.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

/// The handle of the request's own side: asked at every step of its life.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    cut: bool,
    waker: Option<Waker>,
}

impl Cut {
    /// Ends the request.
    pub(super) fn cut(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.cut = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Whether the request was cut; if not, whoever asks is woken when it is.
    pub(super) fn poll(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.cut && !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        state.cut
    }

    /// Runs `work` until it is done, or gives `None` when the request is cut.
    pub(super) async fn guard<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            if self.poll(cx) {
                return std::task::Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }
}
