//! The stream of one HTTP/1.1 connection, what was read of it and what is to be written.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use crate::proxy::framing::{Broken, Framing, Piece, Refusal, Request};
use crate::upstream::Unsent;

/// What is read ahead while a request is handled: enough to see the end of the stream behind a few more requests.
const MAX_AHEAD: usize = 16 * 1024;

/// The most of an unwanted body that is thrown away for the sake of the next request.
const MAX_UNWANTED: usize = 64 * 1024;

/// Why a connection ends without a word.
#[derive(Debug, thiserror::Error)]
pub enum Gone {
    /// The client has closed it.
    #[error("the client has closed the connection")]
    Closed,
    /// The client has reset it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is not the request that it began as.
    #[error("{0}")]
    Broken(#[from] Broken),
}

/// A wire that a connection shares with the body of its request.
pub(super) struct Shared<S>(Arc<Mutex<Wire<S>>>);

/// See the module.
pub(super) struct Wire<S> {
    stream: S,
    framing: Framing,
    unsent: Unsent,
    /// An answer has begun: it is too late to ask for the body.
    answered: bool,
    /// Nobody reads the rest of the body.
    unwanted: bool,
    /// The connection, which learns from whoever reads the body that it is over.
    waiting: Option<Waker>,
}

/// The body of a request.
pub(super) struct Upload<S> {
    /// `None` when there is no body.
    wire: Option<Shared<S>>,
    /// The client waits for 100 (Continue).
    expects: bool,
}

impl<S> Upload<S> {
    /// There is no body.
    pub(super) fn none() -> Self {
        Self { wire: None, expects: false }
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Shared<S> {
    pub(super) fn new(stream: S, port: u16, begin: &[u8]) -> Self {
        let mut framing = Framing::new(port);
        framing.buffer().extend_from_slice(begin);
        Self(Arc::new(Mutex::new(Wire {
            stream,
            framing,
            unsent: Unsent::default(),
            answered: false,
            unwanted: false,
            waiting: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the request that was read last.
    pub(super) fn upload(&self, request: &Request) -> Upload<S> {
        let wire = (!request.body.is_empty()).then(|| self.clone());
        Upload { wire, expects: request.expects_continue }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shared<S> {
    /// Waits for the end of a request's body when its answer is sent. False when the next request is out of reach: more
    /// of an unwanted body is to come than is at hand, or its framing is broken.
    pub(super) fn poll_body_over(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut wire = self.lock();
        let mut thrown_away = 0;
        while wire.framing.is_in_body() {
            if !wire.unwanted {
                wire.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            match wire.framing.poll_body() {
                Ok(Some(Piece::Data(data))) if thrown_away < MAX_UNWANTED => thrown_away += data.len(),
                Ok(Some(Piece::Over)) => {}
                Ok(None) => match wire.poll_read(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(false),
                },
                Ok(Some(Piece::Data(_))) | Err(_) => return Poll::Ready(false),
            }
        }
        Poll::Ready(!wire.framing.is_broken())
    }
}

impl<S> Wire<S> {
    /// Where an answer is written that begins now.
    pub(super) fn begin_answer(&mut self) -> &mut Vec<u8> {
        self.answered = true;
        self.unsent.bytes()
    }

    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        self.unsent.bytes()
    }

    /// Whether nothing of a request is here.
    pub(super) fn is_idle(&self) -> bool {
        self.framing.ahead() == 0
    }

    fn end_body(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// The next request; `None` when the client sends no more.
    pub(super) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Result<Request, Refusal>>, Gone>> {
        loop {
            if let Some(read) = self.framing.poll_request() {
                self.answered = false;
                self.unwanted = false;
                return Poll::Ready(Ok(Some(read)));
            }
            match ready!(self.poll_read(cx)) {
                Ok(()) => {}
                Err(Gone::Closed) => return Poll::Ready(Ok(None)),
                Err(gone) => return Poll::Ready(Err(gone)),
            }
        }
    }

    /// Reads ahead while a request is handled, because that is how a client that leaves is seen.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.framing.is_in_body() {
            // Another task may read it.
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while self.framing.ahead() < MAX_AHEAD {
            if let Err(gone) = ready!(self.poll_read(cx)) {
                return Poll::Ready(gone);
            }
        }
        Poll::Pending
    }

    /// Reads what there is; [`Gone::Closed`] when the client has closed the stream between two requests.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, self.framing.buffer()))?;
        if read == 0 {
            self.framing.handle_eof()?;
            return Poll::Ready(Err(Gone::Closed));
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all that is in `out`.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unsent.poll_write(&mut self.stream, cx)
    }

    /// Writes some of a piece, behind `out`.
    pub(super) fn poll_write_piece(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        self.unsent.poll_write_piece(&mut self.stream, cx, piece)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unsent.poll_flush(&mut self.stream, cx)
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Body for Upload<S> {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        let this = &mut *self;
        let Some(wire) = &this.wire else { return Poll::Ready(None) };
        let mut wire = wire.lock();
        loop {
            match wire.framing.poll_body()? {
                Some(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Piece::Over) => {
                    wire.end_body();
                    return Poll::Ready(None);
                }
                None => {}
            }
            if std::mem::take(&mut this.expects) && !wire.answered {
                wire.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if !wire.answered {
                ready!(wire.poll_write(cx))?;
                ready!(wire.poll_flush(cx))?;
            }
            ready!(wire.poll_read(cx))?;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.wire.as_ref().is_none_or(|wire| !wire.lock().framing.is_in_body())
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.wire.as_ref().map_or(Some(0), |wire| wire.lock().framing.left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl<S> Drop for Upload<S> {
    fn drop(&mut self) {
        let Some(wire) = &self.wire else { return };
        let mut wire = wire.lock();
        wire.unwanted = true;
        wire.end_body();
    }
}
