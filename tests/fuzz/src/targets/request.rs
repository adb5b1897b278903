//! The canonical request: the one reading of a request target and its host.

use std::str::FromStr as _;

use wicketgate::request::{CanonicalRequest, Malformed, Raw, Target, segments_equal};

use super::input::Input;

/// A byte for the port, then method and host, each behind its length; the rest is the target.
pub(crate) fn target(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let port = if input.flag() { 443 } else { 80 };
    let (method, host, target) = (input.short(), input.short(), input.rest());
    let Ok(method) = str::from_utf8(method) else { return };
    let request = read(Raw { method, target: Target::Http1 { target }, port }, Some(host));
    if target.first() == Some(&b'/') {
        let same = over_http2(method, host, target, port);
        assert_eq!(same.as_ref().ok(), request.as_ref().ok(), "HTTP/1.1 and HTTP/2 differ");
    }
    match request {
        Ok(request) => {
            check_form(&request);
            check_meaning(&request, target);
            check_again(&request, port);
            check_second_parser(&request);
            check_segments(&request);
        }
        Err(malformed) => {
            assert!((400..=431).contains(&malformed.status()) && !malformed.reason().is_empty());
        }
    }
}

fn read(raw: Raw<'_>, host: Option<&[u8]>) -> Result<CanonicalRequest, Malformed> {
    CanonicalRequest::read(&raw, host.into_iter().map(|host| ("host", host)))
}

fn origin(request: &CanonicalRequest, target: &str, port: u16) -> CanonicalRequest {
    let raw = Raw { method: request.method(), target: Target::Http1 { target: target.as_bytes() }, port };
    match read(raw, Some(request.host().as_bytes())) {
        Ok(again) => again,
        Err(malformed) => panic!("the canonical target {target:?}: {malformed}"),
    }
}

/// No segment is empty or climbs, and nothing has a second spelling.
fn check_form(request: &CanonicalRequest) {
    let path = request.path();
    assert!(path.starts_with('/'));
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte);
    assert!(path.bytes().all(plain), "{path:?}");
    let count = segments(request).count();
    for (at, segment) in segments(request).enumerate() {
        assert!(!matches!(segment, "." | ".."), "{path:?}");
        assert!(!segment.is_empty() || at + 1 == count, "{path:?}");
    }
    for (at, _) in path.match_indices('%') {
        let Some(digits) = path.get(at + 1..at + 3) else { panic!("{path:?}") };
        assert!(digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F')), "{path:?}");
        let Ok(byte) = u8::from_str_radix(digits, 16) else { panic!("{path:?}") };
        assert!(!byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte) && byte >= 0x20 && byte != 0x7F, "{path:?}");
    }
    if request.admit(false, false, false).is_ok() {
        let decoded = String::from_utf8_lossy(&decode(path.as_bytes())).into_owned();
        assert!(!["%2F", "%5C", ";"].iter().any(|odd| path.contains(odd)), "{path:?}");
        assert_eq!(decoded.matches('/').count(), path.matches('/').count(), "{path:?}");
        assert!(!decoded.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")), "{path:?}");
    }
    assert!(request.admit(true, true, true).is_ok());
}

fn check_again(request: &CanonicalRequest, port: u16) {
    assert_eq!(
        &origin(request, &request.origin_form(request.path()), port),
        request,
        "reading twice changes something"
    );
}

fn over_http2(method: &str, host: &[u8], target: &[u8], port: u16) -> Result<CanonicalRequest, Malformed> {
    let scheme = Some(if port == 443 { "https" } else { "http" });
    let target = Target::Http2 { scheme, authority: Some(host), path: Some(target) };
    read(Raw { method, target, port }, None)
}

/// The canonical path decodes to what the path that was sent decodes to.
fn check_meaning(request: &CanonicalRequest, target: &[u8]) {
    if target.first() == Some(&b'/') {
        let sent = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        assert_eq!(decode(sent), decode(request.path().as_bytes()));
    }
}

/// The library that forwards the request reads the same path and query.
fn check_second_parser(request: &CanonicalRequest) {
    let target = request.origin_form(request.path());
    match http::Uri::from_str(&target) {
        Ok(uri) => assert_eq!((uri.path(), uri.query()), (request.path(), request.query())),
        Err(error) => panic!("{target:?}: {error}"),
    }
}

/// `/` has one, which is empty.
fn segments(request: &CanonicalRequest) -> impl Iterator<Item = &str> {
    request.path().split('/').skip(1)
}

fn check_segments(request: &CanonicalRequest) {
    let mut before = "";
    for segment in segments(request) {
        assert!(segments_equal(segment, segment));
        assert_eq!(segments_equal(before, segment), segments_equal(segment, before));
        before = segment;
    }
}

/// Every triplet decoded once.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let [byte, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    decoded
}
