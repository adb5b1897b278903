//! HTTP/1.1 requests as they come off the wire, read strictly: one reading of each, in order.
//!
//! In go the bytes of one connection ([`Framing::buffer`]). Out comes each request when its head is complete and judged
//! ([`Framing::poll_request`]), or the refusal of a bad one, after which nothing is read; then its body
//! ([`Framing::poll_body`]). Nothing else reads these bytes, so what was judged is what is forwarded.
//!
//! Request smuggling lives on two readers that differ. Where the grammar (RFC 9112) lets a recipient choose to repair
//! (a bare line feed, a folded line, a chunk's extension, a doubled Content-Length), this machine refuses. Trailers are
//! read and dropped.

mod chunked;
mod fault;
mod head;
mod lines;

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

pub use self::fault::{Broken, Fault, Refusal};
pub use self::head::Request;

use self::chunked::Chunked;
use self::lines::{Found, Search};
use crate::request::{Body, MAX_HEAD, MAX_METHOD, MAX_TARGET};

/// The longest trailer section: nobody reads it, so it only has to end.
pub const MAX_TRAILERS: usize = 8 * 1024;

/// The longest request line: method, target, `HTTP/1.1`, two spaces, CR LF.
const MAX_REQUEST_LINE: usize = MAX_METHOD + MAX_TARGET + 12;

/// What is read at a time of a head, and of a body.
const HEAD_ROOM: usize = 4 * 1024;
const BODY_ROOM: usize = 16 * 1024;

/// Room that is enough to read on.
const LITTLE_ROOM: usize = 1024;

/// A part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of it.
    Data(Bytes),
    /// Its end.
    Over,
}

#[derive(Debug)]
enum State {
    Head,
    Length {
        left: u64,
    },
    Chunked(Chunked),
    Trailers,
    /// A head was refused: what still comes is nobody's.
    Refused,
    Broken(Broken),
}

/// The framing of one HTTP/1.1 connection.
#[derive(Debug)]
pub struct Framing {
    port: u16,
    state: State,
    buffer: BytesMut,
    search: Search,
}

impl Framing {
    /// A connection to this port: 80, or 443 inside TLS.
    pub fn new(port: u16) -> Self {
        Self { port, state: State::Head, buffer: BytesMut::new(), search: Search::default() }
    }

    /// Where to put what comes next, with room for it.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let room = match &self.state {
            State::Length { left } => usize::try_from(*left).map_or(BODY_ROOM, |left| left.min(BODY_ROOM)),
            State::Chunked(_) | State::Trailers => BODY_ROOM,
            State::Head | State::Refused | State::Broken(_) => HEAD_ROOM,
        };
        if self.buffer.capacity() - self.buffer.len() < room.min(LITTLE_ROOM) {
            self.buffer.reserve(room);
        }
        &mut self.buffer
    }

    /// How many bytes are here that nobody has asked for.
    pub fn ahead(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the body of a request is not over.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Length { .. } | State::Chunked(_) | State::Trailers)
    }

    /// Whether a body was not framed as it said: what follows it is nobody's.
    pub fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken(_))
    }

    /// How much of the body is to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Length { left } => Some(left),
            State::Chunked(_) | State::Trailers => None,
            State::Head | State::Refused | State::Broken(_) => Some(0),
        }
    }

    /// The next request, once its head is complete; only after the body of the one before. A refusal carries what is to
    /// be answered and recorded; it is the last thing that is read.
    pub fn poll_request(&mut self) -> Option<Result<Request, Refusal>> {
        match self.state {
            State::Head => {}
            State::Refused | State::Broken(_) => {
                self.buffer.clear();
                return None;
            }
            State::Length { .. } | State::Chunked(_) | State::Trailers => return None,
        }
        let (end, found) = self.search.advance(&self.buffer, MAX_HEAD, MAX_REQUEST_LINE)?;
        self.search = Search::default();
        let seen = self.buffer.split_to(end);
        let read = match found {
            Found::End => head::judge(&seen, self.port),
            Found::BareLineFeed => Err(Refusal::new(Fault::BareLineFeed, &seen)),
            Found::FirstLineLimit => Err(Refusal::new(head::first_line_too_long(&seen), &seen)),
            Found::Limit => Err(Refusal::new(head::too_long(), &seen)),
        };
        self.state = match &read {
            Ok(request) => match request.body {
                Body::Absent | Body::Length(0) => State::Head,
                Body::Length(left) => State::Length { left },
                Body::Chunked => State::Chunked(Chunked::default()),
            },
            Err(_) => State::Refused,
        };
        Some(read)
    }

    /// The next piece of the body, or `None` when more has to come first.
    ///
    /// # Errors
    ///
    /// When its framing is broken, which ends the connection.
    pub fn poll_body(&mut self) -> Result<Option<Piece>, Broken> {
        self.next_piece().inspect_err(|broken| self.state = State::Broken(*broken))
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, Broken> {
        match &mut self.state {
            State::Length { left } => {
                let data = take(left, &mut self.buffer);
                if *left == 0 {
                    self.state = State::Head;
                }
                Ok(data.map(Piece::Data))
            }
            State::Chunked(chunked) => {
                if let Some(data) = chunked.poll(&mut self.buffer)? {
                    return Ok(Some(Piece::Data(data)));
                }
                if !chunked.is_at_trailers() {
                    return Ok(None);
                }
                self.state = State::Trailers;
                self.trailers()
            }
            State::Trailers => self.trailers(),
            State::Head | State::Refused => Ok(Some(Piece::Over)),
            State::Broken(broken) => Err(*broken),
        }
    }

    fn trailers(&mut self) -> Result<Option<Piece>, Broken> {
        let Some((end, found)) = self.search.advance(&self.buffer, MAX_TRAILERS, MAX_TRAILERS) else {
            return Ok(None);
        };
        self.search = Search::default();
        let section = self.buffer.split_to(end);
        match found {
            Found::End if head::are_fields(&section) => {
                self.state = State::Head;
                Ok(Some(Piece::Over))
            }
            Found::End | Found::BareLineFeed => Err(Broken::Trailer),
            Found::FirstLineLimit | Found::Limit => Err(Broken::TrailersTooLong { limit: MAX_TRAILERS }),
        }
    }

    /// The wire is at its end.
    ///
    /// # Errors
    ///
    /// When that cuts a head or a body.
    pub fn handle_eof(&mut self) -> Result<(), Broken> {
        match self.state {
            State::Head if self.buffer.is_empty() => Ok(()),
            State::Refused => Ok(()),
            State::Head | State::Length { .. } | State::Chunked(_) | State::Trailers | State::Broken(_) => {
                self.state = State::Broken(Broken::Truncated);
                Err(Broken::Truncated)
            }
        }
    }
}

/// Takes what is there of `left` bytes.
fn take(left: &mut u64, buffer: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    *left -= length as u64;
    (length > 0).then(|| buffer.split_to(length).freeze())
}
