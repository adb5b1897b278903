//! A TCP stream to HTTP requests and responses: the identity-aware reverse proxy.
//!
//! [`Proxy::serve`] takes one stream of a tunnel, of any type that reads and writes, and the [`Caller`] it belongs to.
//! [`Connection::handle`] is the life of one request. It knows nothing of tunnels: the caller's identity came with the
//! stream, by ownership.

mod authorize;
mod caller;
mod challenges;
mod exchange;
mod forward;
pub mod framing;
pub mod headers;
mod memory;
mod open;
mod records;
mod reply;
mod strict;
mod tasks;
pub mod tls;
mod turns;

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::watch;

use crate::audit::{Audit, DecisionIds};
use crate::clock;
use crate::limits::Limits;
use crate::shutdown::Watch;
use crate::snapshot::Snapshots;
use crate::telemetry;
use crate::upstream::Upstream;
pub use authorize::{admit_oddities, quota};
pub use caller::{Caller, Summed};
use forward::Body;
use memory::Memory;
use open::Open;
use records::Judging;
use strict::{Strict, Verdicts};
use tasks::Tasks;
pub use tls::server_config;

/// How long a request's head may take, and how long a connection may be idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Concurrent requests on one HTTP/2 connection.
const MAX_H2_STREAMS: u32 = 128;

/// The longest request head on HTTP/2, in bytes, as `framing` has it for HTTP/1.1.
const MAX_H2_HEAD: u32 = 64 * 1024;

/// What an HTTP/2 stream may have queued for a client that does not take it.
const MAX_H2_QUEUE: usize = 32 * 1024;

/// What an HTTP/2 client may send of one body, and of all, before the upstreams take it: what TCP gives in one window
/// inside the tunnel, and as much again, so that one body that waits does not stop the others.
const H2_WINDOW: u32 = 64 * 1024;

/// Resets that an HTTP/2 client may cause before its connection ends (CVE-2023-44487).
const MAX_H2_RESETS: usize = 64;

/// What HTTP/2 connections begin with (RFC 9113 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The proxy of one shard.
pub struct Proxy {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) limits: Arc<Limits>,
    pub(super) audit: Arc<Audit>,
    pub(super) decisions: Arc<DecisionIds>,
    pub(super) drain: Watch,
    pub(super) upstream: Upstream,
    meters: Meters,
}

/// What is counted of every request. To look a meter up by its name costs more than to use it.
struct Meters {
    allowed: metrics::Counter,
    decision: metrics::Histogram,
    upstream: metrics::Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            allowed: metrics::counter!(telemetry::REQUESTS, "outcome" => "allow", "reason" => records::ALLOWED),
            decision: metrics::histogram!(telemetry::DECISION_SECONDS),
            upstream: metrics::histogram!(telemetry::UPSTREAM_SECONDS),
        }
    }
}

/// Where a stream was dialled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialled {
    /// A virtual address.
    pub address: Ipv4Addr,
    /// 80 or 443.
    pub port: u16,
}

/// One stream, with what all its requests have in common.
pub(super) struct Connection {
    proxy: Arc<Proxy>,
    caller: Arc<Caller>,
    dialled: Dialled,
    /// The server name of TLS, where there is TLS and the client sent one.
    server_name: Option<Box<str>>,
    /// On HTTP/1.1 only: HTTP/2 has no such framing.
    verdicts: Option<Verdicts>,
    memory: Memory,
    open: Open,
    tasks: Tasks,
}

/// Why serving a stream ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address has no certificate: no API has it any more.
    #[error("no host has the address {0}")]
    NoHost(Ipv4Addr),
    /// TLS inside the tunnel failed, or the stream did.
    #[error("stream: {0}")]
    Stream(#[from] io::Error),
    /// HTTP failed.
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
}

impl Proxy {
    /// A shard's proxy.
    pub fn new(
        snapshots: Arc<Snapshots>,
        limits: Arc<Limits>,
        audit: Arc<Audit>,
        decisions: Arc<DecisionIds>,
        drain: Watch,
    ) -> Self {
        Self { snapshots, limits, audit, decisions, drain, upstream: Upstream::default(), meters: Meters::default() }
    }

