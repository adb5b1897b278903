//! What is recorded of a request: the decision before it leaves, the refusal, the alarm.
//!
//! A record of a refusal is short and there are only so many of them in a second: a client decides how often it is
//! refused and for which path, and must not decide how much is written.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::Connection;
use super::memory::Who;
use super::reply::Refusal;
use crate::audit::{self, CallerText, DecisionId, Outcome};
use crate::clock::{Moment, Stopwatch};
use crate::identity::authn::{Person, Verified};
use crate::identity::{Identity, Token};
use crate::limits::Room;
use crate::policy::{self, Api, Bundle, RuleId};
use crate::request::CanonicalRequest;
use crate::telemetry;

/// The longest path in the record of a refusal, in bytes; what is longer is told apart by its hash.
const MAX_PATH: usize = 256;

/// The longest name of a query parameter in a record, in bytes.
const MAX_NAME: usize = 64;

/// What is known of a request while it is judged: the audit record grows in here.
pub(super) struct Judging {
    pub(super) decision: DecisionId,
    /// When its head was read: the time by which it is judged.
    pub(super) at: Moment,
    /// Since then.
    pub(super) watch: Stopwatch,
    pub(super) bundle: Option<Arc<Bundle>>,
    pub(super) api: Option<Arc<Api>>,
    pub(super) rule: Option<RuleId>,
    /// Why the policy refuses, which the client may not be told.
    pub(super) reason: Option<policy::Reason>,
    pub(super) near_miss: Vec<RuleId>,
    /// The request, once it has a reading.
    pub(super) request: Option<CanonicalRequest>,
    /// What can be told of it where it has none.
    pub(super) excerpt: Excerpt,
    pub(super) token: Option<Arc<Token>>,
}

/// What a record says of the judgement.
struct Said<'a> {
    outcome: Outcome,
    reason: &'static str,
    rule: Option<&'a str>,
}

/// Parts of a request that could not be read as a whole.
#[derive(Default)]
pub(super) struct Excerpt {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
}

impl Judging {
    pub(super) fn begin(decision: DecisionId, at: Moment) -> Self {
        Self {
            decision,
            at,
            watch: Stopwatch::start(),
            bundle: None,
            api: None,
            rule: None,
            reason: None,
            near_miss: Vec::new(),
            request: None,
            excerpt: Excerpt::default(),
            token: None,
        }
    }
}

impl Connection {
    /// The record that stands before the request leaves.
    pub(super) fn record_allowed(&self, who: &Who, room: Option<&Room<'_>>, judging: &Judging) -> audit::Record {
        self.proxy.meters.allowed.increment(1);
        let limits = room.map(|room| [audit::Limit { id: room.limit, remaining: u64::from(room.remaining) }]);
        let limits = limits.as_ref().map_or(&[][..], |limits| &limits[..]);
        let rule = judging.rule.as_ref().map(RuleId::as_str);
        let said = Said { outcome: Outcome::Allow, reason: ALLOWED, rule };
        self.with_record(&said, judging, (&who.identity, &who.text), limits, |record| {
            self.proxy.scribe.stage(judging.at.wall, record)
        })
    }

    /// Somebody's token in somebody else's tunnel: a record that a person must look at.
    pub(super) fn alarm(&self, evidence: Option<&Verified>, judging: &Judging) {
        let Some(verified) = evidence.filter(|_| self.caller.may_record_alarm()) else { return };
        let other = match &verified.person {
            Person::Named(subject) => subject.as_str(),
            Person::Linked | Person::Machine | Person::Nobody => &verified.token.sub,
        };
        let login = &self.caller.login;
        let alarm = audit::Event::Alarm(audit::Alarm {
            alarm: "identity-conflict",
            id: Some(judging.decision),
            session: Some(login.tunnel().session),
            user: login.subject().as_str(),
            other,
        });
        if let Err(error) = self.proxy.audit.write(&alarm) {
            tracing::error!(session = %login.tunnel().session, %error, "an alarm is lost");
        }
    }

