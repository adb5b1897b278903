//! One API: its names, its upstream, how its requests are read, and its rules.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::IssuerName;

use super::rule::{Applied, Rule};

/// What becomes of a doubtful form of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handling {
    /// The request is refused (default).
    #[default]
    Reject,
    /// It is kept, inside its segment, and never interpreted.
    Opaque,
}

/// How the requests of an API are read, and what they may become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpOptions {
    /// `%2F` and `%5C`.
    pub encoded_slash: Handling,
    /// `%25` before two hexadecimal digits.
    pub double_encoding: Handling,
    /// `;` in a segment.
    pub matrix_params: Handling,
    /// Methods beyond the usual ones, which rules may name.
    pub methods_extra: BTreeSet<String>,
}

impl HttpOptions {
    /// Whether both read every path alike.
    pub(crate) fn reads_like(&self, other: &Self) -> bool {
        (self.encoded_slash, self.double_encoding, self.matrix_params)
            == (other.encoded_slash, other.double_encoding, other.matrix_params)
    }
}

/// What a bearer token is to an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// Evidence: it must verify (default).
    Judge,
    /// Nothing to us: forwarded untouched, never evidence.
    Pass,
}

/// What becomes of the header `Authorization` after it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The upstream gets it (default).
    Forward,
    /// The upstream does not get it.
    Strip,
}

/// Where the API's server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamUrl {
    /// TCP without TLS.
    Http {
        /// A DNS name or an address, IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// TCP with TLS.
    Https {
        /// A DNS name or an address, IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket of this machine.
    Unix {
        /// Its absolute path.
        path: String,
    },
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Self::Http { host, port } => write!(f, "http://{}:{port}", bracketed(host)),
            Self::Https { host, port } => write!(f, "https://{}:{port}", bracketed(host)),
            Self::Unix { path } => write!(f, "unix:{path}"),
        }
    }
}

/// The API's server and how to speak with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub url: UpstreamUrl,
    /// The name of the authority that its certificate must come from; `None`: the system's roots.
    pub ca: Option<String>,
    /// The name of the certificate that we show.
    pub client_cert: Option<String>,
    /// The name that its certificate must have; `None`: the host of `url`.
    pub server_name: Option<String>,
    /// Until the head of the response.
    pub timeout: Duration,
    /// Largest request body, in bytes.
    pub max_body: u64,
    /// Largest head of a response, in bytes.
    pub max_response_header: u64,
    /// What becomes of `Authorization`.
    pub authorization: Authorization,
    /// Whether `base` is cut off before forwarding.
    pub strip_base: bool,
}

/// What a header that we assert to the upstream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The person.
    UserId,
    /// The verified address of a token.
    UserEmail,
    /// The known groups, joined by commas.
    UserGroups,
    /// `person` or `client`.
    UserKind,
    /// The client of the token.
    ClientId,
    /// The session.
    TunnelId,
    /// `keys` or `zero`.
    TunnelBinding,
    /// How the tunnel's person logged in.
    TunnelMethod,
    /// A claim, by dotted path.
    Claim(String),
}

impl Attribute {
    /// Whether only a token states it. Groups are not counted: an issuer lists its own.
    pub(crate) fn is_stated_by_tokens(&self) -> bool {
        match self {
            Self::UserEmail | Self::ClientId | Self::Claim(_) => true,
            Self::UserId
            | Self::UserGroups
            | Self::UserKind
            | Self::TunnelId
            | Self::TunnelBinding
            | Self::TunnelMethod => false,
        }
    }
}

/// One API.
#[derive(Debug)]
pub struct Api {
    /// Its name, the stem of its file.
    pub name: String,
    /// Whom to ask about it.
    pub owner: Arc<str>,
    /// The names that it answers to, sorted.
    pub hosts: Vec<String>,
    /// The pinned virtual address of its only host.
    pub address: Option<Ipv4Addr>,
    /// `/`, or `/` and segments: the prefix that all its rules live under.
    pub base: String,
    /// Issuers of which a request needs a token; empty: no need.
    pub login: Vec<IssuerName>,
    /// What a bearer token is.
    pub bearer: Bearer,
    /// How requests are read.
    pub http: HttpOptions,
    /// Where permitted requests go.
    pub upstream: Upstream,
    /// Headers that the upstream gets from us, in lower case.
    pub assert_headers: Vec<(String, Attribute)>,
    /// Whether a refusal for lack of a rule looks like a path that does not exist.
    pub hide_routes: bool,
    pub(crate) allows: Vec<Rule>,
    pub(crate) denies: Vec<Rule>,
    pub(crate) limits: Vec<Applied>,
}

impl Api {
    /// `base` in the form that concatenates: empty for `/`.
    pub(crate) fn prefix(&self) -> &str {
        if self.base == "/" { "" } else { &self.base }
    }

    /// The path below `base`, `/` for the base itself; `None` when the path is not below it.
    pub(crate) fn relative<'p>(&self, path: &'p str) -> Option<&'p str> {
        let below = path.strip_prefix(self.prefix())?;
        match below.as_bytes().first() {
            None => Some("/"),
            Some(b'/') => Some(below),
            Some(_) => None,
        }
    }
}
