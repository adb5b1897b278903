use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const HOST: &str = "orders.api.corp.example";

fn read(target: &[u8]) -> Result<CanonicalRequest, Malformed> {
    read_with(target, &[])
}

/// What is sent upstream.
fn sent(request: &CanonicalRequest) -> String {
    request.origin_form(request.path())
}

fn read_with(target: &[u8], more: &[(&str, &str)]) -> Result<CanonicalRequest, Malformed> {
    let lines = std::iter::once(("host", HOST)).chain(more.iter().copied());
    read_lines("GET", target, 443, lines)
}

fn read_lines<'a>(
    method: &str,
    target: &[u8],
    port: u16,
    lines: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<CanonicalRequest, Malformed> {
    let raw = Raw { method, target: Target::Http1 { target }, port };
    let lines: Vec<_> = lines.collect();
    CanonicalRequest::read(&raw, lines.iter().map(|(name, value)| (*name, value.as_bytes())))
}

fn read_host(lines: &[(&str, &str)]) -> Result<CanonicalRequest, Malformed> {
    read_lines("GET", b"/v1/orders", 443, lines.iter().copied())
}

fn read_http2(
    path: Option<&[u8]>,
    authority: Option<&str>,
    lines: &[(&str, &str)],
) -> Result<CanonicalRequest, Malformed> {
    let authority = authority.map(str::as_bytes);
    let target = Target::Http2 { scheme: Some("https"), authority, path };
    let raw = Raw { method: "GET", target, port: 443 };
    CanonicalRequest::read(&raw, lines.iter().map(|(name, value)| (*name, value.as_bytes())))
}

fn path_of(target: &str) -> String {
    read(target.as_bytes()).unwrap().path().to_owned()
}

#[track_caller]
fn refused(target: &[u8], expected: &Malformed) {
    let got = read(target).expect_err(&String::from_utf8_lossy(target));
    assert_eq!(&got, expected, "{}", String::from_utf8_lossy(target));
}

#[test]
fn a_plain_request_is_read_as_it_stands() {
    let request = read(b"/v1/orders/1?state=open&q=a%0Ab").unwrap();
    assert_eq!((request.method(), request.host(), request.path()), ("GET", HOST, "/v1/orders/1"));
    assert_eq!(request.query(), Some("state=open&q=a%0Ab"));
    assert_eq!(sent(&request), "/v1/orders/1?state=open&q=a%0Ab");
    assert_eq!(request.oddities(), Oddities::default());
}

#[test]
fn a_path_has_one_spelling() {
    assert_eq!(path_of("/%76%31/%7Euser/a%2db%5f/%c3%bc%3a%40x"), "/v1/~user/a-b_/%C3%BC:@x");
    assert_eq!(path_of("/%21%24%26%27%28%29%2a%2b%2c%3d"), "/!$&'()*+,=");
    assert_eq!(path_of("/svc%3Aops/a"), path_of("/svc:ops/a"));
    assert_eq!(path_of("/%3b%3f%23%20%22%5b%7c"), "/%3B%3F%23%20%22%5B%7C", "what would change or break the path");
    assert_eq!(read(b"/a%3bb").unwrap().oddities(), Oddities::default());
    assert_eq!(path_of("/a%2Eb/..c/d../...."), "/a.b/..c/d../....");
    assert_eq!(canonical_path("/svc%3aops/%c3%bc%3b").as_deref(), Ok("/svc:ops/%C3%BC%3B"));
    assert_eq!(canonical_path("/%4"), Err(Malformed::Triplet { at: 2 }));
}

#[test]
fn nt_01_dot_segments_are_refused_in_every_spelling() {
    for target in [
        "/v1/orders/../admin",
        "/v1/orders/%2e%2e/admin",
        "/v1/orders/.%2E/admin",
        "/v1/%2e./admin",
        "/..",
        "/.",
        "/v1/.",
        "/./v1",
        "/%2E",
    ] {
        refused(target.as_bytes(), &Malformed::DotSegment);
    }
}

