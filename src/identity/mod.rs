//! Who: persons, groups, sessions, and the [`Identity`] that only a successful authentication can make.
//!
//! An [`Identity`] has private fields and no public constructor. The child module `authn` fills them, because a child
//! sees its parent's private fields and nobody else does; so the only minting place stays small enough to review.

pub mod authn;
mod naming;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

pub use naming::{MAX_NAME, fold, is_address};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A person, by the resolved local name (folded to lower case, without a domain). With a token or without it, one
    /// person is one subject.
    Subject
);
name!(
    /// A group, by the name that the user file or an issuer states.
    Group
);
name!(
    /// An issuer of tokens, by its name in `_identity.toml`.
    IssuerName
);

/// One tunnel from its login to its end. Printed as `s-` and 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// An id from random bytes.
    pub fn from_random(random: u64) -> Self {
        Self(random)
    }

    /// The printed form, which stands in every record and every forwarded request.
    pub fn text(self) -> [u8; 18] {
        let mut text = *b"s-0000000000000000";
        let mut rest = self.0;
        for digit in text[2..].iter_mut().rev() {
            *digit = b"0123456789abcdef"[(rest % 16) as usize];
            rest /= 16;
        }
        text
    }

    /// Reads the printed form.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("s-").filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an identity stands for. A selector that belongs to another kind is false, not unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A human being.
    Person,
    /// An OAuth client that acts for itself.
    Client,
}

/// How the tunnel's person logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// RFC 1334.
    Pap,
    /// RFC 2759 in PPP's CHAP.
    MsChapV2,
    /// RFC 2759 in EAP type 26.
    EapMsChapV2,
}

impl Method {
    /// The name in configuration, audit and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pap => "pap",
            Self::MsChapV2 => "mschapv2",
            Self::EapMsChapV2 => "eap-mschapv2",
        }
    }
}

/// The strength of SSTP's crypto binding (MS-SSTP 3.2.5.2): whether the key of the Compound MAC came from the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The key is derived from the login: the far end of the login is the far end of this TLS connection.
    Keys,
    /// The key is all zero: anybody can compute the MAC, only the client's check of our certificate protects.
    Zero,
}

impl Binding {
    /// The name in configuration, audit and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Zero => "zero",
        }
    }
}

/// What is known of the tunnel itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The session.
    pub session: SessionId,
    /// How its person logged in.
    pub method: Method,
    /// How strongly the login is bound to the TLS connection.
    pub binding: Binding,
    /// The outer connection's peer.
    pub source: SocketAddr,
    /// When the login succeeded.
    pub since: SystemTime,
}

/// The value of a claim whose type an issuer declares in `claims`.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// A JSON string.
    Text(String),
    /// A JSON array of strings.
    Texts(Vec<String>),
    /// A JSON integer.
    Number(i64),
    /// A JSON boolean.
    Flag(bool),
}

/// Which groups a token states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatedGroups {
    /// The issuer does not state groups.
    NotStated,
    /// The issuer states groups, and the claim is absent or badly typed: unknown.
    Unknown,
    /// These, after the issuer's own limits (`groups`, `groups_prefix`) were applied.
    Known(Vec<Group>),
}

/// What a verified token proves. Counts for its one request, never for the session.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The issuer.
    pub issuer: IssuerName,
    /// The claim `sub`.
    pub sub: String,
    /// The claim `client_id` or `azp`.
    pub client_id: Option<String>,
    /// The claim `email`, when `email_verified` is true.
    pub email: Option<String>,
    /// The words of the claim `scope`.
    pub scopes: Vec<String>,
    /// The groups that the issuer states.
    pub groups: StatedGroups,
    /// Claims with a declared type, by dotted path; absent or badly typed ones are missing here.
    pub claims: BTreeMap<String, Claim>,
    /// The end of its validity.
    pub expires: SystemTime,
    /// First 16 hexadecimal digits of SHA-256 of `jti` (or of the token, when it has none); safe to log.
    pub id_hash: String,
}

/// A proven identity: a tunnel's login, and the evidence of one request that agrees with it.
#[derive(Clone, Debug)]
pub struct Identity {
    subject: Subject,
    kind: Kind,
    /// Sorted and without duplicates: the user file's.
    groups: Arc<[Group]>,
    tunnel: Arc<Tunnel>,
    token: Option<Arc<Token>>,
}

impl Identity {
    /// The resolved person.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What this identity stands for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The groups of the user file, sorted.
    pub fn local_groups(&self) -> &[Group] {
        &self.groups
    }

    /// The tunnel of the request.
    pub fn tunnel(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }

    /// The verified token of the request.
    pub fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref()
    }
}
