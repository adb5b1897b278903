//! The request target: in go the bytes of the wire, out come the canonical path, the query, and the path's oddities.
//!
//! RFC 9112 section 3.2, RFC 9113 section 8.3.1, RFC 3986 section 3.

use super::chars::{is_control, is_path, is_plain_path, is_plain_query, is_query, push_triplet, triplet};
use super::{MAX_TARGET, Malformed};

/// What in a path is legal only where an API says that it is opaque, for servers read it differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// `%2F` or `%5C` inside a segment.
    pub encoded_slash: bool,
    /// `%25` before two hexadecimal digits.
    pub double_encoding: bool,
    /// `;` inside a segment.
    pub matrix_params: bool,
}

impl Oddities {
    fn any(self) -> bool {
        self.encoded_slash || self.double_encoding || self.matrix_params
    }
}

/// Path and query as sent, and where in the target they begin.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: usize,
}

fn scheme_of(port: u16) -> &'static str {
    if port == 443 { "https" } else { "http" }
}

/// The parts of an HTTP/1.1 target: origin form, or absolute form with an authority (RFC 9112 section 3.2.1, 3.2.2).
pub(super) fn split_http1(target: &[u8], port: u16) -> Result<(Place<'_>, Option<&[u8]>), Malformed> {
    check_length(target)?;
    if target.first() == Some(&b'/') {
        return Ok((Place { bytes: target, offset: 0 }, None));
    }
    let scheme = scheme_of(port);
    let (given, rest) = target.split_at_checked(scheme.len()).ok_or(Malformed::TargetForm)?;
    if !given.eq_ignore_ascii_case(scheme.as_bytes()) {
        return Err(Malformed::TargetForm);
    }
    let rest = rest.strip_prefix(b"://").ok_or(Malformed::TargetForm)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).ok_or(Malformed::TargetForm)?;
    let (authority, bytes) = rest.split_at(end);
    Ok((Place { bytes, offset: target.len() - bytes.len() }, Some(authority)))
}

/// The pseudo-header fields of HTTP/2: `:path` is an origin form, and the scheme is the connection's.
pub(super) fn split_http2<'a>(
    scheme: Option<&str>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    port: u16,
) -> Result<(Place<'a>, Option<&'a [u8]>), Malformed> {
    let bytes = path.ok_or(Malformed::TargetForm)?;
    check_length(bytes)?;
    if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(scheme_of(port))) {
        return Err(Malformed::TargetForm);
    }
    Ok((Place { bytes, offset: 0 }, authority))
}

fn check_length(target: &[u8]) -> Result<(), Malformed> {
    if target.len() > MAX_TARGET { Err(Malformed::TargetTooLong { limit: MAX_TARGET }) } else { Ok(()) }
}

/// Path, query, oddities.
type Parts = (Box<str>, Option<Box<str>>, Oddities);

/// Reads an origin form that begins at `offset` of the target.
pub(super) fn read(bytes: &[u8], offset: usize) -> Result<Parts, Malformed> {
    if bytes.first() != Some(&b'/') {
        return Err(Malformed::TargetForm);
    }
    let (path, query) = match bytes.iter().position(|&byte| byte == b'?') {
        Some(mark) => {
            let query = bytes.get(mark + 1..).unwrap_or_default();
            (&bytes[..mark], Some(read_query(query, offset + mark + 1)?))
        }
        None => (bytes, None),
    };
    let (path, oddities) = read_path(path, offset)?;
    Ok((path, query.flatten(), oddities))
}

fn refuse_byte(byte: u8, at: usize) -> Malformed {
    if byte == b'#' { Malformed::Fragment { at: at + 1 } } else { Malformed::TargetByte { byte, at: at + 1 } }
}

fn read_path(bytes: &[u8], offset: usize) -> Result<(Box<str>, Oddities), Malformed> {
    let mut oddities = Oddities::default();
    let path = match ascii(bytes, is_plain_path) {
        Some(plain) => plain.into(),
        None => decode_path(bytes, offset, &mut oddities)?,
    };
    check_segments(&path)?;
    if oddities.any() {
        check_hidden_segments(&path)?;
    }
    Ok((path, oddities))
}

