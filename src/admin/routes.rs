//! What each door answers.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::Operations;
use crate::identity::SessionId;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The TCP address: health and metrics.
    Address,
    /// The unix socket: sessions.
    Socket,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The version that Prometheus asks for.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn answer(door: Door, method: &Method, path: &str, operations: &dyn Operations) -> Response<Full<Bytes>> {
    match door {
        Door::Address => on_address(method, path, operations),
        Door::Socket => on_socket(method, path, operations),
    }
}

fn on_address(method: &Method, path: &str, operations: &dyn Operations) -> Response<Full<Bytes>> {
    if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
        return reply(StatusCode::NOT_FOUND, TEXT, "not found\n");
    }
    if method != Method::GET && method != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    match path {
        "/healthz" => reply(StatusCode::OK, TEXT, "ok\n"),
        "/metrics" => reply(StatusCode::OK, METRICS, operations.metrics()),
        _ => match operations.ready() {
            Ok(()) => reply(StatusCode::OK, TEXT, "ready\n"),
            Err(reasons) => {
                let text = reasons.iter().fold(String::from("not ready\n"), |text, reason| text + reason + "\n");
                reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        },
    }
}

fn on_socket(method: &Method, path: &str, operations: &dyn Operations) -> Response<Full<Bytes>> {
    if path == "/sessions" {
        return if method == Method::GET {
            let rows = serde_json::to_string(&operations.sessions()).expect("rows are plain strings and numbers");
            reply(StatusCode::OK, JSON, rows)
        } else {
            not_allowed("GET")
        };
    }
    let Some(id) = path.strip_prefix("/sessions/") else {
        return reply(StatusCode::NOT_FOUND, TEXT, "not found\n");
    };
    if method != Method::DELETE {
        return not_allowed("DELETE");
    }
    match SessionId::parse(id) {
        None => reply(StatusCode::BAD_REQUEST, TEXT, "a session id is `s-` and 16 hexadecimal digits\n"),
        Some(id) if operations.end_session(id) => reply(StatusCode::NO_CONTENT, TEXT, ""),
        Some(_) => reply(StatusCode::NOT_FOUND, TEXT, "no such session\n"),
    }
}

fn not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
