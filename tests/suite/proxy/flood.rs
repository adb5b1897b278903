//! Too much, too slow, too many: what a client may cost is bounded, and its neighbours do not notice.

use wicket_client::http::Request;

use super::backend::Reply;
use super::bench::{Bench, RULES, Setup, api};
use super::door::{get, request};
use super::h2::{CONTINUATION, END_HEADERS, END_STREAM, Frames, HEADERS, block, frame, pseudo, rapid_resets};

const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;

/// Somebody else on the same shard is served as ever.
async fn check_neighbour(bench: &Bench) {
    let bob = bench.caller("bob");
    let answer = bench.door_of(&bob, super::bench::ORDERS).get("/v1/orders/neighbour").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn nt_23_a_head_has_a_size() {
    let bench = Bench::ordinary().await;
    let many: String = (0..20_001).map(|number| format!("X-{number}: 1\r\n")).collect();
    let few: String = (0..100).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    for lines in [many, few, long] {
        let mut door = bench.door();
        let answer = door.send(request("GET", "/v1/orders", &lines)).await;
        bench.check_refused(&answer, 431, "malformed-header");
        assert_eq!(answer.header("connection"), Some("close"));
        door.check_closed().await;
    }
    let answer = bench.door().get(&format!("/v1/orders/{}", "x".repeat(17 * 1024))).await;
    bench.check_refused(&answer, 414, "malformed-target");
    let endless = "G".repeat(1 << 20);
    let answer = bench.door().send(endless).await;
    bench.check_refused(&answer, 400, "malformed-target");
    check_neighbour(&bench).await;
}

#[tokio::test]
async fn nt_23_a_head_without_an_end_is_refused_at_its_limit() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    door.write("GET /v1/orders HTTP/1.1\r\n").await;
    let mut sent = 0;
    while sent < 1 << 20 && door.try_write(format!("X-{sent}: {}\r\n", "x".repeat(4000))).await {
        sent += 4000;
        tokio::task::yield_now().await;
    }
    let answer = door.answer().await;
    bench.check_refused(&answer, 431, "malformed-header");
}

#[tokio::test]
async fn nt_23_a_body_that_drips_ends_with_408() {
    let bench = Setup::of(&api("orders", "", "timeout = \"300ms\"", RULES)).start().await;
    for head in ["Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut door = bench.door();
        door.write(request("POST", "/v1/orders", head)).await;
        let drip = if head.starts_with("Content") { "x" } else { "1\r\nx\r\n" };
        for _ in 0..8 {
            if !door.try_write(drip).await {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let answer = door.answer().await;
        bench.check_reply(&answer, 408, "body-too-slow");
        door.check_closed().await;
        check_neighbour(&bench).await;
    }
    let uploads = bench.backend.requests().into_iter().filter(|seen| seen.line().starts_with("POST"));
    assert!(uploads.map(|seen| seen.whole).all(|whole| !whole));
    bench.backend.ended(2).await;
}

#[tokio::test]
async fn a_body_may_be_slower_than_the_timeout_while_it_comes() {
    let bench = Setup::of(&api("orders", "", "timeout = \"500ms\"", RULES)).start().await;
    let mut door = bench.door();
    let body = "x".repeat(40_000);
    door.write(request("POST", "/v1/orders", "Content-Length: 40000\r\n")).await;
    for part in body.as_bytes().chunks(5_000) {
        door.write(part).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(door.answer().await.status, 200);
    assert_eq!(bench.backend.only().body.len(), 40_000);
}

#[tokio::test]
async fn nt_23_a_header_block_without_an_end_closes_the_connection() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let number = frames.number();
    frames.write(&frame(HEADERS, END_STREAM, number, &block(&pseudo("GET", "/v1/orders")))).await;
    let filler = block(&[("x-filler", &[b'x'; 16_000])]);
    let mut sent = 0;
    while sent < 64 << 20 && frames.write(&frame(CONTINUATION, 0, number, &filler)).await {
        sent += filler.len();
    }
    assert!(sent < 1 << 20, "{sent} bytes were taken");
    frames.until_closed().await;
    assert!(bench.backend.requests().is_empty());
    check_neighbour(&bench).await;
}

#[tokio::test]
async fn nt_23_empty_continuations_close_the_connection() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let number = frames.number();
    frames.write(&frame(HEADERS, END_STREAM, number, &block(&pseudo("GET", "/v1/orders")))).await;
    let empty = frame(CONTINUATION, 0, number, b"").repeat(100);
    let mut sent = 0;
    while sent < 1_000_000 && frames.write(&empty).await {
        sent += 100;
    }
    assert!(sent < 100_000, "{sent} frames were taken");
    frames.until_closed().await;
    assert!(bench.backend.requests().is_empty());
    check_neighbour(&bench).await;
}

#[tokio::test]
async fn nt_23_a_large_header_list_is_refused_on_http2() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let number = frames.number();
    let mut lines = pseudo("GET", "/v1/orders");
    let value = [b'x'; 4000];
    for _ in 0..3 {
        lines.push(("x-filler", &value));
    }
    let mut bytes = frame(HEADERS, END_STREAM, number, &block(&lines));
    for last in (0..6).map(|left| left == 5) {
        let more = block(&[("x-filler", &value), ("x-filler", &value), ("x-filler", &value)]);
        bytes.extend(frame(CONTINUATION, if last { END_HEADERS } else { 0 }, number, &more));
    }
    frames.write(&bytes).await;
    let got = frames.outcome(number).await;
    // The library answers itself, before there is a request to judge.
    assert!(got.headers || got.reset.is_some() || frames.closed, "{got:?}");
    assert!(got.body.is_empty(), "{got:?}");
    // What it answers is read by a library too.
    let http = bench.h2(super::bench::ORDERS).await;
    let mut large = Request::get(super::bench::ORDERS, "/v1/orders");
    for number in 0..21 {
        large = large.header(&format!("x-filler-{number}"), &"x".repeat(4000));
    }
    assert_eq!(http.send(large).await.unwrap().status, 431);
    assert!(bench.backend.requests().is_empty());
    check_neighbour(&bench).await;
}

