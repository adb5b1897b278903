//! What can happen.
//!
//! Fields are plain: references into whatever the caller has. A decision and the end of its request are two records
//! with one `decision_id`.

use std::net::SocketAddr;
use std::time::Duration;

use super::{CallerText, DecisionId};
use crate::identity::{Binding, Kind, Method, SessionId};

/// One event.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A person logged in.
    TunnelUp(TunnelUp<'a>),
    /// A tunnel ended.
    TunnelDown(TunnelDown<'a>),
    /// A login failed.
    LoginRefused(LoginRefused<'a>),
    /// More logins failed than have a record of their own.
    LoginsRefused(LoginsRefused),
    /// A request was judged.
    Decision(Decision<'a>),
    /// An allowed request is over.
    End(End),
    /// Requests were refused without a record of their own.
    PreLimited(PreLimited<'a>),
    /// Something that somebody must look at.
    Alarm(Alarm<'a>),
    /// A bundle is in force.
    PolicyLoaded(PolicyLoaded<'a>),
    /// A bundle was not taken; the one before stays.
    PolicyLoadFailed(PolicyLoadFailed<'a>),
    /// The user file was read again.
    UsersReloaded(UsersReloaded),
    /// Certificates, keys or other files were read again.
    Reloaded(Reloaded<'a>),
    /// Records before this one are missing.
    AuditLost(AuditLost),
}

/// See [`Event::TunnelUp`].
#[derive(Clone, Copy, Debug)]
pub struct TunnelUp<'a> {
    /// The new session.
    pub session: SessionId,
    /// Whose it is.
    pub user: &'a str,
    /// The outer peer.
    pub source: SocketAddr,
    /// How the person logged in.
    pub method: Method,
    /// How the login is bound to the TLS connection.
    pub binding: Binding,
    /// `SSTPCORRELATIONID`: the one id that the Windows side has too. Sent by the client.
    pub correlation: Option<&'a str>,
}

/// See [`Event::TunnelDown`].
#[derive(Clone, Copy, Debug)]
pub struct TunnelDown<'a> {
    /// The session.
    pub session: SessionId,
    /// Whose it was.
    pub user: &'a str,
    /// The outer peer.
    pub source: SocketAddr,
    /// A stable word: `client`, `lost`, `revoked`, `killed`, `superseded`, `max-session`, `drain`, `aborted`.
    pub reason: &'static str,
    /// How long it lived.
    pub lasted: Duration,
    /// Bytes inside TLS from the client, framing included.
    pub received: u64,
    /// Bytes inside TLS to the client, framing included.
    pub sent: u64,
    /// Requests that were judged.
    pub requests: u64,
}

/// See [`Event::LoginRefused`].
#[derive(Clone, Copy, Debug)]
pub struct LoginRefused<'a> {
    /// The outer peer.
    pub source: SocketAddr,
    /// The name as sent, by anybody.
    pub user: &'a [u8],
    /// The method, once agreed.
    pub method: Option<Method>,
    /// A stable word: `credentials`, `disabled`, `locked`; and for a proof that is right `binding`, `timeout`, `abandoned`,
    /// `full`.
    pub reason: &'static str,
    /// `SSTPCORRELATIONID`.
    pub correlation: Option<&'a str>,
}

/// See [`Event::LoginsRefused`]: one record a second for each reason.
#[derive(Clone, Copy, Debug)]
pub struct LoginsRefused {
    /// The word that [`LoginRefused`] has.
    pub reason: &'static str,
    /// How many logins.
    pub count: u64,
}

/// The end of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request may be forwarded.
    Allow,
    /// It is not.
    Deny,
}

impl Outcome {
    /// The word in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The bearer token of a request, by what is safe to write.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    /// The issuer's name.
    pub issuer: &'a str,
    /// The claim `sub`.
    pub subject: &'a str,
    /// The client that it was issued to.
    pub client: Option<&'a str>,
    /// The hash of `jti`, or of the token.
    pub id_hash: &'a str,
}

/// The client certificate of a request.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// The hash of the public key.
    pub spki: &'a str,
    /// The serial number.
    pub serial: &'a str,
    /// The issuer's name.
    pub issuer: &'a str,
}

/// The request, by what is safe to write.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The host.
    pub host: &'a str,
    /// The canonical path, masked where the API says so.
    pub path: &'a str,
    /// The hash of the whole path, where `path` is only its begin.
    pub path_hash: Option<&'a str>,
    /// The names in the query, never the values.
    pub query_names: &'a [&'a str],
    /// The announced length of the body.
    pub bytes: Option<u64>,
}

/// Who asks, and through which tunnel: what the records of one person's requests have in common.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The resolved person.
    pub user: &'a str,
    /// What the identity stands for.
    pub kind: Kind,
    /// The token, when one was judged.
    pub token: Option<Token<'a>>,
    /// The client certificate, when one was shown.
    pub certificate: Option<Certificate<'a>>,
    /// The session.
    pub session: SessionId,
    /// The outer peer.
    pub source: SocketAddr,
    /// How the person logged in.
    pub method: Method,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Limit<'a> {
    /// The limit's id.
    pub id: &'a str,
    /// Requests that still have room.
    pub remaining: u64,
}

