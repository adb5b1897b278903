use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::request::Malformed;

/// What the machine made of some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    out: Vec<u8>,
    verdicts: Vec<Verdict>,
    broken: Option<Broken>,
    phase: Phase,
}

impl Outcome {
    fn good(&self) -> Vec<&CanonicalRequest> {
        self.verdicts
            .iter()
            .filter_map(|verdict| match verdict {
                Verdict::Good(request) => Some(request),
                Verdict::Bad(_) => None,
            })
            .collect()
    }

    fn refusal(&self) -> Option<&Refusal> {
        self.verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Good(_) => None,
            Verdict::Bad(refusal) => Some(refusal),
        })
    }
}

/// Feeds pieces to a fresh machine; takes verdicts when it is full, and declines upgrades.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut framing = Framing::new(80);
    let (mut out, mut verdicts, mut broken) = (Vec::new(), Vec::new(), None);
    'pieces: for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            match framing.handle_input(rest, &mut out) {
                Ok(taken) => rest = &rest[taken..],
                Err(error) => {
                    broken = Some(error);
                    break 'pieces;
                }
            }
            assert!(rest.is_empty() || framing.is_full());
            verdicts.extend(std::iter::from_fn(|| framing.poll_verdict()));
            framing.decline_upgrade();
        }
    }
    verdicts.extend(std::iter::from_fn(|| framing.poll_verdict()));
    Outcome { out, verdicts, broken, phase: framing.phase() }
}

fn feed_one(bytes: &[u8]) -> Outcome {
    feed([bytes])
}

const HEAD: &[u8] = b"GET /v1/orders?x=1 HTTP/1.1\r\nHost: a.example\r\nAccept:  */*\t\r\n\r\n";

#[test]
fn a_good_head_is_released_byte_for_byte() {
    let outcome = feed_one(HEAD);
    assert_eq!(outcome.out, HEAD);
    assert_eq!(outcome.good().len(), 1);
    assert_eq!((outcome.good()[0].host(), outcome.good()[0].path()), ("a.example", "/v1/orders"));
    assert_eq!(outcome.phase, Phase::Idle);
}

#[test]
fn a_head_is_held_until_it_is_complete() {
    let mut framing = Framing::new(80);
    let mut out = Vec::new();
    for &byte in &HEAD[..HEAD.len() - 1] {
        assert_eq!(framing.handle_input(&[byte], &mut out), Ok(1));
        assert_eq!((out.len(), framing.poll_verdict(), framing.phase()), (0, None, Phase::Head));
    }
    framing.handle_input(b"\n", &mut out).unwrap();
    assert_eq!(out, HEAD);
    assert!(matches!(framing.poll_verdict(), Some(Verdict::Good(_))));
    assert_eq!(framing.phase(), Phase::Idle);
}

#[test]
fn a_counted_body_ends_where_it_says() {
    let post = b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nGET /";
    let bytes = [&post[..], b"GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n"].concat();
    let outcome = feed_one(&bytes);
    assert_eq!(outcome.out, bytes);
    assert_eq!(outcome.good().iter().map(|request| request.path()).collect::<Vec<_>>(), ["/a", "/b"]);
}

