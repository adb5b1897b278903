//! The application's side of a stream. Wakers are those of the task that owns it, one for reading and one for writing.
//!
//! Nothing leaves before [`Stack::poll_transmit`] is called; so the owner of the stack must learn that a stream was used.

use std::task::{Context, Poll};
use std::time::Instant;

use smoltcp::socket::tcp::{RecvError, State};

use super::connection::{Connection, Phase};
use super::{Stack, StreamError, StreamId};

impl Stack {
    /// How many bytes wait to be read, once there are any; 0 when [`Stack::poll_read`] has another answer than bytes.
    pub fn poll_readable(&mut self, stream: StreamId, cx: &mut Context<'_>) -> Poll<usize> {
        let Ok(connection) = self.usable(stream) else { return Poll::Ready(0) };
        let socket = connection.socket_mut();
        match socket.recv_queue() {
            0 if socket.may_recv() => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            waiting => Poll::Ready(waiting),
        }
    }

    /// Reads what has arrived into `buf`. `Ok(0)` is the client's FIN (or an empty `buf`).
    pub fn poll_read(
        &mut self,
        stream: StreamId,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, StreamError>> {
        let connection = match self.usable(stream) {
            Ok(connection) => connection,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let socket = connection.socket_mut();
        match socket.recv_slice(buf) {
            Ok(0) if !buf.is_empty() => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Ok(len) => Poll::Ready(Ok(len)),
            Err(RecvError::Finished) => Poll::Ready(Ok(0)),
            Err(RecvError::InvalidState) => Poll::Ready(Err(StreamError::Reset)),
        }
    }

    /// Takes bytes from `buf` to be sent; how many.
    pub fn poll_write(
        &mut self,
        stream: StreamId,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        let connection = match self.usable(stream) {
            Ok(connection) => connection,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if connection.waits_for_window() && !buf.is_empty() {
            connection.set_writer(cx.waker());
            return Poll::Pending;
        }
        let socket = connection.socket_mut();
        match socket.send_slice(buf) {
            Ok(0) if !buf.is_empty() => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Ok(len) => Poll::Ready(Ok(len)),
            Err(_) if socket.state() == State::Closed => Poll::Ready(Err(StreamError::Reset)),
            Err(_) => Poll::Ready(Err(StreamError::ShutDown)),
        }
    }

    /// Closes the writing half: a FIN follows what was written. Ready at once; see [`release`](Self::release) for what
    /// becomes of it.
    pub fn poll_shutdown(&mut self, stream: StreamId, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let connection = match self.usable(stream) {
            Ok(connection) => connection,
            Err(error) => return Poll::Ready(Err(error)),
        };
        connection.socket_mut().close();
        Poll::Ready(Ok(()))
    }

    /// The owner has dropped its handle; `stream` is not used again.
    ///
    /// After a shutdown what was written still reaches the client, and what the client still sends is thrown away; both
    /// within limits of time. Without one the client gets a reset, because it must not take an answer that was cut off
    /// for a whole one.
    pub fn release(&mut self, stream: StreamId, now: Instant) {
        let at = self.clock.advance(now);
        let Ok(connection) = self.held(stream) else { return };
        if !connection.release(at)
            && let Some(place) = self.connections.get_mut(stream.slot)
        {
            *place = None;
            self.shrink();
        }
    }

    fn held(&mut self, stream: StreamId) -> Result<&mut Connection, StreamError> {
        self.connections
            .get_mut(stream.slot)
            .and_then(Option::as_mut)
            .filter(|it| it.serial == stream.serial && matches!(it.phase(), Phase::Held | Phase::Over))
            .ok_or(StreamError::Unknown)
    }

    fn usable(&mut self, stream: StreamId) -> Result<&mut Connection, StreamError> {
        if self.over {
            return Err(StreamError::Aborted);
        }
        let connection = self.held(stream)?;
        connection.failed().map_or(Ok(connection), Err)
    }
}
