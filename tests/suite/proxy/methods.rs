//! What may be asked for: a method is a token, compared byte for byte, and nothing overrides it.

use super::bench::{Bench, RULES, Setup};
use super::door::{post, request};

#[tokio::test]
async fn nt_24_nothing_overrides_the_method() {
    let bench = Bench::ordinary().await;
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Method", "x-http-method-override"] {
        let lines = format!("{name}: DELETE\r\nContent-Length: 2\r\n");
        let answer = bench.door().send(request("POST", "/v1/orders", &lines) + "{}").await;
        let seen = bench.check_passed(&answer);
        assert_eq!(seen.line(), "POST /v1/orders HTTP/1.1", "{name}");
        assert!(!seen.head.contains("DELETE"), "{}", seen.head);
    }
    for (target, seen) in [
        ("/v1/orders?_method=DELETE", "/v1/orders"),
        ("/v1/orders?a=1&_method=DELETE&b=2", "/v1/orders?a=1&b=2"),
        ("/v1/orders?_METHOD=DELETE", "/v1/orders"),
        ("/v1/orders?%5fmethod=DELETE", "/v1/orders"),
        ("/v1/orders?x_method=DELETE", "/v1/orders?x_method=DELETE"),
    ] {
        let answer = bench.door().send(post(target, "{}")).await;
        assert_eq!(bench.check_passed(&answer).target(), seen);
    }
    let answer = bench.door().send(request("POST", "/v1/orders", "_method: DELETE\r\nContent-Length: 0\r\n")).await;
    bench.check_reply(&answer, 400, "malformed-header");
}

#[tokio::test]
async fn nt_25_methods_without_a_rule_reach_nothing() {
    let bench = Bench::ordinary().await;
    for (method, status, reason) in [
        ("get", 403, "no-rule"),
        ("Get", 403, "no-rule"),
        ("DELETE", 403, "no-rule"),
        ("PROPFIND", 403, "no-rule"),
        ("TRACE", 403, "no-rule"),
        ("PRI", 403, "no-rule"),
        ("M-SEARCH", 403, "no-rule"),
        ("CONNECT", 400, "malformed-target"),
        ("G\u{e9}T", 400, "malformed-target"),
        ("GET\t", 400, "malformed-target"),
        ("G(T", 400, "malformed-target"),
        ("AVERYLONGMETHODTHATNOBODYREGISTERED", 400, "malformed-target"),
    ] {
        let answer = bench.door().send(request(method, "/v1/orders", "")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{method:?}");
        bench.check_refused(&answer, status, reason);
    }
    for line in ["GET  /v1/orders HTTP/1.1", "GET /v1/orders  HTTP/1.1", " GET /v1/orders HTTP/1.1", "GET /v1/orders"] {
        let answer = bench.door().send(format!("{line}\r\nHost: orders.api.test\r\n\r\n")).await;
        assert_eq!(answer.status, 400, "{line:?}");
    }
    let answer = bench.door().send("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    assert!(bench.backend.requests().is_empty());
}

#[tokio::test]
async fn nt_26_get_implies_neither_head_nor_options() {
    let bench = Bench::ordinary().await;
    for method in ["HEAD", "OPTIONS"] {
        let mut door = bench.door();
        let answer = door.send(request(method, "/v1/orders", "")).await;
        assert_eq!(answer.status, 403, "{method}");
    }
    let preflight = "Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n";
    let answer = bench.door().send(request("OPTIONS", "/v1/orders", preflight)).await;
    bench.check_refused(&answer, 403, "no-rule");
    let answer = bench.door().send(request("OPTIONS", "*", "")).await;
    bench.check_refused(&answer, 400, "malformed-target");

    let bench = Setup::new(&RULES.replace("\"POST\"", "\"HEAD\"")).start().await;
    let answer = bench.door().send(request("HEAD", "/v1/orders", "")).await;
    assert_eq!(bench.check_passed(&answer).line(), "HEAD /v1/orders HTTP/1.1");
}