fn chunked(body: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

#[test]
fn chunk_sizes_are_written_in_their_one_spelling() {
    let outcome = feed_one(&chunked("0005\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n"));
    assert_eq!(outcome.out, chunked("5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n"));
    assert_eq!((outcome.broken, outcome.phase), (None, Phase::Idle));
}

#[test]
fn the_end_of_the_wire_inside_a_request_is_an_error() {
    for (bytes, whole) in [(HEAD, true), (&HEAD[..20], false), (b"", true), (&chunked("5\r\nhello\r\n0\r\n"), false)] {
        let mut framing = Framing::new(80);
        framing.handle_input(bytes, &mut Vec::new()).unwrap();
        assert_eq!(framing.handle_eof().is_ok(), whole);
    }
}

#[test]
fn the_machine_stops_ahead_of_the_handler_and_goes_on() {
    let bytes = HEAD.repeat(MAX_VERDICTS + 2);
    let mut framing = Framing::new(80);
    let mut out = Vec::new();
    let taken = framing.handle_input(&bytes, &mut out).unwrap();
    assert_eq!(taken, HEAD.len() * MAX_VERDICTS);
    assert!(framing.is_full());
    assert_eq!(framing.handle_input(&bytes[taken..], &mut out), Ok(0));
    assert!(framing.poll_verdict().is_some());
    assert_eq!(framing.handle_input(&bytes[taken..], &mut out), Ok(HEAD.len()));
    assert_eq!(out.len(), HEAD.len() * (MAX_VERDICTS + 1));
}

#[test]
fn nt_19_repeated_credentials_are_refused_before_the_library_reads_them() {
    for lines in [
        "Authorization: Bearer a\r\nauthorization: Bearer b",
        "Authorization: Bearer a, Bearer b",
        "Cookie: a=1\r\nCookie: b=2",
        "Cookie: a=\"1; session=2\"",
        "Host: b.example",
    ] {
        let outcome = feed_one(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n\r\n").as_bytes());
        let refusal = outcome.refusal().expect(lines);
        assert_eq!((refusal.status(), refusal.reason()), (400, "malformed-header"));
        assert_eq!(outcome.out, REFUSED);
    }
}

/// Heads that some parser reads differently: bytes, reason, status.
const CORPUS: &[(&str, &str, u16)] = &[
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked , x\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", "malformed-header", 400),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
        "malformed-header",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\r\n : chunked\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\nHost: a\n\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\n\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,5\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent_Length: 6\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length\0: 5\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nX\u{fc}: 5\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\n: 5\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "framing", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "malformed-header", 400),
    ("POST / HTTP/1.1\r\n\r\n", "malformed-header", 400),
    ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET / HTTP/11\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET /\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "framing", 400),
    ("GET / HTTP/1.1\r\n\r\nHost: a\r\n\r\n", "malformed-header", 400),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "framing", 400),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "framing", 400),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "framing", 400),
    ("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", "malformed-target", 400),
    ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", "malformed-target", 400),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "malformed-target", 400),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "host-mismatch", 421),
    ("GET / HTTP/1.1\r\nHost: a:443\r\n\r\n", "host-mismatch", 421),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "framing", 400),
    ("\x16\x03\x01\x02\0\x01\0\x01\n", "framing", 400),
];

#[test]
fn nt_20_what_two_parsers_read_differently_is_refused() {
    for (head, reason, status) in CORPUS {
        let bytes = format!("{head}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let outcome = feed_one(bytes.as_bytes());
        assert_eq!(outcome.verdicts.len(), 1, "{head:?}");
        let refusal = outcome.refusal().unwrap_or_else(|| panic!("{head:?} was accepted"));
        assert_eq!((refusal.reason(), refusal.status()), (*reason, *status), "{head:?}: {}", refusal.fault);
        assert_eq!(outcome.out, REFUSED, "{head:?}");
        assert_eq!(outcome.phase, Phase::Refused);
    }
}

#[test]
fn nt_20_chunks_have_one_spelling() {
    for (body, broken) in [
        ("5;ext=1\r\nhello\r\n0\r\n\r\n", Broken::ChunkSize),
        ("5 \r\nhello\r\n0\r\n\r\n", Broken::ChunkSize),
        (" 5\r\nhello\r\n0\r\n\r\n", Broken::ChunkSize),
        ("0x5\r\nhello\r\n", Broken::ChunkSize),
        ("+5\r\nhello\r\n", Broken::ChunkSize),
        ("\r\nhello\r\n", Broken::ChunkSize),
        ("5\nhello\r\n", Broken::ChunkSize),
        ("5\rhello\r\n", Broken::ChunkSize),
        ("00000000000000005\r\nhello\r\n", Broken::ChunkSize),
        ("5\r\nhelloX0\r\n\r\n", Broken::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", Broken::ChunkEnd),
        ("5\r\nhello\r0\r\n\r\n", Broken::ChunkEnd),
        ("0\r\nGET /x HTTP/1.1\r\n\r\n", Broken::Trailer),
        ("0\r\nA: b\n\r\n", Broken::Trailer),
        ("0\r\nA: b\r\n c\r\n\r\n", Broken::Trailer),
        ("0\r\n\n", Broken::Trailer),
    ] {
        let outcome = feed_one(&chunked(body));
        assert_eq!(outcome.broken, Some(broken), "{body:?}");
        assert_eq!(outcome.phase, Phase::Broken);
        assert!(!outcome.out.ends_with(LAST_CHUNK), "{body:?}");
    }
    let mut framing = Framing::new(80);
    let mut out = Vec::new();
    assert_eq!(framing.handle_input(&chunked("x"), &mut out), Err(Broken::ChunkSize));
    assert_eq!(framing.handle_input(HEAD, &mut out), Err(Broken::ChunkSize), "a broken connection stays broken");
    assert_eq!(feed_one(&chunked("ffffffffffffffff\r\nx")).phase, Phase::Body);
}

#[test]
fn nt_21_trailers_reach_nobody() {
    let trailers = "Authorization: Bearer x\r\nX-User: root\r\nContent-Length: 5\r\nHost: b\r\nX_Y: z\r\n";
    let bytes = [chunked(&format!("1\r\nx\r\n0\r\n{trailers}\r\n")), HEAD.to_vec()].concat();
    let outcome = feed_one(&bytes);
    assert_eq!(outcome.out, [chunked("1\r\nx\r\n0\r\n\r\n"), HEAD.to_vec()].concat());
    assert_eq!(outcome.good().len(), 2);
    let long = chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(MAX_TRAILERS / 6 + 1)));
    assert_eq!(feed_one(&long).broken, Some(Broken::TrailersTooLong { limit: MAX_TRAILERS }));
}

