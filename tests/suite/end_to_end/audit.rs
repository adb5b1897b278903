//! The record of a decision stands in the file before the request leaves, whatever happens after it.

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::Value;
use tokio::task::JoinSet;
use wicket_client::{Http1, Request, Tunnel};

use super::command::Program;
use crate::world::pki::PKI;
use crate::world::{ORDERS, ORDERS_POLICY, World, address_of, eventually, ledger, reason};

#[tokio::test]
async fn nt_63_every_request_that_a_backend_saw_was_recorded_as_allowed_before() {
    let world = World::builder().issuers().start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let mut forwarded = 0;
    for (tunnel, person) in [(&alice, "alice"), (&bob, "bob")] {
        let mut http = world.http(tunnel, ORDERS).await;
        for number in 0..20 {
            let path = format!("/v1/items/{number}");
            let token = world.issuer().token(if number % 4 == 0 { "bob" } else { person });
            let request = match number % 3 {
                0 => Request::get(ORDERS, path),
                1 => Request::post(ORDERS, path, "body").bearer(&token),
                _ => Request::new(http::Method::DELETE, ORDERS, path),
            };
            forwarded += usize::from(http.send(request).await.unwrap().status == 200);
        }
    }
    let seen = world.orders.seen();
    assert_eq!(seen.len(), forwarded);
    assert!(forwarded > 20 && forwarded < 40, "some were refused: {forwarded}");
    eventually("the last end", async || world.audit(|record| record["event"] == "end").len() == forwarded).await;
    let records = world.audit(|_| true);
    for seen in &seen {
        assert!(seen.audited, "{seen:?}");
        let id = seen.header("wicketgate-decision");
        let record =
            |event: &str| records.iter().position(|record| record["event"] == event && record["decision_id"] == id);
        let decision = &records[record("decision").unwrap()];
        assert_eq!(decision["user"]["id"], seen.header("wicketgate-user"));
        assert_eq!(
            (&decision["req"]["method"], &decision["req"]["path"]),
            (&(&*seen.method).into(), &(&*seen.target).into())
        );
        assert_eq!(decision["tunnel"]["id"], seen.header("wicketgate-session"));
        assert!(record("end").unwrap() > record("decision").unwrap());
    }
    let allowed = records.iter().filter(|record| record["outcome"] == "allow").count();
    assert_eq!(allowed, forwarded, "and nothing else was");
    world.stop().await;
}

#[tokio::test]
async fn nt_63_also_when_the_process_is_killed_while_many_requests_are_on_their_way() {
    let files = World::builder().write().await;
    let mut program = Program::serve(&files);
    let mut held = JoinSet::new();
    let mut calls = JoinSet::new();
    for person in ["alice", "bob"] {
        let tunnel = Tunnel::connect(program.listen, PKI.roots.clone(), crate::world::profile(person)).await.unwrap();
        let tunnel = Arc::new(tunnel);
        let address = address_of(&tunnel, ORDERS).await;
        for _ in 0..4 {
            held.spawn(until_killed(Arc::clone(&tunnel), address, "/v1/hold"));
            calls.spawn(until_killed(Arc::clone(&tunnel), address, "/v1/items"));
        }
    }
    let held_by_it = || files.orders.seen().iter().filter(|seen| seen.target == "/v1/hold").count();
    eventually("the load", async || held_by_it() == 8 && files.orders.seen().len() > 100).await;
    program.kill();
    let all = async { (held.join_all().await, calls.join_all().await) };
    let (held, calls) = tokio::time::timeout(crate::world::PATIENCE, all).await.unwrap();
    assert_eq!(held, [0; 8], "these were on their way");
    assert!(calls.iter().all(|&answered| answered > 0), "{calls:?}");
    let seen = files.orders.seen();
    assert!(seen.len() >= calls.iter().sum::<usize>() + 8, "{} {calls:?}", seen.len());
    assert!(seen.iter().all(|seen| seen.audited));
    let allowed: HashMap<String, Value> = ledger::read(&files.path("audit.jsonl"))
        .into_iter()
        .filter(|record| record["outcome"] == "allow")
        .map(|record| (record["decision_id"].as_str().unwrap().to_owned(), record))
        .collect();
    for seen in &seen {
        let record = &allowed[seen.header("wicketgate-decision")];
        assert_eq!(record["user"]["id"], seen.header("wicketgate-user"));
        assert_eq!((&record["req"]["path"], &record["req"]["method"]), (&(&*seen.target).into(), &"GET".into()));
    }
}

