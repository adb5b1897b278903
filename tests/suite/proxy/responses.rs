//! What comes back: streamed as it comes, without the upstream's hop, and with an honest end.

use std::time::Duration;

use super::backend::Reply;
use super::bench::{Bench, ORDERS, RULES, Setup};
use super::door::{get, request};

fn ok(lines: &str, body: &str) -> Reply {
    Reply::text(&format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len()))
}

#[tokio::test]
async fn hop_by_hop_headers_of_a_response_end_here() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(ok(
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\
         Upgrade: h2c\r\nTrailer: X-Sum\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Stays: 1\r\nETag: \"x\"\r\n\
         Cache-Control: max-age=5\r\nServer: api\r\n",
        "hello",
    ));
    let answer = bench.door().get("/v1/orders").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    for name in ["connection", "x-hop", "keep-alive", "proxy-authenticate", "upgrade", "trailer"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    let cookies: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(cookies.len(), 2);
    for (name, value) in [("x-stays", "1"), ("etag", "\"x\""), ("cache-control", "max-age=5"), ("server", "api")] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn responses_without_a_body_have_none_and_the_connection_goes_on() {
    let bench = Setup::new(&RULES.replace("\"POST\"", "\"HEAD\"")).start().await;
    let mut door = bench.door();
    bench.backend.answer(Reply::text("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"));
    let answer = door.send(request("HEAD", "/v1/orders", "")).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("12345")));
    bench.backend.answer(Reply::text("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"));
    let answer = door.get("/v1/orders").await;
    assert_eq!((answer.status, answer.header("x-a")), (204, Some("1")));
    bench.backend.answer(Reply::text("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 7\r\n\r\n"));
    let answer = door.get("/v1/orders").await;
    assert_eq!((answer.status, answer.header("etag")), (304, Some("\"x\"")));
    assert_eq!(door.get("/v1/orders").await.text(), "ok");
    for seen in bench.backend.requests() {
        let end = bench.end(seen.header("wicketgate-decision").unwrap()).await;
        assert_eq!(end["result"], "complete", "{end}");
    }
    assert_eq!(bench.backend.connections(), 1);
}

#[tokio::test]
async fn the_apis_own_refusals_pass_unchanged() {
    let bench = Bench::ordinary().await;
    for status in [301, 400, 401, 403, 404, 418, 429, 500, 503] {
        bench.backend.answer(Reply::text(&format!(
            "HTTP/1.1 {status} Own\r\nX-Own: 1\r\nLocation: /x\r\nWWW-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nown"
        )));
        let answer = bench.door().get("/v1/orders").await;
        assert_eq!((answer.status, answer.text().as_str()), (status, "own"));
        assert_eq!((answer.header("x-own"), answer.header("www-authenticate")), (Some("1"), Some("Basic")));
    }
}

#[tokio::test]
async fn interim_responses_of_the_api_end_here() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(Reply::text(
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ));
    let answer = bench.door().get("/v1/orders").await;
    assert_eq!((answer.status, answer.interim.len(), answer.header("link")), (200, 0, None));
}

#[tokio::test]
async fn an_upload_that_expects_100_is_answered_here() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    door.write(request("POST", "/v1/orders", "Expect: 100-continue\r\nContent-Length: 5\r\n")).await;
    let interim = door.read_through("\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    let answer = door.send("hello").await;
    let seen = bench.check_passed(&answer);
    assert_eq!((seen.body.as_slice(), seen.header("expect")), (&b"hello"[..], None));

    let mut door = bench.door();
    let answer = door.send(request("POST", "/v1/admin", "Expect: 100-continue\r\nContent-Length: 5\r\n")).await;
    bench.check_reply(&answer, 403, "no-rule");
    assert_eq!(answer.interim.len(), 0, "a refused upload is not asked for");
}

