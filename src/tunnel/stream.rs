//! A stream out of a tunnel that looks ordinary: `AsyncRead` and `AsyncWrite` over one socket of the tunnel's stack.
//!
//! There is no pipe between the two: a read copies out of the socket's buffer, a write copies into it, and the buffer's
//! size is the backpressure. The tunnel stands behind a mutex that is never contended, because the streams of a tunnel
//! and its driver live on one thread.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;

use super::{StreamError, StreamId, Tunnel};

/// A tunnel that its driver and its streams share.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Inner>>);

pub(super) struct Inner {
    pub(super) tunnel: Tunnel,
    /// Wakes the driver, which must send what a stream changed.
    pub(super) driver: Option<Waker>,
}

impl Shared {
    pub(super) fn new(tunnel: Tunnel) -> Self {
        Self(Arc::new(Mutex::new(Inner { tunnel, driver: None })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

/// One TCP stream of a client, ended at this process.
pub struct TunnelStream {
    shared: Shared,
    id: StreamId,
}

impl TunnelStream {
    pub(super) fn new(shared: Shared, id: StreamId) -> Self {
        Self { shared, id }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Tunnel, StreamId) -> Poll<Result<T, StreamError>>) -> Poll<io::Result<T>> {
        let mut inner = self.shared.lock();
        let result = act(&mut inner.tunnel, self.id);
        if result.is_ready() {
            inner.wake_driver();
        }
        result.map_err(|error| io::Error::new(io::ErrorKind::ConnectionReset, error))
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Asked first, because most readers ask with much space and find nothing: clearing it would cost more than the answer.
        let mut inner = self.shared.lock();
        let waiting = match inner.tunnel.poll_readable(self.id, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(waiting) => waiting,
        };
        let space = buffer.initialize_unfilled_to(waiting.min(buffer.remaining()));
        let result = inner.tunnel.poll_read(self.id, cx, space);
        if result.is_ready() {
            inner.wake_driver();
        }
        result
            .map_ok(|read| buffer.advance(read))
            .map_err(|error| io::Error::new(io::ErrorKind::ConnectionReset, error))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|tunnel, id| tunnel.poll_write(id, cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|tunnel, id| {
            let mut written = 0;
            for slice in slices.iter().filter(|slice| !slice.is_empty()) {
                match tunnel.poll_write(id, cx, slice) {
                    Poll::Ready(Ok(taken)) => {
                        written += taken;
                        if taken < slice.len() {
                            break;
                        }
                    }
                    // What was taken before counts; the rest of the answer comes at the next call.
                    _ if written > 0 => break,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(written))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|tunnel, id| tunnel.poll_shutdown(id, cx))
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.tunnel.release(self.id, clock::now());
        inner.wake_driver();
    }
}
