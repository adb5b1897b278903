//! What a client is told: the values of `RateLimit`, `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11) and
//! `Retry-After` (RFC 9110 section 10.2.3). The draft may still rename the first two, so names are the caller's.

use std::time::Duration;

use super::{Exceeded, Quota, Room};

/// Whole seconds, rounded up: who waits as told finds room.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl Room<'_> {
    /// `RateLimit-Policy`: `"orders/per-user";q=20;w=2`, 20 requests in 2 seconds.
    pub fn policy_field(&self) -> String {
        policy(self.limit, &self.quota)
    }

    /// `RateLimit`: `"orders/per-user";r=4;t=2`, 4 requests are left, and all of them again in 2 seconds.
    pub fn state_field(&self) -> String {
        state(self.limit, self.remaining, self.reset)
    }
}

impl Exceeded<'_> {
    /// `RateLimit-Policy`, as [`Room::policy_field`].
    pub fn policy_field(&self) -> String {
        policy(self.limit, &self.quota)
    }

    /// `RateLimit`: nothing is left until a request could pass.
    pub fn state_field(&self) -> String {
        state(self.limit, 0, self.retry_after)
    }

    /// `Retry-After` in seconds, at least one.
    pub fn retry_after_field(&self) -> String {
        seconds(self.retry_after).max(1).to_string()
    }
}

fn policy(limit: &str, quota: &Quota) -> String {
    let mut field = string(limit);
    parameter(&mut field, ";q=", quota.burst().get().into());
    parameter(&mut field, ";w=", seconds(quota.window()).max(1));
    field
}

fn state(limit: &str, remaining: u32, time: Duration) -> String {
    let mut field = string(limit);
    parameter(&mut field, ";r=", remaining.into());
    parameter(&mut field, ";t=", seconds(time));
    field
}

fn parameter(field: &mut String, name: &str, number: u64) {
    field.push_str(name);
    field.push_str(itoa::Buffer::new().format(number));
}

/// A String of RFC 9651 section 3.3.3, with room for two parameters; what it cannot hold is left out.
fn string(text: &str) -> String {
    let mut string = String::with_capacity(text.len() + 2 + 2 * 23);
    string.push('"');
    // No early exit: nearly all names are plain.
    let plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        string.push_str(text);
        string.push('"');
        return string;
    }
    for byte in text.bytes().filter(|byte| matches!(byte, b' '..=b'~')) {
        if matches!(byte, b'"' | b'\\') {
            string.push('\\');
        }
        string.push(char::from(byte));
    }
    string.push('"');
    string
}
