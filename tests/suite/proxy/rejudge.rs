//! A new generation meets open requests: what is no longer allowed ends, everything else does not notice.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wicketgate::snapshot::Snapshot;

use super::backend::{Backend, Reply};
use super::bench::{Bench, ORDERS, RULES, Setup, api};
use super::door::{Door, get, request};
use super::h2::{Frames, pseudo};

/// A download that has begun and is not over.
async fn download(bench: &Bench) -> (Door<DuplexStream>, mpsc::Sender<Vec<u8>>) {
    let (pipe, reply) = Reply::pipe();
    bench.backend.answer(reply);
    let mut door = bench.door();
    door.write(get("/v1/orders")).await;
    pipe.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()).await.expect("the backend reads");
    door.read_through("hello").await;
    (door, pipe)
}

/// A policy by which only others may use the orders.
fn without_us() -> String {
    api("orders", "", "", &RULES.replace("\"dev\"", "\"admin\""))
}

#[tokio::test]
async fn nt_39_a_download_ends_when_its_rule_is_gone() {
    let bench = Bench::ordinary().await;
    let (mut door, _pipe) = download(&bench).await;
    bench.store("orders.toml", &without_us());
    door.check_closed().await;
    bench.backend.ended(1).await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!((&end["result"], &end["resp"]["bytes"]), (&"revoked".into(), &5.into()));
}

/// Between the judgement of a request and its departure, others of its turn are judged.
#[tokio::test]
async fn nt_39_a_request_does_not_leave_when_its_rule_went_since_it_was_judged() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    assert_eq!(door.get("/v1/orders").await.status, 200, "there is a connection to send it on");
    let (snapshots, mut next) = (bench.snapshots(), Some(bench.next("orders.toml", &without_us())));
    let asked = bench.asked();
    let mut reload = JoinSet::new();
    // It has its turn between any two of the connection, and so right behind the judgement.
    reload.spawn(poll_fn(move |cx| {
        if asked.load(Ordering::Relaxed) < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        next.take().into_iter().for_each(|next| snapshots.store(next));
        Poll::Ready(())
    }));
    let answer = door.get("/v1/orders").await;
    assert!(reload.try_join_next().is_some());
    let records = bench.audit();
    let decision = records.iter().rfind(|record| record["event"] == "decision").expect("a judgement");
    assert_eq!(decision["outcome"], "allow", "by the old rules");
    let end = bench.end(decision["decision_id"].as_str().expect("an id")).await;
    assert_eq!((&end["result"], answer.status), (&"revoked".into(), 401), "{answer:?}");
    bench.store("orders.toml", &api("orders", "", "", RULES));
    assert_eq!(bench.door().get("/v1/orders").await.status, 200);
    assert_eq!(bench.backend.requests().len(), 2, "the one between was not sent");
}

#[tokio::test]
async fn nt_39_a_download_ends_when_its_person_is_disabled() {
    let bench = Bench::ordinary().await;
    let (mut door, _pipe) = download(&bench).await;
    bench.disable("alice");
    door.check_closed().await;
    bench.backend.ended(1).await;
}

#[tokio::test]
async fn nt_39_a_download_ends_when_a_deny_rule_comes_or_its_host_goes() {
    let deny = "[[deny]]\nid = \"frozen\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/v1/orders\"]\n";
    let moved = api("orders", "", "", RULES).replace("orders.api.test", "new.api.test");
    for text in [api("orders", "", "", &format!("{RULES}{deny}")), moved] {
        let bench = Bench::ordinary().await;
        let (mut door, _pipe) = download(&bench).await;
        bench.store("orders.toml", &text);
        door.check_closed().await;
    }
}

#[tokio::test]
async fn nt_39_a_waiting_request_is_answered_when_its_rule_is_gone() {
    let bench = Bench::ordinary().await;
    bench.backend.answer(Reply::Silence);
    let mut door = bench.door();
    door.write(get("/v1/orders")).await;
    bench.backend.came(1).await;
    bench.store("orders.toml", &without_us());
    let answer = door.answer().await;
    bench.check_reply(&answer, 401, "session-revoked");
    bench.backend.ended(1).await;
    assert_eq!(bench.end(&answer.decision()).await["resp"]["status"], 401);
}

