//! The same rules over HTTP/2, and what must not survive the way down to HTTP/1.1.

use wicket_client::http::Request;

use super::backend::Reply;
use super::bench::{BILLING, Bench, ORDERS};
use super::h2::{DATA, END_HEADERS, END_STREAM, Frames, Got, HEADERS, RST_STREAM, block, frame, pseudo};

/// Who refuses a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// The library, by a stream error or the end of the connection: there is no request to judge.
    Library,
    /// The proxy, with this status.
    Us(u16),
}

fn by(got: &Got, frames: &Frames) -> By {
    if got.reset.is_some() || frames.closed {
        return By::Library;
    }
    let problem = got.problem();
    assert!(problem["decision_id"].as_str().is_some_and(|id| id.starts_with("d-")), "{got:?}");
    By::Us(problem["status"].as_u64().and_then(|status| status.try_into().ok()).expect("a status"))
}

async fn refused(bench: &Bench, lines: &[(&str, &[u8])], body: Option<&[u8]>, expected: By) {
    let what: String = lines.iter().map(|(name, value)| format!("{name}: {}; ", value.escape_ascii())).collect();
    let mut frames = Frames::open(bench).await;
    let got = frames.ask(lines, body).await;
    assert_eq!(by(&got, &frames), expected, "{what}");
    assert!(bench.backend.requests().iter().all(|seen| !seen.whole), "{what}");
}

/// Which of the four pseudo-header fields stay, what is added, and who refuses it.
type Row = (&'static [&'static str], &'static [(&'static str, &'static [u8])], By);

#[tokio::test]
async fn nt_08_pseudo_headers_have_a_grammar() {
    let bench = Bench::ordinary().await;
    for (path, by) in [
        ("", By::Library),
        ("v1/orders", By::Library),
        ("http://orders.api.test/v1/orders", By::Library),
        ("*", By::Us(400)),
        ("//evil.test/v1", By::Us(400)),
        ("?x=1", By::Us(400)),
    ] {
        refused(&bench, &pseudo("GET", path), None, by).await;
    }
    let added: [Row; 13] = [
        (&[":method", ":scheme", ":authority"], &[], By::Library),
        (&[":method", ":authority", ":path"], &[], By::Library),
        (&[":scheme", ":authority", ":path"], &[], By::Library),
        (&[":method", ":scheme", ":path"], &[], By::Us(400)),
        (&[":method", ":authority", ":path"], &[(":scheme", b"https")], By::Us(400)),
        (&[":method", ":scheme", ":authority", ":path"], &[(":method", b"GET")], By::Library),
        (&[":method", ":scheme", ":authority", ":path"], &[(":path", b"/v1/admin")], By::Library),
        (&[":method", ":scheme", ":authority", ":path"], &[(":status", b"200")], By::Library),
        (&[":method", ":scheme", ":authority", ":path"], &[(":x", b"1")], By::Library),
        (&[":method", ":scheme", ":authority"], &[("accept", b"*/*"), (":path", b"/v1/orders")], By::Library),
        (&[":scheme", ":authority", ":path"], &[(":method", b"GET HTTP/1.1\r\nx: y")], By::Library),
        (&[":authority"], &[(":method", b"CONNECT")], By::Us(400)),
        (&[":scheme", ":authority", ":path"], &[(":method", b"CONNECT"), (":protocol", b"websocket")], By::Library),
    ];
    for (kept, more, by) in added {
        let mut lines = pseudo("GET", "/v1/orders");
        lines.retain(|(name, _)| kept.contains(name));
        lines.extend(more);
        refused(&bench, &lines, None, by).await;
    }
    assert!(bench.backend.requests().is_empty());
}

#[tokio::test]
async fn nt_08_authority_and_host_agree_or_the_request_is_refused() {
    let bench = Bench::ordinary().await;
    for (authority, host, status) in [
        (ORDERS, Some(BILLING), 421),
        (BILLING, Some(ORDERS), 421),
        (BILLING, None, 421),
        ("evil.test", None, 421),
        ("alice@orders.api.test", None, 400),
        ("orders.api.test:443", None, 421),
    ] {
        let mut lines: Vec<(&str, &[u8])> = vec![
            (":method", b"GET"),
            (":scheme", b"http"),
            (":authority", authority.as_bytes()),
            (":path", b"/v1/orders"),
        ];
        lines.extend(host.map(|host| ("host", host.as_bytes())));
        refused(&bench, &lines, None, By::Us(status)).await;
    }
    assert!(bench.backend.requests().is_empty());
    let mut lines = pseudo("GET", "/v1/orders");
    lines.push(("host", ORDERS.as_bytes()));
    let got = Frames::open(&bench).await.ask(&lines, None).await;
    assert_eq!(got.body, b"ok");
    assert_eq!(bench.backend.only().header("host"), Some(ORDERS));
}

