//! Which header lines reach the API: the proxy's word, and nothing that a client could put in its place.

use super::backend::Request;
use super::bench::{Bench, ORDERS, RULES, Setup, api};
use super::door::{get, request};

/// What the API sees, less what differs from request to request.
fn fixed(seen: &Request) -> String {
    let own = seen.header("wicketgate-decision").expect("a decision");
    seen.head.replace(own, "-")
}

#[tokio::test]
async fn nt_16_forwarding_headers_of_the_client_change_nothing() {
    let bench = Bench::ordinary().await;
    bench.door().get("/v1/orders").await;
    let plain = fixed(&bench.backend.last());
    for line in [
        "X-Forwarded-Host: evil",
        "Forwarded: host=evil;for=10.0.0.1",
        "X-Original-URL: /v1/evil",
        "X-Rewrite-URL: /v1/evil",
        "X-Forwarded-Uri: /v1/evil",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-For: 10.9.9.9",
        "X-Forwarded-Proto: evil",
        "X-Forwarded-Port: 1",
        "X-Real-IP: 10.9.9.9",
        "X-Envoy-Original-Path: /evil",
        "X-Original-Method: DELETE",
    ] {
        let answer = bench.door().send(request("GET", "/v1/orders", &format!("{line}\r\n"))).await;
        assert_eq!(answer.status, 200, "{line}");
        assert_eq!(fixed(&bench.backend.last()), plain, "{line}");
        let answer = bench.door().send(request("GET", "/v1/admin", &format!("{line}\r\n"))).await;
        bench.check_reply(&answer, 403, "no-rule");
    }
}

#[tokio::test]
async fn nt_17_no_spelling_of_a_reserved_name_brings_a_clients_value() {
    let assert = "[assert]\nheaders = { \"X-Employee\" = \"user.id\" }\n";
    let bench = Setup::new(&format!("{assert}{RULES}")).start().await;
    for name in [
        "Wicketgate-User",
        "Wicketgate-Groups",
        "Wicketgate-Session",
        "Wicketgate-Decision",
        "X-Employee",
        "X-User",
        "X-User-Id",
        "X-Remote-User",
        "Remote-User",
        "X-Auth-Request-Email",
        "X-Authenticated-Userid",
        "X-Forwarded-User",
        "X-SSL-Client-Cert",
        "Client-Cert",
        "Proxy",
    ] {
        let swapped: String = name
            .chars()
            .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        let folded = name.replace('-', "_");
        // The status of each spelling: `_` and a space before the colon are refused, the others stripped, `.` and `+` too.
        let underscored = if folded == name { 200 } else { 400 };
        for (lines, status) in [
            (format!("{name}: evil\r\n"), 200),
            (format!("{}: evil\r\n", name.to_ascii_lowercase()), 200),
            (format!("{swapped}: evil\r\n"), 200),
            (format!("{folded}: evil\r\n"), underscored),
            (format!("{}: evil\r\n", name.replacen('-', "_", 1)), underscored),
            (format!("{}: evil\r\n", name.replace('-', ".")), 200),
            (format!("{}: evil\r\n", name.replace('-', "+")), 200),
            (format!("{name} : evil\r\n"), 400),
            (format!("{name}: evil\r\n{name}: evil\r\n"), 200),
            (format!("{name}: alice, evil\r\n"), 200),
        ] {
            let before = bench.backend.requests().len();
            let answer = bench.door().send(request("GET", "/v1/orders", &lines)).await;
            assert_eq!(answer.status, status, "{lines:?}: {answer:?}");
            let seen = bench.backend.requests();
            assert_eq!(seen.len() - before, usize::from(status == 200), "{lines:?}");
            for seen in &seen[before..] {
                assert!(!seen.head.contains("evil"), "{lines:?}: {}", seen.head);
                assert_eq!(seen.header("wicketgate-user"), Some("alice"));
                assert_eq!(seen.header("wicketgate-groups"), Some("dev"));
                assert_eq!(seen.header("x-employee"), Some("alice"));
            }
        }
    }
}

#[tokio::test]
async fn nt_17_an_asserted_header_of_one_api_is_reserved_at_all_of_them() {
    let billing = api("billing", "", "", &format!("[assert]\nheaders = {{ \"X-Staff\" = \"user.id\" }}\n{RULES}"));
    let bench = Setup::new(RULES).file("billing.toml", &billing).start().await;
    bench.door().send(request("GET", "/v1/orders", "X-Staff: root\r\n")).await;
    assert_eq!(bench.backend.only().header("x-staff"), None);
}

#[tokio::test]
async fn nt_18_connection_cannot_name_our_headers_away() {
    let assert = "[assert]\nheaders = { \"X-Employee\" = \"user.id\" }\n";
    let bench = Setup::new(&format!("{assert}{RULES}")).start().await;
    let lines = "Connection: x-user, authorization, Wicketgate-User, x-forwarded-for, forwarded, host\r\n\
                 Connection: x-employee, x-hop, keep-alive\r\nX-Hop: 1\r\nX-Stays: 2\r\n";
    let answer = bench.door().send(request("GET", "/v1/orders", lines)).await;
    let seen = bench.check_passed(&answer);
    assert_eq!(seen.header("wicketgate-user"), Some("alice"));
    assert_eq!(seen.header("x-employee"), Some("alice"));
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.60"));
    assert_eq!(seen.header("host"), Some(ORDERS));
    assert_eq!((seen.header("x-hop"), seen.header("x-stays")), (None, Some("2")));
    assert_eq!(seen.header("connection"), None);
}

