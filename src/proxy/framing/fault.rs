//! What was wrong with the bytes: with a head, which is answered, or with a body, which ends the connection.

use super::lines::lines;
use crate::field::is_token;
use crate::request::{MAX_METHOD, Malformed};

/// How much of a refused target the audit record shows.
const MAX_TARGET_EXCERPT: usize = 256;
/// How much of a refused host the audit record shows: the longest name.
const MAX_HOST_EXCERPT: usize = 253;

/// Why a head was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// RFC 9112 section 3.
    #[error("the first line is not `method target HTTP/1.1` with single spaces")]
    RequestLine,
    /// HTTP/1.0 has no Host and no chunks; nothing that speaks it is let in.
    #[error("the protocol version is not HTTP/1.1")]
    Version,
    /// RFC 9112 section 2.2.
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    /// RFC 9112 section 5.2.
    #[error("a header line begins with white space")]
    ObsFold,
    /// RFC 9112 section 5.
    #[error("a header line has no colon")]
    NoColon,
    /// RFC 9112 section 5.1.
    #[error("white space before the colon of a header line")]
    SpaceBeforeColon,
    /// The lines are in order, what they say is not.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl Fault {
    /// The stable reason code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::RequestLine
            | Self::Version
            | Self::BareLineFeed
            | Self::ObsFold
            | Self::NoColon
            | Self::SpaceBeforeColon => "framing",
            Self::Malformed(malformed) => malformed.reason(),
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::RequestLine
            | Self::Version
            | Self::BareLineFeed
            | Self::ObsFold
            | Self::NoColon
            | Self::SpaceBeforeColon => 400,
            Self::Malformed(malformed) => malformed.status(),
        }
    }
}

/// A refused head: the fault to answer with, and excerpts for the audit record. The excerpts are printable ASCII, as
/// escapes where the bytes were not; they are what somebody sent, not what the request is. They are empty where the
/// first word is no method, because then the bytes are anything, such as a body; and no password of an authority, no
/// query and no fragment is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was wrong first.
    pub fault: Fault,
    /// The first word.
    pub method: Box<str>,
    /// The second word, up to its query.
    pub target: Box<str>,
    /// The value of the first Host line.
    pub host: Box<str>,
}

impl Refusal {
    pub(super) fn new(fault: Fault, seen: &[u8]) -> Self {
        let mut lines = lines(seen);
        let mut words = lines.next().unwrap_or_default().split(|&byte| byte == b' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let host = lines.find_map(|line| {
            let (name, value) = line.split_at_checked(5)?;
            name.eq_ignore_ascii_case(b"host:").then(|| value.trim_ascii())
        });
        let host = host.unwrap_or_default();
        let [method, target, host] =
            if is_token(method) { [method, path(target), without_login(host)] } else { [&b""[..]; 3] };
        Self {
            fault,
            method: excerpt(method, MAX_METHOD),
            target: excerpt(target, MAX_TARGET_EXCERPT),
            host: excerpt(host, MAX_HOST_EXCERPT),
        }
    }

    /// The stable reason code.
    pub fn reason(&self) -> &'static str {
        self.fault.reason()
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.fault.status()
    }
}

/// What follows the last `@`.
fn without_login(bytes: &[u8]) -> &[u8] {
    bytes.rsplit(|&byte| byte == b'@').next().unwrap_or_default()
}

/// What stands before a query or a fragment; nothing where there may be a login, for nobody knows where that ends.
fn path(target: &[u8]) -> &[u8] {
    if !target.starts_with(b"/") && target.contains(&b'@') {
        return b"";
    }
    target.split(|&byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

fn excerpt(bytes: &[u8], limit: usize) -> Box<str> {
    bytes.get(..limit).unwrap_or(bytes).escape_ascii().to_string().into_boxed_str()
}

/// How the framing of a body broke: too late for an answer of its own, so the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// RFC 9112 section 7.1: hexadecimal digits and CR LF; extensions are refused.
    #[error("a chunk size is not 1 to 16 hexadecimal digits and a line end")]
    ChunkSize,
    /// RFC 9112 section 7.1.
    #[error("a chunk is not followed by a line end")]
    ChunkEnd,
    /// RFC 9112 section 7.1.2.
    #[error("the trailer section does not consist of header lines")]
    Trailer,
    /// Nobody reads trailers.
    #[error("the trailer section is longer than {limit} bytes")]
    TrailersTooLong { limit: usize },
    /// The connection ended inside a request.
    #[error("the connection ended inside a request")]
    Truncated,
}
