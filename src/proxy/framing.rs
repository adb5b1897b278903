//! The strict look at HTTP/1.1 bytes before the HTTP library reads them: one verdict per request, in order.
//!
//! In go the bytes of one connection ([`Framing::handle_input`]). Out come the bytes that the library may read, and
//! for each request a [`Verdict`] ([`Framing::poll_verdict`]), which the handler takes when the library calls it. A
//! head is released only when it is complete and judged: a good one byte for byte, in the place of a bad one the
//! harmless [`REFUSED`], so that the handler is called and can answer; nothing after it is released. Bodies are
//! followed so that the next head is where the library will look for it. Chunk sizes are written anew, trailers are
//! swallowed.
//!
//! The library is lenient (it hides fragments, bare line feeds, chunk extensions, a doubled Content-Length), and
//! leniency in one of two parsers is what request smuggling lives on. RFC 9112 is the grammar; where it lets a
//! recipient choose to repair, this machine refuses.
//!
//! Back-pressure: at most [`MAX_VERDICTS`] requests run ahead of the handler, and nothing runs ahead of an upgrade that
//! is not decided. Then [`Framing::handle_input`] takes fewer bytes than it was given: the owner keeps the rest, stops
//! reading, and gives it again after [`Framing::poll_verdict`] or [`Framing::decline_upgrade`]. The heads in question have been released, so the library has work and the owner's turn
//! comes.

mod chunked;
mod fault;
mod head;
mod lines;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use self::fault::{Broken, Fault, Refusal};

use self::chunked::Chunked;
use self::lines::{Section, Window};
use crate::request::{Body, CanonicalRequest, MAX_HEAD, MAX_METHOD, MAX_TARGET};

/// The most requests that are judged before the handler takes the first of them: browsers do not pipeline, and the
/// clients that do send a handful.
pub const MAX_VERDICTS: usize = 16;

/// The longest trailer section: nobody reads it, so it only has to end.
pub const MAX_TRAILERS: usize = 8 * 1024;

/// The longest request line: method, target, `HTTP/1.1`, two spaces, CR LF.
const MAX_REQUEST_LINE: usize = MAX_METHOD + MAX_TARGET + 12;

/// What the library reads in the place of a bad head.
pub const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";

/// The end of a chunked body with an empty trailer section.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What the machine says about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The library reads this request; its canonical form was read from the wire's own bytes.
    Good(CanonicalRequest),
    /// The library reads [`REFUSED`]; this is what to answer and to record.
    Bad(Refusal),
}

/// What the machine is waiting for, so that its owner knows which deadline to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The decision about an upgrade: nothing is read.
    Upgrade,
    /// Nothing: a head was refused, what still comes is thrown away.
    Refused,
    /// Nothing: the framing of a body broke.
    Broken,
}

#[derive(Debug)]
enum State {
    Head,
    Length { left: u64 },
    Chunked(Chunked),
    Trailers,
    Upgrade,
    Refused,
    Broken(Broken),
}

/// The framing of one HTTP/1.1 connection.
#[derive(Debug)]
pub struct Framing {
    port: u16,
    state: State,
    section: Section,
    verdicts: VecDeque<Verdict>,
}

impl Framing {
    /// A connection to this port: 80, or 443 inside TLS.
    pub fn new(port: u16) -> Self {
        Self { port, state: State::Head, section: Section::default(), verdicts: VecDeque::new() }
    }

