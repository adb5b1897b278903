use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::BufMut as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::request::Malformed;

/// A request, what came of its body, and whether that is all of it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    request: Request,
    body: Vec<u8>,
    whole: bool,
}

/// What the machine made of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    seen: Vec<Seen>,
    refusal: Option<Refusal>,
    broken: Option<Broken>,
    /// Bytes of a head that is not complete.
    held: usize,
}

impl Outcome {
    fn paths(&self) -> Vec<&str> {
        self.seen.iter().map(|seen| seen.request.canonical.path()).collect()
    }

    /// Takes what the machine has.
    fn take(&mut self, framing: &mut Framing) -> Result<(), Broken> {
        loop {
            if framing.is_in_body() {
                let last = self.seen.last_mut().expect("a body has a head");
                match framing.poll_body()? {
                    Some(Piece::Data(data)) => last.body.extend_from_slice(&data),
                    Some(Piece::Over) => assert!(!framing.is_in_body()),
                    None => return Ok(()),
                }
                last.whole = !framing.is_in_body();
                continue;
            }
            match framing.poll_request() {
                Some(Ok(request)) => self.seen.push(Seen { request, body: Vec::new(), whole: !framing.is_in_body() }),
                Some(Err(refusal)) => {
                    assert_eq!(self.refusal.replace(refusal), None, "nothing is read after a refusal")
                }
                None => return Ok(()),
            }
        }
    }
}

/// Feeds pieces to a fresh machine.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut framing = Framing::new(80);
    let mut outcome = Outcome::default();
    for piece in pieces {
        framing.buffer().put_slice(piece);
        if let Err(broken) = outcome.take(&mut framing) {
            outcome.broken = Some(broken);
            return outcome;
        }
    }
    outcome.held = framing.ahead();
    outcome
}

fn feed_one(bytes: &[u8]) -> Outcome {
    feed([bytes])
}

const HEAD: &[u8] = b"GET /v1/orders?x=1 HTTP/1.1\r\nHost: a.example\r\nAccept:  */*\t\r\nX-A: 1\r\nx-a:2\r\n\r\n";

#[test]
fn a_good_head_is_read_line_by_line() {
    let outcome = feed_one(HEAD);
    let request = &outcome.seen[0].request;
    assert_eq!((request.canonical.host(), request.canonical.path()), ("a.example", "/v1/orders"));
    let lines: Vec<_> = request.headers.iter().map(|line| (line.name(), line.value())).collect();
    assert_eq!(lines, [(&b"Host"[..], &b"a.example"[..]), (b"Accept", b"*/*"), (b"X-A", b"1"), (b"x-a", b"2")]);
    assert_eq!((request.body, request.expects_continue, request.closes), (Body::Absent, false, false));
    let last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\nExpect: 100-Continue\r\n\r\n";
    let request = &feed_one(last).seen[0].request;
    assert!(request.expects_continue && request.closes);
}

#[test]
fn a_head_is_held_until_it_is_complete() {
    let mut framing = Framing::new(80);
    for &byte in &HEAD[..HEAD.len() - 1] {
        framing.buffer().put_u8(byte);
        assert_eq!(framing.poll_request(), None);
    }
    framing.buffer().put_u8(b'\n');
    assert!(matches!(framing.poll_request(), Some(Ok(_))));
    assert_eq!(framing.ahead(), 0);
}

#[test]
fn a_counted_body_ends_where_it_says() {
    let post = b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nGET /";
    let bytes = [&post[..], b"GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n"].concat();
    let outcome = feed_one(&bytes);
    assert_eq!(outcome.paths(), ["/a", "/b"]);
    assert_eq!(outcome.seen[0].body, b"GET /");
}