#[tokio::test]
async fn hop_by_hop_headers_of_a_request_end_here() {
    let bench = Bench::ordinary().await;
    let lines = "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
                 Proxy-Authorization: Basic eA==\r\nAccept: text/plain\r\n";
    bench.door().send(request("GET", "/v1/orders", lines)).await;
    let seen = bench.backend.only();
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "proxy-authorization", "connection"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("accept"), Some("text/plain"));
}

#[tokio::test]
async fn nt_19_repeated_credentials_and_cookies_are_refused() {
    let bench = Bench::ordinary().await;
    for lines in [
        "Authorization: Basic YTpi\r\nAuthorization: Basic YTpi\r\n",
        "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        "Authorization: Bearer a, Bearer b\r\n",
        "Authorization: Bearer a b\r\n",
        "Cookie: a=1\r\nCookie: b=2\r\n",
        "Cookie: a=\"x; session=1\"; b=2\r\n",
        "Content-Type: a/b\r\nContent-Type: c/d\r\n",
    ] {
        let answer = bench.door().send(request("GET", "/v1/orders", lines)).await;
        assert_eq!(answer.status, 400, "{lines:?}");
        bench.check_refused(&answer, 400, "malformed-header");
    }
    let answer = bench.door().send(request("GET", "/v1/orders?access_token=b", "Authorization: Bearer a\r\n")).await;
    bench.check_refused(&answer, 400, "malformed-header");
}

#[tokio::test]
async fn header_lines_without_one_reading_are_refused() {
    let bench = Bench::ordinary().await;
    for (lines, reason) in [
        ("X-A: 1\x00\r\n", "malformed-header"),
        ("X-A: 1\x7f\r\n", "malformed-header"),
        ("X(A): 1\r\n", "malformed-header"),
        (": 1\r\n", "malformed-header"),
        ("X_A: 1\r\n", "malformed-header"),
        ("no colon\r\n", "framing"),
        ("X-A : 1\r\n", "framing"),
        ("X-A: 1\r\n folded\r\n", "framing"),
    ] {
        let answer = bench.door().send(request("GET", "/v1/orders", lines)).await;
        assert_eq!(answer.status, 400, "{lines:?}");
        bench.check_refused(&answer, 400, reason);
    }
}

#[tokio::test]
async fn the_api_learns_who_asks_and_where_the_record_is() {
    let assert = "[assert]\nheaders = { \"X-Employee\" = \"user.id\", \"X-Teams\" = \"user.groups\" }\n";
    let bench = Setup::new(&format!("{assert}{RULES}")).start().await;
    let answer = bench.door().get("/v1/orders/7?secret=1&page=2").await;
    let seen = bench.check_passed(&answer);
    let values = [
        ("host", ORDERS),
        ("wicketgate-user", "alice"),
        ("wicketgate-groups", "dev"),
        ("wicketgate-session", "s-0000000000000001"),
        ("x-forwarded-for", "192.0.2.60"),
        ("x-forwarded-host", ORDERS),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=192.0.2.60;host=orders.api.test;proto=http"),
        ("x-employee", "alice"),
        ("x-teams", "dev"),
    ];
    for (name, value) in values {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    let record = bench.decision(seen.header("wicketgate-decision").unwrap());
    assert_eq!((&record["outcome"], &record["rule"]), (&"allow".into(), &"orders/use".into()));
    assert_eq!((&record["user"]["id"], &record["tunnel"]["id"]), (&"alice".into(), &"s-0000000000000001".into()));
    assert_eq!(record["req"]["query_names"], serde_json::json!(["secret", "page"]));
    assert!(!record.to_string().contains("secret=1"));
    assert_eq!(record["req"]["path"], "/v1/orders/7");
}

#[tokio::test]
async fn ordinary_headers_pass_as_they_are() {
    let bench = Bench::ordinary().await;
    let lines = "Accept: */*\r\nUser-Agent: curl/8\r\nCookie: a=1; b=2\r\nX-Request-Id: 7\r\nX-Two: 1\r\nX-Two: 2\r\n\
                 If-None-Match: \"x\"\r\nRange: bytes=0-1\r\n";
    let answer = bench.door().send(request("GET", "/v1/orders", lines)).await;
    let seen = bench.check_passed(&answer);
    for (name, values) in [
        ("accept", &["*/*"][..]),
        ("user-agent", &["curl/8"]),
        ("cookie", &["a=1; b=2"]),
        ("x-request-id", &["7"]),
        ("x-two", &["1", "2"]),
        ("if-none-match", &["\"x\""]),
        ("range", &["bytes=0-1"]),
    ] {
        assert_eq!(seen.all(name), values, "{name}");
    }
}

#[tokio::test]
async fn more_groups_than_fit_are_not_told_in_part() {
    let bench = Bench::ordinary().await;
    let users = bench.users();
    let groups: Vec<String> = (0..1000).map(|number| format!("group-{number}")).chain(["dev".to_owned()]).collect();
    users.add("many", &groups, "password").unwrap();
    bench.renew();
    let caller = bench.caller("many");
    let answer = bench.door_of(&caller, ORDERS).send(get("/v1/orders")).await;
    bench.check_reply(&answer, 403, "malformed-header");
    assert!(bench.backend.requests().is_empty());
}
