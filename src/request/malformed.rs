//! Why a request has no one reading.

/// The first fact that keeps a request from having exactly one reading.
///
/// Positions count bytes of the request target or header lines, both from 1. Nothing that the client wrote is repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// RFC 9110 section 9.1.
    #[error("the method is not a token of at most {limit} characters")]
    Method { limit: usize },
    /// RFC 9110 section 9.3.6: it asks for a tunnel to somewhere, not for a resource.
    #[error("CONNECT is not served")]
    Connect,
    /// Neither origin form nor absolute form (RFC 9112 section 3.2).
    #[error("the request target is neither a path nor an absolute URI of this scheme")]
    TargetForm,
    /// RFC 9110 section 4.1.
    #[error("the request target is longer than {limit} bytes")]
    TargetTooLong { limit: usize },
    /// Control, space, backslash, non-ASCII, or outside the grammar of RFC 3986.
    #[error("byte {byte:#04x} at {at} of the request target must be percent-encoded")]
    TargetByte { byte: u8, at: usize },
    /// A fragment is never sent (RFC 9110 section 7.1).
    #[error("fragment at {at} of the request target")]
    Fragment { at: usize },
    /// RFC 3986 section 2.1.
    #[error("`%` at {at} of the request target is not followed by two hexadecimal digits")]
    Triplet { at: usize },
    /// A NUL, line break or other control character in disguise.
    #[error("encoded control character {byte:#04x} at {at} of the request target")]
    EncodedControl { byte: u8, at: usize },
    /// Decoders disagree about overlong and broken sequences.
    #[error("the path decodes to something that is not UTF-8")]
    NotUtf8,
    /// `.` or `..`, encoded or not.
    #[error("dot segment in the path")]
    DotSegment,
    /// `//`
    #[error("empty segment in the path")]
    EmptySegment,
    /// `%2F` or `%5C` where the API does not say that it is opaque.
    #[error("encoded slash or backslash in the path")]
    EncodedSlash,
    /// `%25` before two hexadecimal digits where the API does not say that it is opaque.
    #[error("double encoding in the path")]
    DoubleEncoding,
    /// `;` where the API does not say that it is opaque.
    #[error("`;` parameter in the path")]
    MatrixParams,
    /// RFC 9112 section 3.2.
    #[error("the request names no host")]
    HostMissing,
    /// Not a DNS name of A-labels with an optional port.
    #[error("the host is not a DNS name with an optional port")]
    HostSyntax,
    /// RFC 9110 section 4.2.4.
    #[error("the host carries user information")]
    UserInfo,
    /// No API is named by an address.
    #[error("the host is an address")]
    IpLiteral,
    /// The port of another server.
    #[error("the host names port {got}, the connection is to port {expected}")]
    PortDiffers { expected: u16, got: u16 },
    /// RFC 9112 section 3.2.2 and RFC 9113 section 8.3.1.
    #[error("the authority of the target differs from the Host header")]
    AuthorityDiffers,
    /// RFC 9110 section 5.1.
    #[error("the name of header line {line} is not a token")]
    FieldName { line: usize },
    /// Many servers read `_` as `-`.
    #[error("the name of header line {line} holds `_`")]
    FieldUnderscore { line: usize },
    /// RFC 9110 section 5.5.
    #[error("control character in the value of header line {line}")]
    FieldControl { line: usize },
    /// Two lines where only one can be meant.
    #[error("header `{name}` stands more than once")]
    FieldRepeated { name: &'static str },
    /// RFC 9113 section 8.2.2: such a header has no meaning in HTTP/2, and one in HTTP/1.1.
    #[error("header `{name}` is not allowed in HTTP/2")]
    ConnectionSpecific { name: &'static str },
    /// More than one token would have to agree.
    #[error("more than one access token")]
    TwoTokens,
    /// RFC 6750 section 2.3: where tokens are judged, they come in the header that is judged.
    #[error("an access token in the query; it belongs into the header Authorization")]
    TokenInQuery,
    /// RFC 9110 section 11.4.
    #[error("Authorization is not a scheme, a space and credentials in ASCII")]
    Credentials,
    /// The requests of many persons share the connections to an API.
    #[error("NTLM and Negotiate log in a whole connection, and connections to this API are shared")]
    ConnectionLogin,
    /// A quoted value that does not end in its own pair: parsers that know quotes read another cookie.
    #[error("unbalanced quote in a cookie")]
    CookieQuote,
    /// Only to `websocket`, by GET without a body, and announced by `Connection`.
    #[error("an upgrade that is not a WebSocket handshake")]
    Upgrade,
    /// RFC 6585 section 5.
    #[error("more than {limit} header lines")]
    TooManyFields { limit: usize },
    /// RFC 6585 section 5.
    #[error("the head is longer than {limit} bytes")]
    HeadTooLong { limit: usize },
    /// RFC 9112 section 6.2.
    #[error("Content-Length is not a plain decimal number")]
    ContentLength,
    /// RFC 9112 section 6.1.
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    /// RFC 9112 section 6.1: the seed of request smuggling.
    #[error("Transfer-Encoding beside Content-Length")]
    TwoFramings,
}

impl Malformed {
    /// The stable reason code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Method { .. }
            | Self::Connect
            | Self::TargetForm
            | Self::TargetTooLong { .. }
            | Self::TargetByte { .. }
            | Self::Fragment { .. }
            | Self::Triplet { .. }
            | Self::EncodedControl { .. }
            | Self::NotUtf8
            | Self::DotSegment
            | Self::EmptySegment
            | Self::EncodedSlash
            | Self::DoubleEncoding
            | Self::MatrixParams => "malformed-target",
            Self::HostMissing
            | Self::HostSyntax
            | Self::UserInfo
            | Self::FieldName { .. }
            | Self::FieldUnderscore { .. }
            | Self::FieldControl { .. }
            | Self::FieldRepeated { .. }
            | Self::ConnectionSpecific { .. }
            | Self::TwoTokens
            | Self::TokenInQuery
            | Self::Credentials
            | Self::ConnectionLogin
            | Self::CookieQuote
            | Self::Upgrade
            | Self::TooManyFields { .. }
            | Self::HeadTooLong { .. } => "malformed-header",
            Self::IpLiteral | Self::PortDiffers { .. } | Self::AuthorityDiffers => "host-mismatch",
            Self::ContentLength | Self::TransferEncoding | Self::TwoFramings => "framing",
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::TargetTooLong { .. } => 414,
            Self::TooManyFields { .. } | Self::HeadTooLong { .. } => 431,
            Self::IpLiteral | Self::PortDiffers { .. } | Self::AuthorityDiffers => 421,
            Self::Method { .. }
            | Self::Connect
            | Self::TargetForm
            | Self::TargetByte { .. }
            | Self::Fragment { .. }
            | Self::Triplet { .. }
            | Self::EncodedControl { .. }
            | Self::NotUtf8
            | Self::DotSegment
            | Self::EmptySegment
            | Self::EncodedSlash
            | Self::DoubleEncoding
            | Self::MatrixParams
            | Self::HostMissing
            | Self::HostSyntax
            | Self::UserInfo
            | Self::FieldName { .. }
            | Self::FieldUnderscore { .. }
            | Self::FieldControl { .. }
            | Self::FieldRepeated { .. }
            | Self::ConnectionSpecific { .. }
            | Self::TwoTokens
            | Self::TokenInQuery
            | Self::Credentials
            | Self::ConnectionLogin
            | Self::CookieQuote
            | Self::Upgrade
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::TwoFramings => 400,
        }
    }
}
