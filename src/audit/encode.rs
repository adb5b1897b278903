//! How each event is written.

use std::time::{Duration, SystemTime};

use super::event::{
    Alarm, AuditLost, Caller, Decision, End, Event, LoginRefused, LoginsRefused, PolicyLoadFailed, PolicyLoaded,
    PreLimited, Reloaded, Request, TunnelDown, TunnelUp, UsersReloaded,
};
use super::line::{Fragment, Key, Line, key};
use super::{MAX_LINE, Rfc3339};
use crate::identity::{Kind, MAX_NAME, Method};

/// Lists in a record have at most so many items: a request may have thousands of names in its query.
const MAX_NAMES: usize = 32;
const MAX_NEAR_MISSES: usize = 8;
const MAX_LIMITS: usize = 16;

/// The longest text of a record, before escaping: half a line, for a path.
const LONGEST: usize = MAX_LINE / 2;

/// What the text of a caller may take of a line.
const MAX_CALLER: usize = MAX_LINE / 4;

/// A [`Caller`] as records say it: written once, for many records.
#[derive(Clone, Debug)]
pub struct CallerText(Fragment);

impl CallerText {
    /// Texts that are too long together are cut; never the name of a user, however long the claims of their token are.
    pub fn of(caller: &Caller<'_>) -> Self {
        let mut longest = LONGEST;
        loop {
            let text = Fragment::of(longest, |line| caller.write(line));
            if text.len() <= MAX_CALLER || longest == 0 {
                return Self(text);
            }
            longest /= 4;
        }
    }
}

/// Writes an event as one line of at most [`MAX_LINE`] bytes behind what is in `buffer`.
pub fn encode(at: SystemTime, event: &Event<'_>, buffer: &mut Vec<u8>) {
    let begin = buffer.len();
    let mut longest = LONGEST;
    loop {
        buffer.truncate(begin);
        let mut line = Line::new(buffer, longest);
        line.word(key!("time"), &Rfc3339(at).text());
        event.write(&mut line);
        line.end();
        // Every text can be cut and every list is bounded, so a line of empty texts fits: the loop ends.
        if buffer.len() - begin <= MAX_LINE || longest == 0 {
            return;
        }
        longest /= 4;
    }
}

impl Event<'_> {
    fn write(&self, line: &mut Line<'_>) {
        match self {
            Self::TunnelUp(event) => event.write(line),
            Self::TunnelDown(event) => event.write(line),
            Self::LoginRefused(event) => event.write(line),
            Self::LoginsRefused(event) => event.write(line),
            Self::Decision(event) => event.write(line),
            Self::End(event) => event.write(line),
            Self::PreLimited(event) => event.write(line),
            Self::Alarm(event) => event.write(line),
            Self::PolicyLoaded(event) => event.write(line),
            Self::PolicyLoadFailed(event) => event.write(line),
            Self::UsersReloaded(event) => event.write(line),
            Self::Reloaded(event) => event.write(line),
            Self::AuditLost(event) => event.write(line),
        }
    }
}

fn optional(line: &mut Line<'_>, key: Key, text: Option<&str>) {
    if let Some(text) = text {
        line.text(key, text);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl TunnelUp<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "tunnel-up");
        line.word(key!("session"), &self.session.text());
        line.text(key!("user"), self.user);
        line.address(key!("source"), self.source);
        line.own(key!("method"), self.method.as_str());
        line.own(key!("binding"), self.binding.as_str());
        optional(line, key!("correlation"), self.correlation);
    }
}

impl TunnelDown<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "tunnel-down");
        line.word(key!("session"), &self.session.text());
        line.text(key!("user"), self.user);
        line.address(key!("source"), self.source);
        line.own(key!("reason"), self.reason);
        line.number(key!("seconds"), self.lasted.as_secs());
        line.number(key!("received"), self.received);
        line.number(key!("sent"), self.sent);
        line.number(key!("requests"), self.requests);
    }
}

impl LoginRefused<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "login-refused");
        line.address(key!("source"), self.source);
        line.bytes(key!("user"), self.user);
        optional(line, key!("method"), self.method.map(Method::as_str));
        line.own(key!("reason"), self.reason);
        optional(line, key!("correlation"), self.correlation);
    }
}

impl LoginsRefused {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "logins-refused");
        line.own(key!("reason"), self.reason);
        line.number(key!("count"), self.count);
    }
}

