//! One reading of the path: what has two is refused, and what was judged is what the API gets.

use wicketgate::request::{CanonicalRequest, Raw, Target};

use super::bench::{Bench, ORDERS, RULES, Setup, api};
use super::door::get;

/// Every target is answered with 400 and this reason; the API sees nothing.
async fn refused(bench: &Bench, targets: &[&[u8]]) {
    for target in targets {
        let mut request = b"GET ".to_vec();
        request.extend_from_slice(target);
        request.extend_from_slice(format!(" HTTP/1.1\r\nHost: {ORDERS}\r\n\r\n").as_bytes());
        let answer = bench.door().send(&request).await;
        assert_eq!(answer.status, 400, "{}", target.escape_ascii());
        bench.check_refused(&answer, 400, "malformed-target");
    }
}

#[tokio::test]
async fn nt_01_dot_segments_are_refused_however_they_are_written() {
    let bench = Bench::ordinary().await;
    refused(
        &bench,
        &[
            b"/v1/orders/../admin",
            b"/v1/orders/%2e%2e/admin",
            b"/v1/orders/.%2E/admin",
            b"/v1/orders/%2E./admin",
            b"/v1/orders/./1",
            b"/v1/orders/%2e/1",
            b"/v1/orders/..",
            b"/../v1/orders",
        ],
    )
    .await;
}

#[tokio::test]
async fn nt_02_empty_segments_are_refused() {
    let bench = Bench::ordinary().await;
    refused(&bench, &[b"//v1/orders/1", b"/v1//orders/1", b"/v1/orders//", b"//", b"//evil.test/v1/orders"]).await;
}

#[tokio::test]
async fn nt_03_encoded_slashes_backslashes_and_broken_utf8_are_refused() {
    let bench = Bench::ordinary().await;
    refused(
        &bench,
        &[
            b"/v1/orders%2F1",
            b"/v1/orders%2f1",
            b"/v1/orders%5C1",
            b"/v1/orders/%252F",
            b"/v1/orders/%252e%252e/admin",
            b"/v1/orders/%c0%af",
            b"/v1/orders/%c0%ae%c0%ae/admin",
            b"/v1/orders\\1",
            b"/v1/orders/..\\admin",
            b"/v1/orders/..%2f..%2fadmin",
        ],
    )
    .await;
}

#[tokio::test]
async fn nt_03_an_opaque_slash_matches_one_segment_and_goes_up_unchanged() {
    let rules = r#"
        [http]
        encoded_slash = "opaque"
        [[allow]]
        id      = "one"
        who     = "dev"
        methods = ["GET"]
        paths   = ["/v1/queues/{vhost}/{queue}"]
    "#;
    let bench = Setup::new(rules).start().await;
    for (sent, seen) in [
        ("/v1/queues/%2F/in", "/v1/queues/%2F/in"),
        ("/v1/queues/%2f/in", "/v1/queues/%2F/in"),
        ("/v1/queues/a%2Fb/in", "/v1/queues/a%2Fb/in"),
        ("/v1/queues/a%5Cb/%2F?x=%2F", "/v1/queues/a%5Cb/%2F?x=%2F"),
    ] {
        let answer = bench.door().get(sent).await;
        assert_eq!(bench.check_passed(&answer).target(), seen);
    }
    let seen = bench.backend.requests().len();
    for (target, status) in [
        ("/v1/queues/a%2Fb", 403),
        ("/v1/queues%2Fa/b", 403),
        ("/v1/queues/a/b/c", 403),
        ("/v1/queues/%2F..%2F/in", 400),
        ("/v1/queues/..%2Fx/in", 400),
        ("/v1/queues/%252F/in", 400),
    ] {
        let answer = bench.door().get(target).await;
        assert_eq!(answer.status, status, "{target}: {answer:?}");
    }
    assert_eq!(bench.backend.requests().len(), seen);
}

#[tokio::test]
async fn nt_04_path_parameters_are_refused() {
    let bench = Bench::ordinary().await;
    refused(&bench, &[b"/v1/orders;x=1/2", b"/v1/orders/1;.css", b"/v1/orders/..;/admin", b"/v1/orders/1;"]).await;
}

