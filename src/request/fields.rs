//! The header lines of a request: in goes every line in order, out come the few that decide how a request is read.
//!
//! RFC 9110 section 5, RFC 9112 sections 5 and 6, RFC 9113 section 8.2.

use std::fmt;

use super::{MAX_FIELDS, MAX_HEAD, Malformed};
use crate::field::{BadLine, Line, is_token_byte};

/// What HTTP/1.1 adds to name and value: colon, space, CR, LF.
const LINE_OVERHEAD: usize = 4;

/// The longest body that can be announced: more digits than any number of bytes that will ever be sent, and fewer than
/// what overflows.
const MAX_LENGTH_DIGITS: usize = 18;

/// What carries the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 9112
    Http1,
    /// RFC 9113
    Http2,
}

/// How the body of an HTTP/1.1 request is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Neither header: there is none.
    Absent,
    /// Content-Length
    Length(u64),
    /// Transfer-Encoding: chunked
    Chunked,
}

impl Body {
    /// Whether nothing follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::Absent | Self::Length(0))
    }
}

/// The header lines taken so far.
#[derive(Clone)]
pub struct Fields<'a> {
    protocol: Protocol,
    lines: usize,
    bytes: usize,
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    connection_upgrades: bool,
    connection_closes: bool,
    authorization: Option<&'a [u8]>,
    carries_token: bool,
    content_type: bool,
    cookie: bool,
}

/// The headers with a rule of their own.
#[derive(Clone, Copy)]
enum Known {
    Authorization,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyConnection,
    Te,
    TransferEncoding,
    Upgrade,
}

impl Known {
    fn of(name: &[u8]) -> Option<Self> {
        let (known, spelling): (Self, &[u8]) = match name.len() {
            2 => (Self::Te, b"te"),
            4 => (Self::Host, b"host"),
            6 => (Self::Cookie, b"cookie"),
            7 => (Self::Upgrade, b"upgrade"),
            10 if name[0].eq_ignore_ascii_case(&b'k') => (Self::KeepAlive, b"keep-alive"),
            10 => (Self::Connection, b"connection"),
            12 => (Self::ContentType, b"content-type"),
            13 => (Self::Authorization, b"authorization"),
            14 if name[0].eq_ignore_ascii_case(&b'h') => (Self::Http2Settings, b"http2-settings"),
            14 => (Self::ContentLength, b"content-length"),
            16 => (Self::ProxyConnection, b"proxy-connection"),
            17 => (Self::TransferEncoding, b"transfer-encoding"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(spelling).then_some(known)
    }
}

/// Values may be secrets.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, lines, bytes, .. } = self;
        write!(f, "{lines} lines of {protocol:?}, {bytes} bytes")
    }
}

impl<'a> Fields<'a> {
    /// No line yet.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            lines: 0,
            bytes: 0,
            host: None,
            content_length: None,
            transfer_encoding: None,
            upgrade: None,
            connection_upgrades: false,
            connection_closes: false,
            authorization: None,
            carries_token: false,
            content_type: false,
            cookie: false,
        }
    }

    /// Takes the next line. White space around the value is the transport's and is not part of it.
    pub fn push(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<Line<'a>, Malformed> {
        self.lines += 1;
        self.bytes = self.bytes.saturating_add(name.len()).saturating_add(value.len()).saturating_add(LINE_OVERHEAD);
        if self.lines > MAX_FIELDS {
            return Err(Malformed::TooManyFields { limit: MAX_FIELDS });
        }
        if self.bytes > MAX_HEAD {
            return Err(Malformed::HeadTooLong { limit: MAX_HEAD });
        }
        let line = Line::new(name, value).map_err(|bad| match bad {
            BadLine::Name => Malformed::FieldName { line: self.lines },
            BadLine::Value => Malformed::FieldControl { line: self.lines },
        })?;
        // A CGI gateway takes it for a hyphen (RFC 3875 section 4.1.18).
        if name.contains(&b'_') {
            return Err(Malformed::FieldUnderscore { line: self.lines });
        }
        if let Some(known) = Known::of(name) {
            self.note(known, value)?;
        }
        Ok(line)
    }

    fn note(&mut self, known: Known, value: &'a [u8]) -> Result<(), Malformed> {
        match known {
            Known::Host => once(&mut self.host, value, "host"),
            Known::ContentLength => once(&mut self.content_length, value, "content-length"),
            Known::Authorization => {
                once(&mut self.authorization, value, "authorization")?;
                self.carries_token = check_authorization(value)?;
                Ok(())
            }
            Known::ContentType => {
                if std::mem::replace(&mut self.content_type, true) {
                    return Err(Malformed::FieldRepeated { name: "content-type" });
                }
                Ok(())
            }
            Known::Cookie => {
                // HTTP/2 may split the cookies over several lines (RFC 9113 section 8.2.3), HTTP/1.1 may not.
                if std::mem::replace(&mut self.cookie, true) && self.protocol == Protocol::Http1 {
                    return Err(Malformed::FieldRepeated { name: "cookie" });
                }
                check_cookies(value)
            }
            Known::TransferEncoding => {
                self.only_http1("transfer-encoding")?;
                once(&mut self.transfer_encoding, value, "transfer-encoding")
            }
            Known::Upgrade => {
                self.only_http1("upgrade")?;
                once(&mut self.upgrade, value, "upgrade")
            }
            Known::Connection => {
                self.only_http1("connection")?;
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    self.connection_upgrades |= option.eq_ignore_ascii_case(b"upgrade");
                    self.connection_closes |= option.eq_ignore_ascii_case(b"close");
                }
                Ok(())
            }
            Known::KeepAlive => self.only_http1("keep-alive"),
            Known::ProxyConnection => self.only_http1("proxy-connection"),
            Known::Http2Settings => {
                self.only_http1("http2-settings")?;
                Err(Malformed::Upgrade)
            }
            Known::Te => match self.protocol {
                Protocol::Http1 => Ok(()),
                Protocol::Http2 if value.eq_ignore_ascii_case(b"trailers") => Ok(()),
                Protocol::Http2 => Err(Malformed::ConnectionSpecific { name: "te" }),
            },
        }
    }

    fn only_http1(&self, name: &'static str) -> Result<(), Malformed> {
        match self.protocol {
            Protocol::Http1 => Ok(()),
            Protocol::Http2 => Err(Malformed::ConnectionSpecific { name }),
        }
    }

    pub(super) fn host(&self) -> Option<&'a [u8]> {
        self.host
    }

    /// Whether Authorization carries an access token.
    pub(super) fn carries_token(&self) -> bool {
        self.carries_token
    }

    /// Whether Connection says that no request follows.
    pub(super) fn closes(&self) -> bool {
        self.connection_closes
    }

    /// How the body is framed.
    pub(super) fn body(&self) -> Result<Body, Malformed> {
        match (self.content_length, self.transfer_encoding) {
            (Some(_), Some(_)) => Err(Malformed::TwoFramings),
            (None, None) => Ok(Body::Absent),
            (None, Some(b"chunked")) => Ok(Body::Chunked),
            (None, Some(_)) => Err(Malformed::TransferEncoding),
            (Some(digits), None) => read_length(digits).map(Body::Length).ok_or(Malformed::ContentLength),
        }
    }

    /// Refuses every upgrade but that to a WebSocket (RFC 6455 section 4.1): what follows it would be read by rules that
    /// nobody has checked.
    pub(super) fn check_upgrade(&self, method: &str, body: Body) -> Result<(), Malformed> {
        let Some(protocol) = self.upgrade else { return Ok(()) };
        if protocol.eq_ignore_ascii_case(b"websocket") && self.connection_upgrades && method == "GET" && body.is_empty()
        {
            Ok(())
        } else {
            Err(Malformed::Upgrade)
        }
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], name: &'static str) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::FieldRepeated { name }),
    }
}

