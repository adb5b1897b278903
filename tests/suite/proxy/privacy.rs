//! What a client must not learn, and must not get from the one before it.

use super::backend::Reply;
use super::bench::{ORDERS, RULES, Setup, api};
use super::door::{get, request};
use super::issuer::Issuer;

/// Two APIs on one host, of which we know one.
fn shared() -> Setup {
    let hidden = api("hidden", "base = \"/hidden\"", "", &RULES.replace("\"dev\"", "\"admin\""));
    let hidden = hidden.replace("hidden.api.test", ORDERS);
    Setup::of(&api("orders", "base = \"/known\"", "", RULES)).file("hidden.toml", &hidden)
}

#[tokio::test]
async fn an_api_that_nobody_may_know_of_answers_like_none() {
    let issuer = Issuer::start().await;
    let bench = shared().issuer(issuer.config()).start().await;
    let other = issuer.token(serde_json::json!({ "preferred_username": "bob" }));
    for lines in ["", "Authorization: Bearer x\r\n", &format!("Authorization: Bearer {other}\r\n")] {
        for tail in ["/v1/orders", "/v1/orders?access_token=x", "/v1/a%2Fb", "/v1/a;b", "/v1/%252F"] {
            let ask = |base: &str| request("GET", &format!("{base}{tail}"), lines);
            if tail.contains('?') && !lines.is_empty() {
                continue;
            }
            let none = bench.door().send(ask("/none")).await;
            let hidden = bench.door().send(ask("/hidden")).await;
            assert_eq!(
                (none.status, none.reason(), &none.problem()["detail"]),
                (hidden.status, hidden.reason(), &hidden.problem()["detail"]),
                "{lines:?} {tail}"
            );
            assert_eq!(none.header("www-authenticate"), hidden.header("www-authenticate"));
        }
    }
    assert!(bench.audit().iter().all(|record| record["event"] != "alarm"));
    let known = bench.door().send(request("GET", "/known/v1/orders", "Authorization: Bearer x\r\n")).await;
    bench.check_refused(&known, 401, "token-invalid");
}

#[tokio::test]
async fn a_token_in_the_query_is_refused_where_tokens_are_judged() {
    for (top, status) in [("", 400), ("bearer = \"pass\"", 200)] {
        let bench = Setup::of(&api("orders", top, "", RULES)).start().await;
        for lines in ["", "Authorization: Basic YTpi\r\n"] {
            let answer = bench.door().send(request("GET", "/v1/orders?access_token=x", lines)).await;
            assert_eq!(answer.status, status, "{top} {lines:?}");
        }
    }
}

#[tokio::test]
async fn no_login_of_a_connection_crosses() {
    let bench = Setup::of(&api("orders", "", "", RULES)).start().await;
    for value in ["NTLM TlRMTVNTUAABAAAA", "negotiate YII="] {
        let answer = bench.door().send(request("GET", "/v1/orders", &format!("Authorization: {value}\r\n"))).await;
        bench.check_refused(&answer, 400, "malformed-header");
    }
    bench.backend.answer(Reply::text(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM, Basic realm=\"x\"\r\n\
         Content-Length: 0\r\n\r\n",
    ));
    let answer = bench.door().send(get("/v1/orders")).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Basic realm=\"x\"")));
}

#[tokio::test]
async fn the_record_says_which_rule_came_near_and_the_answer_does_not() {
    let admin = "[[allow]]\nid = \"admins\"\nwho = \"admin\"\nmethods = [\"GET\"]\npaths = [\"/v1/admin\"]\n";
    let bench = Setup::of(&api("orders", "", "", &format!("{RULES}{admin}"))).start().await;
    let answer = bench.door().get("/v1/admin").await;
    bench.check_refused(&answer, 403, "no-rule-for-subject");
    assert_eq!(bench.decision(&answer.decision())["near_miss"], serde_json::json!(["orders/admins"]));
    assert!(!answer.text().contains("admins"), "{answer:?}");
}
