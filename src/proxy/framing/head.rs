//! One complete head: in go its bytes, out comes the one reading of it or the refusal (RFC 9112 sections 2, 3 and 5).

use super::fault::{Fault, Refusal};
use super::lines::lines;
use crate::field::{Line, Section};
use crate::request::{
    Body, CanonicalRequest, Fields, Head, MAX_HEAD, MAX_METHOD, MAX_TARGET, Malformed, Protocol, Raw, Target,
};

/// A request in its one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is judged and forwarded.
    pub canonical: CanonicalRequest,
    /// Every line, in order.
    pub headers: Section,
    /// How the body is framed.
    pub body: Body,
    /// The client waits for 100 (Continue) before it sends the body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// It is the connection's last (RFC 9112 section 9.6).
    pub closes: bool,
}

/// The header lines that most clients send: room for them is made at once.
const LINES: usize = 14;

/// Judges a head; the refusal carries what can be told about the request.
pub(super) fn judge(head: &[u8], port: u16) -> Result<Request, Refusal> {
    read(head, port).map_err(|fault| Refusal::new(fault, head))
}

fn read(head: &[u8], port: u16) -> Result<Request, Fault> {
    let mut lines = lines(head);
    let (method, target) = request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::new(Protocol::Http1);
    let mut headers = Section::with_room(LINES, head.len());
    for line in lines {
        let (name, value) = field(line)?;
        headers.push(fields.push(name, value)?);
    }
    let Head { request, body, closes, .. } =
        Head::read(&Raw { method, target: Target::Http1 { target }, port }, &fields)?;
    let expects_continue = headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    Ok(Request { canonical: request, headers, body, expects_continue, closes })
}

/// `method SP request-target SP HTTP/1.1`, with exactly these two spaces.
fn request_line(line: &[u8]) -> Result<(&str, &[u8]), Fault> {
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(Fault::RequestLine);
    };
    let method = std::str::from_utf8(method).map_err(|_| Fault::Malformed(Malformed::Method { limit: MAX_METHOD }))?;
    match version {
        b"HTTP/1.1" => Ok((method, target)),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Fault::Version)
        }
        [..] => Err(Fault::RequestLine),
    }
}

/// `name ":" OWS value OWS`, on one line.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Fault::ObsFold);
    }
    let colon = memchr::memchr(b':', line).ok_or(Fault::NoColon)?;
    let (name, rest) = line.split_at(colon);
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Fault::SpaceBeforeColon);
    }
    Ok((name, trim(&rest[1..])))
}

/// Without optional white space (RFC 9110 section 5.6.3) at both ends: space and tab, nothing else.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether a trailer section consists of header lines.
pub(super) fn are_fields(section: &[u8]) -> bool {
    lines(section).all(|line| field(line).is_ok_and(|(name, value)| Line::new(name, value).is_ok()))
}

/// What to say about a request line that does not end: without a space in reach not even the method does.
pub(super) fn first_line_too_long(seen: &[u8]) -> Fault {
    let reach = seen.get(..=MAX_METHOD).unwrap_or(seen);
    Fault::Malformed(match reach.iter().position(|&byte| byte == b' ') {
        Some(end) if end > 0 => Malformed::TargetTooLong { limit: MAX_TARGET },
        Some(_) | None => Malformed::Method { limit: MAX_METHOD },
    })
}

/// What to say about a head that does not end.
pub(super) fn too_long() -> Fault {
    Fault::Malformed(Malformed::HeadTooLong { limit: MAX_HEAD })
}