#[tokio::test]
async fn a_response_streams_while_it_is_made() {
    let bench = Bench::ordinary().await;
    for (lines, first, last) in [
        ("Content-Length: 10\r\n", "hello", "world"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n"),
        ("Content-Type: text/event-stream\r\n", "data: hello\n\n", "data: world\n\n"),
    ] {
        let (pipe, reply) = Reply::pipe();
        bench.backend.answer(reply);
        let mut door = bench.door();
        door.write(get("/v1/orders")).await;
        pipe.send(format!("HTTP/1.1 200 OK\r\n{lines}\r\n{first}").into_bytes()).await.unwrap();
        let begin = door.read_through("hello").await;
        assert!(begin.starts_with("HTTP/1.1 200 "), "{begin}");
        pipe.send(last.as_bytes().to_vec()).await.unwrap();
        drop(pipe);
        door.read_through("world").await;
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_cut_and_recorded_so() {
    let bench = Bench::ordinary().await;
    for begin in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        bench.backend.answer(Reply::Last(begin.as_bytes().to_vec()));
        let mut door = bench.door();
        let answer = door.get("/v1/orders").await;
        assert!(answer.cut && answer.status == 200, "{answer:?}");
        assert_eq!(answer.text(), "hello");
        door.check_closed().await;
        let end = bench.end(bench.backend.last().header("wicketgate-decision").unwrap()).await;
        assert_eq!((&end["result"], &end["resp"]["bytes"]), (&"upstream-failed".into(), &5.into()), "{end}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_upstream() {
    let bench = Bench::ordinary().await;
    let (pipe, reply) = Reply::pipe();
    bench.backend.answer(reply);
    let mut door = bench.door();
    door.write(get("/v1/orders")).await;
    pipe.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello".to_vec()).await.unwrap();
    door.read_through("hello").await;
    drop(door);
    bench.backend.ended(1).await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!(end["result"], "client-gone");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_recorded() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(Reply::Silence);
    let mut door = bench.door();
    door.write(get("/v1/orders")).await;
    bench.backend.came(1).await;
    drop(door);
    bench.backend.ended(1).await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!((&end["result"], &end["resp"]["status"]), (&"client-gone".into(), &serde_json::Value::Null), "{end}");
}

#[tokio::test]
async fn the_last_request_of_a_connection_says_so() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    let answer = door.send(request("GET", "/v1/orders", "Connection: close\r\n")).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    door.check_closed().await;
    assert_eq!(bench.door_to(ORDERS).get("/v1/orders").await.status, 200);
    assert_eq!(bench.backend.connections(), 1, "the upstream's connection is nobody's");
}

#[tokio::test]
async fn nt_20_a_response_with_two_lengths_has_one_for_the_client() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(Reply::text(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ));
    let mut door = bench.door();
    let answer = door.get("/v1/orders").await;
    let lengths = answer.headers.iter().filter(|(name, _)| matches!(&**name, "content-length" | "transfer-encoding"));
    assert_eq!(lengths.count(), 1, "{answer:?}");
    assert!(answer.status == 502 || answer.cut || answer.text() == "hello", "{answer:?}");
    if !answer.cut {
        assert_eq!(door.get("/v1/orders").await.text(), "ok", "nothing of it is left on the connection");
    }
}

#[tokio::test]
async fn nt_20_bytes_after_a_response_are_nobodys_answer() {
    let bench = Bench::ordinary().await;
    let bob = bench.caller("bob");
    let more = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for extra in [more, "x", "\r\n", "HTTP/1.1 200"] {
        bench.backend.answer(Reply::text(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{extra}")));
        assert_eq!(bench.door().get("/v1/orders").await.text(), "ok");
        for _ in 0..3 {
            let answer = bench.door_of(&bob, ORDERS).get("/v1/orders").await;
            assert_ne!(answer.text(), "evil", "{extra:?}");
        }
    }
}

#[tokio::test]
async fn nt_22_an_api_cannot_switch_protocols_that_nobody_asked_for() {
    let bench = Bench::ordinary().await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    bench.backend.answer(Reply::text(switch));
    let mut door = bench.door();
    let answer = door.get("/v1/orders").await;
    assert!(answer.interim.is_empty(), "{answer:?}");
    bench.check_reply(&answer, 502, "upstream-unavailable");
}

#[tokio::test]
async fn an_old_api_that_ends_its_body_by_closing_is_understood() {
    let bench = Bench::ordinary().await;
    for version in ["1.0", "1.1"] {
        bench.backend.answer(Reply::Last(format!("HTTP/{version} 200 OK\r\nX-A: 1\r\n\r\nhello").into_bytes()));
        let answer = bench.door().get("/v1/orders").await;
        assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, "hello", false));
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_during_the_response_is_the_clients_fault() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(Reply::Early(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()));
    let mut door = bench.door();
    door.write(request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n").await;
    door.read_through("hello").await;
    door.write("x\r\n").await;
    bench.backend.ended(1).await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!(end["result"], "client-gone", "{end}");
}

#[tokio::test]
async fn a_client_that_leaves_after_its_upload_and_within_the_response_ends_both() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(Reply::Early(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()));
    let mut door = bench.door();
    door.write(request("POST", "/v1/orders", "Content-Length: 5\r\n")).await;
    door.read_through("hello").await;
    door.write("world").await;
    while !bench.backend.only().whole {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(door);
    // And not when the open requests are looked at for some other reason.
    tokio::time::timeout(Duration::from_secs(4), bench.backend.ended(1)).await.expect("at once");
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!((&end["result"], &end["req"]["bytes"]), (&"client-gone".into(), &5.into()), "{end}");
}
