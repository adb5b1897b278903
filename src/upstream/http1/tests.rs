use bytes::{BufMut as _, BytesMut};
use http_body::SizeHint;
use proptest::prelude::*;

use super::*;
use crate::field::{Line, Section};

/// A whole response: its status, the names and values of its head, and its body.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    /// The connection can be used again.
    reusable: bool,
}

fn reader(method: &str) -> Reader {
    Reader::new(method, 8192, BytesMut::new())
}

/// Reads a response that comes in these pieces, and then the end of the connection.
fn read_pieces<'a>(method: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Seen, Unreadable> {
    let mut reader = reader(method);
    let (mut head, mut body) = (None, Vec::new());
    let mut pieces = pieces.into_iter();
    let mut at_end = false;
    loop {
        match reader.poll()? {
            Some(Event::Head(seen)) => assert!(head.replace(seen).is_none(), "one head"),
            Some(Event::Data(data)) => body.extend_from_slice(&data),
            Some(Event::Over) => break,
            None => match pieces.next() {
                Some(piece) => reader.buffer().put_slice(piece),
                None => {
                    assert!(!at_end, "an end is an end");
                    at_end = true;
                    reader.handle_eof()?;
                }
            },
        }
    }
    // Whatever came after it is there too.
    pieces.for_each(|piece| reader.buffer().put_slice(piece));
    let head = head.expect("a head before the end");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.headers.iter().map(|line| (text(line.name()).to_lowercase(), text(line.value()))).collect();
    let reusable = !at_end && reader.into_reusable().is_some();
    Ok(Seen { status: head.status.as_u16(), headers, body: text(&body), reusable })
}

fn read(response: &str) -> Result<Seen, Unreadable> {
    read_pieces("GET", [response.as_bytes()])
}

fn body(response: &str) -> (String, bool) {
    let seen = read(response).expect("a response");
    (seen.body, seen.reusable)
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_response_is_read_the_same_however_it_is_cut() {
    let whole = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{CHUNKED}5\r\nhello\r\nA;x=y\r\n, world...\r\n0\r\nT: 1\r\n\r\n"
    );
    let expected = Seen {
        status: 200,
        headers: vec![("transfer-encoding".into(), "chunked".into())],
        body: "hello, world...".into(),
        reusable: true,
    };
    for size in 1..whole.len() {
        assert_eq!(read_pieces("GET", whole.as_bytes().chunks(size)).as_ref(), Ok(&expected), "{size}");
    }
}

#[test]
fn a_body_ends_where_its_framing_says() {
    assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), ("hello".into(), true));
    assert_eq!(
        body("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello"),
        ("hello".into(), true)
    );
    assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), (String::new(), true));
    assert_eq!(body("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n"), (String::new(), true));
    assert_eq!(body("HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n"), (String::new(), true));
    assert_eq!(body("HTTP/1.1 200 OK\r\n\r\nhello"), ("hello".into(), false));
    assert_eq!(body("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"), ("hello".into(), false));
    assert_eq!(body(&format!("{CHUNKED}0\r\n\r\n")), (String::new(), true));
    assert_eq!(body("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"), ("ok".into(), true));
    let head = read_pieces("HEAD", [&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..]]).expect("a response");
    assert_eq!((head.body.as_str(), head.reusable), ("", true));
}

#[test]
fn a_length_that_is_said_twice_is_told_once() {
    for said in ["5, 5", "5,5\r\nContent-Length: 5", "5\r\nA: b\r\nContent-Length: 5", "5"] {
        for method in ["HEAD", "GET"] {
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {said}\r\n\r\nhello");
            let seen = read_pieces(method, [response.as_bytes()]).expect("a response");
            let lengths = seen.headers.iter().filter(|(name, _)| name == "content-length");
            assert_eq!(lengths.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["5"], "{said:?}");
        }
    }
}

#[test]
fn nt_20_a_connection_with_a_doubt_about_its_framing_is_not_used_again() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(body(both), ("hello".into(), false));
    assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"), ("ok".into(), false));
    assert_eq!(body(&format!("{CHUNKED}0\r\n\r\n\r\n")), (String::new(), false));
    assert_eq!(body("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok"), ("ok".into(), false));
}

