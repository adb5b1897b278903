//! Rate limits: what they say, and which bucket a request falls into. Counting is not done here.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::decision::RuleId;
pub use super::syntax::value::Rate;

/// Longest value inside a key; longer ones are replaced by their hash, so that a key's size is bounded.
const MAX_VALUE: usize = 128;

/// One attribute of a bucket's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// The person.
    User,
    /// The client of the token.
    Client,
    /// The session.
    Tunnel,
    /// The API.
    Api,
    /// A parameter of the path.
    Path(Box<str>),
}

/// A rate limit. There is one bucket per limit and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `api/id` or `_org/id`.
    pub id: RuleId,
    /// What distinguishes buckets.
    pub key: Vec<KeyPart>,
    /// How fast a bucket refills.
    pub rate: Rate,
    /// How much a bucket holds, at least 1.
    pub burst: u64,
    /// The status of the refusal.
    pub status: u16,
}

/// Appends `name=value` to a key. Values cannot contain the space that separates the parts, so that two tuples of
/// attributes never make one key.
pub(crate) fn append(key: &mut String, part: &KeyPart, value: &str) {
    if !key.is_empty() {
        key.push(' ');
    }
    match part {
        KeyPart::User => key.push_str("user="),
        KeyPart::Client => key.push_str("client="),
        KeyPart::Tunnel => key.push_str("tunnel="),
        KeyPart::Api => key.push_str("api="),
        KeyPart::Path(name) => {
            key.push_str("path.");
            key.push_str(name);
            key.push('=');
        }
    }
    if value.len() > MAX_VALUE {
        key.push_str("sha256:");
        for byte in Sha256::digest(value.as_bytes()) {
            let _ = write!(key, "{byte:02x}");
        }
        return;
    }
    if !value.bytes().fold(false, |found, byte| found | matches!(byte, b' ' | b'%')) {
        key.push_str(value);
        return;
    }
    for sign in value.chars() {
        match sign {
            '%' => key.push_str("%25"),
            ' ' => key.push_str("%20"),
            sign => key.push(sign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(KeyPart, &str)]) -> String {
        let mut key = String::new();
        for (part, value) in parts {
            append(&mut key, part, value);
        }
        key
    }

    fn path(name: &str) -> KeyPart {
        KeyPart::Path(name.into())
    }

    #[test]
    fn two_tuples_never_make_one_key() {
        assert_eq!(key(&[(KeyPart::User, "alice"), (KeyPart::Api, "orders")]), "user=alice api=orders");
        let (a, b) = (path("a"), path("b"));
        let tuple = key(&[(a.clone(), "x path.b=y"), (b.clone(), "z")]);
        assert_ne!(tuple, key(&[(a.clone(), "x"), (b, "y path.b=z")]));
        assert_ne!(key(&[(a.clone(), "x%20y")]), key(&[(a, "x y")]));
    }

    #[test]
    fn a_long_value_makes_a_short_key() {
        let long = key(&[(path("id"), &"a".repeat(100_000))]);
        assert!(long.starts_with("path.id=sha256:") && long.len() < 100, "{long}");
        assert_ne!(long, key(&[(path("id"), &"b".repeat(100_000))]));
    }
}