#[test]
fn nt_01_no_opaque_spelling_hides_a_dot_segment() {
    for target in [
        "/v1/..%2Fadmin",
        "/v1/a%2f..%2fadmin",
        "/v1/..%5cadmin",
        "/v1/..;/admin",
        "/v1/..;x=1/admin",
        "/v1/%252e%252e/admin",
        "/v1/%25252e%2e/admin",
        "/v1/%25%32%65%2e/admin",
        "/v1/a%252f..%252fadmin",
        "/v1/a%255c.%255cadmin",
        "/v1/%2e%2e%3Bx/admin%2F",
    ] {
        refused(target.as_bytes(), &Malformed::DotSegment);
    }
}

#[test]
fn nt_02_empty_segments_are_refused() {
    for target in ["//v1/orders/1", "/v1//orders/1", "/v1/orders//", "//", "///", "//evil.example/v1"] {
        refused(target.as_bytes(), &Malformed::EmptySegment);
    }
}

#[test]
fn nt_03_encoded_slashes_are_refused_or_stay_inside_one_segment() {
    for (target, path) in [("/v1/orders%2F1", "/v1/orders%2F1"), ("/v1/a%2f1", "/v1/a%2F1"), ("/v1/a%5c1", "/v1/a%5C1")]
    {
        let request = read(target.as_bytes()).unwrap();
        assert_eq!(request.admit(false, true, true), Err(Malformed::EncodedSlash));
        assert_eq!(request.admit(true, false, false), Ok(()));
        assert_eq!(sent(&request), path);
    }
    let doubled = read(b"/v1/a%252F1").unwrap();
    assert_eq!(doubled.admit(true, false, true), Err(Malformed::DoubleEncoding));
    assert_eq!(doubled.admit(false, true, false), Ok(()));
    assert_eq!(doubled.path(), "/v1/a%252F1");
    assert_eq!(read(b"/v1/a%25%32%46").unwrap().admit(true, false, true), Err(Malformed::DoubleEncoding));
    assert_eq!(read(b"/v1/100%25").unwrap().admit(false, false, false), Ok(()));
    refused(b"/v1/%c0%af", &Malformed::NotUtf8);
    refused(b"/v1/%c3x%bc", &Malformed::NotUtf8);
    refused(b"/v1\\orders", &Malformed::TargetByte { byte: b'\\', at: 4 });
}

#[test]
fn nt_04_matrix_parameters_are_refused_unless_opaque() {
    for target in ["/v1/orders;x=1/2", "/v1/orders/1;.css", "/v1/;"] {
        let request = read(target.as_bytes()).unwrap();
        assert_eq!(request.admit(true, true, false), Err(Malformed::MatrixParams));
        assert_eq!(request.admit(false, false, true), Ok(()));
        assert_eq!(sent(&request), target);
    }
}

#[test]
fn nt_05_the_query_is_no_part_of_the_path() {
    assert_eq!(path_of("/v1/orders?x=/v1/public"), "/v1/orders");
    assert_eq!(path_of("/admin?/v1/orders/1"), "/admin");
    assert_eq!(path_of("/admin?/../v1//orders;x%2F"), "/admin");
    assert_eq!(read(b"/admin??a").unwrap().query(), Some("?a"));
    assert_eq!(sent(&read(b"/admin?").unwrap()), "/admin?");
}

#[test]
fn nt_06_a_fragment_on_the_wire_is_refused() {
    refused(b"/admin#/v1/orders", &Malformed::Fragment { at: 7 });
    refused(b"/admin?x#y", &Malformed::Fragment { at: 9 });
    assert_eq!(read_http2(Some(b"/a#b"), Some(HOST), &[]), Err(Malformed::Fragment { at: 3 }));
}

