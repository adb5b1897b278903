//! The head of a response on the wire (RFC 9112 section 4).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::clock;
use crate::field::Section;
use crate::upstream::http1::{Writer, write_headers};

/// Writes the head of a response whose body has this length, unknown for `None`, and says how the body is framed.
/// `is_head` answers a HEAD request.
pub(super) fn begin(
    status: StatusCode,
    headers: &Section,
    length: Option<u64>,
    (is_head, closes): (bool, bool),
    date: &[u8],
    out: &mut Vec<u8>,
) -> Writer {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    write_headers(headers, out);
    if !headers.contains("date") {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
    }
    if closes && !headers.contains("connection") {
        out.extend_from_slice(b"connection: close\r\n");
    }
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED || is_head {
        // It says how long the body would be (RFC 9110 section 8.6).
        if let Some(length) = headers.get("content-length").filter(|_| status != StatusCode::NO_CONTENT) {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(length);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        return Writer::Over;
    }
    Writer::frame(length, out)
}

/// The value of Date, written once a second.
#[derive(Default)]
pub(in crate::proxy) struct Date(Mutex<(u64, String)>);

impl Date {
    /// Gives the value for this time.
    pub(super) fn with<T>(&self, wall: SystemTime, give: impl FnOnce(&[u8]) -> T) -> T {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let second = clock::unix(wall);
        if last.0 != second || last.1.is_empty() {
            *last = (second, httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second)));
        }
        give(last.1.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Line;

    const DAY: &[u8] = b"Thu, 01 Jan 1970 00:00:00 GMT";

    fn written(status: u16, lines: &[(&str, &str)], length: Option<u64>, flags: (bool, bool)) -> (String, Writer) {
        let status = StatusCode::from_u16(status).expect("a status");
        let mut headers = Section::default();
        for (name, value) in lines {
            headers.push(Line::new(name.as_bytes(), value.as_bytes()).expect("a line"));
        }
        let mut out = Vec::new();
        let writer = begin(status, &headers, length, flags, DAY, &mut out);
        (String::from_utf8(out).expect("text"), writer)
    }

    #[test]
    fn a_head_says_how_its_body_is_framed_whatever_its_headers_say() {
        let lying = [("content-length", "9"), ("transfer-encoding", "x"), ("a", "b")];
        let head = "HTTP/1.1 200 OK\r\na: b\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        let (text, writer) = written(200, &lying, Some(5), (false, false));
        assert_eq!(text, format!("{head}content-length: 5\r\n\r\n"));
        assert!(matches!(writer, Writer::Length { left: 5 }));
        let (text, writer) = written(200, &lying, None, (false, true));
        assert_eq!(text, format!("{head}connection: close\r\ntransfer-encoding: chunked\r\n\r\n"));
        assert!(matches!(writer, Writer::Chunked));
    }

    #[test]
    fn a_response_without_a_body_has_none() {
        let with = |status: u16, length: Option<u64>, is_head| {
            let (text, writer) = written(status, &[("date", "d"), ("content-length", "9")], length, (is_head, false));
            assert!(writer.is_over());
            text
        };
        assert_eq!(with(204, None, false), "HTTP/1.1 204 No Content\r\ndate: d\r\n\r\n");
        assert_eq!(with(304, None, false), "HTTP/1.1 304 Not Modified\r\ndate: d\r\ncontent-length: 9\r\n\r\n");
        assert_eq!(with(200, Some(9), true), "HTTP/1.1 200 OK\r\ndate: d\r\ncontent-length: 9\r\n\r\n");
        assert_eq!(with(299, Some(0), false), "HTTP/1.1 299 \r\ndate: d\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn the_date_is_of_the_second() {
        let (date, at) = (Date::default(), |seconds| SystemTime::UNIX_EPOCH + Duration::from_millis(seconds));
        assert_eq!(date.with(at(900), <[u8]>::to_vec), DAY);
        assert_eq!(date.with(at(61_001), <[u8]>::to_vec), b"Thu, 01 Jan 1970 00:01:01 GMT");
        assert_eq!(date.with(at(1), <[u8]>::to_vec), DAY);
    }
}