#[tokio::test]
async fn nt_01_to_nt_11_hold_over_http2() {
    let bench = Bench::ordinary().await;
    for path in [
        "/v1/orders/../admin",
        "/v1/orders/%2e%2e/admin",
        "/v1/orders/.%2E/admin",
        "//v1/orders/1",
        "/v1//orders/1",
        "/v1/orders//",
        "/v1/orders%2F1",
        "/v1/orders%5C1",
        "/v1/orders/%252F",
        "/v1/orders/%c0%af",
        "/v1/orders\\1",
        "/v1/orders;x=1/2",
        "/v1/orders/1;.css",
        "/v1/orders/%00",
        "/v1/orders/%0d%0aX:%20y",
        "/v1/orders/\u{e9}",
        "/v1/orders/%zz",
    ] {
        refused(&bench, &pseudo("GET", path), None, By::Us(400)).await;
    }
    for path in ["/v1/orders/\t", "/v1/orders/ x", "/v1/orders/\x7f"] {
        refused(&bench, &pseudo("GET", path), None, By::Library).await;
    }
    for path in ["/V1/Orders", "/v1/orders-internal", "/v1/ordersX", "/admin?/v1/orders/1"] {
        refused(&bench, &pseudo("GET", path), None, By::Us(403)).await;
    }
    assert!(bench.backend.requests().is_empty());
    let mut frames = Frames::open(&bench).await;
    let got = frames.ask(&pseudo("GET", "/v1/orders/%41?x=/v1/public"), None).await;
    assert_eq!(got.body, b"ok");
    assert_eq!(bench.backend.only().target(), "/v1/orders/A?x=/v1/public");
    let got = frames.ask(&pseudo("GET", "/v1/admin"), None).await;
    let problem = got.problem();
    assert_eq!(bench.decision(problem["decision_id"].as_str().unwrap())["reason"], "no-rule");
}

/// The library takes a fragment off before anybody can see it, so it is nobody's reading of the request.
#[tokio::test]
async fn nt_06_a_fragment_over_http2_is_neither_judged_nor_forwarded() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let got = frames.ask(&pseudo("GET", "/admin#/v1/orders"), None).await;
    assert_eq!(got.problem()["reason"], "no-rule");
    assert!(bench.backend.requests().is_empty());
    for (path, seen) in [("/v1/orders#/../x", "/v1/orders"), ("/v1/orders?x#y", "/v1/orders?x")] {
        let got = frames.ask(&pseudo("GET", path), None).await;
        assert_eq!((got.body.as_slice(), bench.backend.last().target()), (&b"ok"[..], seen));
    }
}

#[tokio::test]
async fn nt_20_nothing_of_http1s_framing_comes_down_from_http2() {
    let bench = Bench::ordinary().await;
    for (name, value, by) in [
        ("x-a", &b"1\r\nTransfer-Encoding: chunked"[..], By::Library),
        ("x-a", b"1\nX: y", By::Library),
        ("x-a", b"1\ry", By::Library),
        ("x-a", b"1\0y", By::Library),
        ("x-a\r\nx-b", b"1", By::Library),
        ("x-a: 1\r\nx-b", b"1", By::Library),
        ("x a", b"1", By::Library),
        ("X-Upper", b"1", By::Library),
        ("transfer-encoding", b"chunked", By::Library),
        ("connection", b"close", By::Library),
        ("keep-alive", b"timeout=5", By::Library),
        ("proxy-connection", b"keep-alive", By::Library),
        ("upgrade", b"websocket", By::Library),
        ("te", b"chunked", By::Library),
        ("content-length", b"+5", By::Library),
        ("content-length", b"5, 5", By::Library),
        ("content-length", b"x", By::Library),
        ("x_under", b"1", By::Us(400)),
        ("http2-settings", b"AAMAAABk", By::Us(400)),
        ("content-length", b"05", By::Us(400)),
    ] {
        let mut lines = pseudo("POST", "/v1/orders");
        lines.push((name, value));
        refused(&bench, &lines, Some(b"hello"), by).await;
    }
    let mut lines = pseudo("POST", "/v1/orders");
    lines.extend([("content-length", &b"5"[..]), ("content-length", b"5")]);
    refused(&bench, &lines, Some(b"hello"), By::Us(400)).await;
    assert!(bench.backend.requests().is_empty(), "{:?}", bench.backend.requests());
}

#[tokio::test]
async fn nt_20_a_length_that_is_not_the_bodys_never_makes_a_whole_request() {
    let bench = Bench::ordinary().await;
    for (length, body) in [(&b"3"[..], &b"hello GET /smuggled"[..]), (b"100", b"hello"), (b"0", b"hello")] {
        let mut lines = pseudo("POST", "/v1/orders");
        lines.push(("content-length", length));
        let mut frames = Frames::open(&bench).await;
        let got = frames.ask(&lines, Some(body)).await;
        assert!(got.reset.is_some() || frames.closed || got.problem()["status"] == 400, "{got:?}");
    }
    for seen in bench.backend.requests() {
        assert!(!seen.whole || seen.header("content-length") == Some("0"), "{seen:?}");
        assert!(!seen.head.contains("smuggled") && seen.line().starts_with("POST /v1/orders "), "{seen:?}");
    }
}

