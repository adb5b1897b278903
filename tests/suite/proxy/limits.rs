//! Rate limits as a client meets them: what counts, what does not, and what is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::bench::{BILLING, Bench, ORDERS, RULES, Setup, api};
use super::door::{Answer, Door, get, request};
use super::issuer::Issuer;

fn limit(key: &str, rate: &str, burst: u32) -> String {
    format!("[[limit]]\nid = \"per\"\nkey = [{key}]\nrate = \"{rate}\"\nburst = {burst}\n")
}

async fn bench(limits: &str) -> Bench {
    Setup::new(&format!("{RULES}{limits}")).start().await
}

/// The statuses of so many calls on one connection.
async fn statuses<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    door: &mut Door<S>,
    calls: usize,
) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..calls {
        statuses.push(door.get("/v1/orders").await.status);
    }
    statuses
}

fn check_limited(answer: &Answer) {
    assert_eq!((answer.status, answer.reason().as_str()), (429, "limited"), "{answer:?}");
}

#[tokio::test]
async fn nt_58_of_21_calls_at_once_20_pass() {
    let bench = bench(&limit("\"user\"", "6/m", 20)).await;
    let mut door = bench.door();
    let mut answers = vec![door.send(get("/v1/orders").repeat(21)).await];
    for _ in 0..20 {
        answers.push(door.answer().await);
    }
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((passed, bench.backend.requests().len()), (20, 20));
    let last = answers.last().unwrap();
    check_limited(last);
    assert_eq!(last.problem()["rule"], "orders/per");
    bench.check_reply(last, 429, "limited");
    let record = bench.decision(&last.decision());
    assert_eq!((&record["outcome"], &record["reason"]), (&"deny".into(), &"limited".into()));
}

#[tokio::test]
async fn nt_58_room_comes_back_with_time_and_no_faster() {
    let bench = bench(&limit("\"user\"", "10/s", 20)).await;
    let mut door = bench.door();
    let mut passed = 0;
    while door.get("/v1/orders").await.status == 200 {
        passed += 1;
    }
    assert!(passed >= 20, "{passed}");
    let begun = wicketgate::clock::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(statuses(&mut door, 10).await, [200; 10]);
    let mut more = 10;
    while door.get("/v1/orders").await.status == 200 {
        more += 1;
    }
    let most = 1 + begun.elapsed().as_millis() / 100;
    assert!(more <= most, "{more} of {most}");
}

#[tokio::test]
async fn answers_say_how_much_is_left() {
    let bench = bench(&limit("\"user\"", "6/m", 2)).await;
    let mut door = bench.door();
    for left in ["1", "0"] {
        let own = "HTTP/1.1 200 OK\r\nRateLimit: \"own\";r=99\r\nContent-Length: 0\r\n\r\n";
        bench.backend.answer(super::backend::Reply::text(own));
        let answer = door.get("/v1/orders").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"orders/per\";q=2;w=20"));
        let state = answer.header("ratelimit").unwrap();
        assert!(state.starts_with(&format!("\"orders/per\";r={left};t=")), "{state}");
        let record = bench.decision(bench.backend.last().header("wicketgate-decision").unwrap());
        assert_eq!(record["limits"][0]["remaining"].to_string(), left);
    }
    let answer = door.get("/v1/orders").await;
    check_limited(&answer);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"orders/per\";q=2;w=20"));
    assert!(answer.header("ratelimit").unwrap().starts_with("\"orders/per\";r=0;t="), "{answer:?}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((9..=10).contains(&wait), "{wait}");
}

#[tokio::test]
async fn nt_59_neither_spelling_nor_device_gives_a_second_bucket() {
    let bench = bench(&limit("\"user\"", "1/m", 3)).await;
    let again = bench.caller("ALICE");
    let other = bench.caller("CORP\\Alice");
    let mut passed = Vec::new();
    for (caller, lines) in [
        (bench.alice(), ""),
        (again.clone(), "X-Forwarded-For: 10.0.0.1\r\n"),
        (other, "Authorization: Basic Ym9iOng=\r\n"),
        (again, "Wicketgate-User: bob\r\n"),
        (bench.alice(), "User-Agent: other\r\n"),
    ] {
        let answer = bench.door_of(&caller, ORDERS).send(request("GET", "/v1/orders", lines)).await;
        passed.push(answer.status);
    }
    assert_eq!(passed, [200, 200, 200, 429, 429]);
    let bob = bench.caller("bob");
    assert_eq!(statuses(&mut bench.door_of(&bob, ORDERS), 4).await, [200, 200, 200, 429], "another person");
    assert_eq!(
        bench.door_to(BILLING).send(get("/v1/orders").replace(ORDERS, BILLING)).await.status,
        200,
        "another API"
    );
}

