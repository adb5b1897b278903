//! One message, one length: whatever two parsers could cut differently is refused, and ends the connection.

use super::backend::Reply;
use super::bench::{Bench, ORDERS, RULES, Setup};
use super::door::{get, post, request};
use super::targets::Numbers;

/// A request that an attacker would like to have seen by the API.
const SMUGGLED: &str = "GET /v1/orders/smuggled HTTP/1.1\r\nHost: orders.api.test\r\n\r\n";

/// Sends a bad head and a good request right behind it: the first is answered, the second is never read.
async fn refused(bench: &Bench, head: &[u8], reason: &str) {
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(SMUGGLED.as_bytes());
    let mut door = bench.door();
    let answer = door.send(&bytes).await;
    assert_eq!(answer.status, 400, "{}: {answer:?}", head.escape_ascii());
    bench.check_refused(&answer, 400, reason);
    assert_eq!(answer.header("connection"), Some("close"), "{}", head.escape_ascii());
    door.check_closed().await;
    assert!(bench.backend.requests().is_empty(), "{}", head.escape_ascii());
}

#[tokio::test]
async fn nt_20_a_head_with_two_lengths_ends_the_connection() {
    let bench = Bench::ordinary().await;
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked , x\r\n",
        "Transfer-Encoding: x, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
    ] {
        refused(&bench, request("POST", "/v1/orders", lines).as_bytes(), "framing").await;
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Transfer-Encoding\x0b: chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
    ] {
        refused(&bench, request("POST", "/v1/orders", lines).as_bytes(), "malformed-header").await;
    }
}

#[tokio::test]
async fn nt_20_lines_that_end_or_begin_oddly_end_the_connection() {
    let bench = Bench::ordinary().await;
    let host = ORDERS;
    for head in [
        format!("GET /v1/orders HTTP/1.1\nHost: {host}\r\n\r\n"),
        format!("GET /v1/orders HTTP/1.1\r\nHost: {host}\n\r\n"),
        format!("GET /v1/orders HTTP/1.1\r\nHost: {host}\r\n\n"),
        format!("GET /v1/orders HTTP/1.1\r\nHost: {host}\r\nX: 1\r\n folded\r\n\r\n"),
        format!("GET /v1/orders HTTP/1.1\r\nHost: {host}\r\nX: 1\r\n\tfolded\r\n\r\n"),
        format!("GET /v1/orders HTTP/1.1\r\n Host: {host}\r\n\r\n"),
        format!("GET /v1/orders HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\n\r\n"),
        format!("GET /v1/orders HTTP/1.0\r\nHost: {host}\r\n\r\n"),
        format!("GET /v1/orders HTTP/2.0\r\nHost: {host}\r\n\r\n"),
        format!("GET /v1/orders http/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /v1/orders HTTP/1.1 \r\nHost: {host}\r\n\r\n"),
        format!("GET /v1/orders\r\nHost: {host}\r\n\r\n"),
        format!("GET /v1/orders HTTP/1.1\r\nHost: {host}\r\nX\r\n\r\n"),
    ] {
        refused(&bench, head.as_bytes(), "framing").await;
    }
    refused(&bench, format!("GET /v1/orders HTTP/1.1\r\nHost: {host}\rX: 1\r\n\r\n").as_bytes(), "malformed-header")
        .await;
    refused(
        &bench,
        format!("GET /v1/orders HTTP/1.1\r\nX: a\0b\r\nHost: {host}\r\n\r\n").as_bytes(),
        "malformed-header",
    )
    .await;
}

