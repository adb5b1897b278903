//! The one table from an error or a denial to what the client is told: a status and RFC 9457 `problem+json`.
//!
//! The client learns which rule, why and whom to ask, and never the rules of others; the log learns all.

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde::Serialize;

use crate::audit::DecisionId;
use crate::field::Section;
use crate::limits::Exceeded;
use crate::policy::{Denial, Reason};
use crate::request::Malformed;
use crate::upstream;

use super::caller::Full;
use super::forward::Body;
use super::framing;

/// What a client is answered, on either protocol.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: Section,
    pub(super) body: Body,
}

/// A request that goes no further.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The stable code of policy-language: in the answer, in tests, in metrics.
    pub(super) reason: &'static str,
    /// For the person.
    pub(super) detail: Option<Box<str>>,
    pub(super) rule: Option<Box<str>>,
    pub(super) owner: Option<Box<str>>,
    /// For the log alone.
    pub(super) cause: Option<Box<str>>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Nothing after this request can be trusted or read.
    pub(super) close: bool,
    /// Its record stands, or will stand in a sum.
    recorded: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: &'static str) -> Self {
        Self {
            status,
            reason,
            detail: None,
            rule: None,
            owner: None,
            cause: None,
            headers: Vec::new(),
            close: false,
            recorded: false,
        }
    }

    pub(super) fn detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn cause(mut self, cause: impl ToString) -> Self {
        self.cause = Some(cause.to_string().into());
        self
    }

    fn bearer_challenge(mut self, parameters: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {parameters}")) {
            self.headers.push((WWW_AUTHENTICATE, value));
        }
        self
    }

    /// The host of the address, of TLS and of the request are not one; alike for hidden, unknown and foreign hosts.
    pub(super) fn misdirected() -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "host-mismatch")
            .detail("The address that was dialled, the server name and the Host header must name the same host.")
    }

    /// The bytes broke HTTP/1.1's framing.
    pub(super) fn framing(refusal: &framing::Refusal) -> Self {
        let mut reply = Self::new(status(refusal.status()), refusal.reason()).detail(refusal.fault.to_string());
        reply.close = true;
        reply
    }

    /// The request has more than one reading, or none.
    pub(super) fn malformed(malformed: &Malformed) -> Self {
        Self::new(status(malformed.status()), malformed.reason()).detail(malformed.to_string())
    }

    /// The answer is recorded already: its decision was "allow", and this only says how it ended.
    pub(super) fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// Whether a record of its own would be one too many.
    pub(super) fn is_recorded_elsewhere(&self) -> bool {
        self.recorded
    }

    /// An upgrade that the API does not allow.
    pub(super) fn upgrade() -> Self {
        let mut reply = Self::new(StatusCode::FORBIDDEN, "upgrade").detail("This API allows no protocol upgrade.");
        reply.close = true;
        reply
    }

    /// The person's login no longer holds.
    pub(super) fn revoked() -> Self {
        let mut reply = Self::new(StatusCode::UNAUTHORIZED, "session-revoked")
            .detail("This account is disabled or gone; the tunnel is being closed.")
            .bearer_challenge("error=\"invalid_token\"");
        reply.close = true;
        reply
    }

    /// The request was allowed, and is no longer.
    pub(super) fn cut() -> Self {
        let mut reply = Self::new(StatusCode::UNAUTHORIZED, "session-revoked")
            .detail("While it was under way, this request ceased to be allowed.")
            .bearer_challenge("error=\"invalid_token\"");
        reply.close = true;
        reply
    }

    /// The token does not count.
    pub(super) fn token(reason: &'static str, detail: String) -> Self {
        // RFC 6750 section 3: neither quotes nor anything but ASCII; with a control character there would be no field.
        let description = detail.replace(|sign: char| !matches!(sign, ' '..='~') || matches!(sign, '"' | '\\'), "'");
        let challenge = format!("error=\"invalid_token\", error_description=\"{description}\"");
        Self::new(StatusCode::UNAUTHORIZED, reason).bearer_challenge(&challenge).detail(detail)
    }

    /// The policy says no.
    pub(super) fn denied(denial: &Denial) -> Self {
        let mut reply = Self::new(status(denial.status()), denial.told().as_str());
        if !denial.hidden() {
            reply.rule = denial.rule().map(|rule| rule.as_str().into());
            reply.owner = denial.owner().map(Into::into);
            reply.detail = Some(denial.why().unwrap_or_else(|| explain(denial.reason())).into());
        }
        if reply.status == StatusCode::UNAUTHORIZED {
            reply = reply.bearer_challenge("");
        }
        reply
    }

    /// Too many requests.
    pub(super) fn limited(exceeded: &Exceeded<'_>, code: u16) -> Self {
        let mut reply = Self::new(status(code), "limited").detail(exceeded.to_string());
        reply.rule = Some(exceeded.limit.into());
        for (name, value) in [
            (HeaderName::from_static(RATE_LIMIT_POLICY), exceeded.policy_field()),
            (HeaderName::from_static(RATE_LIMIT), exceeded.state_field()),
            (RETRY_AFTER, exceeded.retry_after_field()),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                reply.headers.push((name, value));
            }
        }
        reply
    }

    /// What we would say to the upstream does not fit into its headers.
    pub(super) fn headers(cause: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "malformed-header")
            .detail("This person has more groups than can be told to the API.")
            .cause(cause)
    }

    /// More requests of one session than it may send.
    pub(super) fn pre_limited(full: Full) -> Self {
        let mut reply = Self::new(StatusCode::TOO_MANY_REQUESTS, "limited").detail(match full {
            Full::Rate => "This tunnel sends more requests than [tunnel] max_requests allows.",
            Full::InFlight => "This tunnel has too many requests that are not over.",
        });
        reply.headers.push((RETRY_AFTER, HeaderValue::from_static("1")));
        reply.recorded()
    }

    /// The audit record cannot be written, and the configuration says to refuse then.
    pub(super) fn audit_unavailable(cause: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable")
            .detail("The request cannot be recorded, so it was not forwarded.")
            .cause(cause)
    }

    /// There is no policy that could allow anything.
    pub(super) fn closed() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "policy-closed").detail("No valid policy is loaded.")
    }

    /// The request was allowed, and the upstream gave no response.
    pub(super) fn upstream(error: &upstream::Error) -> Self {
        let (status, reason, detail) = match error {
            upstream::Error::RequestBody { source: upstream::BodyError::TooLarge { limit }, .. } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                format!("This API takes bodies of at most {limit} bytes."),
            ),
            upstream::Error::RequestBody { source: upstream::BodyError::Slow { .. }, .. } => {
                (StatusCode::REQUEST_TIMEOUT, "body-too-slow", "The request's body came too slowly.".to_owned())
            }
            upstream::Error::RequestBody { source: upstream::BodyError::Cut, .. } | upstream::Error::Cut { .. } => {
                return Self::cut();
            }
            upstream::Error::RequestBody { source: upstream::BodyError::Broken(_), .. } => {
                (StatusCode::BAD_REQUEST, "framing", "The request's body broke off.".to_owned())
            }
            upstream::Error::RequestBody { source: upstream::BodyError::Late { .. }, .. }
            | upstream::Error::Timeout { .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "upstream-unavailable", "The API did not answer in time.".to_owned())
            }
            upstream::Error::Busy { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream-unavailable",
                "The API has too many requests in flight.".to_owned(),
            ),
            upstream::Error::RequestBody { source: upstream::BodyError::Upstream(_), .. }
            | upstream::Error::Connect { .. }
            | upstream::Error::Broken { .. } => {
                (StatusCode::BAD_GATEWAY, "upstream-unavailable", "The API cannot be reached.".to_owned())
            }
        };
        let mut reply = Self::new(status, reason).detail(detail).cause(error);
        reply.close = matches!(error, upstream::Error::RequestBody { .. });
        reply
    }

    /// The answer; `may_close` where it can say that it is the connection's last.
    pub(super) fn reply(&self, decision: &DecisionId, may_close: bool) -> Reply {
        let decision = decision.to_string();
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            reason: self.reason,
            detail: self.detail.as_deref(),
            rule: self.rule.as_deref(),
            owner: self.owner.as_deref(),
            decision_id: &decision,
        };
        let body = Bytes::from(serde_json::to_vec(&problem).unwrap_or_default());
        let length = HeaderValue::from(body.len());
        let mut headers = Section::default();
        self.headers.iter().for_each(|(name, value)| headers.push((name, value).into()));
        let mut say = |name: HeaderName, value: HeaderValue| headers.push((&name, &value).into());
        say(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        say(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        say(CONTENT_LENGTH, length);
        if self.close && may_close {
            say(CONNECTION, HeaderValue::from_static("close"));
        }
        Reply { status: self.status, headers, body: Body::text(body) }
    }
}