#[test]
fn nt_08_http2_paths_have_one_form() {
    for path in [None, Some(&b""[..]), Some(b"v1/orders"), Some(b"*"), Some(b"https://orders.api.corp.example/v1")] {
        assert_eq!(read_http2(path, Some(HOST), &[]), Err(Malformed::TargetForm), "{path:?}");
    }
    assert_eq!(read_http2(Some(b"//v1"), Some(HOST), &[]), Err(Malformed::EmptySegment));
    assert_eq!(read_http2(Some(b"/v1"), Some(HOST), &[]).unwrap().path(), "/v1");
    for scheme in [None, Some("http"), Some("ftp")] {
        let target = Target::Http2 { scheme, authority: Some(HOST.as_bytes()), path: Some(b"/v1") };
        let raw = Raw { method: "GET", target, port: 443 };
        assert_eq!(CanonicalRequest::read(&raw, std::iter::empty()), Err(Malformed::TargetForm));
    }
}

#[test]
fn nt_09_an_absolute_target_must_name_the_host() {
    refused(b"https://evil/v1/orders", &Malformed::AuthorityDiffers);
    refused(b"http://orders.api.corp.example/v1", &Malformed::TargetForm);
    refused(b"https://orders.api.corp.example", &Malformed::TargetForm);
    refused(b"https://orders.api.corp.example?x", &Malformed::TargetForm);
    refused(b"https://u@orders.api.corp.example/v1", &Malformed::UserInfo);
    refused(b"https:///v1", &Malformed::HostSyntax);
    refused(b"*", &Malformed::TargetForm);
    refused(b"", &Malformed::TargetForm);
    refused(b"orders.api.corp.example:443", &Malformed::TargetForm);
    let request = read(b"HTTPS://Orders.api.corp.example:443/v1/orders?x").unwrap();
    assert_eq!(sent(&request), "/v1/orders?x");
    let good_host = [("host", "good.example")];
    let got = read_lines("GET", b"http://evil/v1/orders", 80, good_host.into_iter()).unwrap_err();
    assert_eq!((got.status(), got.reason()), (421, "host-mismatch"));
    let no_host = read_lines("GET", b"https://orders.api.corp.example/v1", 443, std::iter::empty());
    assert_eq!(no_host, Err(Malformed::HostMissing));
}

#[test]
fn nt_11_controls_and_raw_bytes_are_refused() {
    for (target, byte, at) in [
        ("/v1/%00", 0, 5),
        ("/v1/a%0d%0aX: y", 13, 6),
        ("/v1/%0A", 10, 5),
        ("/%09", 9, 2),
        ("/%7f", 127, 2),
        ("/%1b", 27, 2),
    ] {
        refused(target.as_bytes(), &Malformed::EncodedControl { byte, at });
    }
    refused(b"/v1?x=%00", &Malformed::EncodedControl { byte: 0, at: 7 });
    for byte in (0..=b' ').chain([0x7f, 0x80, 0xc3, 0xff, b'"', b'<', b'>', b'\\']) {
        refused(&[b'/', b'v', byte], &Malformed::TargetByte { byte, at: 3 });
        refused(&[b'/', b'?', byte], &Malformed::TargetByte { byte, at: 3 });
    }
    for target in ["/%", "/%2", "/%zz", "/a?%", "/a?%f", "/%%41"] {
        assert!(matches!(read(target.as_bytes()), Err(Malformed::Triplet { .. })), "{target}");
    }
    let long = [b"/".as_slice(), &vec![b'a'; MAX_TARGET]].concat();
    refused(&long, &Malformed::TargetTooLong { limit: MAX_TARGET });
    assert_eq!(read(&long[..MAX_TARGET]).unwrap().path().len(), MAX_TARGET);
}