/// A decimal number in its one spelling: no sign, no list, no leading zero.
fn read_length(digits: &[u8]) -> Option<u64> {
    let one_spelling = match digits {
        [] => false,
        [b'0', rest @ ..] => rest.is_empty(),
        [..] => digits.len() <= MAX_LENGTH_DIGITS,
    };
    if !one_spelling {
        return None;
    }
    digits.iter().try_fold(0u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// The scheme of Authorization and its credentials (RFC 9110 section 11.6.2): a token, and nothing or spaces after it.
/// Readers disagree about where any other byte ends the scheme, so each could see other credentials.
fn credentials(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = value.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    let one_reading = !scheme.is_empty() && matches!(rest.first(), None | Some(b' ')) && value.is_ascii();
    one_reading.then(|| (scheme, trim_spaces(rest)))
}

fn trim_spaces(value: &[u8]) -> &[u8] {
    let begin = value.iter().position(|&byte| byte != b' ').unwrap_or(value.len());
    let end = value.iter().rposition(|&byte| byte != b' ').map_or(begin, |last| last + 1);
    &value[begin..end]
}

/// The bearer token in a value of Authorization (RFC 6750 section 2.1).
pub fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials(authorization)?;
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
}

/// Whether a scheme logs in the connection that carries it, not the request (RFC 4559 section 6).
pub fn logs_in_connection(scheme: &[u8]) -> bool {
    [&b"ntlm"[..], b"negotiate"].iter().any(|bound| scheme.eq_ignore_ascii_case(bound))
}

/// Whether there is an access token (RFC 6750, RFC 9449). It has neither comma nor white space; what has is two tokens, or
/// two credentials.
fn check_authorization(value: &[u8]) -> Result<bool, Malformed> {
    let (scheme, token) = credentials(value).ok_or(Malformed::Credentials)?;
    if logs_in_connection(scheme) {
        return Err(Malformed::ConnectionLogin);
    }
    if !(scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"dpop")) {
        return Ok(false);
    }
    if memchr::memchr3(b',', b' ', b'\t', token).is_some() {
        return Err(Malformed::TwoTokens);
    }
    Ok(true)
}

/// A value that begins with a quote ends with one before its `;` (RFC 6265 section 4.1.1): to a parser that knows
/// quotes, `a="x; session=1"` is one cookie, to others two.
fn check_cookies(value: &[u8]) -> Result<(), Malformed> {
    if !value.contains(&b'"') {
        return Ok(());
    }
    let unbalanced = value.split(|&byte| byte == b';').any(|pair| {
        let value = pair.iter().position(|&byte| byte == b'=').map_or(pair, |equals| &pair[equals + 1..]).trim_ascii();
        value.first() == Some(&b'"') && (value.len() < 2 || value.last() != Some(&b'"'))
    });
    if unbalanced { Err(Malformed::CookieQuote) } else { Ok(()) }
}