/// What a limit allows: `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers.
pub(super) const RATE_LIMIT_POLICY: &str = "ratelimit-policy";

/// What is left of it: `RateLimit` of the same draft.
pub(super) const RATE_LIMIT: &str = "ratelimit";

/// What a reason means for the person who asked, where the rule's author wrote nothing.
fn explain(reason: Reason) -> &'static str {
    match reason {
        Reason::LoginRequired => "This API needs a token of one of its issuers.",
        Reason::DeniedBy => "A rule forbids this request.",
        Reason::DenyUndetermined => "A rule may forbid this request, and the evidence does not say that it does not.",
        Reason::NoRule => "No rule allows this method on this path.",
        Reason::NoRuleForSubject => "Rules allow this method on this path, and none of them allows it to you.",
        Reason::LimitKeyUnknown => "A limit counts by something that this request does not say.",
        Reason::MalformedTarget
        | Reason::MalformedHeader
        | Reason::Framing
        | Reason::HostMismatch
        | Reason::NoSuchApi
        | Reason::TokenExpired
        | Reason::TokenInvalid
        | Reason::TokenAudience
        | Reason::TokenNotBound
        | Reason::IdentityConflict
        | Reason::SessionRevoked
        | Reason::StepUpRequired
        | Reason::ClientCertificateRequired
        | Reason::CertificateRevoked
        | Reason::CertificateStatusUnknown
        | Reason::Device
        | Reason::Network
        | Reason::Time
        | Reason::RuleExpired
        | Reason::Condition
        | Reason::Limited
        | Reason::BodyTooLarge
        | Reason::UpstreamUnavailable
        | Reason::PolicyClosed
        | Reason::AuditUnavailable => "The request is refused.",
    }
}

/// RFC 9457, with our members.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    decision_id: &'a str,
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_401_has_a_challenge_whatever_the_token_says() {
        for detail in ["The token is of \u{f6}ther \"people\".", "a\\b", "line\nline", "plain"] {
            let refusal = Refusal::token("token-invalid", detail.to_owned());
            let (_, value) = refusal.headers.iter().find(|(name, _)| name == WWW_AUTHENTICATE).expect("a challenge");
            assert!(
                value.to_str().is_ok_and(|value| value.matches('"').count() == 4 && !value.contains('\\')),
                "{value:?}"
            );
        }
    }
}
