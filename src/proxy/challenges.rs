//! Which challenges of an upstream a client may see (RFC 9110 section 11.6.1).
//!
//! NTLM and Negotiate log in the connection that carries them. Connections to an API are shared, so the next person's
//! request would go up under the login of the one before; such a challenge is not passed on.

use crate::field::{Line, Section, is_token_byte};
use crate::request::logs_in_connection;

const NAME: &str = "www-authenticate";

/// Removes the challenges that log in a connection.
pub(super) fn strip_connection_logins(headers: &mut Section) {
    let is_bound = |value: &[u8]| challenges(value).any(|(scheme, _)| logs_in_connection(scheme));
    if !headers.get_all(NAME).any(is_bound) {
        return;
    }
    let unbound = |value: &[u8]| {
        let kept = challenges(value).filter(|(scheme, _)| !logs_in_connection(scheme));
        kept.map(|(_, challenge)| challenge.to_vec()).collect::<Vec<_>>().join(&b", "[..])
    };
    let values: Vec<Vec<u8>> = headers.get_all(NAME).map(unbound).filter(|value| !value.is_empty()).collect();
    headers.retain(|line| !line.is(NAME));
    // Every piece was part of a value, so the whole is one.
    let lines = values.iter().filter_map(|value| Line::new(NAME.as_bytes(), value).ok());
    lines.for_each(|line| headers.push(line));
}

/// The challenges of one line, each with its scheme; what belongs to no challenge has an empty scheme.
fn challenges(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let begin = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        rest = &rest[begin..];
        let challenge = rest;
        let (element, mut after) = split_element(rest);
        let mut end = element.len();
        while !after.is_empty() {
            let (element, tail) = split_element(after);
            if !element.trim_ascii().is_empty() {
                if scheme(element).is_some() {
                    break;
                }
                end = challenge.len() - after.len() + element.len();
            }
            after = tail;
        }
        rest = after;
        Some((scheme(element).unwrap_or_default(), challenge[..end].trim_ascii()))
    })
}

/// The bytes until the next comma outside quotes, and those after it.
fn split_element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&bytes[..at], &bytes[at + 1..]),
            _ => {}
        }
    }
    (bytes, &[])
}

/// The scheme with which an element of the list begins a challenge; a parameter is a name and `=`.
fn scheme(element: &[u8]) -> Option<&[u8]> {
    let element = element.trim_ascii();
    let end = element.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(element.len());
    let (word, rest) = element.split_at(end);
    (!word.is_empty() && rest.trim_ascii_start().first() != Some(&b'=')).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(lines: &[&str]) -> Vec<String> {
        let mut headers = Section::default();
        for line in lines {
            headers.push(Line::new(b"WWW-Authenticate", line.as_bytes()).unwrap());
        }
        strip_connection_logins(&mut headers);
        headers.get_all(NAME).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_challenge_that_logs_in_a_connection_is_not_passed_on() {
        assert!(left(&["Negotiate", "NTLM", "ntlm TlRMTVNTUAAC=", "negotiate  YII=="]).is_empty());
        assert_eq!(left(&["Negotiate", "Basic realm=\"a, NTLM\""]), ["Basic realm=\"a, NTLM\""]);
        assert_eq!(
            left(&["Negotiate, Basic realm=\"x\", charset=\"UTF-8\""]),
            ["Basic realm=\"x\", charset=\"UTF-8\""]
        );
        assert_eq!(
            left(&["Digest realm=\"\\\"\", qop=\"auth,int\" , NTLM, Bearer"]),
            ["Digest realm=\"\\\"\", qop=\"auth,int\", Bearer"]
        );
        assert_eq!(left(&[",, NTLM realm=x, a = b, Bearer error=\"e\""]), ["Bearer error=\"e\""]);
    }

    #[test]
    fn other_challenges_are_passed_on_as_they_are() {
        for line in ["Bearer", "Basic  realm=\"Negotiate\" ,x=y", "Custom realm=NTLM", "=, \"", ""] {
            assert_eq!(left(&[line]), [line]);
        }
    }
}
