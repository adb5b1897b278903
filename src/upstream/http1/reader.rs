//! A response on its way in: interim heads are skipped, then its head, then its body in pieces.

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use crate::field::{Line, Section};

/// The most header lines of a response.
const MAX_FIELDS: usize = 100;

/// The most interim responses before the one that counts.
const MAX_INTERIM: u8 = 8;

/// The longest line of a chunk's size, and the longest trailer section: nobody reads what may stand there.
const MAX_BETWEEN: usize = 8 * 1024;

/// What is read at a time of a body whose length is known, and of anything else.
const BODY_ROOM: u64 = 64 * 1024;
const ROOM: usize = 8 * 1024;

/// Why a response cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// RFC 9112 section 4.
    #[error("no response: {0}")]
    NotHttp(httparse::Error),
    /// What the head says is not possible in HTTP.
    #[error("a status or a header that is none")]
    BadHead,
    /// `max_response_header`.
    #[error("a head of more than {limit} bytes")]
    HeadTooLong {
        /// In bytes.
        limit: usize,
    },
    /// No upgrade goes up, so none can come down: what follows would be read by rules that nobody has checked.
    #[error("an answer of status {0} that nobody asked for")]
    Unasked(u16),
    /// RFC 9110 section 15.2.
    #[error("more than {MAX_INTERIM} interim responses")]
    Interim,
    /// RFC 9112 section 6.3.
    #[error("Content-Length is no length, or two")]
    Length,
    /// RFC 9112 section 6.1: it would have to be undone here.
    #[error("a transfer coding that is not `chunked`")]
    TransferCoding,
    /// RFC 9112 section 7.1.
    #[error("a chunk that is none")]
    Chunk,
    /// Nothing came.
    #[error("closed before the response")]
    NoResponse,
    /// Something is missing.
    #[error("closed within the response")]
    Truncated,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// 200 or more.
    pub status: StatusCode,
    /// In order; Content-Length stands once at most.
    pub headers: Section,
}

/// What came.
#[derive(Debug)]
pub enum Event {
    /// The head of the response that counts.
    Head(Head),
    /// A piece of its body.
    Data(Bytes),
    /// It is whole. Trailers are dropped.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length { left: u64 },
    ChunkSize,
    ChunkData { left: u64 },
    ChunkEnd,
    Trailers,
    UntilClose,
    Over,
}

/// One response. What comes goes into [`Reader::buffer`].
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    /// So much of the buffer has no end of a head.
    searched: usize,
    state: State,
    max_head: usize,
    /// The request was HEAD.
    bodiless: bool,
    interim: u8,
    keeps_connection: bool,
}

impl Reader {
    /// The reader of the response to a request with this method. `buffer` is empty, with whatever room it has.
    pub fn new(method: &str, max_head: usize, buffer: BytesMut) -> Self {
        let bodiless = method == "HEAD";
        let state = State::Head;
        Self { buffer, searched: 0, state, max_head, bodiless, interim: 0, keeps_connection: false }
    }