    /// Serves one stream to its end.
    ///
    /// # Errors
    ///
    /// [`Error`], for the log: the stream is over either way.
    pub async fn serve<S>(self: Arc<Self>, stream: S, caller: Arc<Caller>, dialled: Dialled) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let turns = caller.turns();
        turns.share(self.serve_in_turn(stream, caller, dialled)).await
    }

    async fn serve_in_turn<S>(self: Arc<Self>, stream: S, caller: Arc<Caller>, dialled: Dialled) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if dialled.port != 443 {
            return self.serve_plain(stream, caller, dialled).await;
        }
        let config =
            self.snapshots.load().services.get(&dialled.address).cloned().ok_or(Error::NoHost(dialled.address))?;
        let (stream, hello) = tls::accept(stream, config).await?;
        let connection = Connection::new(self, caller, dialled, hello.server_name);
        if hello.h2 { connection.serve_h2(stream).await } else { connection.serve_h1(stream).await }
    }

    /// Port 80: HTTP/2 by prior knowledge begins with its preface (RFC 9113 3.3), anything else is HTTP/1.1.
    async fn serve_plain<S>(self: Arc<Self>, mut stream: S, caller: Arc<Caller>, dialled: Dialled) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut begin = [0; PREFACE.len()];
        let mut read = 0;
        while read < begin.len() && begin[..read] == PREFACE[..read] {
            match tokio::time::timeout(HEAD_TIMEOUT, stream.read(&mut begin[read..])).await {
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(Ok(more)) => read += more,
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        let h2 = begin == *PREFACE;
        let stream = Rewound { begin: begin[..read].to_vec(), read: 0, stream };
        let connection = Connection::new(self, caller, dialled, None);
        if h2 { connection.serve_h2(stream).await } else { connection.serve_h1(stream).await }
    }
}

impl Connection {
    fn new(proxy: Arc<Proxy>, caller: Arc<Caller>, dialled: Dialled, server_name: Option<Box<str>>) -> Self {
        let tasks = Tasks::new(caller.turns());
        Self {
            proxy,
            caller,
            dialled,
            server_name,
            verdicts: None,
            memory: Memory::default(),
            open: Open::default(),
            tasks,
        }
    }

    async fn serve_h1<S>(mut self, stream: S) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let verdicts = Verdicts::new(self.dialled.port);
        self.verdicts = Some(verdicts.clone());
        let this = Arc::new(self);
        let service = service_fn(|request| Arc::clone(&this).handle(request));
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(Strict::new(stream, verdicts)), service);
        this.supervise(serving).await
    }

    async fn serve_h2<S>(self, stream: S) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let this = Arc::new(self);
        let service = service_fn(|request| Arc::clone(&this).handle(request));
        let serving = http2::Builder::new(this.tasks.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_H2_STREAMS)
            .max_header_list_size(MAX_H2_HEAD)
            .max_send_buf_size(MAX_H2_QUEUE)
            .initial_stream_window_size(H2_WINDOW)
            .initial_connection_window_size(2 * H2_WINDOW)
            .max_local_error_reset_streams(MAX_H2_RESETS)
            .max_pending_accept_reset_streams(MAX_H2_RESETS)
            .keep_alive_interval(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        this.supervise(serving).await
    }

    /// Runs the connection. Its open requests are judged again at each new snapshot and whenever one of them wants it;
    /// when one that was cut does not leave, the connection ends. When the server drains, the open requests are its
    /// last.
    async fn supervise<C>(self: &Arc<Self>, serving: C) -> Result<(), Error>
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let tasks = self.tasks.owner();
        let _last = self.open.last_cut();
        let mut serving = std::pin::pin!(serving);
        let mut generations: watch::Receiver<u64> = self.proxy.snapshots.generations();
        generations.mark_unchanged();
        let mut drain = self.proxy.drain.clone();
        let mut draining = false;
        loop {
            tokio::select! {
                served = serving.as_mut() => break served?,
                Ok(()) = generations.changed() => if !self.rejudge() { return Ok(()) },
                () = self.open.due() => if !self.rejudge() { return Ok(()) },
                () = drain.draining(), if !draining => {
                    draining = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
        tasks.finish().await;
        Ok(())
    }

    /// The life of a request.
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
        let http1 = request.version() < Version::HTTP_2;
        let verdict = self.verdicts.as_ref().map(Verdicts::next);
        let upgrade = request.headers().contains_key(UPGRADE);
        let mut judging = Judging::begin(self.proxy.decisions.next(clock::wall()));
        let authorized = self.authorize(&request, verdict, &mut judging).await;
        self.proxy.meters.decision.record(judging.elapsed());
        let answer = match authorized {
            Ok(cleared) => self.forward(cleared, request, &mut judging).await,
            Err(refusal) => Err(refusal),
        };
        if let Some(verdicts) = self.verdicts.as_ref().filter(|_| upgrade) {
            // No upgrade is ever accepted, so what follows is the next request.
            verdicts.decline_upgrade();
        }
        Ok(answer.unwrap_or_else(|refusal| self.refuse(&refusal, judging, http1)))
    }

    /// The answer to a request that goes no further, recorded.
    fn refuse(&self, refusal: &reply::Refusal, judging: Judging, http1: bool) -> Response<Body> {
        self.record_refusal(refusal, &judging);
        let mut response = refusal.response(&judging.decision).map(Body::text);
        if http1 && let Some((name, value)) = refusal.close_header() {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A stream whose first bytes were read already.
struct Rewound<S> {
    begin: Vec<u8>,
    read: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let rest = &self.begin[self.read..];
        if rest.is_empty() {
            return std::pin::Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let taken = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        self.read += taken;
        std::task::Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
