//! One TCP stream of a tunnel.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Core, Shared};
use crate::clock;

/// A TCP stream through the tunnel. Dropping it sends FIN, or RST when something unread is left.
pub struct Stream {
    shared: Arc<Shared>,
    handle: SocketHandle,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, handle: SocketHandle) -> Self {
        Self { shared, handle }
    }

    /// Waits for the answer to the SYN; `false` when it was no SYN-ACK.
    pub(super) async fn opened(&self) -> bool {
        poll_fn(|context| {
            let mut core = self.shared.lock();
            let Some(stack) = &mut core.stack else { return Poll::Ready(false) };
            let socket = stack.socket(self.handle);
            if socket.state() == State::SynSent {
                socket.register_recv_waker(context.waker());
                return Poll::Pending;
            }
            Poll::Ready(socket.state() != State::Closed)
        })
        .await
    }

    /// The local TCP port.
    pub fn local_port(&self) -> Option<u16> {
        let mut core = self.shared.lock();
        let endpoint = core.stack.as_mut()?.socket(self.handle).local_endpoint()?;
        Some(endpoint.port)
    }

    /// Sends RST.
    pub fn reset(self) {
        if let Some(stack) = &mut self.shared.lock().stack {
            stack.socket(self.handle).abort();
        }
        self.shared.kick.notify_one();
    }
}

/// The error of a stream whose tunnel is over.
fn gone(core: &Core) -> Option<io::Error> {
    core.ended.as_ref().map(|ended| io::Error::new(io::ErrorKind::ConnectionAborted, format!("tunnel: {ended:?}")))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut core = self.shared.lock();
        let over = gone(&core);
        let Some(stack) = &mut core.stack else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let socket = stack.socket(self.handle);
        match socket.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) if buffer.remaining() == 0 => Poll::Ready(Ok(())),
            Ok(0) => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Ok(count) => {
                buffer.advance(count);
                drop(core);
                // The window is wider now.
                self.shared.kick.notify_one();
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => {
                Poll::Ready(Err(over.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut core = self.shared.lock();
        let over = gone(&core);
        let Some(stack) = &mut core.stack else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let socket = stack.socket(self.handle);
        match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Ok(count) => {
                drop(core);
                self.shared.kick.notify_one();
                Poll::Ready(Ok(count))
            }
            Err(_) => Poll::Ready(Err(over.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends FIN behind what was written.
    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(stack) = &mut self.shared.lock().stack {
            stack.socket(self.handle).close();
        }
        self.shared.kick.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(stack) = &mut self.shared.lock().stack {
            stack.release(self.handle, clock::now());
        }
        self.shared.kick.notify_one();
    }
}
