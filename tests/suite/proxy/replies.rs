//! What a refused client is told: enough to know what to do, nothing of others.

use std::path::Path;

use wicketgate::audit::OnFailure;

use super::backend::Reply;
use super::bench::{BILLING, Bench, ORDERS, RULES, Setup, api};
use super::door::{get, request};

#[tokio::test]
async fn every_refusal_is_a_problem_with_the_id_of_its_record() {
    let deny = "[[deny]]\nid = \"frozen\"\nwhy = \"Orders are frozen.\"\nwho = \"dev\"\nmethods = [\"GET\"]\n\
                paths = [\"/v1/orders/frozen\"]\n";
    let admin = "[[allow]]\nid = \"change\"\nwho = \"admin\"\nmethods = [\"DELETE\"]\npaths = [\"/v1/orders/**\"]\n";
    let bench = Setup::new(&format!("{RULES}{deny}{admin}")).start().await;
    for (bytes, status, reason, rule) in [
        (get("/v1/orders/.."), 400, "malformed-target", None),
        (get("/v1/orders").replace("Host", "X-Host"), 400, "malformed-header", None),
        (request("GET", "/v1/orders", "Content-Length: x\r\n"), 400, "framing", None),
        (request("GET", "/v1/orders", "Authorization: Bearer x\r\n"), 401, "token-invalid", None),
        (get("/v1/nothing"), 403, "no-rule", None),
        (request("DELETE", "/v1/orders/1", ""), 403, "no-rule-for-subject", None),
        (get("/v1/orders/frozen"), 403, "denied-by", Some("orders/frozen")),
        (get("/v1/orders").replace(ORDERS, BILLING), 421, "host-mismatch", None),
    ] {
        let answer = bench.door().send(&bytes).await;
        bench.check_refused(&answer, status, reason);
        let problem = answer.problem();
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        assert_eq!(problem["rule"].as_str(), rule, "{problem}");
        let owner = (status == 403).then_some("orders-team@corp.test");
        assert_eq!(problem["owner"].as_str(), owner, "{problem}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{answer:?}");
        assert!(!answer.text().contains("admin"), "who may do it is nobody's business: {problem}");
    }
    let answer = bench.door().get("/v1/orders/frozen").await;
    assert_eq!(answer.problem()["detail"], "Orders are frozen.");
}

#[tokio::test]
async fn answer_record_and_api_carry_one_decision_id() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = door.get("/v1/orders").await;
        let seen = bench.check_passed(&answer);
        let id = seen.header("wicketgate-decision").unwrap().to_owned();
        assert_eq!(bench.decision(&id)["outcome"], "allow");
        let end = bench.end(&id).await;
        assert_eq!((&end["result"], &end["resp"]["status"]), (&"complete".into(), &200.into()));
        ids.push(id);
        let answer = door.get("/v1/admin").await;
        ids.push(answer.decision());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn a_hidden_api_is_none() {
    let vault = api(
        "vault",
        "base = \"/vault\"",
        "",
        "[[allow]]\nid = \"open\"\nwho = \"keepers\"\nmethods = [\"GET\"]\npaths = [\"/**\"]\n",
    )
    .replace("vault.api.test", ORDERS);
    let orders = api(
        "orders",
        "base = \"/v1\"",
        "",
        "[[allow]]\nid = \"use\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/**\"]\n",
    );
    let bench = Setup::of(&orders).file("vault.toml", &vault).start().await;
    let hidden = bench.door().get("/vault/keys").await;
    bench.check_refused(&hidden, 404, "no-such-api");
    let missing = bench.door().get("/nothing/keys").await;
    bench.check_refused(&missing, 404, "no-such-api");
    let told = |answer: &super::door::Answer| {
        let mut problem = answer.problem();
        problem["decision_id"] = "-".into();
        (problem, answer.headers.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>())
    };
    assert_eq!(told(&hidden), told(&missing), "hidden and missing look alike");
    let problem = hidden.problem();
    assert!(problem["rule"].is_null() && problem["owner"].is_null(), "{problem}");
    assert!(!hidden.text().contains("vault"));
}