/// The bytes as text when they are plain, which only ASCII characters are.
fn ascii(bytes: &[u8], is_plain: fn(&[u8]) -> bool) -> Option<&str> {
    if is_plain(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// The canonical spelling of a path: what [`CanonicalRequest::path`](super::CanonicalRequest::path) is for this one.
pub fn canonical_path(path: &str) -> Result<Box<str>, Malformed> {
    decode_path(path.as_bytes(), 0, &mut Oddities::default())
}

/// Decodes once: what a segment may hold as it is is decoded, every other triplet is kept in upper case. RFC 3986 lets
/// `:` and `%3A` differ, but servers decode both to one name, so that rules and limits must not see two. An encoded
/// `;` stays, for it begins no matrix parameter.
fn decode_path(bytes: &[u8], offset: usize, oddities: &mut Oddities) -> Result<Box<str>, Malformed> {
    let mut path = String::with_capacity(bytes.len());
    let mut beyond_ascii = false;
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        let at = offset + bytes.len() - rest.len();
        rest = tail;
        if is_path(byte) {
            path.push(char::from(byte));
        } else if byte == b';' {
            oddities.matrix_params = true;
            path.push(';');
        } else if byte == b'%' {
            let (decoded, tail) = take_triplet(tail).ok_or(Malformed::Triplet { at: at + 1 })?;
            rest = tail;
            if is_control(decoded) {
                return Err(Malformed::EncodedControl { byte: decoded, at: at + 1 });
            }
            beyond_ascii |= !decoded.is_ascii();
            oddities.encoded_slash |= matches!(decoded, b'/' | b'\\');
            if is_path(decoded) && decoded != b'/' {
                path.push(char::from(decoded));
            } else {
                push_triplet(&mut path, decoded);
            }
        } else {
            return Err(refuse_byte(byte, at));
        }
    }
    if beyond_ascii && !decodes_to_utf8(&path) {
        return Err(Malformed::NotUtf8);
    }
    // Asked of the canonical spelling, for `%25%32%46` only becomes `%252F` by decoding.
    oddities.double_encoding = path.match_indices("%25").any(|(at, _)| {
        path.as_bytes().get(at + 3..at + 5).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    Ok(path.into_boxed_str())
}

/// The byte that the triplet stands for whose `%` was just taken, and what follows it.
fn take_triplet(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, tail) = after_percent.split_first_chunk::<2>()?;
    Some((triplet(&[b'%', digits[0], digits[1]])?, tail))
}

fn decodes_to_utf8(path: &str) -> bool {
    std::str::from_utf8(&decode(path.as_bytes()).collect::<Vec<u8>>()).is_ok()
}

/// Every triplet decoded once; what is not a triplet stays.
fn decode(bytes: &[u8]) -> impl Iterator<Item = u8> {
    decode_with(bytes, |byte| byte)
}

/// As forms are decoded (application/x-www-form-urlencoded): `+` is a space, unless it was encoded.
fn decode_form(bytes: &[u8]) -> impl Iterator<Item = u8> {
    decode_with(bytes, |byte| if byte == b'+' { b' ' } else { byte })
}

fn decode_with(bytes: &[u8], plain: impl Fn(u8) -> u8) -> impl Iterator<Item = u8> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        let (byte, tail) = match first {
            b'%' => take_triplet(tail).unwrap_or((first, tail)),
            _ => (plain(first), tail),
        };
        rest = tail;
        Some(byte)
    })
}

fn check_segments(path: &str) -> Result<(), Malformed> {
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(Malformed::DotSegment),
            "" if segments.peek().is_some() => return Err(Malformed::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

/// Opaque does not mean that a path may climb: no decoding, however often repeated, may show a dot segment.
fn check_hidden_segments(path: &str) -> Result<(), Malformed> {
    let decoded = decode_to_the_end(path.as_bytes());
    let climbs = decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        matches!(name, b"." | b"..")
    });
    if climbs { Err(Malformed::DotSegment) } else { Ok(()) }
}