#[tokio::test]
async fn nt_05_a_query_decides_nothing() {
    let bench = Bench::ordinary().await;
    for (target, status) in [
        ("/v1/orders?x=/v1/public", 200),
        ("/v1/orders/1?..=/../..", 200),
        ("/v1/orders?", 200),
        ("/admin?/v1/orders/1", 403),
        ("/admin?/../v1/orders/1", 403),
        ("/?/v1/orders", 403),
    ] {
        let (path, _) = target.split_once('?').unwrap();
        let with = bench.door().get(target).await;
        let without = bench.door().get(path).await;
        assert_eq!((with.status, without.status), (status, status), "{target}");
        let records: Vec<_> = bench.audit().into_iter().filter(|record| record["event"] == "decision").collect();
        let [.., with, without] = &records[..] else { panic!("two decisions: {records:?}") };
        for fact in ["outcome", "rule", "reason"] {
            assert_eq!(with[fact], without[fact], "{target}");
        }
        assert!(status == 403 || with["rule"] == "orders/use", "{with}");
    }
    assert!(bench.backend.requests().iter().all(|request| request.target().starts_with("/v1/orders")));
}

#[tokio::test]
async fn nt_06_a_fragment_is_never_sent() {
    let bench = Bench::ordinary().await;
    refused(&bench, &[b"/admin#/v1/orders", b"/v1/orders#", b"/v1/orders?x#/y", b"#/v1/orders"]).await;
}

#[tokio::test]
async fn nt_07_paths_have_a_case() {
    let bench = Bench::ordinary().await;
    for target in ["/V1/Orders", "/v1/ORDERS/1", "/v1/order%53"] {
        let answer = bench.door().get(target).await;
        bench.check_refused(&answer, 403, "no-rule");
    }
}

#[tokio::test]
async fn nt_09_an_absolute_target_must_name_the_host_itself() {
    let bench = Bench::ordinary().await;
    for (target, status, reason) in [
        ("http://evil.test/v1/orders", 421, "host-mismatch"),
        ("http://billing.api.test/v1/orders", 421, "host-mismatch"),
        ("https://orders.api.test/v1/orders", 400, "malformed-target"),
        ("http://orders.api.test@evil.test/v1/orders", 400, "malformed-header"),
        ("http://orders.api.test:8080/v1/orders", 421, "host-mismatch"),
        ("ftp://orders.api.test/v1/orders", 400, "malformed-target"),
        ("orders.api.test/v1/orders", 400, "malformed-target"),
        ("*", 400, "malformed-target"),
    ] {
        let answer = bench.door().get(target).await;
        assert_eq!(answer.status, status, "{target}");
        bench.check_refused(&answer, status, reason);
    }
    let answer = bench.door().get("http://orders.api.test/v1/orders?x=1").await;
    let seen = bench.check_passed(&answer);
    assert_eq!((seen.target(), seen.header("host")), ("/v1/orders?x=1", Some(ORDERS)), "origin form goes up");
}

#[tokio::test]
async fn nt_10_a_pattern_ends_at_a_segment() {
    let bench = Bench::ordinary().await;
    for target in ["/v1/orders-internal", "/v1/ordersX", "/v1/orders.json", "/v1/orders%2Dinternal", "/v1/orders/"] {
        let answer = bench.door().get(target).await;
        bench.check_refused(&answer, 403, "no-rule");
    }
}

#[tokio::test]
async fn nt_11_control_characters_and_foreign_bytes_are_refused() {
    let bench = Bench::ordinary().await;
    refused(
        &bench,
        &[
            b"/v1/orders/%00",
            b"/v1/orders/1%00.css",
            b"/v1/orders/%0d%0aX:%20y",
            b"/v1/orders/%0A",
            b"/v1/orders/%09",
            b"/v1/orders/%7F",
            b"/v1/orders/\x01",
            b"/v1/orders/\t",
            b"/v1/orders/\x7f",
            b"/v1/orders/\xff",
            "/v1/orders/\u{e9}".as_bytes(),
            b"/v1/orders/%FF",
            b"/v1/orders/%",
            b"/v1/orders/%4",
            b"/v1/orders/%zz",
            b"/v1/orders?x=%00",
            b"/v1/orders/<script>",
        ],
    )
    .await;
}

/// A sequence of numbers that is the same in every run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn target(&mut self) -> String {
        const PIECES: &[&str] = &[
            "a",
            "B",
            "7",
            "-",
            "~",
            ".",
            "%41",
            "%7e",
            "%3A",
            ":",
            "@",
            "%20",
            "%c3%a9",
            "%C3%A9",
            "%25",
            "%2f",
            "..",
            "%2e",
            ";",
            "+",
            "%2B",
            "=",
            "!",
            "%E2%82%AC",
        ];
        let mut target = String::from("/base");
        for _ in 0..self.below(4) {
            target.push('/');
            for _ in 0..self.below(4) {
                target.push_str(self.pick(PIECES));
            }
        }
        if self.below(3) == 0 {
            target.push('?');
            for _ in 0..self.below(4) {
                target.push_str(self.pick(&["x=1", "&", "_method=DELETE", "%2F", "..", "/", "a[]=b", ";", "%0A"]));
            }
        }
        target
    }
}