/// See [`Event::Decision`].
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// The id that the client sees too.
    pub id: DecisionId,
    /// The bundle that judged.
    pub bundle: &'a str,
    /// The API, when the request names one.
    pub api: Option<&'a str>,
    /// The rule that decided.
    pub rule: Option<&'a str>,
    /// The end of the judgement.
    pub outcome: Outcome,
    /// The reason code.
    pub reason: &'static str,
    /// Rules that would have allowed, but for one thing.
    pub near_miss: &'a [&'a str],
    /// Who asked, and through which tunnel.
    pub caller: &'a CallerText,
    /// How old the tunnel is.
    pub age: Duration,
    /// The request; `None` when it could not be read.
    pub request: Option<Request<'a>>,
    /// What is left of the limits that counted.
    pub limits: &'a [Limit<'a>],
}

/// See [`Event::End`].
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// The id of the decision.
    pub id: DecisionId,
    /// The session.
    pub session: SessionId,
    /// The status that the client saw; `None` when it left before.
    pub status: Option<u16>,
    /// How it ended: `complete`; `client-gone`, or its tunnel; `upstream-failed`, also where the client was told so;
    /// `revoked`.
    pub result: &'static str,
    /// Bytes of the response's body.
    pub bytes: u64,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// From the request's head to the end.
    pub took: Duration,
    /// From forwarding to the head of the upstream's response.
    pub upstream: Option<Duration>,
}

/// See [`Event::PreLimited`]: one record a second for each session and reason.
#[derive(Clone, Copy, Debug)]
pub struct PreLimited<'a> {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub user: &'a str,
    /// The limit: `max_requests`, `max_in_flight`; `refusals` and `alarms` for those beyond what is recorded singly.
    pub limit: &'a str,
    /// How many requests.
    pub count: u64,
}

/// See [`Event::Alarm`].
#[derive(Clone, Copy, Debug)]
pub struct Alarm<'a> {
    /// What it is: `identity-conflict`.
    pub alarm: &'static str,
    /// The decision that it belongs to.
    pub id: Option<DecisionId>,
    /// The session.
    pub session: Option<SessionId>,
    /// The person of the tunnel.
    pub user: &'a str,
    /// Whom the other evidence names; sent by the client.
    pub other: &'a str,
}

/// See [`Event::PolicyLoaded`].
#[derive(Clone, Copy, Debug)]
pub struct PolicyLoaded<'a> {
    /// The new bundle.
    pub bundle: &'a str,
    /// How many APIs it has.
    pub apis: u64,
    /// How many of its tests passed: all.
    pub tests: u64,
}

/// See [`Event::PolicyLoadFailed`].
#[derive(Clone, Copy, Debug)]
pub struct PolicyLoadFailed<'a> {
    /// The bundle that stays in force.
    pub kept: Option<&'a str>,
    /// How many complaints there are, warnings included.
    pub complaints: u64,
    /// The code of the first that is an error.
    pub code: &'a str,
    /// Its file.
    pub file: &'a str,
    /// Its line.
    pub line: u64,
    /// Its column.
    pub column: u64,
    /// What it says.
    pub message: &'a str,
    /// How to mend it.
    pub hint: Option<&'a str>,
}

/// See [`Event::UsersReloaded`].
#[derive(Clone, Copy, Debug)]
pub struct UsersReloaded {
    /// Users who may log in.
    pub enabled: u64,
    /// Users who may not.
    pub disabled: u64,
}

/// See [`Event::Reloaded`].
#[derive(Clone, Copy, Debug)]
pub struct Reloaded<'a> {
    /// What: `certificate`, `users`.
    pub what: &'a str,
    /// `replaced`, or `kept`: the new one is wrong, the old one stays.
    pub result: &'static str,
}

/// See [`Event::AuditLost`].
#[derive(Clone, Copy, Debug)]
pub struct AuditLost {
    /// How many records.
    pub count: u64,
}