impl Decision<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "decision");
        line.word(key!("decision_id"), &self.id.text());
        line.text(key!("bundle"), self.bundle);
        optional(line, key!("api"), self.api);
        optional(line, key!("rule"), self.rule);
        line.own(key!("outcome"), self.outcome.as_str());
        line.own(key!("reason"), self.reason);
        if !self.near_miss.is_empty() {
            line.texts(key!("near_miss"), self.near_miss.iter().copied(), MAX_NEAR_MISSES);
        }
        let CallerText(caller) = self.caller;
        line.fields(caller);
        line.number(key!("age"), self.age.as_secs());
        line.close();
        if let Some(request) = &self.request {
            line.object(key!("req"), |line| request.write(line));
        }
        if !self.limits.is_empty() {
            line.objects(key!("limits"), self.limits, MAX_LIMITS, |line, limit| {
                line.text(key!("id"), limit.id);
                line.number(key!("remaining"), limit.remaining);
            });
        }
    }
}

impl Caller<'_> {
    /// Up to the tunnel, which is left open for what changes of it.
    fn write(&self, line: &mut Line<'_>) {
        line.object(key!("user"), |line| {
            line.name(key!("id"), self.user, MAX_NAME);
            line.own(
                key!("kind"),
                match self.kind {
                    Kind::Person => "person",
                    Kind::Client => "client",
                },
            );
        });
        if let Some(token) = &self.token {
            line.object(key!("token"), |line| {
                line.text(key!("issuer"), token.issuer);
                line.text(key!("sub"), token.subject);
                optional(line, key!("client"), token.client);
                line.text(key!("jti_hash"), token.id_hash);
            });
        }
        if let Some(certificate) = &self.certificate {
            line.object(key!("cert"), |line| {
                line.text(key!("spki"), certificate.spki);
                line.text(key!("serial"), certificate.serial);
                line.text(key!("issuer"), certificate.issuer);
            });
        }
        line.open(key!("tunnel"));
        line.word(key!("id"), &self.session.text());
        line.address(key!("source"), self.source);
        line.own(key!("method"), self.method.as_str());
    }
}

impl Request<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.text(key!("method"), self.method);
        line.text(key!("host"), self.host);
        line.text(key!("path"), self.path);
        optional(line, key!("path_hash"), self.path_hash);
        if !self.query_names.is_empty() {
            line.texts(key!("query_names"), self.query_names.iter().copied(), MAX_NAMES);
        }
        if let Some(bytes) = self.bytes {
            line.number(key!("bytes"), bytes);
        }
    }
}

impl End {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "end");
        line.word(key!("decision_id"), &self.id.text());
        line.word(key!("session"), &self.session.text());
        line.own(key!("result"), self.result);
        line.object(key!("resp"), |line| {
            if let Some(status) = self.status {
                line.number(key!("status"), status.into());
            }
            line.number(key!("bytes"), self.bytes);
            line.number(key!("ms"), millis(self.took));
            if let Some(upstream) = self.upstream {
                line.number(key!("upstream_ms"), millis(upstream));
            }
        });
        line.object(key!("req"), |line| line.number(key!("bytes"), self.request_bytes));
    }
}

impl PreLimited<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "pre-limited");
        line.word(key!("session"), &self.session.text());
        line.text(key!("user"), self.user);
        line.text(key!("limit"), self.limit);
        line.number(key!("count"), self.count);
    }
}

impl Alarm<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "alarm");
        line.own(key!("alarm"), self.alarm);
        if let Some(id) = self.id {
            line.word(key!("decision_id"), &id.text());
        }
        if let Some(session) = self.session {
            line.word(key!("session"), &session.text());
        }
        line.text(key!("user"), self.user);
        line.text(key!("other"), self.other);
    }
}

impl PolicyLoaded<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "policy-loaded");
        line.text(key!("bundle"), self.bundle);
        line.number(key!("apis"), self.apis);
        line.number(key!("tests"), self.tests);
    }
}

impl PolicyLoadFailed<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "policy-load-failed");
        optional(line, key!("kept"), self.kept);
        line.number(key!("complaints"), self.complaints);
        line.text(key!("code"), self.code);
        line.text(key!("file"), self.file);
        line.number(key!("line"), self.line);
        line.number(key!("column"), self.column);
        line.text(key!("message"), self.message);
        optional(line, key!("hint"), self.hint);
    }
}

impl UsersReloaded {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "users-reloaded");
        line.number(key!("enabled"), self.enabled);
        line.number(key!("disabled"), self.disabled);
    }
}

impl Reloaded<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "reloaded");
        line.text(key!("what"), self.what);
        line.own(key!("result"), self.result);
    }
}

impl AuditLost {
    fn write(&self, line: &mut Line<'_>) {
        line.own(key!("event"), "audit-lost");
        line.number(key!("count"), self.count);
    }
}

#[cfg(test)]
mod tests;