#[tokio::test]
async fn nt_23_rapid_resets_end_the_connection() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let block = block(&pseudo("GET", "/v1/orders"));
    let mut sent = 0;
    let mut taken = true;
    while sent < 100_000 && taken {
        taken = frames.write(&rapid_resets(&block, 1 + 2 * sent, 100)).await;
        sent += 100;
    }
    assert!(sent < 20_000, "{sent} resets were taken");
    frames.until_closed().await;
    assert_eq!(frames.goaway, Some(ENHANCE_YOUR_CALM));
    assert!(bench.backend.requests().len() < 1000, "{}", bench.backend.requests().len());
    check_neighbour(&bench).await;
}

#[tokio::test]
async fn nt_23_streams_beyond_the_limit_are_refused_and_cost_the_api_nothing() {
    let bench = Bench::ordinary().await;
    for _ in 0..128 {
        bench.backend.answer(Reply::Silence);
    }
    let mut frames = Frames::open(&bench).await;
    // A client that has not seen the limit yet may open more at once.
    for _ in 0..150 {
        frames.request(&pseudo("GET", "/v1/orders"), None).await;
    }
    assert_eq!(frames.resets(22).await, [REFUSED_STREAM; 22]);
    bench.backend.came(128).await;
    assert_eq!(bench.backend.requests().len(), 128);
    check_neighbour(&bench).await;
    for _ in 0..1000 {
        frames.request(&pseudo("GET", "/v1/orders"), None).await;
    }
    frames.until_closed().await;
    assert_eq!(frames.goaway, Some(ENHANCE_YOUR_CALM), "and whoever does not stop is gone");
    bench.backend.ended(128).await;
    check_neighbour(&bench).await;
}

#[tokio::test]
async fn nt_23_a_hundred_thousand_streams_at_once_end_the_connection() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let block = block(&pseudo("GET", "/v1/orders"));
    let mut sent = 0;
    let mut taken = true;
    while sent < 100_000 && taken {
        let burst = (0..100).flat_map(|_| frame(HEADERS, END_HEADERS | END_STREAM, frames.number(), &block));
        let burst: Vec<u8> = burst.collect();
        taken = frames.write(&burst).await;
        sent += 100;
    }
    assert!(sent < 20_000, "{sent} streams were taken");
    frames.until_closed().await;
    assert_eq!(frames.goaway, Some(ENHANCE_YOUR_CALM));
    let seen = bench.backend.requests().len();
    assert!(seen <= 128, "{seen} requests reached the API");
    check_neighbour(&bench).await;
}

#[tokio::test]
async fn nt_23_silent_connections_cost_their_neighbours_nothing() {
    let bench = Bench::ordinary().await;
    let mut doors: Vec<_> = (0..300).map(|_| bench.door()).collect();
    for door in &mut doors {
        door.write(&get("/v1/orders")[..20]).await;
    }
    check_neighbour(&bench).await;
    for door in &mut doors {
        door.write(&get("/v1/orders")[20..]).await;
        assert_eq!(door.answer().await.status, 200);
    }
}
