//! How each event is written.

use std::time::{Duration, SystemTime};

use super::event::{
    Alarm, AuditLost, Decision, End, Event, LoginRefused, LoginsRefused, PolicyLoadFailed, PolicyLoaded, PreLimited,
    Reloaded, Request, TunnelDown, TunnelUp, UsersReloaded,
};
use super::line::Line;
use super::{MAX_LINE, Rfc3339};
use crate::identity::{Kind, Method};

/// Lists in a record have at most so many items: a request may have thousands of names in its query.
const MAX_NAMES: usize = 32;
const MAX_NEAR_MISSES: usize = 8;
const MAX_LIMITS: usize = 16;

/// The longest text of a record, before escaping: half a line, for a path.
const LONGEST: usize = MAX_LINE / 2;

/// Writes an event as one line of at most [`MAX_LINE`] bytes into `buffer`, replacing what was in it.
pub fn encode(at: SystemTime, event: &Event<'_>, buffer: &mut Vec<u8>) {
    let mut longest = LONGEST;
    loop {
        let mut line = Line::new(buffer, longest);
        line.word("time", &Rfc3339(at).text());
        event.write(&mut line);
        line.end();
        // Every text can be cut and every list is bounded, so a line of empty texts fits: the loop ends.
        if buffer.len() <= MAX_LINE || longest == 0 {
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

fn optional(line: &mut Line<'_>, key: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        line.text(key, text);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl TunnelUp<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"tunnel-up");
        line.plain("session", self.session);
        line.text("user", self.user);
        line.plain("source", self.source);
        line.text("method", self.method.as_str());
        line.text("binding", self.binding.as_str());
        optional(line, "correlation", self.correlation);
    }
}

impl TunnelDown<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"tunnel-down");
        line.plain("session", self.session);
        line.text("user", self.user);
        line.plain("source", self.source);
        line.text("reason", self.reason);
        line.number("seconds", self.lasted.as_secs());
        line.number("received", self.received);
        line.number("sent", self.sent);
        line.number("requests", self.requests);
    }
}

impl LoginRefused<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"login-refused");
        line.plain("source", self.source);
        line.bytes("user", self.user);
        optional(line, "method", self.method.map(Method::as_str));
        line.text("reason", self.reason);
        optional(line, "correlation", self.correlation);
    }
}

impl LoginsRefused<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.plain("event", "logins-refused");
        line.text("reason", self.reason);
        line.number("count", self.count);
    }
}

impl Decision<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"decision");
        line.word("decision_id", &self.id.text());
        line.text("bundle", self.bundle);
        optional(line, "api", self.api);
        optional(line, "rule", self.rule);
        line.text("outcome", self.outcome.as_str());
        line.text("reason", self.reason);
        if !self.near_miss.is_empty() {
            line.texts("near_miss", self.near_miss.iter().copied(), MAX_NEAR_MISSES);
        }
        line.object("user", |line| {
            line.text("id", self.user);
            line.text(
                "kind",
                match self.kind {
                    Kind::Person => "person",
                    Kind::Client => "client",
                },
            );
        });
        optional(line, "groups_hash", self.groups_hash);
        if let Some(token) = &self.token {
            line.object("token", |line| {
                line.text("issuer", token.issuer);
                line.text("sub", token.subject);
                optional(line, "client", token.client);
                line.text("jti_hash", token.id_hash);
            });
        }
        if let Some(certificate) = &self.certificate {
            line.object("cert", |line| {
                line.text("spki", certificate.spki);
                line.text("serial", certificate.serial);
                line.text("issuer", certificate.issuer);
            });
        }
        line.object("tunnel", |line| {
            line.plain("id", self.session);
            line.plain("source", self.source);
            line.text("method", self.method.as_str());
            line.number("age", self.age.as_secs());
        });
        if let Some(request) = &self.request {
            line.object("req", |line| request.write(line));
        }
        if !self.limits.is_empty() {
            line.objects("limits", self.limits, MAX_LIMITS, |line, limit| {
                line.text("id", limit.id);
                line.number("remaining", limit.remaining);
            });
        }
    }
}

impl Request<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.text("method", self.method);
        line.text("host", self.host);
        line.text("path", self.path);
        optional(line, "path_hash", self.path_hash);
        if !self.query_names.is_empty() {
            line.texts("query_names", self.query_names.iter().copied(), MAX_NAMES);
        }
        if let Some(bytes) = self.bytes {
            line.number("bytes", bytes);
        }
    }
}

impl End<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"end");
        line.word("decision_id", &self.id.text());
        line.plain("session", self.session);
        line.text("result", self.result);
        line.object("resp", |line| {
            if let Some(status) = self.status {
                line.number("status", status.into());
            }
            line.number("bytes", self.bytes);
            line.number("ms", millis(self.took));
            if let Some(upstream) = self.upstream {
                line.number("upstream_ms", millis(upstream));
            }
        });
        line.object("req", |line| line.number("bytes", self.request_bytes));
    }
}

impl PreLimited<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"pre-limited");
        line.plain("session", self.session);
        line.text("user", self.user);
        line.text("limit", self.limit);
        line.number("count", self.count);
    }
}

impl Alarm<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"alarm");
        line.text("alarm", self.alarm);
        if let Some(id) = self.id {
            line.plain("decision_id", id);
        }
        if let Some(session) = self.session {
            line.plain("session", session);
        }
        line.text("user", self.user);
        line.text("other", self.other);
    }
}

impl PolicyLoaded<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"policy-loaded");
        line.text("bundle", self.bundle);
        line.number("apis", self.apis);
        line.number("tests", self.tests);
    }
}

impl PolicyLoadFailed<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"policy-load-failed");
        optional(line, "kept", self.kept);
        line.number("complaints", self.complaints);
        line.text("code", self.code);
        line.text("file", self.file);
        line.number("line", self.line);
        line.number("column", self.column);
        line.text("message", self.message);
        optional(line, "hint", self.hint);
    }
}

impl UsersReloaded {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"users-reloaded");
        line.number("enabled", self.enabled);
        line.number("disabled", self.disabled);
    }
}

impl Reloaded<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"reloaded");
        line.text("what", self.what);
        line.text("result", self.result);
    }
}

impl AuditLost {
    fn write(&self, line: &mut Line<'_>) {
        line.word("event", b"audit-lost");
        line.number("count", self.count);
    }
}

#[cfg(test)]
mod tests;