#[test]
fn nt_13_there_is_one_host_and_it_is_a_name() {
    assert_eq!(read_host(&[("host", HOST), ("Host", HOST)]), Err(Malformed::FieldRepeated { name: "host" }));
    assert_eq!(read_host(&[]), Err(Malformed::HostMissing));
    for (value, expected) in [
        ("user@orders.api.corp.example", Malformed::UserInfo),
        ("u:p@orders.api.corp.example", Malformed::UserInfo),
        ("orders.api.corp.example:80", Malformed::PortDiffers { expected: 443, got: 80 }),
        ("orders.api.corp.example:", Malformed::HostSyntax),
        ("orders.api.corp.example:0443", Malformed::HostSyntax),
        ("orders.api.corp.example:65979", Malformed::HostSyntax),
        ("orders.api.corp.example:+443", Malformed::HostSyntax),
        ("198.18.7.130", Malformed::IpLiteral),
        ("0x7f.1", Malformed::IpLiteral),
        ("2130706433", Malformed::IpLiteral),
        ("a.0x7f", Malformed::IpLiteral),
        ("[::1]", Malformed::IpLiteral),
        ("[::1]:443", Malformed::IpLiteral),
        ("", Malformed::HostSyntax),
        (".", Malformed::HostSyntax),
        ("orders..example", Malformed::HostSyntax),
        ("orders.example..", Malformed::HostSyntax),
        ("-a.example", Malformed::HostSyntax),
        ("a-.example", Malformed::HostSyntax),
        ("example.-a", Malformed::HostSyntax),
        ("example.a-", Malformed::HostSyntax),
        (".example", Malformed::HostSyntax),
        ("a_b.example", Malformed::HostSyntax),
        ("a b.example", Malformed::HostSyntax),
        ("a.example, b.example", Malformed::HostSyntax),
        ("a.example/v1", Malformed::HostSyntax),
        ("b\u{fc}cher.example", Malformed::HostSyntax),
        (&format!("{}.example", "a".repeat(64)), Malformed::HostSyntax),
        (&"a.".repeat(128), Malformed::HostSyntax),
    ] {
        assert_eq!(read_host(&[("host", value)]), Err(expected), "{value}");
    }
    assert!(read_host(&[("host", &"a.".repeat(127))]).is_ok(), "253 characters and the trailing dot");
    for value in ["Orders.API.corp.example", "orders.api.corp.example.", "orders.api.corp.example.:443"] {
        assert_eq!(read_host(&[("host", value)]).unwrap().host(), HOST);
    }
    assert_eq!(Malformed::IpLiteral.status(), 421);
    assert_eq!(Malformed::UserInfo.status(), 400);
    assert_eq!(read_http2(Some(b"/"), Some("a.example"), &[("host", "b.example")]), Err(Malformed::AuthorityDiffers));
    assert_eq!(read_http2(Some(b"/"), Some("a.example"), &[("host", "A.example:443")]).unwrap().host(), "a.example");
    assert_eq!(read_http2(Some(b"/"), None, &[("host", "b.example")]).unwrap().host(), "b.example");
    assert_eq!(read_http2(Some(b"/"), None, &[]), Err(Malformed::HostMissing));
}

#[test]
fn nt_19_credentials_stand_once() {
    for (lines, expected) in [
        (
            [("authorization", "Bearer a"), ("Authorization", "Bearer a")],
            Malformed::FieldRepeated { name: "authorization" },
        ),
        ([("cookie", "a=1"), ("Cookie", "b=2")], Malformed::FieldRepeated { name: "cookie" }),
        ([("content-type", "a/b"), ("content-type", "a/b")], Malformed::FieldRepeated { name: "content-type" }),
        ([("content-length", "0"), ("content-length", "0")], Malformed::FieldRepeated { name: "content-length" }),
        ([("x", "1"), ("authorization", "Bearer a, Bearer b")], Malformed::TwoTokens),
        ([("x", "1"), ("authorization", "bearer a b")], Malformed::TwoTokens),
        ([("x", "1"), ("authorization", "Bearer a,DPoP b")], Malformed::TwoTokens),
        ([("x", "1"), ("cookie", "a=\"x; session=evil\"")], Malformed::CookieQuote),
        ([("x", "1"), ("cookie", "a=\"")], Malformed::CookieQuote),
    ] {
        assert_eq!(read_with(b"/", &lines), Err(expected), "{lines:?}");
    }
    for query in [
        "access_token=x",
        "a=1&access%5Ftoken=x",
        "a;ACCESS_TOKEN=x",
        "+access.token=x",
        "access-token=x",
        "access%5Btoken=x",
    ] {
        let target = format!("/?{query}");
        assert_eq!(
            read_with(target.as_bytes(), &[("authorization", "Bearer a")]),
            Err(Malformed::TwoTokens),
            "{query}"
        );
        assert!(read_with(target.as_bytes(), &[("authorization", "Basic YTpi")]).is_ok());
    }
    for value in ["Bearer 1|abc.def-_~+/==", "Digest a=\"b\", c=d", "Basic YTpi", "Bearer"] {
        assert!(read_with(b"/", &[("authorization", value)]).is_ok(), "{value}");
    }
    assert!(read_with(b"/", &[("cookie", "a=\"x\"; b={\"c\":1}; d")]).is_ok());
    assert!(read_http2(Some(b"/"), Some(HOST), &[("cookie", "a=1"), ("cookie", "b=2")]).is_ok());
}