#[tokio::test]
async fn nt_20_a_body_that_breaks_its_framing_never_becomes_a_whole_request() {
    let bench = Bench::ordinary().await;
    for body in [
        "5;ext=1\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: 1\n\r\n",
        "5\r\nhello\r\n0\r\nno field\r\n\r\n",
        "5\r\nhello\r\n0;last\r\n\r\n",
    ] {
        let mut door = bench.door();
        let head = request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\n");
        let answer = door.send(format!("{head}{body}{SMUGGLED}")).await;
        assert!(answer.cut || answer.status == 400, "{body:?}: {answer:?}");
        door.check_closed().await;
    }
    let decisions = bench.audit().into_iter().filter(|record| record["event"] == "decision");
    let decisions: Vec<String> = decisions.map(|record| record["decision_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(decisions.len(), 12);
    for id in decisions {
        let end = bench.end(&id).await;
        assert_ne!(end["resp"]["status"], 200, "{end}");
    }
    for seen in bench.backend.requests() {
        assert!(!seen.whole && seen.target() == "/v1/orders", "{seen:?}");
        let body = String::from_utf8_lossy(&seen.body);
        for odd in ["ext", "last", ";", "HTTP/1.1"] {
            assert!(!body.contains(odd), "{odd} in {body:?}");
        }
    }
}

#[tokio::test]
async fn nt_20_a_body_that_breaks_after_its_answer_ends_the_connection() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(Reply::Early(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()));
    let mut door = bench.door();
    let answer = door.send(request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    door.write(format!("x\r\n{SMUGGLED}")).await;
    door.check_closed().await;
    assert!(!bench.backend.only().whole);
}

#[tokio::test]
async fn nt_20_what_follows_a_refused_request_is_never_read() {
    let bench = Bench::ordinary().await;
    for first in ["/v1/orders/../admin", "/v1/orders#x"] {
        let mut door = bench.door();
        let answer = door.send(get(first) + SMUGGLED + SMUGGLED).await;
        bench.check_refused(&answer, 400, "malformed-target");
        door.check_closed().await;
    }
    assert!(bench.backend.requests().is_empty());
}

#[tokio::test]
async fn nt_20_the_body_of_a_denied_request_is_not_the_next_request() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    let answer = door.send(post("/v1/admin", SMUGGLED)).await;
    bench.check_refused(&answer, 403, "no-rule");
    // The connection may end here or go on; the body is a body in both cases.
    if door.try_write(get("/v1/orders/next")).await {
        let answer = door.answer().await;
        assert!(answer.cut || answer.status == 200, "{answer:?}");
    }
    assert!(bench.backend.requests().iter().all(|seen| seen.target() == "/v1/orders/next"));
}

#[tokio::test]
async fn a_refusal_says_whether_the_connection_goes_on() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    let answer = door.send(post("/v1/admin", "hello")).await;
    assert_eq!((answer.status, answer.header("connection")), (403, None), "the body was at hand");
    let answer = door.send(request("POST", "/v1/admin", "Content-Length: 5\r\n") + "hell").await;
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")), "the rest may never come");
    door.check_closed().await;
}

#[tokio::test]
async fn chunks_arrive_whole_and_in_one_spelling() {
    let bench = Bench::ordinary().await;
    let head = request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\n");
    let answer = bench.door().send(format!("{head}0005\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")).await;
    let seen = bench.check_passed(&answer);
    let body = String::from_utf8(seen.body.clone()).unwrap();
    let lines: Vec<&str> = body.split("\r\n").collect();
    assert_eq!(lines.iter().filter(|line| line.chars().any(|c| c == 'h' || c == 'w')).count(), 2, "{body:?}");
    assert!(body.ends_with("0\r\n\r\n") && !body.contains("0005"), "{body:?}");
    assert_eq!((seen.header("transfer-encoding"), seen.header("content-length")), (Some("chunked"), None));
}

#[tokio::test]
async fn a_get_may_have_a_body() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    let answer =
        door.send(request("GET", "/v1/orders/1", "Content-Length: 5\r\n") + "hello" + &get("/v1/orders/2")).await;
    assert_eq!((answer.status, door.answer().await.status), (200, 200));
    let seen = bench.backend.requests();
    assert_eq!((seen[0].body.as_slice(), seen[0].header("content-length")), (&b"hello"[..], Some("5")));
    assert_eq!((seen[1].target(), seen[1].body.len()), ("/v1/orders/2", 0));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    let first = door.send(get("/v1/orders/1") + &post("/v1/orders/2", "x") + &get("/v1/admin") + &get("/v1/orders/4"));
    let mut statuses = vec![first.await.status];
    for _ in 0..3 {
        statuses.push(door.answer().await.status);
    }
    assert_eq!(statuses, [200, 200, 403, 200]);
    let seen: Vec<String> = bench.backend.requests().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(seen, ["/v1/orders/1", "/v1/orders/2", "/v1/orders/4"]);
}

