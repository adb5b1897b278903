//! What hyper reads on HTTP/1.1: the bytes of a stream after the strict look of `framing`.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Broken, Framing, Verdict};

/// Bytes read from the stream at a time.
const CHUNK: usize = 16 * 1024;

/// The buffer that a connection keeps between its requests: enough for an ordinary head.
const KEPT: usize = 2048;

/// The verdicts of one connection, in the order of its requests.
#[derive(Clone)]
pub(super) struct Verdicts(Arc<Mutex<Inner>>);

struct Inner {
    framing: Framing,
    /// The reader, while it waits for a verdict to be taken.
    reader: Option<Waker>,
}

impl Verdicts {
    /// The verdicts of a connection to this port.
    pub(super) fn new(port: u16) -> Self {
        Self(Arc::new(Mutex::new(Inner { framing: Framing::new(port), reader: None })))
    }

    /// The verdict on the request that hyper hands over now.
    pub(super) fn next(&self) -> Option<Verdict> {
        let mut inner = self.lock();
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
        inner.framing.poll_verdict()
    }

    /// A request that asked for an upgrade was answered without one: what follows is the next request.
    pub(super) fn decline_upgrade(&self) {
        let mut inner = self.lock();
        inner.framing.decline_upgrade();
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of which hyper sees only what was judged.
pub(super) struct Strict<S> {
    inner: S,
    verdicts: Verdicts,
    /// Read from the stream and not yet judged, because too many verdicts wait: less than [`CHUNK`].
    waiting: Vec<u8>,
    /// Released and not yet read by hyper: `released[read..]`.
    released: Vec<u8>,
    read: usize,
    /// What to fail with once everything before it is read: the requests before it have their answers.
    broken: Option<Broken>,
}

impl<S> Strict<S> {
    pub(super) fn new(inner: S, verdicts: Verdicts) -> Self {
        Self { inner, verdicts, waiting: Vec::new(), released: Vec::new(), read: 0, broken: None }
    }

    /// Judges `bytes`, as far as verdicts may run ahead; the rest waits.
    fn judge(&mut self, bytes: &[u8]) {
        match self.verdicts.lock().framing.handle_input(bytes, &mut self.released) {
            Ok(taken) => self.waiting = bytes.get(taken..).unwrap_or_default().to_vec(),
            Err(broken) => self.broken = Some(broken),
        }
    }

    /// Gives hyper what is released.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.released[self.read..];
        let taken = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        self.read += taken;
        if self.read == self.released.len() {
            self.read = 0;
            self.released.clear();
            if self.released.capacity() > KEPT {
                self.released = Vec::new();
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.read < this.released.len() {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if let Some(broken) = this.broken {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, broken)));
            }
            {
                let mut inner = this.verdicts.lock();
                if inner.framing.is_full() {
                    inner.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            if !this.waiting.is_empty() {
                let waiting = std::mem::take(&mut this.waiting);
                this.judge(&waiting);
                continue;
            }
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                let ended = this.verdicts.lock().framing.handle_eof();
                return Poll::Ready(ended.map_err(|broken| io::Error::new(io::ErrorKind::UnexpectedEof, broken)));
            }
            this.judge(chunk.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
