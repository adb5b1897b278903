//! The strict reading of HTTP/1.1 requests, beside a parser that is lenient.

use bytes::BufMut as _;
use wicketgate::proxy::framing::{Broken, Framing, Piece, Refusal, Request};
use wicketgate::request::{CanonicalRequest, MAX_FIELDS, Raw, Target};

/// The first byte chooses the port, the second how the rest, the stream, is cut. Any cut gives the same, and another
/// parser finds in the stream exactly the requests that were read, each with its body.
pub(crate) fn stream(bytes: &[u8]) {
    let [choice, cut, stream @ ..] = bytes else { return };
    let port = if choice & 1 == 0 { 80 } else { 443 };
    let whole = Outcome::of([stream], port);
    let cut = usize::from(*cut);
    let (first, second) = stream.split_at(cut.min(stream.len()));
    assert_eq!(Outcome::of([first, second], port), whole, "cut at {cut}");
    assert_eq!(Outcome::of(stream.chunks(1 + cut % 7), port), whole, "cut in pieces of {}", 1 + cut % 7);
    whole.walk(stream, port);
}

/// A request, what came of its body, and whether that is all of it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    request: Request,
    body: Vec<u8>,
    whole: bool,
}

/// What the machine made of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    seen: Vec<Seen>,
    refusal: Option<Refusal>,
    broken: Option<Broken>,
    /// Bytes of a head that is not complete.
    held: usize,
}

impl Outcome {
    fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, port: u16) -> Self {
        let mut framing = Framing::new(port);
        let mut outcome = Self::default();
        for piece in pieces {
            framing.buffer().put_slice(piece);
            if let Err(broken) = outcome.take(&mut framing) {
                outcome.broken = Some(broken);
                assert!(!framing.is_in_body() && framing.poll_request().is_none(), "a broken connection is over");
                return outcome;
            }
        }
        outcome.held = framing.ahead();
        let cut = framing.is_in_body() || outcome.held > 0;
        assert_eq!(framing.handle_eof().is_err(), cut);
        outcome
    }

    fn take(&mut self, framing: &mut Framing) -> Result<(), Broken> {
        loop {
            if framing.is_in_body() {
                let Some(last) = self.seen.last_mut() else { panic!("a body without a head") };
                match framing.poll_body()? {
                    Some(Piece::Data(data)) => {
                        assert!(!data.is_empty());
                        last.body.extend_from_slice(&data);
                    }
                    Some(Piece::Over) => assert!(!framing.is_in_body()),
                    None => return Ok(()),
                }
                last.whole = !framing.is_in_body();
                continue;
            }
            match framing.poll_request() {
                Some(Ok(request)) => self.seen.push(Seen { request, body: Vec::new(), whole: !framing.is_in_body() }),
                Some(Err(refusal)) => {
                    assert!((400..=505).contains(&refusal.status()) && !refusal.reason().is_empty());
                    assert_eq!(self.refusal.replace(refusal), None, "something is read after a refusal");
                }
                None => return Ok(()),
            }
        }
    }

    /// Reads the stream as a lenient parser does, as far as it was read here.
    fn walk(&self, stream: &[u8], port: u16) {
        let mut rest = stream;
        for (at, seen) in self.seen.iter().enumerate() {
            let (read, framed, after) = head(rest, port);
            assert_eq!(read, seen.request.canonical);
            if !seen.whole {
                assert!(at + 1 == self.seen.len() && self.refusal.is_none(), "a body without its end");
                return;
            }
            let Some((theirs, after)) = body(framed, after) else { panic!("a body that another parser does not end") };
            assert_eq!(theirs.escape_ascii().to_string(), seen.body.escape_ascii().to_string());
            rest = after;
        }
    }
}

/// How another reader finds the end of a body.
#[derive(Clone, Copy, Debug)]
enum Body {
    Length(usize),
    Chunked,
}

fn head(bytes: &[u8], port: u16) -> (CanonicalRequest, Body, &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        other => panic!("{other:?} of the head {:?}", bytes.escape_ascii()),
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
        panic!("a request line without a word")
    };
    let fields = request.headers.iter().map(|header| (header.name, header.value));
    let raw = Raw { method, target: Target::Http1 { target: target.as_bytes() }, port };
    let read = match CanonicalRequest::read(&raw, fields) {
        Ok(read) => read,
        Err(malformed) => panic!("{malformed}: {:?}", bytes.escape_ascii()),
    };
    let mut body = Body::Length(0);
    for header in request.headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::Chunked;
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let length = str::from_utf8(header.value).ok().and_then(|digits| digits.parse::<usize>().ok());
            body = Body::Length(length.unwrap_or_else(|| panic!("{:?}", header.value.escape_ascii())));
        }
    }
    (read, body, &bytes[length..])
}

/// A body and what follows it; `None` when it is not whole.
fn body(framed: Body, mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Body::Chunked = framed else {
        let Body::Length(length) = framed else { return None };
        return bytes.split_at_checked(length).map(|(body, after)| (body.to_vec(), after));
    };
    let mut whole = Vec::new();
    loop {
        let (digits, size) = match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return None,
            Err(error) => panic!("{error:?} of the chunk {:?}", bytes.escape_ascii()),
        };
        bytes = bytes.get(digits..)?;
        if size == 0 {
            break;
        }
        let (data, after) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
        whole.extend_from_slice(data);
        bytes = after.strip_prefix(b"\r\n")?;
    }
    let trailers = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let end = if bytes.starts_with(b"\r\n") { 2 } else { trailers? };
    Some((whole, &bytes[end..]))
}