/// Calls until there is no answer; tells how many there were.
async fn until_killed(tunnel: Arc<Tunnel>, address: Ipv4Addr, path: &'static str) -> usize {
    let mut http = Http1::new(tunnel.tcp(address, 80).await.unwrap()).await.unwrap();
    let mut answered = 0;
    while http.send(Request::get(ORDERS, path)).await.is_ok() {
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn while_the_audit_cannot_be_written_nothing_reaches_a_backend() {
    let world = World::builder().set("audit", "file = \"/dev/full\"\non_failure = \"refuse\"").start().await;
    let alice = world.connect("alice").await;
    for _ in 0..3 {
        let refused = world.get(&alice, "/v1/items").await;
        assert_eq!((refused.status, &*reason(&refused)), (503, "audit-unavailable"));
    }
    assert_eq!(world.orders.seen().len(), 0);
    let ready = world.admin("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("audit"), "{}", ready.text());
    world.stop().await;
}

#[tokio::test]
async fn by_wish_requests_pass_without_a_record_and_are_counted() {
    let world = World::builder().set("audit", "file = \"/dev/full\"\non_failure = \"drop\"").start().await;
    let alice = world.connect("alice").await;
    let before = failed(&world).await;
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
    assert_eq!(world.orders.seen().len(), 1);
    eventually("the count of the decision and of its end", async || failed(&world).await >= before + 2).await;
    // Not `stop`: it would miss the records.
    drop(world);
}

/// `wicketgate_audit_failed_total`.
async fn failed(world: &World) -> u64 {
    let metrics = world.admin("/metrics").await.text();
    let line = metrics.lines().find(|line| line.starts_with("wicketgate_audit_failed_total ")).unwrap();
    line.split(' ').next_back().unwrap().parse().unwrap()
}

#[tokio::test]
async fn after_a_rotation_records_go_on_in_the_new_file() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    assert_eq!(world.get(&alice, "/v1/one").await.status, 200);
    fs::rename(world.path("audit.jsonl"), world.path("audit.1")).unwrap();
    assert_eq!(world.get(&alice, "/v1/two").await.status, 200);
    world.order_reload().await;
    eventually("the new file", async || world.path("audit.jsonl").exists()).await;
    assert_eq!(world.get(&alice, "/v1/three").await.status, 200);
    let paths = |file: &str| -> Vec<Value> {
        let decision = |record: &Value| (record["event"] == "decision").then(|| record["req"]["path"].clone());
        ledger::read(&world.path(file)).iter().filter_map(decision).collect()
    };
    assert_eq!(
        (paths("audit.1"), paths("audit.jsonl")),
        (vec!["/v1/one".into(), "/v1/two".into()], vec!["/v1/three".into()])
    );
    drop(world);
}

#[tokio::test]
async fn more_requests_than_a_tunnel_may_send_are_refused_and_summed() {
    let world = World::builder().set("tunnel", "max_requests = \"10/s\"").start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let mut http = world.http(&alice, ORDERS).await;
    let mut burst = async || {
        let mut limited = 0;
        for _ in 0..40 {
            let response = http.send(Request::get(ORDERS, "/v1/items")).await.unwrap();
            if response.status == 429 {
                assert_eq!((&*reason(&response), response.header("retry-after")), ("limited", Some("1")));
                limited += 1;
            }
        }
        limited
    };
    let limited: u64 = burst().await;
    assert!((20..=30).contains(&limited), "{limited}");
    assert_eq!(world.get(&bob, "/v1/items").await.status, 200, "another person's tunnel has its own");
    let summed = || world.audited("pre-limited").iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>();
    eventually("the sum", async || summed() == limited).await;
    assert!(world.audited("pre-limited").len() <= 2, "one a second, not one each");
    assert!(world.audited("decision").iter().all(|record| record["outcome"] == "allow"));
    assert_eq!(world.orders.seen().len() as u64, 40 - limited + 1);

    let last = burst().await;
    drop(http);
    alice.disconnect().await;
    eventually("the sum of its last moments", async || summed() == limited + last).await;
    world.stop().await;
}

#[tokio::test]
async fn a_limit_of_a_policy_is_kept_over_tunnels_and_spellings() {
    let limited = ORDERS_POLICY.to_owned() + "[[limit]]\nid = \"slow\"\nkey = [\"user\"]\nrate = \"1/h\"\nburst = 3\n";
    let world = World::builder().policy("orders.toml", &limited).start().await;
    let mut answers = Vec::new();
    for name in ["alice", "ALICE", "CORP\\alice"] {
        let tunnel = world.try_connect(world.profile(name)).await.unwrap();
        answers.push(world.get(&tunnel, "/v1/items").await.status);
        answers.push(world.get(&tunnel, "/v1/nothing-else").await.status);
    }
    assert_eq!(answers, [200, 200, 200, 429, 429, 429]);
    assert_eq!(world.get(&world.connect("bob").await, "/v1/items").await.status, 200);
    let record = world.record(|record| record["reason"] == "limited").await;
    assert_eq!(record["outcome"], "deny", "{record}");
    world.stop().await;
}

#[tokio::test]
async fn no_secret_stands_in_the_audit_or_the_log() {
    let world = World::builder().issuers().start().await;
    let alice = world.connect("alice").await;
    let token = world.issuer().token("alice");
    let foreign = world.issuer().token("bob");
    for token in [&token, &foreign, &format!("{token}x")] {
        let request = Request::post(ORDERS, "/v1/items?card=4111222233334444", "the body").bearer(token);
        world.send(&alice, request.header("cookie", "sid=0123456789")).await;
    }
    let mut wrong = world.profile("alice");
    wrong.password = "hunter22".to_owned();
    world.try_connect(wrong).await.err().unwrap();
    let text = fs::read_to_string(world.path("audit.jsonl")).unwrap();
    assert!(text.contains("card"), "names of the query are recorded");
    for secret in ["4111222233334444", "the body", "0123456789", "hunter22", crate::world::PASSWORD, "eyJ"] {
        assert!(!text.contains(secret), "{secret} in the audit");
        let logged = crate::world::log::lines_with(secret);
        assert!(logged.is_empty(), "{logged:?}");
    }
    world.stop().await;
}
