//! What was written for a stream and has not been taken by it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// A buffer in front of a stream.
#[derive(Debug, Default)]
pub struct Unsent {
    bytes: Vec<u8>,
    /// So many of them are taken.
    taken: usize,
    /// The stream may hold back what it has taken.
    unflushed: bool,
}

impl Unsent {
    /// Empty, with the room of an empty buffer.
    pub fn new(room: Vec<u8>) -> Self {
        Self { bytes: room, ..Self::default() }
    }

    /// Where to write.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether the stream has taken all of it and holds nothing back.
    pub fn is_sent(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// The buffer, for its room.
    pub fn into_room(mut self) -> Vec<u8> {
        self.bytes.clear();
        self.bytes
    }

    /// Gives the stream all that is here.
    ///
    /// # Errors
    ///
    /// The stream's, or that it takes no more.
    pub fn poll_write<S: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.taken < self.bytes.len() {
            self.unflushed = true;
            self.taken += ready!(poll_some(stream, cx, &self.bytes[self.taken..]))?;
        }
        self.bytes.clear();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    /// Gives the stream some of a piece, once nothing stands before it here.
    ///
    /// # Errors
    ///
    /// As [`Unsent::poll_write`].
    pub fn poll_write_piece<S: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        piece: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_write(stream, cx))?;
        self.unflushed = true;
        poll_some(stream, cx, piece)
    }

    /// Makes the stream pass on what it has taken: TLS keeps what its own stream has no room for.
    ///
    /// # Errors
    ///
    /// The stream's.
    pub fn poll_flush<S: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn poll_some<S: AsyncWrite + Unpin + ?Sized>(
    stream: &mut S,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(stream).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        taken => Poll::Ready(Ok(taken)),
    }
}
