use super::*;
use proptest::prelude::*;

/// As sstp-client 1.0.18 sends it.
const SSTPC: &str = "SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n\
    Host: vpn.example.test\r\n\
    Content-Length: 18446744073709551615\r\n\
    SSTPCORRELATIONID: {52A03602-B1BC-840A-7F180D47}\r\n\r\n";

/// The example of [MS-SSTP] 4.1.
const WINDOWS: &str = "SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n\
    SSTPCORRELATIONID: {2C21DDC4-6E73-4E1F-8C80-AF3F7E3D8A4E}\r\n\
    Content-Length: 18446744073709551615\r\n\
    Host: contoso.example\r\n\r\n";

fn read(text: &str) -> Head {
    let (head, length) = read_head(text.as_bytes()).expect("short enough").expect("whole");
    if !matches!(head, Head::Malformed(_)) {
        assert_eq!(length, text.len());
    }
    head
}

fn tunnel(head: &str) -> Head {
    read(&format!("SSTP_DUPLEX_POST {SSTP_PATH} HTTP/1.1\r\n{head}\r\n"))
}

const BARE: Head = Head::Tunnel { correlation_id: None, host: None };

#[test]
fn the_requests_of_known_clients_open_a_tunnel() {
    assert_eq!(
        read(SSTPC),
        Head::Tunnel {
            correlation_id: Some("{52A03602-B1BC-840A-7F180D47}".into()),
            host: Some("vpn.example.test".into())
        }
    );
    assert_eq!(
        read(WINDOWS),
        Head::Tunnel {
            correlation_id: Some("{2C21DDC4-6E73-4E1F-8C80-AF3F7E3D8A4E}".into()),
            host: Some("contoso.example".into())
        }
    );
}

#[test]
fn a_head_in_pieces_of_one_byte_is_read_at_its_last_byte() {
    let last = SSTPC.len();
    for length in 0..last {
        assert_eq!(read_head(&SSTPC.as_bytes()[..length]), Ok(None), "{length}");
    }
    assert!(matches!(read_head(SSTPC.as_bytes()), Ok(Some((Head::Tunnel { .. }, length))) if length == last));
}

#[test]
fn a_reader_looks_at_each_byte_once() {
    let mut reader = HeadReader::default();
    let mut bytes = SSTPC.as_bytes().to_vec();
    for length in 0..bytes.len() {
        assert_eq!(reader.read(&bytes[..length]), Ok(None), "{length}");
        // Were it looked at again, this would be an offence.
        bytes.iter_mut().take(length.saturating_sub(1)).for_each(|byte| *byte = 0);
    }
    assert!(matches!(reader.read(&bytes), Ok(Some((Head::Malformed(_), length))) if length == SSTPC.len()));
}

#[test]
fn bytes_behind_the_blank_line_are_left_alone() {
    let mut bytes = SSTPC.as_bytes().to_vec();
    bytes.extend([0x10, 0x01, 0x00, 0x0E, 0x00, 0x01, 0x00, 0x01, 0x00, 0x01, 0x00, 0x06, 0x00, 0x01]);
    assert!(matches!(read_head(&bytes), Ok(Some((Head::Tunnel { .. }, length))) if length == SSTPC.len()));
}

#[test]
fn method_path_and_header_names_compare_without_case() {
    let head = read(
        "sstp_duplex_post /SRA_{ba195980-cd49-458B-9e23-c84ee0adcd75}/ HTTP/1.1\r\nhost: a\r\n\
         content-length:18446744073709551615\r\nsstpcorrelationid:\t{B} \r\n\r\n",
    );
    assert_eq!(head, Head::Tunnel { correlation_id: Some("{B}".into()), host: Some("a".into()) });
}

#[test]
fn the_tenant_is_ignored() {
    assert_eq!(read(&format!("SSTP_DUPLEX_POST {SSTP_PATH}?tenantid=x?y HTTP/1.1\r\n\r\n")), BARE);
}

#[test]
fn content_length_is_absent_or_endless() {
    assert_eq!(tunnel(""), BARE);
    assert_eq!(tunnel("Content-Length: 18446744073709551615\r\n"), BARE);
    for wrong in ["0", "1", "18446744073709551614", "18446744073709551616", "+18446744073709551615", "-1", "", "1,1"] {
        assert!(matches!(tunnel(&format!("Content-Length: {wrong}\r\n")), Head::Malformed(_)), "{wrong}");
    }
    let twice = "Content-Length: 18446744073709551615\r\n".repeat(2);
    assert_eq!(tunnel(&twice), Head::Malformed("Content-Length twice"));
}

#[test]
fn get_and_head_of_the_path_are_a_health_check() {
    for method in ["GET", "HEAD", "get"] {
        assert_eq!(read(&format!("{method} {SSTP_PATH} HTTP/1.1\r\nHost: a\r\n\r\n")), Head::HealthCheck);
        assert_eq!(read(&format!("{method} {SSTP_PATH} HTTP/1.0\r\n\r\n")), Head::HealthCheck);
    }
}

#[test]
fn any_other_request_is_not_found() {
    for line in [
        "GET / HTTP/1.1",
        "GET / HTTP/1.0",
        "POST /vpnsvc/connect.cgi HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "SSTP_DUPLEX_POST / HTTP/1.1",
        "POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1",
        "GET /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75} HTTP/1.1",
    ] {
        assert_eq!(read(&format!("{line}\r\nHost: a\r\nContent-Length: 10\r\n\r\n")), Head::NotFound, "{line}");
    }
}