const HANDSHAKE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn nt_22_nothing_is_read_until_an_upgrade_is_decided() {
    let frames = [0x81, 0x05, b'h', b'e', b'l', b'l', b'o', b'\n'];
    let bytes = [HANDSHAKE, &frames].concat();
    let mut framing = Framing::new(80);
    let mut out = Vec::new();
    assert_eq!(framing.handle_input(&bytes, &mut out), Ok(HANDSHAKE.len()));
    assert_eq!((framing.phase(), framing.is_full()), (Phase::Upgrade, true));
    framing.decline_upgrade();
    framing.handle_input(&frames, &mut out).unwrap();
    assert_eq!((framing.phase(), &out[HANDSHAKE.len()..]), (Phase::Refused, REFUSED));
}

#[test]
fn nt_22_an_upgrade_to_anything_else_is_refused() {
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: h2c",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2",
        "Upgrade: websocket",
    ] {
        let outcome = feed_one(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").as_bytes());
        assert_eq!(outcome.refusal().map(|refusal| refusal.fault.clone()), Some(Malformed::Upgrade.into()), "{lines}");
    }
}

#[test]
fn nt_23_heads_without_end_are_refused_within_bounds() {
    let start = "GET / HTTP/1.1\r\nHost: a\r\n";
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(MAX_TARGET));
    for (bytes, status) in [
        (format!("{start}{}\r\n", "A: b\r\n".repeat(20_001)), 431),
        (format!("{start}A: {}", "b".repeat(1 << 20)), 431),
        (format!("{start}{}\r\n", "A: b\r\n".repeat(100)), 431),
        ("A".repeat(1 << 20), 400),
        (format!("GET /{}", "a".repeat(1 << 20)), 414),
        (target, 414),
    ] {
        let mut framing = Framing::new(80);
        let mut out = Vec::new();
        for piece in bytes.as_bytes().chunks(1000) {
            framing.handle_input(piece, &mut out).unwrap();
            assert!(framing.section.len() <= MAX_HEAD);
        }
        assert_eq!(out, REFUSED);
        let Some(Verdict::Bad(refusal)) = framing.poll_verdict() else { panic!("accepted") };
        assert_eq!(refusal.status(), status, "{}", refusal.fault);
        assert!(refusal.target.len() <= 4 * 256 && refusal.method.len() <= 32);
    }
    assert_eq!(feed_one(format!("{start}{}\r\n", "A: b\r\n".repeat(99)).as_bytes()).good().len(), 1);
}

