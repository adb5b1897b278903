//! One request and its response on one connection to an upstream: two halves that are moved by whoever waits for them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::io::poll_read_buf;

use super::body::{BodyError, Held, RequestBody};
use super::connect::Stream;
use super::http1::{Event, Head, Reader, Unreadable, Writer};
use super::pool::{Idle, Pool};
use super::unsent::Unsent;
use crate::field::Section;

/// Why an exchange cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The client's body is to blame.
    #[error("the request's body: {0}")]
    Body(BodyError),
    /// The connection, or what came on it.
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Unreadable(#[from] Unreadable),
}

/// See the module.
pub(super) struct Exchange {
    stream: Stream,
    reader: Reader,
    writer: Writer,
    body: RequestBody,
    unsent: Unsent,
    /// The stream takes no more: the response may be there all the same.
    deaf: Option<io::Error>,
    /// Where the connection goes when both halves are over.
    pool: Arc<Pool>,
    target: u64,
    _place: OwnedSemaphorePermit,
}

/// The parts of a request.
pub(super) struct Outgoing<'a> {
    pub(super) method: &'a str,
    /// In origin form.
    pub(super) target: &'a str,
    pub(super) headers: &'a [&'a Section],
    pub(super) body: RequestBody,
}

impl Exchange {
    /// Begins the request; nothing is sent before the exchange is polled.
    pub(super) fn new(
        connection: Idle,
        request: Outgoing<'_>,
        max_head: usize,
        (pool, target): (Arc<Pool>, u64),
        place: OwnedSemaphorePermit,
    ) -> Self {
        let Idle { stream, buffer, mut out } = connection;
        let Outgoing { method, target: path, headers, body } = request;
        let writer = Writer::begin(method, path, headers, body.hint(), &mut out);
        let reader = Reader::new(method, max_head, buffer);
        let unsent = Unsent::new(out);
        Self { stream, reader, writer, body, unsent, deaf: None, pool, target, _place: place }
    }

    /// Sends, until nothing is left of the request or either side has to be waited for.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        loop {
            if self.deaf.is_some() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.deaf = Some(error);
                    self.body.finish();
                    continue;
                }
                Poll::Pending => {
                    self.body.progress().set_hungry(false);
                    return Poll::Pending;
                }
            }
            if self.writer.is_over() {
                self.body.finish();
                return Poll::Ready(Ok(()));
            }
            let wrong = |error: super::http1::Unwritable| BodyError::Broken(error.to_string());
            match ready!(self.body.poll_piece(cx)) {
                Some(piece) => self.writer.piece(&piece?, self.unsent.bytes()).map_err(wrong)?,
                None => self.writer.end(self.unsent.bytes()).map_err(wrong)?,
            }
            if self.body.is_over() && !self.writer.is_over() {
                self.writer.end(self.unsent.bytes()).map_err(wrong)?;
            }
        }
    }

    /// Waits for the head of the response, and sends meanwhile.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Failure>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(Failure::Body(error)));
        }
        match ready!(self.poll_event(cx)) {
            Ok(Event::Head(head)) => Poll::Ready(Ok(head)),
            Ok(Event::Data(_) | Event::Over) => Poll::Ready(Err(Unreadable::BadHead.into())),
            // Why nothing came is told better by what could not be sent.
            Err(failure) => Poll::Ready(Err(self.deaf.take().map_or(failure, Failure::Io))),
        }
    }

    /// The next piece of the response's body; `None` at its end.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        Poll::Ready(match ready!(self.poll_event(cx)) {
            Ok(Event::Data(data)) => Some(Ok(data)),
            Ok(Event::Over) => None,
            Ok(Event::Head(_)) => Some(Err(Unreadable::BadHead.into())),
            Err(failure) => Some(Err(failure)),
        })
    }

    /// What was held for a request that is sent.
    pub(super) fn release(&mut self) -> Option<Held> {
        self.body.release()
    }

    /// Nothing more comes.
    pub(super) fn is_received(&self) -> bool {
        self.reader.is_over()
    }

    /// Nothing more goes up.
    pub(super) fn is_sent(&self) -> bool {
        self.deaf.is_some() || (self.writer.is_over() && self.unsent.is_sent())
    }

    /// How long the rest of the response's body is, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.reader.left()
    }

    /// Both halves are over: the connection is kept, if it can be.
    pub(super) fn end(self) {
        let sent = self.is_sent() && self.deaf.is_none();
        if let Some(buffer) = self.reader.into_reusable().filter(|_| sent) {
            self.pool.give(self.target, Idle { stream: self.stream, buffer, out: self.unsent.into_room() });
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Failure>> {
        loop {
            if let Some(event) = self.reader.poll()? {
                return Poll::Ready(Ok(event));
            }
            let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, self.reader.buffer()))?;
            if read == 0 {
                self.reader.handle_eof()?;
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.unsent.poll_write(&mut self.stream, cx))?;
        self.unsent.poll_flush(&mut self.stream, cx)
    }
}
