//! What a decision is: a permit, or a denial with its rule and reason.
//!
//! A [`Permit`] has private fields, cannot be cloned, and owns the canonical request that was judged. Only
//! [`decide`](super::decide) makes one, so what reaches an upstream is what was judged, once.

use std::fmt;
use std::sync::Arc;

use crate::request::CanonicalRequest;

use super::api::Api;
use super::bundle::Bundle;
use super::limit::Limit;
use super::select::Truth;

/// A rule or limit: `api/id`, or `_org/id`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(Arc<str>);

impl RuleId {
    pub(crate) fn new(file: &str, id: &str) -> Self {
        Self(format!("{file}/{id}").into())
    }

    /// The printed form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $code:literal $status:literal,)*) => {
        /// Why a request was refused. The codes are stable: answers, audit records, metrics and tests carry them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The status of the answer, unless something more specific is known.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                }
            }

            /// Reads the code.
            pub fn parse(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == code)
            }
        }
    };
}

reasons! {
    /// The request target has no single reading.
    MalformedTarget "malformed-target" 400,
    /// A header has no single reading.
    MalformedHeader "malformed-header" 400,
    /// The message's length has no single reading.
    Framing "framing" 400,
    /// Address, SNI and Host do not name one host.
    HostMismatch "host-mismatch" 421,
    /// No API answers here, or none that this person may know of.
    NoSuchApi "no-such-api" 404,
    /// The API needs a token of one of its issuers, or any identity.
    LoginRequired "login-required" 401,
    /// The token's time is over.
    TokenExpired "token-expired" 401,
    /// The token does not verify.
    TokenInvalid "token-invalid" 401,
    /// The token is for somebody else.
    TokenAudience "token-audience" 401,
    /// The token is not bound to its bearer.
    TokenNotBound "token-not-bound" 403,
    /// The evidence does not name one person.
    IdentityConflict "identity-conflict" 401,
    /// The session ended.
    SessionRevoked "session-revoked" 401,
    /// A deny rule matches.
    DeniedBy "denied-by" 403,
    /// A deny rule matches unless evidence that is missing says otherwise.
    DenyUndetermined "deny-undetermined" 403,
    /// No allow rule speaks about this request.
    NoRule "no-rule" 403,
    /// Allow rules speak about this request, none for this person.
    NoRuleForSubject "no-rule-for-subject" 403,
    /// A fresher or stronger login is needed.
    StepUpRequired "step-up-required" 401,
    /// A client certificate is needed.
    ClientCertificateRequired "client-certificate-required" 403,
    /// The client certificate was revoked.
    CertificateRevoked "certificate-revoked" 403,
    /// Nobody says whether the client certificate was revoked.
    CertificateStatusUnknown "certificate-status-unknown" 403,
    /// The device does not qualify.
    Device "device" 403,
    /// The source network does not qualify.
    Network "network" 403,
    /// The time of day does not qualify.
    Time "time" 403,
    /// The rule's time is over.
    RuleExpired "rule-expired" 403,
    /// The rule's condition does not hold.
    Condition "condition" 403,
    /// A limit has no room.
    Limited "limited" 429,
    /// An attribute of a limit's key is unknown.
    LimitKeyUnknown "limit-key-unknown" 403,
    /// The request body is too large.
    BodyTooLarge "body-too-large" 413,
    /// The upstream does not answer.
    UpstreamUnavailable "upstream-unavailable" 502,
    /// No bundle is in force.
    PolicyClosed "policy-closed" 503,
    /// The audit record could not be written.
    AuditUnavailable "audit-unavailable" 503,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A bucket that a permitted request takes one from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The limit.
    pub limit: Arc<Limit>,
    /// The bucket: `user=alice`, parts separated by spaces.
    pub key: String,
}

/// An allow rule that speaks about a refused request without holding for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleId,
    /// `False` or `Unknown`; only the latter may be told to the caller, for the former names other people's groups.
    pub who: Truth,
}