    /// Takes bytes from the wire and appends to `out` what the library may read. Returns how many bytes were taken:
    /// all, unless [`Framing::is_full`]. After an error the library's reader must fail, which ends the connection.
    pub fn handle_input(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_full() {
            let taken = match self.step(rest, out) {
                Ok(taken) => taken,
                Err(broken) => {
                    self.state = State::Broken(broken);
                    return Err(broken);
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    /// The wire is at its end. An error when that cuts a head or a body.
    pub fn handle_eof(&mut self) -> Result<(), Broken> {
        match self.phase() {
            Phase::Head | Phase::Body => {
                self.state = State::Broken(Broken::Truncated);
                Err(Broken::Truncated)
            }
            Phase::Idle | Phase::Upgrade | Phase::Refused => Ok(()),
            Phase::Broken => Err(Broken::Truncated),
        }
    }

    /// The verdict about the next request that the library hands to the handler.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// Whether no more bytes are taken until a verdict is polled or an upgrade is decided.
    pub fn is_full(&self) -> bool {
        match self.state {
            State::Head => self.verdicts.len() >= MAX_VERDICTS,
            State::Upgrade => true,
            State::Length { .. } | State::Chunked(_) | State::Trailers | State::Refused | State::Broken(_) => false,
        }
    }

    /// What the machine is waiting for.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Head if self.section.len() == 0 => Phase::Idle,
            State::Head => Phase::Head,
            State::Length { .. } | State::Chunked(_) | State::Trailers => Phase::Body,
            State::Upgrade => Phase::Upgrade,
            State::Refused => Phase::Refused,
            State::Broken(_) => Phase::Broken,
        }
    }

    /// The upgrade was answered without one, as each is: what follows is the next request.
    pub fn decline_upgrade(&mut self) {
        if matches!(self.state, State::Upgrade) {
            self.state = State::Head;
        }
    }

    /// Takes some bytes, at least one.
    fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        match &mut self.state {
            State::Head => Ok(self.take_head(bytes, out)),
            State::Length { left } => {
                let taken = take_counted(left, bytes, out);
                if *left == 0 {
                    self.state = State::Head;
                }
                Ok(taken)
            }
            State::Chunked(chunked) => {
                let taken = chunked.handle_input(bytes, out)?;
                if chunked.is_at_trailers() {
                    self.state = State::Trailers;
                }
                Ok(taken)
            }
            State::Trailers => self.take_trailers(bytes, out),
            State::Refused => Ok(bytes.len()),
            // `is_full` keeps the loop from coming here.
            State::Upgrade => Ok(0),
            State::Broken(broken) => Err(*broken),
        }
    }

    fn take_head(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let (taken, window) = self.section.collect(bytes, MAX_HEAD, MAX_REQUEST_LINE);
        let judged = match window {
            Window::Incomplete => return taken,
            Window::Complete(head) => head::judge(head, self.port).map(|read| (head, read)),
            Window::BareLineFeed(seen) => Err(Refusal::new(Fault::BareLineFeed, seen)),
            Window::FirstLineTooLong(seen) => Err(Refusal::new(head::first_line_too_long(seen), seen)),
            Window::TooLong(seen) => Err(Refusal::new(head::too_long(), seen)),
        };
        match judged {
            Ok((head, read)) => {
                out.extend_from_slice(head);
                self.state = match read.body {
                    Body::Absent | Body::Length(0) if read.upgrade => State::Upgrade,
                    Body::Absent | Body::Length(0) => State::Head,
                    Body::Length(left) => State::Length { left },
                    Body::Chunked => State::Chunked(Chunked::default()),
                };
                self.verdicts.push_back(Verdict::Good(read.request));
            }
            Err(refusal) => {
                out.extend_from_slice(REFUSED);
                self.state = State::Refused;
                self.verdicts.push_back(Verdict::Bad(refusal));
            }
        }
        self.section = Section::default();
        taken
    }

    fn take_trailers(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        let (taken, window) = self.section.collect(bytes, MAX_TRAILERS, MAX_TRAILERS);
        match window {
            Window::Incomplete => return Ok(taken),
            Window::Complete(trailers) if head::are_fields(trailers) => {}
            Window::Complete(_) | Window::BareLineFeed(_) => return Err(Broken::Trailer),
            Window::FirstLineTooLong(_) | Window::TooLong(_) => {
                return Err(Broken::TrailersTooLong { limit: MAX_TRAILERS });
            }
        }
        // The end of the body is released only now, so that a broken trailer section cannot look like a whole request.
        out.extend_from_slice(LAST_CHUNK);
        self.section = Section::default();
        self.state = State::Head;
        Ok(taken)
    }
}

/// Releases bytes until `left` is used up. Returns how many.
fn take_counted(left: &mut u64, bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let most = usize::try_from(*left).unwrap_or(usize::MAX);
    let part = bytes.get(..most).unwrap_or(bytes);
    out.extend_from_slice(part);
    *left = left.saturating_sub(part.len() as u64);
    part.len()
}