/// Decodes until no triplet is left, in one pass: a decoded byte may complete a triplet that began before it.
fn decode_to_the_end(bytes: &[u8]) -> Vec<u8> {
    let mut decoded: Vec<u8> = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        decoded.push(byte);
        while let Some(byte) = decoded.last_chunk::<3>().and_then(|tail| triplet(tail)) {
            decoded.truncate(decoded.len() - 3);
            decoded.push(byte);
        }
    }
    decoded
}

/// The query as sent, without parameters named `_method`; `None` when nothing else was in it.
fn read_query(bytes: &[u8], offset: usize) -> Result<Option<Box<str>>, Malformed> {
    let query = match ascii(bytes, is_plain_query) {
        Some(plain) => plain,
        None => {
            check_query(bytes, offset)?;
            std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?
        }
    };
    if !query_names(query).any(|name| is_named(name, b"_method")) {
        return Ok(Some(query.into()));
    }
    let mut kept = String::with_capacity(query.len());
    for parameter in query.split_inclusive(['&', ';']) {
        if !is_named(parameter_name(parameter), b"_method") {
            kept.push_str(parameter);
        }
    }
    if kept.ends_with(['&', ';']) && !query.ends_with(['&', ';']) {
        kept.pop();
    }
    Ok((!kept.is_empty()).then(|| kept.into_boxed_str()))
}

/// Line breaks may be encoded in a query (a text to search for, a GraphQL document); a NUL never is.
fn check_query(bytes: &[u8], offset: usize) -> Result<(), Malformed> {
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        let at = offset + bytes.len() - rest.len();
        rest = tail;
        if byte == b'%' {
            let (decoded, tail) = take_triplet(tail).ok_or(Malformed::Triplet { at: at + 1 })?;
            if decoded == 0 {
                return Err(Malformed::EncodedControl { byte: decoded, at: at + 1 });
            }
            rest = tail;
        } else if !is_query(byte) {
            return Err(refuse_byte(byte, at));
        }
    }
    Ok(())
}

fn query_names(query: &str) -> impl Iterator<Item = &str> {
    query.split(['&', ';']).map(parameter_name)
}

fn parameter_name(parameter: &str) -> &str {
    parameter.split(['=', '&', ';']).next().unwrap_or_default()
}

/// Whether a server may read the name as the wanted one: encoded, in any case, and in the spellings that PHP folds (it
/// drops leading spaces, and makes underscores of spaces, dots and a bracket that is not closed) together with the hyphens that others fold.
fn is_named(name: &str, wanted: &[u8]) -> bool {
    let folded = decode_form(name.as_bytes()).skip_while(|&byte| byte == b' ').map(|byte| match byte {
        b'.' | b' ' | b'-' | b'[' => b'_',
        byte => byte.to_ascii_lowercase(),
    });
    folded.eq(wanted.iter().copied())
}

/// Whether a query carries an access token (RFC 6750 section 2.3).
pub(super) fn has_access_token(query: &str) -> bool {
    query_names(query).any(|name| is_named(name, b"access_token"))
}

/// Whether two segments name the same thing to a server that decodes: `a%3Bb` and `a;b` do. An encoded slash,
/// backslash or percent sign stays distinct from everything else.
pub fn segments_equal(a: &str, b: &str) -> bool {
    a == b || ((a.contains('%') || b.contains('%')) && meanings(a).eq(meanings(b)))
}

/// The characters of a segment; those that change the structure when decoded are marked.
fn meanings(segment: &str) -> impl Iterator<Item = (u8, bool)> {
    let mut rest = segment.as_bytes();
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        let (meaning, tail) = match first {
            b'%' => take_triplet(tail)
                .map_or(((first, false), tail), |(byte, tail)| ((byte, matches!(byte, b'/' | b'\\' | b'%')), tail)),
            _ => ((first, false), tail),
        };
        rest = tail;
        Some(meaning)
    })
}
