//! The API behind us: how it is reached, how it fails, and what the client is told then.

use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::backend::{Backend, Reply};
use super::bench::{Bench, RULES, Setup, api, authority, issue};
use super::door::{get, post, request};
use super::h2::{Frames, pseudo};

async fn with(upstream: &str) -> Bench {
    Setup::of(&api("orders", "", upstream, RULES)).start().await
}

/// Checks that the proxy answered for the API, in both records.
async fn check_failed(bench: &Bench, answer: &super::door::Answer, status: u16, reason: &str) {
    bench.check_reply(answer, status, reason);
    let id = answer.decision();
    assert_eq!(bench.decision(&id)["outcome"], "allow", "it was allowed");
    let end = bench.end(&id).await;
    assert_eq!(end["resp"]["status"], status, "and it failed");
    let result = if reason == "upstream-unavailable" { "upstream-failed" } else { "complete" };
    assert_eq!(end["result"], result, "{end}");
}

#[tokio::test]
async fn an_api_that_is_not_there_is_502() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let bench = Setup::of(&api("orders", "", "", RULES).replace("BACKEND", &url)).start().await;
    let mut door = bench.door();
    let answer = door.get("/v1/orders").await;
    check_failed(&bench, &answer, 502, "upstream-unavailable").await;
    assert!(!answer.text().contains("127.0.0.1"), "where it is, is nobody's business: {}", answer.text());
    assert_eq!(door.get("/v1/nothing").await.status, 403, "the connection goes on");
}

/// An address of this machine that is not loopback, where it has one. Nothing is sent to find it.
fn outer_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[tokio::test]
async fn nt_50_a_name_that_resolves_to_our_own_listener_is_never_sent_a_request() {
    let everywhere = IpAddr::from([0, 0, 0, 0]);
    // By name; by an address of this machine, which no list of listeners has when one listens on all of them.
    for (host, listener) in [
        ("localhost".to_owned(), Some(IpAddr::from([127, 0, 0, 1]))),
        ("localhost".to_owned(), Some(everywhere)),
        (outer_address().map_or_else(|| "localhost".to_owned(), |address| address.to_string()), Some(everywhere)),
        ("localhost".to_owned(), None),
    ] {
        let (backend, port) = Backend::everywhere().await;
        let orders = api("orders", "", "", RULES).replace("BACKEND", &format!("http://{host}:{port}"));
        let mut setup = Setup::of(&orders).backend(backend);
        if let Some(listener) = listener {
            setup = setup.own_listener((listener, port).into());
        }
        let bench = setup.start().await;
        let answer = bench.door().get("/v1/orders").await;
        if listener.is_none() {
            bench.check_passed(&answer);
        } else {
            check_failed(&bench, &answer, 502, "upstream-unavailable").await;
            assert!(bench.backend.requests().is_empty(), "{host} is {listener:?}");
        }
    }
}

#[tokio::test]
async fn an_api_that_is_silent_is_504() {
    let bench = with("timeout = \"200ms\"").await;
    for bytes in [get("/v1/orders"), post("/v1/orders", "hello")] {
        bench.backend.answer(Reply::Silence);
        let answer = bench.door().send(bytes).await;
        check_failed(&bench, &answer, 504, "upstream-unavailable").await;
    }
    bench.backend.ended(2).await;
    assert_eq!(bench.backend.requests().len(), 2, "nothing is sent twice");
}

#[tokio::test]
async fn an_api_that_does_not_read_an_upload_is_504() {
    let bench = with("timeout = \"300ms\"\nmax_body = \"64MiB\"").await;
    bench.backend.answer(Reply::Deaf);
    // More than fits into the sockets' buffers.
    let answer = bench.door().send(post("/v1/orders", &"x".repeat(8 << 20))).await;
    check_failed(&bench, &answer, 504, "upstream-unavailable").await;
}

#[tokio::test]
async fn an_api_that_does_not_speak_http_is_502() {
    let bench = with("max_response_header = \"8KiB\"").await;
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(20_000));
    for garbage in [
        "SSH-2.0-OpenSSH_9.7\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "",
        &long,
    ] {
        bench.backend.answer(Reply::Last(garbage.as_bytes().to_vec()));
        let answer = bench.door().get("/v1/orders").await;
        assert_eq!(answer.status, 502, "{garbage:.40}: {answer:?}");
        check_failed(&bench, &answer, 502, "upstream-unavailable").await;
    }
    assert_eq!(bench.backend.requests().len(), 6, "nothing is sent twice");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413() {
    let bench = with("max_body = \"1KiB\"").await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let chunked = request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\n");
    for bytes in [post("/v1/orders", &"x".repeat(1025)), format!("{chunked}{}0\r\n\r\n", chunk.repeat(3))] {
        let mut door = bench.door();
        let answer = door.send(&bytes).await;
        check_failed(&bench, &answer, 413, "body-too-large").await;
        door.check_closed().await;
    }
    assert!(bench.backend.requests().iter().all(|seen| !seen.whole), "{:?}", bench.backend.requests());
    for bytes in [post("/v1/orders", &"x".repeat(1024)), format!("{chunked}{}0\r\n\r\n", chunk.repeat(2))] {
        let answer = bench.door().send(&bytes).await;
        assert!(bench.check_passed(&answer).whole);
    }
}