    /// Where to put what comes next, with room for it.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let room = match self.state {
            State::Length { left } | State::ChunkData { left } => {
                // The bound makes it fit.
                usize::try_from(left.min(BODY_ROOM)).unwrap_or(ROOM).max(ROOM)
            }
            State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers | State::UntilClose | State::Over => {
                ROOM
            }
        };
        // Pieces that somebody still has keep their buffer: the small ones share it.
        if self.buffer.capacity() - self.buffer.len() < room / 4 {
            self.buffer.reserve(room);
        }
        &mut self.buffer
    }

    /// Whether it is whole.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// How much of the body is to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Length { left } => Some(left),
            State::Over => Some(0),
            State::Head
            | State::ChunkSize
            | State::ChunkData { .. }
            | State::ChunkEnd
            | State::Trailers
            | State::UntilClose => None,
        }
    }

    /// The buffer, for the next response on this connection; `None` when there can be none.
    pub fn into_reusable(self) -> Option<BytesMut> {
        // Bytes after a response belong to nothing that was asked.
        (self.is_over() && self.keeps_connection && self.buffer.is_empty()).then_some(self.buffer)
    }

    /// What came, or `None` when more has to come first.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; the connection is of no use then.
    pub fn poll(&mut self) -> Result<Option<Event>, Unreadable> {
        loop {
            match self.state {
                State::Over => return Ok(Some(Event::Over)),
                State::Head => match self.head()? {
                    None => return Ok(None),
                    // Nobody waits for an interim response: what a client expects is answered here.
                    Some(head) if head.status.is_informational() => {
                        if head.status == StatusCode::SWITCHING_PROTOCOLS {
                            return Err(Unreadable::Unasked(head.status.as_u16()));
                        }
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return Err(Unreadable::Interim);
                        }
                    }
                    Some(mut head) => {
                        self.state = self.framing(&mut head)?;
                        return Ok(Some(Event::Head(head)));
                    }
                },
                State::Length { left: 0 } => self.state = State::Over,
                State::ChunkData { left: 0 } => self.state = State::ChunkEnd,
                State::Length { left } => {
                    let Some(data) = self.take(left) else { return Ok(None) };
                    self.state = match left - data.len() as u64 {
                        0 => State::Over,
                        left => State::Length { left },
                    };
                    return Ok(Some(Event::Data(data)));
                }
                State::ChunkData { left } => {
                    let Some(data) = self.take(left) else { return Ok(None) };
                    self.state = State::ChunkData { left: left - data.len() as u64 };
                    return Ok(Some(Event::Data(data)));
                }
                State::UntilClose => return Ok(self.take(u64::MAX).map(Event::Data)),
                // httparse takes an empty line for a size of zero, which is the end of the body.
                State::ChunkSize if self.buffer.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                    return Err(Unreadable::Chunk);
                }
                State::ChunkSize => match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete((length, size))) => {
                        drop(self.buffer.split_to(length));
                        self.state = if size == 0 { State::Trailers } else { State::ChunkData { left: size } };
                    }
                    Ok(httparse::Status::Partial) if self.buffer.len() < MAX_BETWEEN => return Ok(None),
                    Ok(httparse::Status::Partial) | Err(_) => return Err(Unreadable::Chunk),
                },
                State::ChunkEnd => match self.buffer.get(..2) {
                    Some(b"\r\n") => {
                        drop(self.buffer.split_to(2));
                        self.state = State::ChunkSize;
                    }
                    Some(_) => return Err(Unreadable::Chunk),
                    None => return Ok(None),
                },
                State::Trailers => {
                    // They end with an empty line, which is all there is when nothing is announced.
                    let end = if self.buffer.starts_with(b"\r\n") { Some(2) } else { self.end_of_lines() };
                    match end {
                        Some(end) => {
                            drop(self.buffer.split_to(end));
                            self.state = State::Over;
                        }
                        None if self.buffer.len() < MAX_BETWEEN => return Ok(None),
                        None => return Err(Unreadable::Chunk),
                    }
                }
            }
        }
    }

    /// The connection is at its end.
    ///
    /// # Errors
    ///
    /// When that cuts the response.
    pub fn handle_eof(&mut self) -> Result<(), Unreadable> {
        match self.state {
            State::Over => Ok(()),
            State::UntilClose => {
                self.state = State::Over;
                Ok(())
            }
            State::Head if self.buffer.is_empty() => Err(Unreadable::NoResponse),
            State::Head
            | State::Length { .. }
            | State::ChunkSize
            | State::ChunkData { .. }
            | State::ChunkEnd
            | State::Trailers => Err(Unreadable::Truncated),
        }
    }

    fn take(&mut self, most: u64) -> Option<Bytes> {
        let length = usize::try_from(most).map_or(self.buffer.len(), |most| most.min(self.buffer.len()));
        (length > 0).then(|| self.buffer.split_to(length).freeze())
    }

    /// Where a section of lines ends that begins the buffer: after its empty line.
    fn end_of_lines(&mut self) -> Option<usize> {
        let from = self.searched;
        for at in memchr::memchr_iter(b'\n', &self.buffer[from..]).map(|at| from + at) {
            if self.buffer[..at].ends_with(b"\n") || self.buffer[..at].ends_with(b"\n\r") {
                self.searched = 0;
                return Some(at + 1);
            }
        }
        self.searched = self.buffer.len();
        None
    }

    fn head(&mut self) -> Result<Option<Head>, Unreadable> {
        if !self.begins_well() {
            return Err(Unreadable::NotHttp(httparse::Error::Version));
        }
        let Some(length) = self.end_of_lines() else {
            let limit = self.max_head;
            return if self.buffer.len() < limit { Ok(None) } else { Err(Unreadable::HeadTooLong { limit }) };
        };
        if length > self.max_head {
            return Err(Unreadable::HeadTooLong { limit: self.max_head });
        }
        let bytes = self.buffer.split_to(length);
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, &bytes, &mut fields) {
            Ok(httparse::Status::Complete(parsed)) if parsed == length => {}
            Ok(_) => return Err(Unreadable::BadHead),
            Err(error) => return Err(Unreadable::NotHttp(error)),
        }
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Unreadable::BadHead)?;
        let mut headers = Section::with_room(parsed.headers.len(), length);
        for field in &*parsed.headers {
            headers.push(Line::new(field.name.as_bytes(), field.value).map_err(|_| Unreadable::BadHead)?);
        }
        self.keeps_connection = parsed.version == Some(1) && !says_close(&headers);
        Ok(Some(Head { status, headers }))
    }

    /// What speaks another protocol may wait for us to speak: it is not waited for.
    fn begins_well(&self) -> bool {
        let begin = b"HTTP/1.";
        let seen = self.buffer.len().min(begin.len());
        self.buffer[..seen] == begin[..seen]
    }

    /// How the body of a response is framed (RFC 9112 section 6.3).
    fn framing(&mut self, head: &mut Head) -> Result<State, Unreadable> {
        let Head { status, headers } = head;
        let (length, times) = length(headers)?;
        if let Some(length) = length.filter(|_| times > 1) {
            headers.retain(|line| !line.is("content-length"));
            let length = itoa::Buffer::new().format(length).as_bytes().to_vec();
            headers.push(Line::new(b"content-length", &length).map_err(|_| Unreadable::Length)?);
        }
        if self.bodiless || matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(State::Over);
        }
        let mut codings = headers.get_all("transfer-encoding");
        match (codings.next(), codings.next()) {
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => {
                // Who reads the length instead sees another end: nothing may follow on this connection.
                self.keeps_connection &= length.is_none();
                Ok(State::ChunkSize)
            }
            (Some(_), _) => Err(Unreadable::TransferCoding),
            (None, _) => Ok(match length {
                Some(0) => State::Over,
                Some(left) => State::Length { left },
                None => {
                    self.keeps_connection = false;
                    State::UntilClose
                }
            }),
        }
    }
}

fn says_close(headers: &Section) -> bool {
    headers
        .get_all("connection")
        .any(|value| value.split(|&byte| byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close")))
}

/// Content-Length: absent, or one number however often it is said; and how often.
fn length(headers: &Section) -> Result<(Option<u64>, usize), Unreadable> {
    let (mut length, mut times) = (None, 0);
    for value in headers.get_all("content-length") {
        for text in value.split(|&byte| byte == b',') {
            let text = text.trim_ascii();
            // `parse` alone would take a sign.
            let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let said = digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(Unreadable::Length)?;
            if length.is_some_and(|length| length != said) {
                return Err(Unreadable::Length);
            }
            length = Some(said);
            times += 1;
        }
    }
    Ok((length, times))
}