    /// The record of a request that goes no further.
    pub(super) fn record_refusal(&self, refusal: &Refusal, judging: &Judging) {
        let reason = judging.reason.map_or(refusal.reason, policy::Reason::as_str);
        metrics::counter!(telemetry::REQUESTS, "outcome" => "deny", "reason" => reason).increment(1);
        let login = &self.caller.login;
        tracing::debug!(
            session = %login.tunnel().session,
            decision = %judging.decision,
            reason,
            status = refusal.status.as_u16(),
            cause = refusal.cause.as_deref().or(refusal.detail.as_deref()),
            "refused"
        );
        if refusal.is_recorded_elsewhere() || !self.caller.may_record_refusal() {
            return;
        }
        let rule = refusal.rule.as_deref().or_else(|| judging.rule.as_ref().map(RuleId::as_str));
        let said = Said { outcome: Outcome::Deny, reason, rule };
        let caller = text(login, judging.token.as_ref());
        let written = self.with_record(&said, judging, (login, &caller), &[], |record| self.proxy.audit.write(record));
        if let Err(error) = written {
            tracing::error!(session = %login.tunnel().session, %error, "the record of a refusal is lost");
        }
    }

    fn with_record<T>(
        &self,
        said: &Said<'_>,
        judging: &Judging,
        (identity, caller): (&Identity, &CallerText),
        limits: &[audit::Limit<'_>],
        write: impl FnOnce(&audit::Event<'_>) -> T,
    ) -> T {
        let Said { outcome, reason, rule } = *said;
        let Excerpt { method, host, path } = &judging.excerpt;
        let (method, host, path, query) = match &judging.request {
            Some(request) => (request.method(), request.host(), request.path(), request.query()),
            None => (method.as_str(), host.as_str(), path.as_str(), None),
        };
        let query_names: Vec<&str> = query.map(names).unwrap_or_default();
        let near_miss: Vec<&str> = judging.near_miss.iter().map(RuleId::as_str).collect();
        let (path, path_hash) = match outcome {
            Outcome::Allow => (path, None),
            Outcome::Deny => excerpt(path),
        };
        write(&audit::Event::Decision(audit::Decision {
            id: judging.decision,
            bundle: judging.bundle.as_ref().map_or("", |bundle| bundle.id()),
            api: judging.api.as_ref().map(|api| api.name.as_str()),
            rule,
            outcome,
            reason,
            near_miss: &near_miss,
            caller,
            age: judging.at.wall.duration_since(identity.tunnel().since).unwrap_or_default(),
            request: Some(audit::Request {
                method,
                host,
                path,
                path_hash: path_hash.as_deref(),
                query_names: &query_names,
                bytes: None,
            }),
            limits,
        }))
    }
}

/// What records say of an identity and its token.
pub(super) fn text(identity: &Identity, token: Option<&Arc<Token>>) -> CallerText {
    let tunnel = identity.tunnel();
    CallerText::of(&audit::Caller {
        user: identity.subject().as_str(),
        kind: identity.kind(),
        token: token.map(|token| audit::Token {
            issuer: token.issuer.as_str(),
            subject: &token.sub,
            client: token.client_id.as_deref(),
            id_hash: &token.id_hash,
        }),
        certificate: None,
        session: tunnel.session,
        source: tunnel.source,
        method: tunnel.method,
    })
}

/// The reason of every "allow".
pub(super) const ALLOWED: &str = "allowed";

/// The names in a query: their values are the client's own, and so is what has no name.
fn names(query: &str) -> Vec<&str> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').map_or("", |(name, _)| begin(name, MAX_NAME))).collect()
}

/// The begin of a path, with the hash of the whole where that is not all of it.
fn excerpt(path: &str) -> (&str, Option<String>) {
    if path.len() <= MAX_PATH {
        return (path, None);
    }
    let hash = digest::digest(&digest::SHA256, path.as_bytes());
    let hash = hash.as_ref().iter().take(8).fold(String::with_capacity(16), |mut hash, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    });
    (begin(path, MAX_PATH), Some(hash))
}

fn begin(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_query_are_cut_and_their_values_left_out() {
        let long = "n".repeat(100);
        let query = format!("a=secret&{long}=secret&&");
        assert_eq!(names(&query), ["a", &long[..MAX_NAME]]);
        assert_eq!(names("secret&a=1&"), ["", "a"], "what has no name is all value");
        assert_eq!(begin("aé", 2), "a", "between characters");
    }

    #[test]
    fn a_long_path_is_told_apart_by_its_hash() {
        let (one, other) = ("/a".repeat(200) + "1", "/a".repeat(200) + "2");
        assert_eq!(excerpt("/short"), ("/short", None));
        let ((begin, hash), (other_begin, other_hash)) = (excerpt(&one), excerpt(&other));
        assert_eq!((begin, begin.len()), (other_begin, MAX_PATH));
        assert!(hash.is_some_and(|hash| hash.len() == 16 && Some(hash) != other_hash));
    }
}