#[test]
fn credentials_have_a_scheme_that_all_readers_end_alike() {
    for value in
        ["Bearer\tx", "Bearer,x", "Bearer=x", "Bearer\u{e9} x", "Bearer \u{e9}", "", "=", ",Bearer x", "\"Bearer\" x"]
    {
        let lines = [("authorization", value)];
        assert_eq!(read_with(b"/", &lines), Err(Malformed::Credentials), "{value:?}");
        assert_eq!(read_http2(Some(b"/"), Some(HOST), &lines), Err(Malformed::Credentials), "{value:?}");
        assert_eq!(bearer(value.as_bytes()), None, "{value:?}");
    }
    for value in ["Bearer \tx", "Bearer x\t", "DPoP \tx"] {
        assert_eq!(read_with(b"/", &[("authorization", value)]), Err(Malformed::TwoTokens), "{value:?}");
    }
    for (value, token) in [("Bearer x", "x"), ("bEARER   x ", "x"), ("Bearer", ""), ("Bearer ", "")] {
        assert!(read_with(b"/", &[("authorization", value)]).is_ok(), "{value:?}");
        assert_eq!(bearer(value.as_bytes()), Some(token.as_bytes()), "{value:?}");
    }
    assert_eq!((bearer(b"Basic x"), bearer(b"DPoP x"), bearer(b"Bearers x")), (None, None, None));
}

#[test]
fn credentials_that_log_in_a_connection_are_refused() {
    for value in ["NTLM TlRMTVNTUAAB", "ntlm", "Negotiate YII=", "NEGOTIATE x"] {
        assert_eq!(read_with(b"/", &[("authorization", value)]), Err(Malformed::ConnectionLogin), "{value:?}");
    }
}

#[test]
fn nt_20_a_body_is_framed_in_one_way() {
    let lines = |more: &[(&str, &str)]| read_with(b"/", more).map(drop);
    assert_eq!(lines(&[("content-length", "5"), ("transfer-encoding", "chunked")]), Err(Malformed::TwoFramings));
    for value in ["chunked , x", "chunked, chunked", "x, chunked", "CHUNKED", "identity", "", "chunked\u{b}"] {
        let got = lines(&[("transfer-encoding", value)]).unwrap_err();
        assert!(matches!(got, Malformed::TransferEncoding | Malformed::FieldControl { .. }), "{value}");
    }
    for value in ["+5", "-1", "5, 5", "0x5", "05", "5 5", "", "5a", "18446744073709551615", "1000000000000000000"] {
        assert_eq!(lines(&[("content-length", value)]), Err(Malformed::ContentLength), "{value}");
    }
    for (name, value) in
        [("transfer-encoding", "chunked"), ("connection", "close"), ("upgrade", "websocket"), ("keep-alive", "x")]
    {
        let got = read_http2(Some(b"/"), Some(HOST), &[(name, value)]);
        assert_eq!(got, Err(Malformed::ConnectionSpecific { name }));
    }
    assert_eq!(
        read_http2(Some(b"/"), Some(HOST), &[("x", "a\r\nhost: evil")]),
        Err(Malformed::FieldControl { line: 1 })
    );
    assert!(read_http2(Some(b"/"), Some(HOST), &[("te", "trailers"), ("x", "a\tb\u{fc}")]).is_ok());
    assert!(read_http2(Some(b"/"), Some(HOST), &[("te", "gzip")]).is_err());
}