#[tokio::test]
async fn nt_21_trailers_over_http2_influence_nothing() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let number = frames.number();
    let mut bytes = frame(HEADERS, END_HEADERS, number, &block(&pseudo("POST", "/v1/orders")));
    bytes.extend(frame(DATA, 0, number, b"hello"));
    let trailers = block(&[("wicketgate-user", b"root"), ("x-sum", b"evil")]);
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, number, &trailers));
    frames.write(&bytes).await;
    let got = frames.outcome(number).await;
    assert_eq!(got.body, b"ok");
    let seen = bench.backend.only();
    let body = String::from_utf8_lossy(&seen.body);
    assert!(seen.whole && !body.contains("evil") && !body.contains("root"), "{body:?}");
    assert_eq!(seen.header("wicketgate-user"), Some("alice"));
}

#[tokio::test]
async fn nt_17_reserved_names_over_http2_carry_nothing() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let mut lines = pseudo("GET", "/v1/orders");
    for name in ["wicketgate-user", "x-user", "x-forwarded-for", "forwarded", "x-http-method-override", "client-cert"] {
        lines.extend([(name, &b"evil"[..]), (name, b"evil")]);
    }
    assert_eq!(frames.ask(&lines, None).await.body, b"ok");
    let seen = bench.backend.only();
    assert!(!seen.head.contains("evil"), "{}", seen.head);
    assert_eq!(seen.header("wicketgate-user"), Some("alice"));
}

#[tokio::test]
async fn requests_over_http2_become_plain_http1() {
    let bench = Bench::ordinary().await;
    let http = bench.h2(ORDERS).await;
    let (get, post) = tokio::join!(
        http.send(Request::get(ORDERS, "/v1/orders/7?x=1").header("cookie", "a=1").header("cookie", "b=2")),
        http.send(Request::post(ORDERS, "/v1/orders", "hello")),
    );
    assert_eq!((get.unwrap().text().as_str(), post.unwrap().text().as_str()), ("ok", "ok"));
    let seen = bench.backend.requests();
    let find = |method: &str| seen.iter().find(|seen| seen.line().starts_with(method)).unwrap();
    assert_eq!(find("GET").line(), "GET /v1/orders/7?x=1 HTTP/1.1");
    assert_eq!(find("GET").header("cookie"), Some("a=1; b=2"));
    assert_eq!((find("POST").body.as_slice(), find("POST").header("content-length")), (&b"hello"[..], Some("5")));
    let denied = http.send(Request::get(ORDERS, "/v1/admin")).await.unwrap();
    assert_eq!((denied.status, denied.header("content-type")), (403, Some("application/problem+json")));
    assert_eq!((denied.header("connection"), denied.header("cache-control")), (None, Some("no-store")));
}

#[tokio::test]
async fn a_preface_that_breaks_off_or_goes_wrong_is_http1() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    let answer = door.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    let mut door = bench.door();
    door.write("PRI * HT").await;
    door.finish().await;
    door.check_closed().await;
}

#[tokio::test]
async fn nt_19_repeated_credentials_over_http2_are_refused() {
    let bench = Bench::ordinary().await;
    for repeated in [
        [("authorization", &b"Basic YTpi"[..]), ("authorization", b"Basic YTpi")],
        [("authorization", b"Bearer a, Bearer b"), ("accept", b"*/*")],
        [("content-type", b"a/b"), ("content-type", b"c/d")],
        [("host", ORDERS.as_bytes()), ("host", ORDERS.as_bytes())],
    ] {
        let mut lines = pseudo("GET", "/v1/orders");
        lines.extend(repeated);
        refused(&bench, &lines, None, By::Us(400)).await;
    }
    let mut lines = pseudo("GET", "/v1/orders");
    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    lines.extend(names.iter().map(|name| (name.as_str(), &b"1"[..])));
    refused(&bench, &lines, None, By::Us(431)).await;
}

#[tokio::test]
async fn a_response_that_breaks_off_resets_its_stream_and_no_other() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let begin = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello";
    bench.backend.answer(Reply::Last(begin.as_bytes().to_vec()));
    let got = frames.ask(&pseudo("GET", "/v1/orders/1"), None).await;
    assert!(got.reset.is_some() && !got.ended, "{got:?}");
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!(end["result"], "upstream-failed");
    assert_eq!(frames.ask(&pseudo("GET", "/v1/orders/2"), None).await.body, b"ok");
}

#[tokio::test]
async fn a_stream_that_its_client_resets_ends_upstream() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    bench.backend.answer(Reply::Silence);
    let number = frames.request(&pseudo("GET", "/v1/orders"), None).await;
    bench.backend.came(1).await;
    frames.write(&frame(RST_STREAM, 0, number, &8u32.to_be_bytes())).await;
    bench.backend.ended(1).await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!(end["result"], "client-gone");
    assert_eq!(frames.ask(&pseudo("GET", "/v1/orders/2"), None).await.body, b"ok");
}
