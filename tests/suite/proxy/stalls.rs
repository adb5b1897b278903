//! A client that does not read keeps nothing: neither what it may no longer have, nor what others need.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::backend::{PATIENCE, Reply};
use super::bench::{BILLING, Bench, ORDERS, RULES, Setup, api};
use super::door::{get, request};
use super::h2::{Frames, pseudo};
use super::issuer::{Issuer, now};

fn without_us() -> String {
    api("orders", "", "", &RULES.replace("\"dev\"", "\"admin\""))
}

/// More than all buffers between an API and a client that does not read.
fn large() -> Reply {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n".to_vec();
    bytes.resize(bytes.len() + 4_000_000, b'x');
    Reply::Last(bytes)
}

#[tokio::test]
async fn a_download_that_nobody_reads_ends_when_its_rule_is_gone() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(large());
    let mut door = bench.door();
    door.write(get("/v1/orders")).await;
    bench.backend.came(1).await;
    door.read_through("xxx").await;
    bench.store("orders.toml", &without_us());
    bench.backend.ended(1).await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").expect("an id")).await;
    assert_eq!((&end["result"], &end["resp"]["status"]), (&"revoked".into(), &200.into()));
    assert!(door.rest().await.len() < 4_000_000, "what had left before, and then the end");
}

#[tokio::test]
async fn a_stream_without_window_ends_with_its_connection_when_its_rule_is_gone() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    frames.write(&super::h2::frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    bench.backend.answer(large());
    let stream = frames.request(&pseudo("GET", "/v1/orders"), None).await;
    // The head needs no window.
    frames.came(stream, b"").await;
    bench.store("orders.toml", &without_us());
    bench.backend.ended(1).await;
    frames.until_closed().await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").expect("an id")).await;
    assert_eq!(end["result"], "revoked");
}

#[tokio::test]
async fn an_upload_ends_after_the_responses_head_too() {
    let bench = Bench::ordinary().await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec();
    bench.backend.answer(Reply::Early(head));
    let mut door = bench.door();
    door.write(request("POST", "/v1/orders", "Content-Length: 100\r\n") + "hello").await;
    door.read_through("hello").await;
    bench.store("orders.toml", &without_us());
    bench.backend.ended(1).await;
    assert!(!bench.backend.only().whole);
    let end = bench.end(bench.backend.only().header("wicketgate-decision").expect("an id")).await;
    assert_eq!(end["req"]["bytes"], 5);
}

#[tokio::test]
async fn a_download_ends_with_the_time_of_its_token() {
    let issuer = Issuer::start().await;
    let bench = Setup::of(&api("orders", "", "", RULES)).issuer(issuer.config()).start().await;
    let (pipe, reply) = Reply::pipe();
    bench.backend.answer(reply);
    let mut door = bench.door();
    let ends = now() - issuer.config().clock_skew.as_secs() + 2;
    let token = issuer.token(json!({ "exp": ends }));
    door.write(request("GET", "/v1/orders", &format!("Authorization: Bearer {token}\r\n"))).await;
    pipe.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()).await.expect("the backend reads");
    door.read_through("hello").await;
    door.check_closed().await;
    bench.backend.ended(1).await;
}

#[tokio::test]
async fn one_session_has_so_many_requests_at_the_same_time() {
    let bench = Setup::new(RULES).start().await;
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut frames = Frames::open(&bench).await;
        for _ in 0..128 {
            bench.backend.answer(Reply::Silence);
            frames.request(&pseudo("GET", "/v1/orders"), None).await;
        }
        connections.push(frames);
        bench.backend.came(connections.len() * 128).await;
    }
    let answer = bench.door_to(BILLING).get("/v1/orders").await;
    assert_eq!((answer.status, answer.reason().as_str()), (429, "limited"));
    assert_eq!(bench.alice().take_pre_limited().over_flight, 1);
    let others = bench.caller("bob");
    assert_eq!(bench.door_of(&others, ORDERS).get("/v1/orders").await.status, 200);
    connections.pop();
    bench.backend.ended(128).await;
    assert_eq!(bench.door().get("/v1/orders").await.status, 200, "there is room again");
}

/// A response that its API has sent at once.
fn short() -> Reply {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n".to_vec();
    bytes.resize(bytes.len() + 20_000, b'x');
    Reply::Bytes(bytes)
}

#[tokio::test]
async fn a_response_that_its_client_has_not_taken_is_not_over() {
    let bench = Bench::ordinary().await;
    let mut connections = Vec::new();
    for _ in 0..3 {
        for _ in 0..128 {
            bench.backend.answer(short());
        }
        connections.push(Frames::greedy(&bench, 128).await);
        bench.backend.came((128 * connections.len()).min(256)).await;
    }
    let full = async {
        while bench.door().get("/v1/orders").await.status != 429 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, full).await.expect("the session is full");
    assert!(bench.backend.requests().len() < 3 * 128, "some were refused");
    drop(connections);
    let room = async {
        while bench.door().get("/v1/orders").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, room).await.expect("there is room again");
    let untaken = bench.audit().into_iter().filter(|record| record["result"] == "client-gone").count();
    assert!((200..=256).contains(&untaken), "{untaken} were not taken");
}

#[tokio::test]
async fn little_of_a_download_waits_for_an_http2_client_that_does_not_read() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(large());
    let frames = Frames::greedy(&bench, 1).await;
    bench.backend.came(1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(frames);
    bench.backend.ended(1).await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").expect("an id")).await;
    // The stream of a test takes 64 KiB, and what comes from the API at once is as much.
    let taken = end["resp"]["bytes"].as_u64().expect("a number");
    assert!((65_536..256 * 1024).contains(&taken), "{end}");
}

#[tokio::test]
async fn an_http2_client_may_send_little_that_no_api_has_taken() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    assert_eq!(frames.ask(&pseudo("GET", "/v1/orders"), None).await.body, b"ok");
    assert_eq!(frames.windows, (64 * 1024, 128 * 1024));
}

#[tokio::test]
async fn refusals_beyond_some_are_answered_and_summed() {
    let bench = Bench::ordinary().await;
    let long = format!("/v2/{}", "a".repeat(2000));
    let mut door = bench.door();
    for _ in 0..300 {
        assert_eq!(door.get(&long).await.status, 403);
    }
    let records: Vec<_> = bench.audit().into_iter().filter(|record| record["outcome"] == "deny").collect();
    let summed = bench.alice().take_pre_limited().over_refusals;
    assert_eq!(records.len() as u64 + summed, 300);
    assert!((200..300).contains(&records.len()), "{}", records.len());
    for record in &records {
        let path = record["req"]["path"].as_str().expect("a path");
        assert!(path.len() <= 256 && record["req"]["path_hash"].is_string(), "{record}");
    }
}