#[tokio::test]
async fn an_announced_body_beyond_the_limit_is_not_begun() {
    let bench = with("max_body = \"1KiB\"").await;
    let answer =
        bench.door().send(request("POST", "/v1/orders", "Content-Length: 1025\r\nExpect: 100-continue\r\n")).await;
    check_failed(&bench, &answer, 413, "body-too-large").await;
    assert_eq!(answer.interim.len(), 0, "the client is not asked for it");
    assert!(bench.backend.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_breaks_off_its_upload_ends_it_upstream() {
    let bench = Bench::ordinary().await;
    let uploads = [("Content-Length: 100\r\n", "hello"), ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")];
    for (begun, (lines, part)) in (1..).zip(uploads) {
        let mut door = bench.door();
        door.write(request("POST", "/v1/orders", lines) + part).await;
        bench.backend.came(begun).await;
        drop(door);
        bench.backend.ended(begun).await;
        let seen = bench.backend.last();
        assert!(!seen.whole, "{seen:?}");
        let end = bench.end(seen.header("wicketgate-decision").unwrap()).await;
        assert_eq!(end["req"]["bytes"], 5, "{end}");
    }
}

#[tokio::test]
async fn a_large_upload_and_a_large_download_arrive_whole() {
    let bench = Bench::ordinary().await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    reply.extend(&body);
    bench.backend.answer(Reply::Bytes(reply));
    let mut bytes = request("POST", "/v1/orders", &format!("Content-Length: {}\r\n", body.len())).into_bytes();
    bytes.extend(&body);
    let answer = bench.door().send(bytes).await;
    assert!(answer.body == body && bench.backend.only().body == body);
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!((&end["resp"]["bytes"], &end["req"]["bytes"]), (&1_000_000.into(), &1_000_000.into()));
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    let bench = Bench::ordinary().await;
    let early = "HTTP/1.1 422 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    bench.backend.answer(Reply::Early(early.as_bytes().to_vec()));
    let mut door = bench.door();
    let answer = door.send(request("POST", "/v1/orders", "Content-Length: 100000\r\n") + "begin").await;
    assert_eq!((answer.status, answer.text().as_str()), (422, "no"));
}

#[tokio::test]
async fn a_body_of_unknown_length_reaches_the_api_with_any_method() {
    let bench = Bench::ordinary().await;
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for method in ["GET", "POST"] {
        bench.door().send(request(method, "/v1/orders", "Transfer-Encoding: chunked\r\n") + chunks).await;
        assert_eq!(String::from_utf8_lossy(&bench.backend.last().body), chunks, "{method}");
        Frames::open(&bench).await.ask(&pseudo(method, "/v1/orders"), Some(b"hello")).await;
        assert_eq!(String::from_utf8_lossy(&bench.backend.last().body), chunks, "{method}");
    }
    bench.door().send(get("/v1/orders")).await;
    let seen = bench.backend.last();
    assert_eq!((seen.header("transfer-encoding"), seen.header("content-length")), (None, None));
}

#[tokio::test]
async fn a_body_of_unknown_length_reaches_an_api_that_spoke_http_1_0() {
    let bench = Bench::ordinary().await;
    let old = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    let upload = request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n";
    let mut door = bench.door();
    for sent in 1..=3 {
        bench.backend.answer(Reply::text(old));
        let answer = door.send(&upload).await;
        assert_eq!(bench.check_passed(&answer).body, b"5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(bench.backend.connections(), sent, "each is used once");
    }
}

#[tokio::test]
async fn connections_to_the_api_are_kept_and_shared() {
    let bench = Bench::ordinary().await;
    let bob = bench.caller("bob");
    for _ in 0..3 {
        assert_eq!(bench.door().get("/v1/orders").await.status, 200);
        assert_eq!(bench.door_of(&bob, super::bench::ORDERS).get("/v1/orders").await.status, 200);
    }
    assert_eq!((bench.backend.connections(), bench.backend.requests().len()), (1, 6));
    assert!(bench.backend.requests().iter().all(|seen| seen.connection == 1));
    let users: Vec<_> =
        bench.backend.requests().iter().map(|seen| seen.header("wicketgate-user").unwrap().to_owned()).collect();
    assert_eq!(users, ["alice", "bob", "alice", "bob", "alice", "bob"]);
}

#[tokio::test]
async fn a_connection_that_the_api_closed_is_not_used_again() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    for _ in 0..3 {
        bench.backend.answer(Reply::Last(super::backend::OK.to_vec()));
        let answer = door.send(post("/v1/orders", "x")).await;
        assert_eq!(answer.status, 200);
        // The end of the connection is on its way.
        bench.backend.ended(bench.backend.connections()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!((bench.backend.connections(), bench.backend.requests().len()), (3, 3));
}

#[tokio::test]
async fn a_post_into_a_connection_that_just_closed_is_sent_once_or_refused() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    for sent in 1..=10 {
        bench.backend.answer(Reply::Last(super::backend::OK.to_vec()));
        assert_eq!(door.get("/v1/orders").await.status, 200);
        bench.backend.ended(bench.backend.connections()).await;
        let answer = door.send(post("/v1/orders", "pay")).await;
        assert!(matches!(answer.status, 200 | 502), "{answer:?}");
        let posts = bench.backend.requests().into_iter().filter(|seen| seen.line().starts_with("POST"));
        assert!(posts.count() <= sent);
    }
}

#[tokio::test]
async fn connections_are_not_shared_between_apis() {
    let bench = Bench::ordinary().await;
    for _ in 0..2 {
        assert_eq!(bench.door().get("/v1/orders").await.status, 200);
        let billing = get("/v1/orders").replace(super::bench::ORDERS, super::bench::BILLING);
        assert_eq!(bench.door_to(super::bench::BILLING).send(billing).await.status, 200);
    }
    let hosts: Vec<_> =
        bench.backend.requests().iter().map(|seen| (seen.connection, seen.header("host").map(str::to_owned))).collect();
    let (orders, billing) = (Some(super::bench::ORDERS.to_owned()), Some(super::bench::BILLING.to_owned()));
    assert_eq!(hosts, [(1, orders.clone()), (2, billing.clone()), (1, orders), (2, billing)]);
}

#[tokio::test]
async fn a_request_that_was_read_and_not_answered_is_never_sent_again() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    assert_eq!(door.get("/v1/orders").await.status, 200);
    bench.backend.answer(Reply::Last(Vec::new()));
    let answer = door.send(post("/v1/orders", "pay")).await;
    check_failed(&bench, &answer, 502, "upstream-unavailable").await;
    let posts = bench.backend.requests().into_iter().filter(|seen| seen.line().starts_with("POST"));
    assert_eq!(posts.count(), 1);
    assert_eq!(door.get("/v1/orders").await.status, 200);
}

#[tokio::test]
async fn a_socket_of_this_machine_is_an_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::unix(&folder.path().join("api.sock"));
    let bench = Setup::new(RULES).backend(backend).start().await;
    for _ in 0..2 {
        let answer = bench.door().get("/v1/orders/7").await;
        let seen = bench.check_passed(&answer);
        assert_eq!((seen.target(), seen.header("host")), ("/v1/orders/7", Some(super::bench::ORDERS)));
    }
    assert_eq!(bench.backend.connections(), 1);
}

#[tokio::test]
async fn no_link_leads_to_our_own_admin_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (own, link) = (folder.path().join("admin.sock"), folder.path().join("api.sock"));
    let admin = Backend::unix(&own);
    symlink(&own, &link).unwrap();
    let orders = api("orders", "", "", RULES).replace("BACKEND", &format!("unix:{}", link.display()));
    let bench = Setup::of(&orders).backend(admin).own_socket(&own).start().await;
    let answer = bench.door().get("/v1/orders/7").await;
    bench.check_reply(&answer, 502, "upstream-unavailable");
    assert!(bench.backend.requests().is_empty());
}

/// An API that speaks TLS and wants a certificate of `clients`.
async fn mutual(servers: &CertifiedIssuer<'static, KeyPair>, clients: &CertifiedIssuer<'static, KeyPair>) -> Backend {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.der().clone()).expect("a root");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().expect("roots");
    let (leaf, key) = issue(servers, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf], key)
        .expect("a pair");
    Backend::tls(config).await
}