#[test]
fn what_is_no_response_is_refused() {
    let refused = |response: &str| read(response).expect_err(response);
    assert_eq!(refused(""), Unreadable::NoResponse);
    assert_eq!(refused("HTTP/1.1 200 OK\r\nContent-"), Unreadable::Truncated);
    assert_eq!(refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), Unreadable::Truncated);
    assert_eq!(refused(&format!("{CHUNKED}5\r\nhello\r\n")), Unreadable::Truncated);
    assert_eq!(refused(&format!("{CHUNKED}5\r\nhello\r\n0\r\n")), Unreadable::Truncated);
    assert_eq!(refused(&format!("{CHUNKED}5\r\nhello")), Unreadable::Truncated);
    for wrong in ["x\r\n", "5\r\nhelloX\r\n", "-1\r\n", "\r\n", "11111111111111111\r\n"] {
        assert_eq!(refused(&format!("{CHUNKED}{wrong}")), Unreadable::Chunk, "{wrong:?}");
    }
    assert!(matches!(refused("SSH-2.0-OpenSSH_9.7\r\n"), Unreadable::NotHttp(_)));
    assert!(matches!(refused("HTTP/2.0 200 OK\r\n\r\n"), Unreadable::NotHttp(_)));
    assert!(matches!(refused("\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Unreadable::NotHttp(_)));
    assert!(matches!(refused("HTTP/1.1 2000 OK\r\n\r\n"), Unreadable::NotHttp(_)));
    assert!(matches!(refused("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), Unreadable::NotHttp(_)));
    assert!(matches!(refused("HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n"), Unreadable::NotHttp(_)));
    assert_eq!(refused("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), Unreadable::Unasked(101));
    assert_eq!(refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), Unreadable::TransferCoding);
    assert_eq!(refused(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(9)), Unreadable::Interim);
    for length in ["x", "+5", "5, 6", "", "99999999999999999999", "5\r\nContent-Length: 6"] {
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello");
        assert_eq!(refused(&response), Unreadable::Length, "{length:?}");
    }
}

#[test]
fn a_response_that_does_not_end_is_refused_at_its_limit() {
    let refused = |begin: &str, filler: &str| {
        let pieces = std::iter::once(begin.as_bytes()).chain(std::iter::repeat_n(filler.as_bytes(), 1000));
        read_pieces("GET", pieces).expect_err(begin)
    };
    let line = "x".repeat(100);
    assert_eq!(refused("HTTP/1.1 200 OK\r\nX: ", &line), Unreadable::HeadTooLong { limit: 8192 });
    assert_eq!(refused("HTTP/1.1 200 OK\r\n", &format!("X: {line}\r\n")), Unreadable::HeadTooLong { limit: 8192 });
    assert_eq!(refused(&format!("{CHUNKED}5;"), &line), Unreadable::Chunk);
    assert_eq!(refused(&format!("{CHUNKED}0\r\n"), &format!("X: {line}\r\n")), Unreadable::Chunk);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101));
    assert_eq!(read(&many), Err(Unreadable::NotHttp(httparse::Error::TooManyHeaders)));
}

/// What a request looks like on the wire.
fn write(headers: &[(&str, &str)], hint: Option<SizeHint>, pieces: &[&str]) -> Result<String, Unwritable> {
    let mut lines = Section::default();
    for (name, value) in headers {
        lines.push(Line::new(name.as_bytes(), value.as_bytes()).expect("a line"));
    }
    let mut out = Vec::new();
    let mut writer = Writer::begin("PUT", "/a?b", &[&lines], hint, &mut out);
    for piece in pieces {
        writer.piece(piece.as_bytes(), &mut out)?;
    }
    writer.end(&mut out)?;
    assert!(writer.is_over());
    Ok(String::from_utf8(out).expect("text"))
}

#[test]
fn a_request_says_how_long_its_body_is() {
    let exact = |length| Some(SizeHint::with_exact(length));
    let unknown = Some(SizeHint::new());
    assert_eq!(write(&[("a", "1"), ("a", "2")], None, &[]).as_deref(), Ok("PUT /a?b HTTP/1.1\r\na: 1\r\na: 2\r\n\r\n"));
    let empty = "PUT /a?b HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(write(&[("content-length", "0")], None, &[]).as_deref(), Ok(empty));
    assert_eq!(write(&[], exact(0), &[]).as_deref(), Ok(empty));
    let five = "PUT /a?b HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(write(&[], exact(5), &["he", "", "llo"]).as_deref(), Ok(five));
    let chunks = "PUT /a?b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    assert_eq!(write(&[], unknown, &["he", "", "llo"]).as_deref(), Ok(chunks));
}

#[test]
fn nt_20_what_the_headers_say_of_the_framing_changes_nothing() {
    let headers = [("content-length", "3"), ("transfer-encoding", "chunked"), ("content-length", "9")];
    let five = "PUT /a?b HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(write(&headers, Some(SizeHint::with_exact(5)), &["hello"]).as_deref(), Ok(five));
    assert_eq!(write(&headers, None, &[]).as_deref(), Ok("PUT /a?b HTTP/1.1\r\ncontent-length: 0\r\n\r\n"));
}

#[test]
fn nt_20_a_body_that_is_not_the_announced_one_ends_its_connection() {
    let hint = Some(SizeHint::with_exact(5));
    assert_eq!(write(&[], hint, &["hello!"]), Err(Unwritable::TooLong));
    assert_eq!(write(&[], hint, &["hello", "!"]), Err(Unwritable::TooLong));
    assert_eq!(write(&[], hint, &["hell"]), Err(Unwritable::TooShort(1)));
    assert_eq!(write(&[], None, &["x"]), Err(Unwritable::TooLong));
}

#[test]
fn small_pieces_share_their_memory() {
    let mut reader = reader("GET");
    reader.buffer().put_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    assert!(matches!(reader.poll(), Ok(Some(Event::Head(_)))));
    let mut pieces: Vec<bytes::Bytes> = Vec::new();
    while pieces.len() < 1000 {
        reader.buffer().put_slice(b"x");
        let Ok(Some(Event::Data(piece))) = reader.poll() else { panic!("a piece") };
        pieces.push(piece);
    }
    let apart = pieces.windows(2).filter(|two| two[0].as_ptr().wrapping_add(1) != two[1].as_ptr());
    assert!(apart.count() < 3, "each keeps a buffer of its own");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic_or_hang(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let _ = read_pieces("GET", pieces.iter().map(Vec::as_slice));
        let begun = std::iter::once(CHUNKED.as_bytes()).chain(pieces.iter().map(Vec::as_slice));
        let _ = read_pieces("GET", begun);
    }

    #[test]
    fn chunks_of_any_sizes_arrive_whole(sizes in prop::collection::vec(1usize..5000, 0..10), cut in 1usize..3000) {
        let mut wire = CHUNKED.as_bytes().to_vec();
        let mut writer = Writer::Chunked;
        let pieces: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
        for piece in &pieces {
            writer.piece(piece.as_bytes(), &mut wire).expect("chunks have any length");
        }
        writer.end(&mut wire).expect("they end");
        let seen = read_pieces("GET", wire.chunks(cut)).expect("a response");
        prop_assert_eq!(seen.body, pieces.concat());
        prop_assert!(seen.reusable);
    }
}
