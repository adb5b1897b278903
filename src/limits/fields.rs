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
    format!("{};q={};w={}", string(limit), quota.burst(), seconds(quota.window()).max(1))
}

fn state(limit: &str, remaining: u32, time: Duration) -> String {
    format!("{};r={remaining};t={}", string(limit), seconds(time))
}

/// A String of RFC 9651 section 3.3.3; what it cannot hold is left out.
fn string(text: &str) -> String {
    let mut string = String::with_capacity(text.len() + 2);
    string.push('"');
    for letter in text.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ') {
        if matches!(letter, '"' | '\\') {
            string.push('\\');
        }
        string.push(letter);
    }
    string.push('"');
    string
}