#[tokio::test]
async fn nt_59_neither_address_nor_alias_nor_token_gives_a_second_bucket() {
    let issuer = Issuer::start().await;
    let bench = Setup::new(&format!("{RULES}{}", limit("\"user\"", "1/m", 4))).issuer(issuer.config()).start().await;
    let elsewhere = bench.caller_from("alice", [198, 51, 100, 7].into());
    let over_v6 = bench.caller_from("alice", "2001:db8::7".parse().unwrap());
    let token = |change: Value| format!("Authorization: Bearer {}\r\n", issuer.token(change));
    let mut passed = Vec::new();
    for (caller, lines) in [
        (bench.alice(), String::new()),
        (elsewhere.clone(), String::new()),
        (over_v6, String::new()),
        (bench.alice(), token(json!({ "jti": "one" }))),
        (elsewhere, token(json!({ "jti": "two", "email": "alice+alias@corp.test", "email_verified": true }))),
        (bench.alice(), token(json!({ "preferred_username": "ALICE", "email": "a.lice@corp.test" }))),
        (bench.alice(), token(json!({ "sub": "248289-again", "client_id": "another" }))),
    ] {
        let answer = bench.door_of(&caller, ORDERS).send(request("GET", "/v1/orders", &lines)).await;
        passed.push(answer.status);
    }
    assert_eq!(passed, [200, 200, 200, 200, 429, 429, 429]);
}

#[tokio::test]
async fn nt_60_what_is_refused_takes_nothing_from_the_quota() {
    let rules = format!(
        "{}{}",
        limit("\"user\"", "1/m", 2),
        "[[limit]]\nid = \"posts\"\nmatch = { methods = [\"POST\"], paths = [\"/v1/orders\"] }\nkey = [\"user\"]\nrate = \"1/m\"\nburst = 1\n"
    );
    let bench = bench(&rules).await;
    for _ in 0..5 {
        for (bytes, status) in [
            (get("/v1/admin"), 403),
            (get("/v1/orders/../x"), 400),
            (request("GET", "/v1/orders", "X_A: 1\r\n"), 400),
            (request("GET", "/v1/orders", "Authorization: Bearer x\r\n"), 401),
            (get("/v1/orders").replace(ORDERS, BILLING), 421),
            (request("GET", "/v1/orders", "Upgrade: websocket\r\nConnection: upgrade\r\n"), 403),
        ] {
            assert_eq!(bench.door().send(bytes).await.status, status);
        }
    }
    let post = request("POST", "/v1/orders", "Content-Length: 0\r\n");
    assert_eq!(bench.door().send(&post).await.status, 200);
    let answer = bench.door().send(&post).await;
    check_limited(&answer);
    assert_eq!(answer.problem()["rule"], "orders/posts");
    assert_eq!(statuses(&mut bench.door(), 2).await, [200, 429], "the refused POST took nothing from the other bucket");
}

#[tokio::test]
async fn nt_61_new_keys_never_reset_an_active_one() {
    let rules = "[[allow]]\nid = \"read\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/v1/orders/{id}\"]\n\
                 [[limit]]\nid = \"per\"\nmatch = { methods = [\"GET\"], paths = [\"/v1/orders/{id}\"] }\n\
                 key = [\"path.id\"]\nrate = \"1/h\"\nburst = 1\n";
    let bench = Setup::of(&api("orders", "", "", rules)).buckets(64).start().await;
    let mut door = bench.door();
    assert_eq!(door.get("/v1/orders/first").await.status, 200);
    let mut passed = 0;
    for number in 0..1000 {
        passed += usize::from(door.get(&format!("/v1/orders/{number}")).await.status == 200);
    }
    assert!((1..1000).contains(&passed), "{passed} of 1000 keys found a place");
    check_limited(&door.get("/v1/orders/first").await);
}

#[tokio::test]
async fn the_pre_limit_of_a_session_stands_before_everything() {
    let bench = Setup::new(RULES).prelimit(3).start().await;
    let mut door = bench.door();
    let mut answers = vec![door.send(get("/v1/admin").repeat(8)).await];
    for _ in 0..7 {
        answers.push(door.answer().await);
    }
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(refused.len() >= 4, "{answers:?}");
    for answer in &refused {
        bench.check_reply(answer, 429, "limited");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(bench.alice().take_pre_limited().over_rate, refused.len() as u64);
    let recorded = bench.audit().len();
    assert_eq!(recorded, 8 - refused.len(), "what the pre-limit refuses is summed elsewhere");
    let bob = bench.caller("bob");
    assert_eq!(bench.door_of(&bob, ORDERS).get("/v1/orders").await.status, 200);
}