#[tokio::test]
async fn nt_39_an_upload_ends_when_its_rule_is_gone() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    door.write(request("POST", "/v1/orders", "Content-Length: 100\r\n") + "hello").await;
    bench.backend.came(1).await;
    bench.store("orders.toml", &without_us());
    let answer = door.answer().await;
    assert_eq!(answer.status, 401);
    bench.backend.ended(1).await;
    assert!(!bench.backend.only().whole);
}

#[tokio::test]
async fn nt_39_an_upload_that_keeps_its_connection_busy_ends_when_its_rule_is_gone() {
    let bench = Setup::of(&api("orders", "", "max_body = \"1GiB\"", RULES)).start().await;
    let mut door = bench.door();
    door.write(request("POST", "/v1/orders", "Transfer-Encoding: chunked\r\n")).await;
    let chunks = "1\r\nx\r\n".repeat(8192);
    for _ in 0..4 {
        door.write(&chunks).await;
    }
    bench.store("orders.toml", &without_us());
    let mut sent = 0;
    while sent < 200 && door.try_write(&chunks).await {
        sent += 1;
    }
    assert!(sent < 200, "1.6 million chunks were taken after the rule was gone");
    bench.backend.ended(1).await;
}

#[tokio::test]
async fn nt_39_streams_of_http2_are_cut_one_by_one() {
    let bench = Bench::ordinary().await;
    let mut frames = Frames::open(&bench).await;
    let mut pipes = Vec::new();
    let mut streams = Vec::new();
    for path in ["/v1/orders/1", "/v1/orders/2"] {
        let (pipe, reply) = Reply::pipe();
        bench.backend.answer(reply);
        streams.push(frames.request(&pseudo("GET", path), None).await);
        pipe.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()).await.unwrap();
        pipes.push(pipe);
        bench.backend.came(pipes.len()).await;
    }
    frames.came(streams[0], b"hello").await;
    frames.came(streams[1], b"hello").await;
    let narrower = RULES.replace("\"/v1/orders\", \"/v1/orders/**\"", "\"/v1/orders/2\"");
    bench.store("orders.toml", &api("orders", "", "", &narrower));
    let cut = frames.outcome(streams[0]).await;
    assert!(cut.reset.is_some(), "{cut:?}");
    for pipe in &pipes {
        let _gone = pipe.send(b"world".to_vec()).await.is_err();
    }
    let kept = frames.outcome(streams[1]).await;
    assert_eq!((kept.body.as_slice(), kept.reset), (&b"helloworld"[..], None));
}

#[tokio::test]
async fn a_generation_that_changes_nothing_for_a_request_leaves_it_alone() {
    let bench = Bench::ordinary().await;
    let (mut door, pipe) = download(&bench).await;
    bench.renew();
    let billing = api("billing", "", "", &RULES.replace("\"dev\"", "\"admin\""));
    bench.store("billing.toml", &billing);
    bench.disable("bob");
    let limited = format!("{RULES}[[limit]]\nid = \"per\"\nkey = [\"user\"]\nrate = \"1/h\"\nburst = 1\n");
    bench.store("orders.toml", &api("orders", "", "", &limited));
    pipe.send(b"world".to_vec()).await.unwrap();
    door.read_through("world").await;
    let end = bench.end(bench.backend.only().header("wicketgate-decision").unwrap()).await;
    assert_eq!(end["result"], "complete");
    assert_eq!(door.get("/v1/orders").await.status, 200, "the connection goes on");
    assert_eq!(door.get("/v1/orders").await.status, 429, "by the new rules");
}

