//! The strict look at HTTP/1.1 bytes, beside the parser that the HTTP library uses.

use wicketgate::proxy::framing::{Broken, Framing, MAX_VERDICTS, Phase, REFUSED, Verdict};
use wicketgate::request::{CanonicalRequest, MAX_FIELDS, Raw, Target};

const PORT: u16 = 80;

/// The first byte says whether an upgrade is ever declined, the second how the rest, the stream, is cut. Any cut gives
/// the same, and the parser of the HTTP library finds in what is released exactly the requests that were judged.
pub(crate) fn stream(bytes: &[u8]) {
    let [choice, cut, stream @ ..] = bytes else { return };
    let declines = choice & 1 == 0;
    let whole = Outcome::of([stream], declines);
    let cut = usize::from(*cut);
    let (first, second) = stream.split_at(cut.min(stream.len()));
    assert_eq!(Outcome::of([first, second], declines), whole, "cut at {cut}");
    assert_eq!(Outcome::of(stream.chunks(1 + cut % 7), declines), whole, "cut in pieces of {}", 1 + cut % 7);
    assert!(whole.released.len() <= stream.len() + REFUSED.len(), "more is released than came");
    let rest = whole.walk();
    assert!(rest.is_empty(), "{:?} is released unjudged", rest.escape_ascii());
}

/// What the machine made of some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    released: Vec<u8>,
    verdicts: Vec<Verdict>,
    broken: Option<Broken>,
    phase: Phase,
}

impl Outcome {
    fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, declines: bool) -> Self {
        let mut framing = Framing::new(PORT);
        let mut outcome = Self { released: Vec::new(), verdicts: Vec::new(), broken: None, phase: Phase::Idle };
        for piece in pieces {
            outcome.take(&mut framing, piece, declines);
        }
        outcome.take_verdicts(&mut framing);
        outcome.phase = framing.phase();
        let cut = matches!(outcome.phase, Phase::Head | Phase::Body | Phase::Broken);
        assert_eq!(framing.handle_eof().is_err(), cut);
        outcome
    }

    fn take(&mut self, framing: &mut Framing, piece: &[u8], declines: bool) {
        let mut rest = piece;
        while !rest.is_empty() && self.broken.is_none() {
            match framing.handle_input(rest, &mut self.released) {
                Ok(taken) => rest = &rest[taken..],
                Err(broken) => self.broken = Some(broken),
            }
            assert!(rest.is_empty() || framing.is_full() || self.broken.is_some(), "bytes are left for no reason");
            if framing.is_full() {
                self.take_verdicts(framing);
                match framing.phase() {
                    Phase::Upgrade if declines => framing.decline_upgrade(),
                    Phase::Upgrade => return,
                    Phase::Idle | Phase::Head => {}
                    Phase::Body | Phase::Refused | Phase::Broken => {
                        panic!("full without a reason")
                    }
                }
            }
        }
    }

    fn take_verdicts(&mut self, framing: &mut Framing) {
        let before = self.verdicts.len();
        self.verdicts.extend(std::iter::from_fn(|| framing.poll_verdict()));
        assert!(self.verdicts.len() <= before + MAX_VERDICTS);
    }

    /// Reads what was released as the HTTP library does, one request for each verdict; what is left over.
    fn walk(&self) -> &[u8] {
        let mut rest = &self.released[..];
        for (at, verdict) in self.verdicts.iter().enumerate() {
            let last = at + 1 == self.verdicts.len();
            match verdict {
                Verdict::Good(judged) => {
                    let (read, body, after) = head(rest);
                    assert_eq!(&read, judged);
                    rest = match skip(body, after) {
                        Some(after) => after,
                        None => {
                            assert!(
                                last && matches!(self.phase, Phase::Body | Phase::Broken),
                                "a body without its end"
                            );
                            return &[];
                        }
                    };
                }
                Verdict::Bad(refusal) => {
                    assert!(last && rest == REFUSED && self.phase == Phase::Refused, "{refusal:?}");
                    assert!((400..=505).contains(&refusal.status()) && !refusal.reason().is_empty());
                    return &[];
                }
            }
        }
        rest
    }
}

/// How the library finds the end of a body.
#[derive(Clone, Copy, Debug)]
enum Body {
    Length(usize),
    Chunked,
}

fn head(bytes: &[u8]) -> (CanonicalRequest, Body, &[u8]) {
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
    let raw = Raw { method, target: Target::Http1 { target: target.as_bytes() }, port: PORT };
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

/// What follows the body; `None` when it is not whole.
fn skip(body: Body, mut bytes: &[u8]) -> Option<&[u8]> {
    match body {
        Body::Length(length) => bytes.get(length..),
        Body::Chunked => loop {
            let (digits, size) = match httparse::parse_chunk_size(bytes) {
                Ok(httparse::Status::Complete(found)) => found,
                Ok(httparse::Status::Partial) => return None,
                Err(error) => panic!("{error:?} of the chunk {:?}", bytes.escape_ascii()),
            };
            assert_eq!(bytes.get(..digits), Some(format!("{size:x}\r\n").as_bytes()), "a chunk size has one spelling");
            let content = bytes.get(digits..)?.get(usize::try_from(size).ok()?..)?;
            let (end, after) = content.split_first_chunk::<2>()?;
            assert_eq!(end, b"\r\n");
            bytes = after;
            if size == 0 {
                return Some(bytes);
            }
        },
    }
}