#[tokio::test]
async fn over_tls_both_sides_prove_themselves() {
    let (servers, clients, others) = (authority(), authority(), authority());
    let ours = || issue(&clients, "proxy", ExtendedKeyUsagePurpose::ClientAuth);
    let setup = |tls: &str| {
        Setup::of(&api("orders", "", tls, RULES))
            .authority("internal", servers.der())
            .authority("others", others.der())
            .certificate("proxy", ours())
            .certificate("stranger", issue(&others, "proxy", ExtendedKeyUsagePurpose::ClientAuth))
    };
    let bench = setup("tls = { ca = \"internal\", client_cert = \"proxy\" }")
        .backend(mutual(&servers, &clients).await)
        .start()
        .await;
    for _ in 0..2 {
        let answer = bench.door().get("/v1/orders").await;
        assert!(bench.check_passed(&answer).certificate.is_some());
    }
    assert_eq!(bench.backend.connections(), 1);
    for tls in [
        "tls = { ca = \"others\", client_cert = \"proxy\" }",
        "tls = { ca = \"internal\" }",
        "tls = { ca = \"internal\", client_cert = \"stranger\" }",
        "tls = { ca = \"internal\", client_cert = \"proxy\", server_name = \"other.internal\" }",
        "tls = { client_cert = \"proxy\" }",
    ] {
        let bench = setup(tls).backend(mutual(&servers, &clients).await).start().await;
        let answer = bench.door().get("/v1/orders").await;
        assert_eq!(answer.status, 502, "{tls}: {answer:?}");
        check_failed(&bench, &answer, 502, "upstream-unavailable").await;
        assert!(bench.backend.requests().is_empty(), "{tls}");
    }
}