#[tokio::test]
async fn nt_21_trailers_influence_nothing() {
    let bench = Bench::ordinary().await;
    let head = request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\nTrailer: Wicketgate-User, X-Sum\r\n");
    let trailers = "Wicketgate-User: root\r\nX-Sum: evil\r\nContent-Length: 7\r\nHost: evil.test\r\n";
    let mut door = bench.door();
    let answer = door.send(format!("{head}5\r\nhello\r\n0\r\n{trailers}\r\n")).await;
    let seen = bench.check_passed(&answer);
    assert!(seen.whole);
    let body = String::from_utf8_lossy(&seen.body);
    assert!(!body.contains("evil") && !body.contains("root") && body.ends_with("0\r\n\r\n"), "{body:?}");
    assert_eq!((seen.header("trailer"), seen.header("wicketgate-user")), (None, Some("alice")));
    assert_eq!(door.get("/v1/orders").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn nt_22_no_upgrade_is_taken_where_no_api_allows_one() {
    let bench = Bench::ordinary().await;
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    for lines in [
        h2c,
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
    ] {
        refused(&bench, request("GET", "/v1/orders", lines).as_bytes(), "malformed-header").await;
    }
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut door = bench.door();
    let answer = door.send(request("GET", "/v1/orders", websocket)).await;
    bench.check_refused(&answer, 403, "upgrade");
    door.check_closed().await;
    let mut door = bench.door();
    let answer = door.send(request("GET", "/v1/admin", websocket)).await;
    bench.check_refused(&answer, 403, "no-rule");
    let answer = door.get("/v1/orders").await;
    assert_eq!(answer.status, 200, "a denied handshake leaves a sane connection");
    assert_eq!(bench.backend.only().header("upgrade"), None);
}

#[tokio::test]
async fn a_head_that_breaks_off_is_no_request() {
    let bench = Bench::ordinary().await;
    let whole = get("/v1/orders");
    for cut in [1, whole.len() / 2, whole.len() - 1] {
        let mut door = bench.door();
        door.write(&whole[..cut]).await;
        door.finish().await;
        door.check_closed().await;
    }
    assert!(bench.backend.requests().is_empty());
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte() {
    let bench = Setup::new(RULES).start().await;
    let mut door = bench.door();
    for byte in get("/v1/orders/7").bytes() {
        door.write([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(door.answer().await.status, 200);
    assert_eq!(bench.backend.only().target(), "/v1/orders/7");
}

/// A good request with one to three bytes changed, added or taken away.
fn damaged(numbers: &mut Numbers) -> Vec<u8> {
    const BYTES: &[u8] = b"\r\n\t\0 :;,/%.#?@0159aAfFxX-_+\x0b\x7f\x80\xff";
    let whole = [
        get("/v1/orders/7?x=1"),
        post("/v1/orders", "hello"),
        request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n",
        request("GET", "http://orders.api.test/v1/orders", "Connection: keep-alive\r\n"),
    ];
    let mut bytes = whole[numbers.below(whole.len())].clone().into_bytes();
    for _ in 0..=numbers.below(3) {
        let (at, byte) = (numbers.below(bytes.len()), BYTES[numbers.below(BYTES.len())]);
        match numbers.below(3) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}

#[tokio::test]
async fn nt_20_no_damaged_request_hides_another() {
    let bench = Bench::ordinary().await;
    let mut numbers = Numbers(0xD1B5_4A32_D192_ED03);
    let mut refused = 0;
    for number in 0..1000 {
        let mut bytes = damaged(&mut numbers);
        let what = bytes.escape_ascii().to_string();
        let next = format!("/v1/orders/next-{number}");
        bytes.extend_from_slice(get(&next).as_bytes());
        let mut door = bench.door();
        let answer = door.send(&bytes).await;
        if answer.cut || answer.status == 400 {
            door.rest().await;
            assert!(!bench.backend.requests().iter().any(|seen| seen.target() == next), "{what}: {answer:?}");
            refused += 1;
        }
    }
    assert!((300..1000).contains(&refused), "{refused}");
    for seen in bench.backend.requests() {
        assert_eq!((seen.header("host"), seen.header("wicketgate-user")), (Some(ORDERS), Some("alice")), "{seen:?}");
        assert!(seen.target().starts_with("/v1/orders"), "{seen:?}");
    }
}