#[test]
fn nt_22_only_a_websocket_handshake_may_upgrade() {
    let ask = |method: &str, lines: &[(&'static str, &'static str)]| {
        let mut fields = Fields::new(Protocol::Http1);
        fields.push(b"Host", HOST.as_bytes()).unwrap();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes())?;
        }
        Head::read(&Raw { method, target: Target::Http1 { target: b"/" }, port: 80 }, &fields).map(drop)
    };
    assert_eq!(ask("GET", &[("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")]), Ok(()));
    assert_eq!(ask("GET", &[("Connection", "upgrade")]), Ok(()));
    for lines in [
        &[("Connection", "Upgrade"), ("Upgrade", "h2c")][..],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket, h2c")],
        &[("Upgrade", "websocket")],
        &[("HTTP2-Settings", "AAMAAABkAAQAAP__")],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Content-Length", "3")],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Transfer-Encoding", "chunked")],
    ] {
        assert_eq!(ask("GET", lines), Err(Malformed::Upgrade), "{lines:?}");
    }
    assert_eq!(ask("POST", &[("Connection", "Upgrade"), ("Upgrade", "websocket")]), Err(Malformed::Upgrade));
}

#[test]
fn nt_24_a_method_in_the_query_is_taken_out() {
    for (query, kept) in [
        ("_method=DELETE", "/v1"),
        ("a=1&_method=DELETE", "/v1?a=1"),
        ("_method=DELETE&a=1", "/v1?a=1"),
        ("a=1&%5Fmeth%6fd=DELETE&b=2", "/v1?a=1&b=2"),
        ("a=1;_METHOD=DELETE;b=2", "/v1?a=1;b=2"),
        ("_method", "/v1"),
        ("+_method=DELETE&a=1", "/v1?a=1"),
        ("%20+%20.method=DELETE", "/v1"),
        (".method=DELETE;-Method=DELETE;%2Emethod=DELETE;+%20method;a", "/v1?+%20method;a"),
        ("%2b_method=1&__method=2&_+method=3&+=4&+", "/v1?%2b_method=1&__method=2&_+method=3&+=4&+"),
        ("a=_method&x_method=1&_methods=2", "/v1?a=_method&x_method=1&_methods=2"),
    ] {
        assert_eq!(sent(&read(format!("/v1?{query}").as_bytes()).unwrap()), kept, "{query}");
    }
}

#[test]
fn nt_25_methods_are_tokens_byte_for_byte() {
    let method = |method: &str| read_lines(method, b"/", 443, [("host", HOST)].into_iter());
    for token in ["delete", "PROPFIND", "TRACE", "M-SEARCH", &"A".repeat(32)] {
        assert_eq!(method(token).unwrap().method(), token);
    }
    for not in ["", "GET ", "GET\t", "G\u{0}T", "G(T", "G\u{fc}T", &"A".repeat(33)] {
        assert_eq!(method(not), Err(Malformed::Method { limit: 32 }), "{not:?}");
    }
    assert_eq!(method("CONNECT"), Err(Malformed::Connect));
    assert_eq!(read_lines("PRI", b"*", 443, [("host", HOST)].into_iter()), Err(Malformed::TargetForm));
}

#[test]
fn header_lines_are_tokens_without_underscores_and_bounded() {
    assert_eq!(read_with(b"/", &[("x_user", "a")]), Err(Malformed::FieldUnderscore { line: 2 }));
    assert_eq!(read_with(b"/", &[("x user", "a")]), Err(Malformed::FieldName { line: 2 }));
    assert_eq!(read_with(b"/", &[("", "a")]), Err(Malformed::FieldName { line: 2 }));
    assert_eq!(read_with(b"/", &[("a", "b\0")]), Err(Malformed::FieldControl { line: 2 }));
    assert!(read_with(b"/", &vec![("a", "b"); MAX_FIELDS - 1]).is_ok());
    let many = read_with(b"/", &vec![("a", "b"); MAX_FIELDS]).unwrap_err();
    assert_eq!((many.status(), many), (431, Malformed::TooManyFields { limit: MAX_FIELDS }));
    let long = "x".repeat(MAX_HEAD);
    assert_eq!(read_with(b"/", &[("a", &long)]), Err(Malformed::HeadTooLong { limit: MAX_HEAD }));
}

