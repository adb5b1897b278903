//! An API behind the proxy that remembers every request.
//!
//! What it answers stands in the path: `/v1/bytes/N` gives N bytes of [`pattern`], `/v1/endless` never ends,
//! `/v1/hold` waits for [`Backend::release`], everything else says what was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Interval;

use super::ledger::Ledger;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// Whether its decision stood in the audit file before it arrived.
    pub(crate) audited: bool,
}

impl Seen {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A running API.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    name: &'static str,
    seen: Mutex<Vec<Seen>>,
    ledger: Arc<Mutex<Ledger>>,
    released: watch::Sender<bool>,
}

impl Backend {
    pub(super) async fn start(name: &'static str, ledger: Arc<Mutex<Ledger>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { name, seen: Mutex::default(), ledger, released: watch::Sender::new(false) });
        let mut tasks = JoinSet::new();
        let accepting = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                let service = service_fn(move |request| Arc::clone(&shared).answer(request));
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move { drop(serving.await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Lets `/v1/hold` answer.
    pub(crate) fn release(&self) {
        self.shared.released.send_replace(true);
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.to_string();
        let decision = parts.headers.get("wicketgate-decision").and_then(|value| value.to_str().ok());
        let audited = self.ledger.lock().unwrap().allows(decision.unwrap_or_default());
        let seen =
            Seen { method: parts.method.to_string(), target: target.clone(), headers: parts.headers.clone(), audited };
        let person = seen.header("wicketgate-user").to_owned();
        self.seen.lock().unwrap().push(seen);
        if target == "/v1/endless" {
            return Ok(Response::new(Answer::Endless(tokio::time::interval(Duration::from_millis(5)))));
        }
        if let Some(length) = target.strip_prefix("/v1/bytes/") {
            return Ok(Response::new(Answer::Pattern { chunk: 0, left: length.parse().unwrap() }));
        }
        if target == "/v1/hold" {
            self.released.subscribe().wait_for(|released| *released).await.unwrap();
        }
        let mut hash = Sha256::new();
        let mut body = body;
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                hash.update(data);
            }
        }
        let text = serde_json::json!({
            "backend": self.name,
            "asked": format!("{} {target}", parts.method),
            "person": person,
            "hash": hex(&hash.finalize()),
        });
        Ok(Response::new(Answer::Text(Some(text.to_string().into()))))
    }
}

/// Bytes as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const CHUNK: usize = 64 << 10;

/// Bytes of which no two pieces are alike, so that a loss or a swap shows.
pub(crate) fn pattern(length: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(length + CHUNK);
    for number in 0.. {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(&chunk(number));
    }
    bytes.truncate(length);
    bytes.into()
}

/// Its number, then bytes that count.
fn chunk(number: u64) -> Vec<u8> {
    let mut chunk = number.to_be_bytes().repeat(CHUNK / 8);
    for (at, word) in chunk.chunks_exact_mut(8).enumerate() {
        let at = (at as u32).to_be_bytes();
        word[..4].copy_from_slice(&at);
    }
    chunk
}

enum Answer {
    Text(Option<Bytes>),
    Pattern { chunk: u64, left: usize },
    Endless(Interval),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Text(text) => text.take(),
            Self::Pattern { left: 0, .. } => None,
            Self::Pattern { chunk: number, left } => {
                let mut bytes = Bytes::from(chunk(*number));
                bytes.truncate(*left);
                *number += 1;
                *left -= bytes.len();
                Some(bytes)
            }
            Self::Endless(interval) => {
                ready!(interval.poll_tick(cx));
                Some(Bytes::from_static(&[b'.'; 1024]))
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