/// A second reading, by nobody's rules but RFC 3986's: the segments, decoded.
fn segments(target: &str) -> Vec<Vec<u8>> {
    let path = target.split('?').next().unwrap_or_default();
    let decode = |segment: &str| {
        let mut bytes = segment.bytes();
        let mut decoded = Vec::new();
        while let Some(byte) = bytes.next() {
            let digits = if byte == b'%' { [bytes.next(), bytes.next()] } else { [None, None] };
            decoded.push(match digits {
                [Some(high), Some(low)] => {
                    let digits = [high, low].map(char::from).iter().collect::<String>();
                    u8::from_str_radix(&digits, 16).expect("a triplet")
                }
                _ => byte,
            });
        }
        decoded
    };
    path.split('/').map(decode).collect()
}

#[tokio::test]
async fn nt_12_what_the_api_gets_is_what_was_read_and_judged() {
    let rules = "[[allow]]\nid = \"all\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/\", \"/**\"]\n";
    let whole = Setup::of(&api("orders", "", "", rules)).start().await;
    let stripped = Setup::of(&api("orders", "base = \"/base\"", "strip_base = true", rules)).start().await;
    let (mut numbers, mut accepted, mut refused) = (Numbers(0x9E37_79B9_7F4A_7C15), 0, 0);
    let mut doors = [whole.door(), stripped.door()];
    while accepted < 300 {
        let target = numbers.target();
        let raw = Raw { method: "GET", target: Target::Http1 { target: target.as_bytes() }, port: 80 };
        let read = CanonicalRequest::read(&raw, [("host", ORDERS.as_bytes())].into_iter())
            .and_then(|request| request.admit(false, false, false).map(|()| request));
        for ((bench, door), base) in [&whole, &stripped].into_iter().zip(&mut doors).zip([0, 1]) {
            let before = bench.backend.requests().len();
            let answer = door.send(get(&target)).await;
            let Ok(read) = &read else {
                assert_eq!(answer.status, 400, "{target}");
                assert_eq!(bench.backend.requests().len(), before, "{target}");
                *door = bench.door();
                refused += 1;
                continue;
            };
            if answer.status == 403 {
                // An empty last segment is no segment of `**`.
                assert!(read.path().ends_with('/'), "{target}: {answer:?}");
                assert_eq!(bench.backend.requests().len(), before, "{target}");
                continue;
            }
            let seen = bench.check_passed(&answer);
            let below = read.path().match_indices('/').nth(base).map_or("/", |(at, _)| &read.path()[at..]);
            assert_eq!(seen.target(), read.origin_form(below), "{target}");
            let (sent, got) = (segments(&target), segments(seen.target()));
            if base == 0 || sent.len() > 2 {
                assert_eq!(sent[base + 1..], got[1..], "{target}");
            }
            let record = bench.decision(seen.header("wicketgate-decision").unwrap());
            assert_eq!(record["req"]["path"], read.path(), "{target}");
            accepted += 1;
        }
    }
    assert!(refused > 50, "the numbers find bad targets too: {refused}");
}

#[tokio::test]
async fn a_base_is_judged_with_the_path_and_forwarded_by_choice() {
    for (upstream, seen) in [("", "/v1/orders/7?x=1"), ("strip_base = true", "/orders/7?x=1")] {
        let rules = "[[allow]]\nid = \"read\"\nwho = \"dev\"\nmethods = [\"GET\"]\npaths = [\"/orders/{id:int}\"]\n";
        let bench = Setup::of(&api("orders", "base = \"/v1\"", upstream, rules)).start().await;
        let answer = bench.door().get("/v1/orders/7?x=1").await;
        assert_eq!(bench.check_passed(&answer).target(), seen);
        let answer = bench.door().get("/orders/7").await;
        bench.check_reply(&answer, 404, "no-such-api");
        let answer = bench.door().get("/v1/v1/orders/7").await;
        bench.check_reply(&answer, 403, "no-rule");
    }
}

#[tokio::test]
async fn the_longest_base_names_the_api() {
    let inner = api("orders-admin", "base = \"/v1/admin\"", "", "").replace("orders-admin.api.test", ORDERS)
        + "[[allow]]\nid = \"all\"\nwho = \"admin\"\nmethods = [\"GET\"]\npaths = [\"/**\"]\n";
    let all = RULES.replace("\"/v1/orders\", \"/v1/orders/**\"", "\"/**\"");
    let bench = Setup::new(&all).file("orders-admin.toml", &inner).start().await;
    let answer = bench.door().get("/v1/admin/users").await;
    bench.check_refused(&answer, 404, "no-such-api");
    let answer = bench.door().get("/v1/administration").await;
    bench.check_passed(&answer);
}