#[test]
fn no_request_is_read_before_the_body_of_the_one_before() {
    let mut framing = Framing::new(80);
    framing.buffer().put_slice(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    framing.buffer().put_slice(HEAD);
    assert!(matches!(framing.poll_request(), Some(Ok(_))));
    assert_eq!((framing.poll_request(), framing.left()), (None, Some(5)));
    assert_eq!(framing.poll_body(), Ok(Some(Piece::Data(Bytes::from_static(b"hello")))));
    assert_eq!((framing.poll_body(), framing.left()), (Ok(Some(Piece::Over)), Some(0)));
    assert!(matches!(framing.poll_request(), Some(Ok(_))));
}

fn chunked(body: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

#[test]
fn the_end_of_the_wire_inside_a_request_is_an_error() {
    for (bytes, whole) in [(HEAD, true), (&HEAD[..20], false), (b"", true), (&chunked("5\r\nhello\r\n0\r\n"), false)] {
        let mut framing = Framing::new(80);
        framing.buffer().put_slice(bytes);
        let mut outcome = Outcome::default();
        outcome.take(&mut framing).expect("nothing is wrong so far");
        assert_eq!(framing.handle_eof().is_ok(), whole);
    }
}

#[test]
fn nt_19_repeated_credentials_are_refused() {
    for lines in [
        "Authorization: Bearer a\r\nauthorization: Bearer b",
        "Authorization: Bearer a, Bearer b",
        "Cookie: a=1\r\nCookie: b=2",
        "Cookie: a=\"1; session=2\"",
        "Host: b.example",
    ] {
        let outcome = feed_one(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n\r\n").as_bytes());
        let refusal = outcome.refusal.expect(lines);
        assert_eq!((refusal.status(), refusal.reason()), (400, "malformed-header"));
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
        assert_eq!(outcome.seen.len(), 0, "{head:?}");
        let refusal = outcome.refusal.unwrap_or_else(|| panic!("{head:?} was accepted"));
        assert_eq!((refusal.reason(), refusal.status()), (*reason, *status), "{head:?}: {}", refusal.fault);
        assert_eq!(outcome.held, 0, "nothing is kept of what follows");
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
        ("0\r\nA: b\x01\r\n\r\n", Broken::Trailer),
    ] {
        let outcome = feed_one(&chunked(body));
        assert_eq!(outcome.broken, Some(broken), "{body:?}");
        assert!(!outcome.seen[0].whole, "{body:?}");
    }
    let mut framing = Framing::new(80);
    framing.buffer().put_slice(&chunked("x"));
    assert!(matches!(framing.poll_request(), Some(Ok(_))));
    assert_eq!(framing.poll_body(), Err(Broken::ChunkSize));
    framing.buffer().put_slice(HEAD);
    assert_eq!(framing.poll_body(), Err(Broken::ChunkSize), "a broken connection stays broken");
    assert_eq!(framing.poll_request(), None);
    let longest = feed_one(&chunked("ffffffffffffffff\r\nx"));
    assert_eq!((longest.broken, longest.seen[0].whole), (None, false));
    let spellings = feed_one(&chunked("0005\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n"));
    assert_eq!((&spellings.seen[0].body[..], spellings.seen[0].whole), (&b"hello0123456789"[..], true));
}

#[test]
fn nt_21_trailers_reach_nobody() {
    let trailers = "Authorization: Bearer x\r\nX-User: root\r\nContent-Length: 5\r\nHost: b\r\nX_Y: z\r\n";
    let bytes = [chunked(&format!("1\r\nx\r\n0\r\n{trailers}\r\n")), HEAD.to_vec()].concat();
    let outcome = feed_one(&bytes);
    assert_eq!((outcome.seen.len(), &outcome.seen[0].body[..]), (2, &b"x"[..]));
    assert_eq!(outcome.seen[0].request, feed_one(&chunked("0\r\n\r\n")).seen[0].request);
    let long = chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(MAX_TRAILERS / 6 + 1)));
    assert_eq!(feed_one(&long).broken, Some(Broken::TrailersTooLong { limit: MAX_TRAILERS }));
}

const HANDSHAKE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn nt_22_an_upgrade_to_anything_else_is_refused() {
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: h2c",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2",
        "Upgrade: websocket",
    ] {
        let outcome = feed_one(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").as_bytes());
        assert_eq!(outcome.refusal.map(|refusal| refusal.fault), Some(Malformed::Upgrade.into()), "{lines}");
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
        let mut outcome = Outcome::default();
        for piece in bytes.as_bytes().chunks(1000) {
            framing.buffer().put_slice(piece);
            outcome.take(&mut framing).expect("no body");
            assert!(framing.ahead() <= MAX_HEAD);
        }
        let Some(refusal) = outcome.refusal else { panic!("accepted") };
        assert_eq!(refusal.status(), status, "{}", refusal.fault);
        assert!(refusal.target.len() <= 4 * 256 && refusal.method.len() <= 32);
    }
    assert_eq!(feed_one(format!("{start}{}\r\n", "A: b\r\n".repeat(99)).as_bytes()).seen.len(), 1);
}

#[test]
fn the_longest_request_line_is_the_same_in_every_split() {
    let method = "M".repeat(MAX_METHOD);
    for (more, status) in [(0, None), (1, Some(414)), (2, Some(414))] {
        let target = "a".repeat(MAX_TARGET - 1 + more);
        let head = format!("{method} /{target} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let whole = feed_one(head.as_bytes());
        assert_eq!(whole.refusal.as_ref().map(Refusal::status), status);
        for cut in [1, MAX_REQUEST_LINE - 1, MAX_REQUEST_LINE, MAX_REQUEST_LINE + 1, MAX_REQUEST_LINE + 2] {
            assert_eq!(feed(<[_; 2]>::from(head.as_bytes().split_at(cut))), whole);
        }
    }
}

#[test]
fn nt_25_methods_that_are_no_tokens_and_connect_are_refused() {
    for line in ["CONNECT a:80 HTTP/1.1", "GET \t/ HTTP/1.1", "G(T / HTTP/1.1", "GET\0 / HTTP/1.1", "PRI * HTTP/1.1"] {
        let outcome = feed_one(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(outcome.refusal.as_ref().map(Refusal::status), Some(400), "{line}");
    }
    for method in ["delete", "PROPFIND", "TRACE"] {
        let outcome = feed_one(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(outcome.seen[0].request.canonical.method(), method);
    }
}

#[test]
fn a_refusal_shows_a_printable_excerpt() {
    let outcome = feed_one(b"GET /a\xff HTTP/1.1\r\nhost: \xfcvil\r\n\r\n");
    let refusal = outcome.refusal.expect("a refusal");
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
        let refusal = outcome.refusal.expect("a refusal");
        assert_eq!([&*refusal.method, &*refusal.target, &*refusal.host], shown, "{head}");
    }
}

/// What a lenient library reads in the same bytes: method, target and whole body of each request.
fn library(bytes: &[u8]) -> Vec<(String, String, Option<Vec<u8>>)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler_seen = Arc::clone(&seen);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let seen = Arc::clone(&handler_seen);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
            seen.lock().unwrap().push((parts.method.to_string(), parts.uri.to_string(), body));
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
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

/// What is accepted is read in one way: a lenient reader of the same bytes sees the same requests.
fn check_boundaries(stream: &[u8]) {
    let outcome = feed_one(stream);
    let theirs = library(stream);
    assert!(theirs.len() >= outcome.seen.len(), "{theirs:?}");
    for (ours, (method, target, body)) in outcome.seen.iter().zip(&theirs) {
        let canonical = &ours.request.canonical;
        assert_eq!(canonical.method(), method);
        assert_eq!(ours.whole.then_some(&ours.body), body.as_ref().filter(|_| ours.whole));
        assert!(ours.whole || body.is_none() || outcome.broken.is_some(), "a body that is not whole is none");
        let again = feed_one(format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes());
        let again = &again.seen[0].request.canonical;
        assert_eq!((again.path(), again.query()), (canonical.path(), canonical.query()));
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
fn a_lenient_reader_sees_no_more_in_trailers() {
    for trailers in ["A: b", "A:", "A: b\x01", "A: b\x7f", "A: \u{fc}"] {
        check_boundaries(&[chunked(&format!("1\r\nx\r\n0\r\n{trailers}\r\n\r\n")), HEAD.to_vec()].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_input_gives_the_same_requests(stream in streams(), splits: Vec<prop::sample::Index>) {
        let whole = feed_one(&stream);
        prop_assert_eq!(&feed(stream.chunks(1)), &whole);
        let mut cuts: Vec<usize> = splits.iter().map(|split| split.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&feed(cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]])), &whole);
    }

    #[test]
    fn a_lenient_reader_sees_the_same_requests(stream in streams()) {
        check_boundaries(&stream);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let outcome = feed_one(&bytes);
        prop_assert!(outcome.seen.iter().map(|seen| seen.body.len()).sum::<usize>() <= bytes.len());
    }
}
