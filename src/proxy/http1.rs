//! One stream of HTTP/1.1: each request is read, handled and answered before the next one is looked at.
//!
//! The stream and what it has read are in a [`wire::Wire`], which the connection shares with the body of the request
//! that it handles: both are polled by the same task, until the answer begins before the body is over.

mod response;
mod wire;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::forward::{Body, Piece};
use super::framing::{Refusal, Request};
use super::reply::Reply;
use super::{Asked, Connection, Error, Unread};
use crate::clock;
use crate::field::Section;
use crate::upstream::http1::Writer;
pub(super) use response::Date;
pub use wire::Gone;
use wire::{Shared, Upload};

/// The largest piece of a body that is copied, to go down in one write with what stands before it.
const SMALL: usize = 4096;

impl Connection {
    /// Serves the requests of a stream, of which `begin` was read already, until the client or an answer closes it, or
    /// the server drains.
    pub(super) async fn serve_requests<S>(self: &Arc<Self>, stream: S, begin: &[u8]) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let wire = Shared::new(stream, self.dialled.port, begin);
        loop {
            self.waits.turn();
            let read = std::future::poll_fn(|cx| self.poll_request(&wire, cx)).await?;
            self.waits.turn();
            let Some(read) = read else { break };
            let (asked, is_head, mut closes) = match read {
                Ok(request) => {
                    let (body, is_head) = (wire.upload(&request), request.canonical.method() == "HEAD");
                    let Request { canonical, headers, closes, .. } = request;
                    (Asked { read: Ok(canonical), headers, body }, is_head, closes)
                }
                Err(refusal) => {
                    let (read, body) = (Err(Unread::Framing(refusal)), Upload::none());
                    (Asked { read, headers: Section::default(), body }, false, true)
                }
            };
            let mut handling = pin!(Arc::clone(self).handle(asked));
            let answer = std::future::poll_fn(|cx| match handling.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Ok(answer)),
                Poll::Pending => wire.lock().poll_gone(cx).map(Err),
            });
            let answer = answer.await?;
            closes |= answer.headers.contains("connection") || self.is_draining() || self.waits.is_over();
            // An unwanted body that is not at hand ends the connection, and the answer says so.
            closes |= std::future::poll_fn(|cx| Poll::Ready(wire.poll_body_over(cx) == Poll::Ready(false))).await;
            let mut answer = Answer::begin(&wire, answer, (is_head, closes), &self.proxy.date);
            std::future::poll_fn(|cx| answer.poll_send(cx)).await?;
            drop(answer);
            closes |= !std::future::poll_fn(|cx| wire.poll_body_over(cx)).await;
            if closes {
                break;
            }
        }
        std::future::poll_fn(|cx| wire.lock().poll_shutdown(cx)).await?;
        Ok(())
    }

    /// The next request, or `None` when there is none any more.
    fn poll_request<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &Shared<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Result<Request, Refusal>>, Gone>> {
        let mut wire = wire.lock();
        if let Poll::Ready(read) = wire.poll_request(cx) {
            return Poll::Ready(read);
        }
        if (self.is_draining() && wire.is_idle()) || self.waits.is_over() {
            return Poll::Ready(Ok(None));
        }
        Poll::Pending
    }
}

/// An answer on its way down.
struct Answer<'a, S> {
    wire: &'a Shared<S>,
    body: Body,
    writer: Writer,
    staged: Staged,
}

/// The piece of a body that is being written.
#[derive(Default)]
enum Staged {
    #[default]
    Nothing,
    /// It stands in the wire's buffer.
    Copied(Piece),
    /// It goes down as it is, behind the wire's buffer.
    Whole(Piece),
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Answer<'a, S> {
    /// Writes the head to the wire's buffer.
    fn begin(wire: &'a Shared<S>, reply: Reply, flags: (bool, bool), date: &Date) -> Self {
        let Reply { status, headers, body } = reply;
        let length = body.size_hint().exact();
        let writer = date.with(clock::wall(), |date| {
            response::begin(status, &headers, length, flags, date, wire.lock().begin_answer())
        });
        Self { wire, body, writer, staged: Staged::Nothing }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if matches!(self.staged, Staged::Nothing) && !self.writer.is_over() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(frame)) => {
                        // Trailers are for nobody.
                        if let Ok(piece) = frame?.into_data() {
                            self.stage(piece)?;
                        }
                    }
                    Poll::Ready(None) => self.writer.end(self.wire.lock().out())?,
                    Poll::Pending => {
                        ready!(self.poll_staged(cx))?;
                        let mut wire = self.wire.lock();
                        if let Poll::Ready(Err(error)) = wire.poll_flush(cx) {
                            return Poll::Ready(Err(error.into()));
                        }
                        return wire.poll_gone(cx).map(|gone| Err(gone.into()));
                    }
                }
            }
            ready!(self.poll_staged(cx))?;
            if self.writer.is_over() {
                return self.wire.lock().poll_flush(cx).map_err(Error::from);
            }
        }
    }

    fn stage(&mut self, piece: Piece) -> Result<(), Error> {
        if !piece.has_remaining() {
            return Ok(());
        }
        let mut wire = self.wire.lock();
        let out = wire.out();
        self.writer.begin_piece(piece.remaining(), out)?;
        self.staged = if piece.remaining() <= SMALL {
            out.extend_from_slice(piece.chunk());
            self.writer.end_piece(out);
            if self.body.is_end_stream() {
                self.writer.end(out)?;
            }
            Staged::Copied(piece)
        } else {
            Staged::Whole(piece)
        };
        Ok(())
    }

    /// Writes the wire's buffer and what is staged. A piece counts as written only when it is.
    fn poll_staged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut wire = self.wire.lock();
        ready!(wire.poll_write(cx))?;
        match &mut self.staged {
            Staged::Nothing => {}
            Staged::Copied(piece) => piece.advance(piece.remaining()),
            Staged::Whole(piece) => {
                while piece.has_remaining() {
                    let written = ready!(wire.poll_write_piece(cx, piece.chunk()))?;
                    piece.advance(written);
                }
                self.writer.end_piece(wire.out());
            }
        }
        drop(wire);
        // The end of the last piece sets off much; the wire is not locked then.
        self.staged = Staged::Nothing;
        Poll::Ready(Ok(()))
    }
}