#[tokio::test]
async fn hidden_routes_look_like_missing_ones() {
    let admin = "[[allow]]\nid = \"change\"\nwho = \"admin\"\nmethods = [\"DELETE\"]\npaths = [\"/v1/orders/**\"]\n";
    let bench = Setup::of(&api("orders", "hide_routes = true", "", &format!("{RULES}{admin}"))).start().await;
    for (bytes, reason) in
        [(get("/v1/nothing"), "no-rule"), (request("DELETE", "/v1/orders/1", ""), "no-rule-for-subject")]
    {
        let answer = bench.door().send(bytes).await;
        assert_eq!((answer.status, answer.reason()), (404, "no-such-api".into()), "{answer:?}");
        assert!(answer.problem()["rule"].is_null() && answer.problem()["owner"].is_null(), "{answer:?}");
        let record = bench.decision(&answer.decision());
        assert_eq!((&record["outcome"], &record["reason"]), (&"deny".into(), &reason.into()), "the log learns all");
    }
}

#[tokio::test]
async fn a_refused_head_has_no_body() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    let answer = door.send(request("HEAD", "/v1/orders", "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (403, Some("application/problem+json")));
    assert_ne!(answer.header("content-length"), Some("0"));
    assert_eq!(door.get("/v1/orders").await.status, 200, "nothing of a body stood between");
}

#[tokio::test]
async fn nothing_is_forwarded_that_could_not_be_recorded() {
    let bench = Setup::new(RULES).audit(Path::new("/dev/full")).start().await;
    let answer = bench.door().get("/v1/orders").await;
    bench.check_reply(&answer, 503, "audit-unavailable");
    let answer = bench.door().get("/v1/nothing").await;
    bench.check_reply(&answer, 403, "no-rule");
    assert!(bench.backend.requests().is_empty());
}

#[tokio::test]
async fn by_wish_requests_pass_that_could_not_be_recorded() {
    let bench = Setup::new(RULES).audit(Path::new("/dev/full")).on_failure(OnFailure::Drop).start().await;
    assert_eq!(bench.door().get("/v1/orders").await.status, 200);
}

#[tokio::test]
async fn nt_63_the_record_stands_while_the_api_still_thinks() {
    let bench = Bench::ordinary().await;
    let (pipe, reply) = Reply::pipe();
    bench.backend.answer(reply);
    let mut door = bench.door();
    door.write(get("/v1/orders")).await;
    bench.backend.came(1).await;
    let records = bench.audit();
    assert_eq!(records.len(), 1, "{records:#?}");
    let seen = bench.backend.only();
    let record = bench.decision(seen.header("wicketgate-decision").unwrap());
    assert_eq!((&record["outcome"], &record["user"]["id"]), (&"allow".into(), &"alice".into()));
    drop(pipe);
    assert_eq!(door.answer().await.status, 502);
    assert_eq!(bench.audit().len(), 2, "and its end follows");
}

#[tokio::test]
async fn without_policies_nothing_is_allowed() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    assert_eq!(door.get("/v1/orders").await.status, 200);
    bench.close();
    let answer = door.get("/v1/orders").await;
    bench.check_reply(&answer, 503, "policy-closed");
    assert_eq!(bench.decision(&answer.decision())["reason"], "policy-closed");
    assert_eq!(bench.backend.requests().len(), 1);
}

#[tokio::test]
async fn a_disabled_person_is_told_so_and_the_connection_ends() {
    let bench = Bench::ordinary().await;
    let mut door = bench.door();
    assert_eq!(door.get("/v1/orders").await.status, 200);
    bench.disable("alice");
    let answer = door.get("/v1/orders").await;
    bench.check_reply(&answer, 401, "session-revoked");
    assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer "));
    door.check_closed().await;
    let bob = bench.caller("bob");
    assert_eq!(bench.door_of(&bob, ORDERS).get("/v1/orders").await.status, 200);
}

#[tokio::test]
async fn what_a_client_wrote_is_not_repeated_to_it() {
    let bench = Bench::ordinary().await;
    let marker = "<script>alert(1)</script>";
    for bytes in [
        get(&format!("/v1/{marker}")),
        request("GET", "/v1/orders", &format!("{marker}: 1\r\n")),
        request("GET", "/v1/orders", &format!("Authorization: Bearer {marker}\r\n")),
        get("/v1/orders").replace(ORDERS, marker),
    ] {
        let answer = bench.door().send(&bytes).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
        assert!(!answer.text().contains("script"), "{}", answer.text());
    }
}
