//! The decider *what*: policy files in, decisions out.
//!
//! [`compile()`] turns the text of all policy files into one immutable [`Bundle`], or into complaints, each with file,
//! line, column and cure. [`judge()`] is a pure function of a bundle and the [`Facts`] of one request; tests and
//! `explain` use it. [`decide`] does the same for a proven [`Identity`] and is the only maker of a [`Permit`].
//! [`visible`] says which hosts exist for a person at all.
//!
//! The rules of combination are few: nothing is allowed unless an allow rule holds; a deny rule that matches, or might,
//! wins; the order of files and rules means nothing; what is unknown never helps the caller.
//!
//! ```text
//!  text ──syntax──► texts with places ──compile──► Bundle ──judge(Facts)──► Judgement
//!                                                    │  └───decide(Identity, CanonicalRequest)──► Permit | Denial
//!                                                    └──────visible(Evidence)──► hosts
//! ```

mod address;
mod api;
mod bundle;
mod compile;
mod decision;
mod explain;
mod issuer;
mod judge;
mod limit;
mod pattern;
mod persona;
mod rule;
mod select;
mod selftest;
mod syntax;
#[cfg(test)]
mod tests;
mod visibility;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::complaint::Complaint;
use crate::identity::{Binding, Group, Identity, Kind, Method, SessionId, Token};
use crate::request::CanonicalRequest;

pub use api::{Api, Attribute, Authorization, Bearer, Handling, HttpOptions, Upstream, UpstreamUrl};
pub use bundle::{Bundle, VirtualHost};
pub use compile::compile;
pub use decision::{Allowance, Charge, Decision, Denial, Judgement, NearMiss, Permit, Reason, RuleId};
pub use explain::{Explanation, explain};
pub use issuer::{Alg, Allowed, ClaimType, GroupsAbsent, Issuer, PersonClaim};
pub use judge::{decide, judge};
pub use limit::{KeyPart, Limit, Rate};
pub use pattern::Pattern;
pub use persona::{Persona, PersonaToken, Played};
pub use select::Truth;
pub use selftest::{Expectation, Outcome, Test, run};
pub(crate) use visibility::is_visible;
pub use visibility::{Evidence, visible};

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file as the operator names it; what follows the last `/` tells what kind of file it is.
    pub file: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
}

/// What policy files may refer to, and what they must not collide with.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The network of virtual addresses.
    pub services: Ipv4Net,
    /// The DNS suffix inside the tunnel.
    pub suffix: String,
    /// Addresses that no host may have: the gateway and the client.
    pub reserved: Vec<Ipv4Addr>,
    /// The names of `[authorities]`.
    pub authorities: Known,
    /// The names of `[client_certificates]`.
    pub client_certificates: Known,
    /// Where we listen; no upstream may be there.
    pub own_listeners: Vec<SocketAddr>,
    /// The admin socket; no upstream may be there either.
    pub own_socket: Option<PathBuf>,
    /// Where a path leads to when its links are followed.
    pub real_path: fn(&Path) -> PathBuf,
    /// Whether an issuer's documents could be fetched from below this URL.
    pub can_fetch: fn(&str) -> bool,
    /// How the tests inside the files read their requests.
    pub read: ReadRequest,
}

/// Names that the configuration has and policy files may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// There is no configuration to compare with: every name is taken as it is.
    Any,
    /// These.
    These(BTreeSet<String>),
}

impl Known {
    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.contains(name),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        let names = if let Self::These(names) = self { Some(names) } else { None };
        names.into_iter().flatten().map(String::as_str)
    }
}

impl<S: Into<String>> FromIterator<S> for Known {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self::These(names.into_iter().map(Into::into).collect())
    }
}

/// The parser that traffic meets, as tests and `explain` use it, with whether a token comes beside the request. What it
/// refuses is a `bad-request`.
pub type ReadRequest = fn(&Bundle, &RequestText, bool) -> Result<CanonicalRequest, String>;

/// A request as an author writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestText {
    /// The method as written.
    pub method: String,
    /// The host as written.
    pub host: String,
    /// Path and query as written.
    pub target: String,
    /// The port that is dialled.
    pub port: u16,
}

impl RequestText {
    /// The request that a client makes of a URL: `https://host?x` asks for `/?x`.
    pub fn of_url(method: &str, url: &str) -> Option<Self> {
        let (rest, port) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (rest, 443),
            (None, Some(rest)) => (rest, 80),
            (None, None) => return None,
        };
        let (host, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let slash = if target.starts_with('/') { "" } else { "/" };
        Some(Self { method: method.to_owned(), host: host.to_owned(), target: format!("{slash}{target}"), port })
    }
}

/// A bundle that can be used, and what its authors should look at.
#[derive(Debug)]
pub struct Compiled {
    /// The bundle.
    pub bundle: Bundle,
    /// Warnings, by file and place.
    pub warnings: Vec<Complaint>,
}

/// The whole of what a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request.
    pub request: &'a CanonicalRequest,
    /// The resolved person; `None`: nobody is logged in.
    pub subject: Option<&'a str>,
    /// What the identity stands for.
    pub kind: Kind,
    /// The groups of the user file.
    pub local_groups: &'a [Group],
    /// The verified token of the request.
    pub token: Option<&'a Token>,
    /// How strongly the login is bound to the TLS connection.
    pub binding: Option<Binding>,
    /// How the tunnel's person logged in.
    pub method: Option<Method>,
    /// The tunnel.
    pub session: Option<SessionId>,
}

impl<'a> Facts<'a> {
    /// What a proven identity and its request state.
    pub fn of(identity: &'a Identity, request: &'a CanonicalRequest) -> Self {
        let tunnel = identity.tunnel();
        Self {
            request,
            subject: Some(identity.subject().as_str()),
            kind: identity.kind(),
            local_groups: identity.local_groups(),
            token: identity.token().map(|token| &**token),
            binding: Some(tunnel.binding),
            method: Some(tunnel.method),
            session: Some(tunnel.session),
        }
    }

    /// The part of the facts that holds for the whole session.
    pub fn evidence(&self) -> Evidence<'a> {
        Evidence {
            subject: self.subject,
            kind: self.kind,
            local_groups: self.local_groups,
            binding: self.binding,
            method: self.method,
        }
    }
}

impl<'a> Evidence<'a> {
    /// What a tunnel's login states.
    pub fn of(identity: &'a Identity) -> Self {
        let tunnel = identity.tunnel();
        Self {
            subject: Some(identity.subject().as_str()),
            kind: identity.kind(),
            local_groups: identity.local_groups(),
            binding: Some(tunnel.binding),
            method: Some(tunnel.method),
        }
    }
}
