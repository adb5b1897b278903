//! A client that does not read keeps nothing: neither what it may no longer have, nor what others need.

use serde_json::json;

use super::backend::Reply;
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
    assert_eq!((&end["result"], &end["resp"]["status"]), (&"cut".into(), &200.into()));
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
    assert_eq!(end["result"], "cut");
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

#[tokio::test]
async fn refusals_beyond_some_are_answered_and_summed() {
    let bench = Bench::ordinary().await;
    let long = format!("/v2/{}", "a".repeat(2000));
    let mut door = bench.door();
    for _ in 0..300 {
        assert_eq!(door.get(&long).await.status, 403);
    }
    let records: Vec<_> = bench.audit().into_iter().filter(|record| record["outcome"] == "deny").collect();
    let summed = bench.alice().take_pre_limited().over_records;
    assert_eq!(records.len() as u64 + summed, 300);
    assert!((200..300).contains(&records.len()), "{}", records.len());
    for record in &records {
        let path = record["req"]["path"].as_str().expect("a path");
        assert!(path.len() <= 256 && record["req"]["path_hash"].is_string(), "{record}");
    }
}