/// The answer of [`judge`](super::judge()).
#[derive(Debug)]
pub enum Judgement {
    /// The request may pass.
    Allow(Allowance),
    /// It may not.
    Deny(Denial),
}

/// Why a request may pass, and what it costs. Not a [`Permit`]: it opens no door.
#[derive(Debug)]
pub struct Allowance {
    pub(super) api: Arc<Api>,
    pub(super) rule: RuleId,
    pub(super) charges: Vec<Charge>,
}

impl Allowance {
    /// The API.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// The first allow rule in its file that holds.
    pub fn rule(&self) -> &RuleId {
        &self.rule
    }

    /// The buckets to take from, in the order of the limits' ids; all must have room.
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }
}

/// The answer of [`decide`](super::decide).
#[derive(Debug)]
pub enum Decision {
    /// The request may pass, with this ticket.
    Allow(Permit),
    /// It may not.
    Deny(Denial),
}

/// The ticket of one request to its upstream.
#[derive(Debug)]
pub struct Permit {
    pub(super) request: CanonicalRequest,
    pub(super) bundle: Arc<Bundle>,
    pub(super) allowance: Allowance,
    pub(super) asserted: Vec<(usize, Box<str>)>,
}

impl Permit {
    /// The request that was judged.
    pub fn request(&self) -> &CanonicalRequest {
        &self.request
    }

    /// The bundle that judged it.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The API.
    pub fn api(&self) -> &Arc<Api> {
        &self.allowance.api
    }

    /// The allow rule.
    pub fn rule(&self) -> &RuleId {
        &self.allowance.rule
    }

    /// The buckets to take from; all must have room.
    pub fn charges(&self) -> &[Charge] {
        &self.allowance.charges
    }

    /// The path that the upstream gets: the judged one, or what follows `base` when the API strips it.
    pub fn upstream_path(&self) -> &str {
        let api = self.api();
        let path = self.request.path();
        if !api.upstream.strip_base {
            return path;
        }
        api.relative(path).unwrap_or(path)
    }

    /// The headers that we assert, in lower case, and their values, which are visible ASCII. An attribute that is
    /// unknown has no header here; the client's is to be removed all the same.
    pub fn asserted_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.asserted.iter().filter_map(|(at, value)| {
            let (name, _) = self.api().assert_headers.get(*at)?;
            Some((name.as_str(), &**value))
        })
    }
}

/// Why a request may not pass.
#[derive(Debug)]
pub struct Denial {
    pub(super) reason: Reason,
    pub(super) status: u16,
    pub(super) api: Option<Arc<Api>>,
    pub(super) rule: Option<RuleId>,
    pub(super) owner: Option<Arc<str>>,
    pub(super) why: Option<Arc<str>>,
    pub(super) near_misses: Vec<NearMiss>,
    pub(super) request: Option<CanonicalRequest>,
}

impl Denial {
    /// The reason, for audit and metrics. What the caller may be told is [`Denial::told`].
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the answer must be the one of an API that does not exist: `no-such-api`, and nothing else.
    pub fn hidden(&self) -> bool {
        self.status == 404
    }

    /// The reason as far as the caller may know it.
    pub fn told(&self) -> Reason {
        if self.hidden() { Reason::NoSuchApi } else { self.reason }
    }

    /// The API that was asked; never told when hidden.
    pub fn api(&self) -> Option<&Arc<Api>> {
        self.api.as_ref()
    }

    /// The rule or limit that refused.
    pub fn rule(&self) -> Option<&RuleId> {
        self.rule.as_ref()
    }

    /// Whom to ask: the owner of the API, or of `_org.toml` when its rule refused.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The text that the rule's author wrote for the refused person.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// The allow rules that came near, for audit; at most four.
    pub fn near_misses(&self) -> &[NearMiss] {
        &self.near_misses
    }

    /// The request, when [`decide`](super::decide) refused it.
    pub fn request(&self) -> Option<&CanonicalRequest> {
        self.request.as_ref()
    }
}
