//! One stream of HTTP/2: hyper reads it, and each of its requests is handled in a task of its own.

use std::io::Cursor;
use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::forward::Body;
use super::records::Excerpt;
use super::reply::Reply;
use super::{Asked, Connection, HEAD_TIMEOUT, Unread};
use crate::field::{Line, Section};
use crate::request::{CanonicalRequest, Raw, Target};

/// Concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// The longest request head on HTTP/2, in bytes, as `framing` has it for HTTP/1.1.
const MAX_HEAD: u32 = 64 * 1024;

/// What an HTTP/2 stream may have queued for a client that does not take it.
const MAX_QUEUE: usize = 32 * 1024;

/// What an HTTP/2 client may send of one body, and of all, before the upstreams take it: what TCP gives in one window
/// inside the tunnel, and as much again, so that one body that waits does not stop the others.
const WINDOW: u32 = 64 * 1024;

/// Resets that an HTTP/2 client may cause before its connection ends (CVE-2023-44487).
const MAX_RESETS: usize = 64;

impl Connection {
    /// Serves a stream, of which `begin` was read already.
    pub(super) fn serve_h2<S>(
        self: &Arc<Self>,
        stream: S,
        begin: Vec<u8>,
    ) -> impl GracefulConnection<Error = hyper::Error> + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        let stream = tokio::io::join(Cursor::new(begin).chain(reader), writer);
        let this = Arc::clone(self);
        let service = service_fn(move |request: Request<Incoming>| {
            let this = Arc::clone(&this);
            async move {
                let read = read(&request, this.dialled.port);
                let (parts, body) = request.into_parts();
                let headers = section(&parts.headers);
                drop(parts);
                Ok::<_, std::convert::Infallible>(response(this.handle(Asked { read, headers, body }).await))
            }
        });
        http2::Builder::new(self.tasks.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD)
            .max_send_buf_size(MAX_QUEUE)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW)
            .max_local_error_reset_streams(MAX_RESETS)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .keep_alive_interval(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    }
}

/// HTTP/2 has no framing to look at: what its library gives is read in the same terms.
fn read(request: &Request<Incoming>, port: u16) -> Result<CanonicalRequest, Unread> {
    let uri = request.uri();
    let target = Target::Http2 {
        scheme: uri.scheme_str(),
        authority: uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: uri.path_and_query().map(|path| path.as_str().as_bytes()),
    };
    let raw = Raw { method: request.method().as_str(), target, port };
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    CanonicalRequest::read(&raw, headers).map_err(|malformed| {
        let (method, path) = (request.method().to_string(), uri.path().to_owned());
        Unread::Malformed(malformed, Excerpt { method, path, ..Excerpt::default() })
    })
}

/// The lines of a request; cookies, which may be split over several (RFC 9113 section 8.2.3), are one again.
fn section(headers: &HeaderMap) -> Section {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut section = Section::with_room(headers.len(), bytes);
    headers.iter().filter(|(name, _)| *name != COOKIE).for_each(|line| section.push(line.into()));
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Every piece was a value, so the whole is one.
    if !cookies.is_empty()
        && let Ok(line) = Line::new(b"cookie", &cookies.join(&b"; "[..]))
    {
        section.push(line);
    }
    section
}

fn response(reply: Reply) -> Response<Body> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    for line in reply.headers.iter() {
        // Every line is one: both fit.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(line.name()), HeaderValue::from_bytes(line.value())) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_cookies_are_joined() {
        let crossed = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for &(name, value) in lines {
                headers.append(name, HeaderValue::from_static(value));
            }
            let section = section(&headers);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            section.iter().map(|line| (text(line.name()), text(line.value()))).collect::<Vec<_>>()
        };
        let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let split = [("cookie", "a=1"), ("accept", "x"), ("cookie", "b=2; c=3")];
        assert_eq!(crossed(&split), [line("accept", "x"), line("cookie", "a=1; b=2; c=3")]);
        assert_eq!(crossed(&[("cookie", "a=1")]), [line("cookie", "a=1")]);
        assert_eq!(crossed(&[("accept", "x")]), [line("accept", "x")]);
    }
}