#[test]
fn what_is_not_http_1_is_malformed() {
    for (text, reason) in [
        (format!("SSTP_DUPLEX_POST {SSTP_PATH} HTTP/1.0\r\n\r\n"), "a tunnel needs HTTP/1.1"),
        ("PRI * HTTP/2.0\r\n\r\n".into(), "HTTP version"),
        ("GET / http/1.1\r\n\r\n".into(), "HTTP version"),
        ("GET /\r\n\r\n".into(), "request line is not method, target, version"),
        ("GET  / HTTP/1.1\r\n\r\n".into(), "request line is not method, target, version"),
        ("GET / HTTP/1.1 x\r\n\r\n".into(), "request line is not method, target, version"),
        ("GET  HTTP/1.1\r\n\r\n".into(), "request target"),
        ("G(T / HTTP/1.1\r\n\r\n".into(), "method is not a token"),
        ("\r\n".into(), "request line is not method, target, version"),
        ("SSH-2.0-client\r\n\r\n".into(), "request line is not method, target, version"),
        ("GET / HTTP/1.1\nHost: a\n\n".into(), "LF without CR"),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n".into(), "CR without LF"),
        ("GET / HTTP/1.1\r\nHost: \u{e4}\r\n\r\n".into(), "not ASCII"),
        ("GET / HTTP/1.1\r\nHost: \0\r\n\r\n".into(), "control character"),
        ("GET / HTTP/1.1\r\nHost: \u{7f}\r\n\r\n".into(), "control character"),
        ("\u{16}\u{3}\u{1}".into(), "control character"),
    ] {
        assert_eq!(read(&text), Head::Malformed(reason), "{text:?}");
    }
}

#[test]
fn header_lines_with_two_readings_are_malformed() {
    for (lines, reason) in [
        ("Host : a\r\n", "header name is not a token"),
        (" Host: a\r\n", "header name is not a token"),
        ("Host: a\r\n folded\r\n", "header line without a colon"),
        (": a\r\n", "header name is not a token"),
        ("nothing\r\n", "header line without a colon"),
        ("Host: a\r\nhost: b\r\n", "Host twice"),
        ("Transfer-Encoding: chunked\r\n", "Transfer-Encoding in a tunnel"),
    ] {
        assert_eq!(tunnel(lines), Head::Malformed(reason), "{lines:?}");
    }
    assert_eq!(tunnel(&format!("Host: {}\r\n", "a".repeat(MAX_HOST + 1))), Head::Malformed("Host too long"));
    assert!(matches!(tunnel(&format!("Host: {}\r\n", "a".repeat(MAX_HOST))), Head::Tunnel { .. }));
}

#[test]
fn a_long_correlation_id_is_cut() {
    let Head::Tunnel { correlation_id: Some(id), .. } =
        tunnel(&format!("SSTPCORRELATIONID: {}\r\nSSTPCORRELATIONID: second\r\n", "i\t".repeat(99)))
    else {
        panic!("not a tunnel");
    };
    assert_eq!(*id, *"i".repeat(MAX_CORRELATION_ID));
}

#[test]
fn the_limit_is_exact() {
    let empty = format!("SSTP_DUPLEX_POST {SSTP_PATH} HTTP/1.1\r\nCookie: \r\n\r\n").len();
    let of_length = |length: usize| {
        format!("SSTP_DUPLEX_POST {SSTP_PATH} HTTP/1.1\r\nCookie: {}\r\n\r\n", "c".repeat(length - empty))
    };
    assert_eq!(read_head(of_length(MAX_HEAD).as_bytes()), Ok(Some((BARE, MAX_HEAD))));
    assert_eq!(read_head(&of_length(MAX_HEAD).as_bytes()[..MAX_HEAD - 1]), Ok(None));
    assert_eq!(read_head(of_length(MAX_HEAD + 1).as_bytes()), Err(TooLong { limit: MAX_HEAD }));
    assert_eq!(read_head(&[b'a'; MAX_HEAD - 1]), Ok(None));
    assert_eq!(read_head(&[b'a'; MAX_HEAD]), Err(TooLong { limit: MAX_HEAD }));
}

#[test]
fn the_answers_are_what_clients_read() {
    let accepted = String::from_utf8(accepted("Thu, 09 Nov 2006 00:51:09 GMT")).unwrap();
    assert_eq!(
        accepted,
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nDate: Thu, 09 Nov 2006 00:51:09 GMT\r\n\r\n"
    );
    for status in [400, 401, 404, 503] {
        let text = str::from_utf8(refusal(status)).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(
            text.contains("\r\nContent-Length: 0\r\n") && text.ends_with("\r\nConnection: close\r\n\r\n"),
            "{text}"
        );
        assert!(!text.to_ascii_lowercase().contains("wicket"), "{text}");
    }
    assert_eq!(refusal(418), refusal(400));
}

/// Text that is often nearly a head.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"SSTP_DUPLEX_POST ".to_vec()),
        Just(SSTP_PATH.as_bytes().to_vec()),
        Just(b" HTTP/1.1\r\n".to_vec()),
        Just(b"Content-Length: ".to_vec()),
        Just(b"18446744073709551615".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"Host: a".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_head(&bytes);
    }

    #[test]
    fn the_first_piece_that_is_answered_is_answered_as_the_whole(bytes in nearly_a_head()) {
        let whole = read_head(&bytes);
        let mut reader = HeadReader::default();
        for length in 0..bytes.len() {
            let piece = reader.read(&bytes[..length]);
            if piece != Ok(None) {
                prop_assert_eq!(&piece, &whole);
                break;
            }
        }
        if let Ok(Some((_, length))) = whole {
            prop_assert!(length <= bytes.len());
        }
    }
}