#[test]
fn a_reserved_character_and_its_triplet_name_the_same_segment() {
    assert!(segments_equal("a:b", "a%3Ab"));
    assert!(segments_equal("a%3Ab", "a:b"));
    assert!(segments_equal("%C3%BC", "%C3%BC"));
    assert!(segments_equal("a%3Bb", "a;b"));
    for (a, b) in [("a", "b"), ("a%2Fb", "a%5Cb"), ("%2541", "A"), ("a%3Ab", "a%3A"), ("%25", "%")] {
        assert!(!segments_equal(a, b), "{a} {b}");
    }
}

/// Another reading of a target, which shares nothing with the one under test: segments fully decoded, and the query.
fn second_parser(target: &str) -> (Vec<Vec<u8>>, Option<String>) {
    let (path, query) = match target.find('?') {
        Some(mark) => (&target[..mark], Some(target[mark + 1..].to_owned())),
        None => (target, None),
    };
    let decoded = |segment: &str| {
        let mut pieces = segment.split('%');
        let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
        for piece in pieces {
            bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            bytes.extend_from_slice(&piece.as_bytes()[2..]);
        }
        bytes
    };
    (path.split('/').skip(1).map(decoded).collect(), query)
}

fn targets() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&str] = &[
        "/",
        "/",
        "/",
        "//",
        ".",
        "..",
        "v1",
        "orders",
        "a",
        "%2e",
        "%2E",
        "%2f",
        "%5C",
        "%25",
        "%252e",
        "25",
        "2e",
        "%",
        "%41",
        "%7e",
        "%c3%bc",
        "%c3",
        "%00",
        "%0a",
        ";",
        ";x=1",
        "?",
        "?",
        "a=1",
        "&",
        "_method=X",
        "#",
        "\\",
        " ",
        ":",
        "@",
        "!$'()*+,",
        "[",
        "|",
        "%3b",
        "%3F",
        "\u{fc}",
    ];
    let piece = prop_oneof![
        12 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| {
        let mut target = b"/".to_vec();
        target.extend(pieces.concat());
        target
    })
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[test]
fn nt_12_what_is_forwarded_reads_the_same_to_a_second_parser() {
    let cases = std::env::var("WICKETGATE_TARGETS").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20_000);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let accepted = std::cell::Cell::new(0u32);
    runner
        .run(&targets(), |bytes| {
            let Ok(request) = read(&bytes) else { return Ok(()) };
            accepted.set(accepted.get() + 1);
            let forwarded = sent(&request);
            prop_assert_eq!(&read(forwarded.as_bytes()).unwrap(), &request);
            let path = request.path();
            prop_assert!(path.is_ascii() && !path.contains("//") && path.starts_with('/'));
            prop_assert!(!has_dot_segment(path));
            prop_assert!(forwarded.bytes().all(|byte| byte > b' ' && byte < 0x7f && byte != b'\\' && byte != b'#'));

            let (came, came_query) = second_parser(std::str::from_utf8(&bytes).unwrap());
            let (seen, seen_query) = second_parser(&forwarded);
            prop_assert_eq!(&came, &seen);
            if !came_query.as_deref().is_some_and(|query| query.contains("_method")) {
                prop_assert_eq!(came_query, seen_query);
            }
            Ok(())
        })
        .unwrap();
    let accepted = accepted.get();
    assert!(accepted > cases / 50, "only {accepted} of {cases} targets were legal");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(target: Vec<u8>, host: Vec<u8>, name: String, value: Vec<u8>, method: String) {
        for target in [Target::Http1 { target: &target }, Target::Http2 {
            scheme: Some("http"), authority: Some(&host), path: Some(&target),
        }] {
            let raw = Raw { method: &method, target, port: 80 };
            let lines = [("host", &host[..]), (name.as_str(), &value[..])];
            if let Err(malformed) = CanonicalRequest::read(&raw, lines.into_iter()) {
                prop_assert!((400..=431).contains(&malformed.status()));
            }
        }
    }
}