#[tokio::test]
async fn a_connection_sees_the_new_generation_with_its_next_request() {
    let bench = Setup::new(RULES).start().await;
    let mut door = bench.door();
    assert_eq!(door.get("/v1/orders").await.status, 200);
    bench.store("orders.toml", &without_us());
    let answer = door.get("/v1/orders").await;
    bench.check_reply(&answer, 404, "no-such-api");
    bench.store("orders.toml", &api("orders", "", "", RULES));
    assert_eq!(door.get("/v1/orders").await.status, 200);
    assert_eq!(bench.door_to(ORDERS).get("/v1/orders").await.status, 200);
}

const GENERATIONS: u64 = 1000;

/// Subjects of whom a person is one in every second generation.
const ODD_AND_EVEN: &str = "[subjects.even]\ngroups = [\"even\"]\n[subjects.odd]\ngroups = [\"odd\"]\n";

#[tokio::test]
async fn nt_52_in_a_thousand_generations_under_load_no_request_sees_two() {
    // Group, rule and upstream change together: a request that took one of them from another generation would be
    // refused, or go elsewhere.
    let file = |name: &str| {
        api("orders", "", "", &RULES.replace("\"use\"", &format!("\"{name}\"")))
            .replace("\"dev\"", &format!("\"{name}\""))
    };
    let odd_backend = Backend::start().await;
    let bench = Setup::of(&file("even")).file("_identity.toml", ODD_AND_EVEN).start().await;
    bench.set_groups("alice", &["even"]);
    bench.renew();
    let even = bench.current();
    bench.set_groups("alice", &["odd"]);
    bench.store("orders.toml", &file("odd").replace("BACKEND", &odd_backend.url));
    let odd = bench.current();

    // A thread stores the next generation after an answer, while the other requests are on their way.
    let (answered, answers) = std::sync::mpsc::sync_channel(8);
    let (snapshots, generations) = (bench.snapshots(), [Arc::clone(&even), Arc::clone(&odd)]);
    let first = odd.generation + 1;
    let storing = std::thread::spawn(move || {
        for number in (first..).take(GENERATIONS as usize) {
            answers.recv().expect("the load goes on");
            // Not in turns: requests that are judged together are answered together, and would meet one kind only.
            let [even, odd] = &generations;
            snapshots.store(again(if number.count_ones().is_multiple_of(2) { even } else { odd }, number));
        }
    });
    let calls = async || {
        let mut door = bench.door();
        let mut calls = 0;
        loop {
            let answer = door.get("/v1/orders").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            calls += 1;
            if answered.send(()).is_err() {
                return calls;
            }
        }
    };
    let (one, two, three, four) = tokio::join!(calls(), calls(), calls(), calls());
    storing.join().expect("every generation was stored");
    let sent = one + two + three + four;

    let bundle_of = |snapshot: &Snapshot| snapshot.bundle.as_ref().expect("a bundle").id().to_owned();
    let records: HashMap<String, Value> = bench
        .audit()
        .into_iter()
        .filter(|record| record["event"] == "decision")
        .map(|record| (record["decision_id"].as_str().expect("an id").to_owned(), record))
        .collect();
    let mut seen = 0;
    for (backend, name, bundle) in [(&bench.backend, "even", bundle_of(&even)), (&odd_backend, "odd", bundle_of(&odd))]
    {
        let requests = backend.requests();
        assert!(requests.len() > 100, "{} requests met a generation that is {name}", requests.len());
        for request in &requests {
            let record = &records[request.header("wicketgate-decision").expect("an id")];
            assert_eq!((&record["rule"], &record["bundle"]), (&format!("orders/{name}").into(), &(&*bundle).into()));
        }
        seen += requests.len();
    }
    assert_eq!((seen, records.len()), (sent, sent));
}

/// The same, as a newer generation.
fn again(snapshot: &Snapshot, generation: u64) -> Snapshot {
    Snapshot {
        generation,
        bundle: snapshot.bundle.clone(),
        users: Arc::clone(&snapshot.users),
        tokens: Arc::clone(&snapshot.tokens),
        certificate: Arc::clone(&snapshot.certificate),
        services: snapshot.services.clone(),
        targets: snapshot.targets.clone(),
    }
}