#[test]
fn the_longest_request_line_is_the_same_in_every_split() {
    let method = "M".repeat(MAX_METHOD);
    for (more, status) in [(0, None), (1, Some(414)), (2, Some(414))] {
        let target = "a".repeat(MAX_TARGET - 1 + more);
        let head = format!("{method} /{target} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let whole = feed_one(head.as_bytes());
        assert_eq!(whole.refusal().map(Refusal::status), status);
        for cut in [1, MAX_REQUEST_LINE - 1, MAX_REQUEST_LINE, MAX_REQUEST_LINE + 1, MAX_REQUEST_LINE + 2] {
            assert_eq!(feed(<[_; 2]>::from(head.as_bytes().split_at(cut))), whole);
        }
    }
}

#[test]
fn nt_25_methods_that_are_no_tokens_and_connect_are_refused() {
    for line in ["CONNECT a:80 HTTP/1.1", "GET \t/ HTTP/1.1", "G(T / HTTP/1.1", "GET\0 / HTTP/1.1", "PRI * HTTP/1.1"] {
        let outcome = feed_one(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(outcome.refusal().map(Refusal::status), Some(400), "{line}");
    }
    for method in ["delete", "PROPFIND", "TRACE"] {
        let outcome = feed_one(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(outcome.good()[0].method(), method);
    }
}

#[test]
fn a_refusal_shows_a_printable_excerpt() {
    let outcome = feed_one(b"GET /a\xff HTTP/1.1\r\nhost: \xfcvil\r\n\r\n");
    let refusal = outcome.refusal().unwrap();
    assert_eq!((&*refusal.method, &*refusal.target, &*refusal.host), ("GET", r"/a\xff", r"\xfcvil"));
}

#[test]
fn no_secret_stands_in_the_excerpt_of_a_refusal() {
    for (head, shown) in [
        ("GET http://alice:SECRET@a/b HTTP/1.1\r\nHost: a", ["GET", "", "a"]),
        ("GET http://alice:SECRET?SECRET@a/b HTTP/1.1\r\nHost: a", ["GET", "", "a"]),
        ("GET /b/a@b?mail=alice@SECRET HTTP/1.1\r\nHost: a:b", ["GET", "/b/a@b", "a:b"]),
        ("GET /b?token=SECRET HTTP/1.1\r\nHost: alice:SECRET@a", ["GET", "/b", "a"]),
        ("GET /b#token=SECRET HTTP/1.1\r\nHost: a", ["GET", "/b", "a"]),
        ("{\"password\":\"SECRET\"} SECRET SECRET\r\nHost: SECRET", ["", "", ""]),
    ] {
        let outcome = feed_one(format!("{head}\r\n\r\n").as_bytes());
        let refusal = outcome.refusal().unwrap();
        assert_eq!([&*refusal.method, &*refusal.target, &*refusal.host], shown, "{head}");
    }
}

/// A second reading of what was released, as naive as possible: method, target and body of each request, and whether
/// the last one is whole.
fn second_parser(mut bytes: &[u8]) -> (Vec<(String, String, Vec<u8>)>, bool) {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let end = find(bytes, b"\r\n\r\n").expect("no part of a head is released");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let value = |name: &str| {
            head.split("\r\n").skip(1).find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let mut body = Vec::new();
        let mut whole = true;
        if value("transfer-encoding").is_some() {
            loop {
                let Some(line) = find(bytes, b"\r\n") else {
                    whole = false;
                    break;
                };
                let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
                bytes = &bytes[line + 2..];
                if bytes.len() < size + 2 {
                    whole = false;
                    break;
                }
                body.extend_from_slice(&bytes[..size]);
                assert_eq!(&bytes[size..size + 2], b"\r\n");
                bytes = &bytes[size + 2..];
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = value("content-length") {
            let length: usize = length.parse().unwrap();
            let have = length.min(bytes.len());
            whole = have == length;
            body.extend_from_slice(&bytes[..have]);
            bytes = &bytes[have..];
        }
        requests.push((method, target, body));
        if !whole {
            return (requests, false);
        }
    }
    (requests, true)
}

/// What the real library hands to its handler.
fn library(bytes: &[u8]) -> Vec<(String, String, Option<Vec<u8>>)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler_seen = Arc::clone(&seen);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let seen = Arc::clone(&handler_seen);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.ok().map(|body| {
                assert!(body.trailers().is_none());
                body.to_bytes().to_vec()
            });
            seen.lock().unwrap().push((parts.method.to_string(), parts.uri.to_string(), body));
            Ok::<_, Infallible>(hyper::Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        // An error is the end of a body that never comes; what was seen is what counts.
        let _ = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(server), service)
            .await;
        drop(client);
    });
    std::mem::take(&mut *seen.lock().unwrap())
}

fn check_boundaries(outcome: &Outcome) {
    let (second, whole) = second_parser(&outcome.out);
    let seen = library(&outcome.out);
    assert_eq!(second.len(), outcome.verdicts.len());
    assert_eq!(seen.len(), outcome.verdicts.len(), "{:?}", String::from_utf8_lossy(&outcome.out));
    let last = second.len().wrapping_sub(1);
    for (at, (verdict, (second, seen))) in outcome.verdicts.iter().zip(second.iter().zip(&seen)).enumerate() {
        assert_eq!((&second.0, &second.1), (&seen.0, &seen.1));
        assert_eq!(seen.2.as_deref(), (whole || at != last).then_some(&second.2[..]));
        match verdict {
            Verdict::Good(request) => {
                assert_eq!(request.method(), seen.0);
                let again = feed_one(format!("{} {} HTTP/1.1\r\nHost: a.example\r\n\r\n", seen.0, seen.1).as_bytes());
                assert_eq!((again.good()[0].path(), again.good()[0].query()), (request.path(), request.query()));
            }
            Verdict::Bad(_) => assert!(at == last && outcome.out.ends_with(REFUSED)),
        }
    }
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let whole = proptest::sample::select(vec![
        HEAD.to_vec(),
        HANDSHAKE.to_vec(),
        b"POST /a?b=[c]|{d}^`e HTTP/1.1\r\nHost: a.example\r\nContent-Length: 7\r\n\r\nGET / H".to_vec(),
        b"PUT /%7e HTTP/1.1\r\nhost:a.example:80\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"GET http://A.example/x!$&'()*+,=:@?y HTTP/1.1\r\nHost: a.example.\r\n\r\n".to_vec(),
        b"M-SEARCH / HTTP/1.1\r\nHost: a.example\r\nX!#$%&'*+-.^`|~1:\xff \t\x80\r\nEmpty:\r\n\r\n".to_vec(),
        chunked("5\r\nhello\r\n0\r\n\r\n"),
        chunked("00a\r\nGET / HTTP\r\n1\r\n\n\r\n000\r\nX: y\r\n\r\n"),
        chunked("0\r\n\r\n"),
    ]);
    let broken = prop_oneof![
        proptest::sample::select(CORPUS).prop_map(|case| case.0.as_bytes().to_vec()),
        proptest::sample::select(vec!["1;x\r\n", "1\r\nab", "0\r\n:\r\n\r\n", "g"]).prop_map(chunked),
        proptest::collection::vec(proptest::sample::select(b"\r\n :0aGET/H.1".to_vec()), 0..20),
    ];
    let item = prop_oneof![8 => whole, 1 => broken];
    (proptest::collection::vec(item, 0..8), any::<(u16, u16, u8)>()).prop_map(|(items, (cut, at, byte))| {
        let mut stream = items.concat();
        // Often the stream ends early, sometimes one byte is another.
        if cut % 3 == 0 {
            stream.truncate(usize::from(cut) % (stream.len() + 1));
        }
        let at = usize::from(at);
        if at % 4 == 0
            && let Some(place) = stream.get_mut(at / 4 % 1000)
        {
            *place = byte;
        }
        stream
    })
}

#[test]
fn every_corpus_head_reaches_the_handler_as_one_harmless_request() {
    for (head, _, _) in CORPUS {
        check_boundaries(&feed([HEAD, head.as_bytes(), HEAD]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_input_gives_the_same_output(stream in streams(), splits: Vec<prop::sample::Index>) {
        let whole = feed_one(&stream);
        prop_assert_eq!(&feed(stream.chunks(1)), &whole);
        let mut cuts: Vec<usize> = splits.iter().map(|split| split.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&feed(cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]])), &whole);
    }

    #[test]
    fn the_library_reads_the_same_requests(stream in streams()) {
        check_boundaries(&feed_one(&stream));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let outcome = feed_one(&bytes);
        prop_assert!(outcome.out.len() <= bytes.len() + REFUSED.len());
    }
}
