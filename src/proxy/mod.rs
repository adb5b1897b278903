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
mod http1;
mod http2;
mod memory;
mod open;
mod records;
mod reply;
mod scribe;
mod seldom;
mod tasks;
pub mod tls;
mod turns;
mod waits;

use std::io;
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::audit::{Audit, DecisionIds};
use crate::clock;
use crate::field::Section;
use crate::limits::Limits;
use crate::request::{CanonicalRequest, Malformed, Protocol};
use crate::shutdown::Watch;
use crate::snapshot::Snapshots;
use crate::telemetry;
use crate::upstream::http1::Unwritable;
use crate::upstream::{BodyError, Upstream};
pub use authorize::{admit_oddities, quota};
pub use caller::{Caller, Summed};
use http1::Date;
pub use http1::Gone;
use memory::Memory;
use open::Open;
use records::Judging;
use reply::{Refusal, Reply};
use scribe::Scribe;
use seldom::Seldom;
use tasks::Tasks;
pub use tls::server_config;
use waits::Waits;

/// How long a request's head may take, and how long a connection may be idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What HTTP/2 connections begin with (RFC 9113 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The proxy of one shard.
pub struct Proxy {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) limits: Arc<Limits>,
    pub(super) audit: Arc<Audit>,
    scribe: Scribe,
    pub(super) decisions: Arc<DecisionIds>,
    pub(super) drain: Watch,
    pub(super) upstream: Upstream,
    meters: Meters,
    date: Date,
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
    protocol: Protocol,
    /// No request is taken after the current one.
    draining: AtomicBool,
    waits: Waits,
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
    /// HTTP/2 failed.
    #[error("http: {0}")]
    Http2(#[from] hyper::Error),
    /// An HTTP/1.1 client left, or what it sent broke off.
    #[error("http: {0}")]
    Gone(#[from] Gone),
    /// A response broke off.
    #[error("response: {0}")]
    Body(#[from] BodyError),
    /// A response is not as long as it says.
    #[error("response: {0}")]
    Length(#[from] Unwritable),
}

/// A request as its protocol gave it.
struct Asked<B> {
    /// Its one reading, or why there is none.
    read: Result<CanonicalRequest, Unread>,
    headers: Section,
    body: B,
}

/// Why a request has no reading.
enum Unread {
    /// HTTP/1.1.
    Framing(framing::Refusal),
    /// HTTP/2.
    Malformed(Malformed, records::Excerpt),
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
        Self {
            snapshots,
            limits,
            scribe: Scribe::new(Arc::clone(&audit)),
            audit,
            decisions,
            drain,
            upstream: Upstream::default(),
            meters: Meters::default(),
            date: Date::default(),
        }
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
        let protocol = if hello.h2 { Protocol::Http2 } else { Protocol::Http1 };
        Connection::new(self, caller, dialled, hello.server_name, protocol).serve(stream, &[]).await
    }

    /// Port 80: HTTP/2 by prior knowledge begins with its preface (RFC 9113 3.3), anything else is HTTP/1.1.
    async fn serve_plain<S>(self: Arc<Self>, mut stream: S, caller: Arc<Caller>, dialled: Dialled) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut begin = [0; PREFACE.len()];
        let mut read = 0;
        let mut drain = self.drain.clone();
        let mut deadline = pin!(tokio::time::sleep(HEAD_TIMEOUT));
        while read < begin.len() && begin[..read] == PREFACE[..read] {
            let more = tokio::select! {
                biased;
                more = stream.read(&mut begin[read..]) => more?,
                () = drain.draining(), if read == 0 => 0,
                () = &mut deadline => 0,
            };
            if more == 0 {
                return Ok(());
            }
            read += more;
        }
        let protocol = if begin == *PREFACE { Protocol::Http2 } else { Protocol::Http1 };
        Connection::new(self, caller, dialled, None, protocol).serve(stream, &begin[..read]).await
    }
}

impl Connection {
    fn new(
        proxy: Arc<Proxy>,
        caller: Arc<Caller>,
        dialled: Dialled,
        server_name: Option<Box<str>>,
        protocol: Protocol,
    ) -> Arc<Self> {
        let tasks = Tasks::new(caller.turns());
        Arc::new(Self {
            proxy,
            caller,
            dialled,
            server_name,
            protocol,
            draining: AtomicBool::new(false),
            waits: Waits::default(),
            memory: Memory::default(),
            open: Open::default(),
            tasks,
        })
    }

    /// Serves a stream whose first bytes were read already.
    async fn serve<S>(self: Arc<Self>, stream: S, begin: &[u8]) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.protocol {
            Protocol::Http1 => self.supervise(self.serve_requests(stream, begin), |_| {}).await,
            Protocol::Http2 => {
                let serving = self.serve_h2(stream, begin.to_vec());
                self.supervise(serving, GracefulConnection::graceful_shutdown).await
            }
        }
    }

    /// Runs the connection. Its open requests are judged again at each new snapshot and whenever one of them wants it;
    /// when one that was cut does not leave, the connection ends. When the server drains, the open requests are its
    /// last.
    async fn supervise<C, E>(self: &Arc<Self>, serving: C, drain_it: impl FnOnce(Pin<&mut C>)) -> Result<(), Error>
    where
        C: Future<Output = Result<(), E>>,
        Error: From<E>,
    {
        let tasks = self.tasks.owner();
        let _last = self.open.last_cut();
        let mut serving = pin!(serving);
        let mut drain_it = Some(drain_it);
        let mut drain = self.proxy.drain.clone();
        // What seldom happens is not asked for with every packet.
        let (look, drain, waits) = (pin!(self.look()), pin!(drain.draining()), pin!(self.waits.run_out()));
        let (mut looking, mut draining, mut waiting) = (Seldom::new(look), Seldom::new(drain), Seldom::new(waits));
        loop {
            tokio::select! {
                // First what must not wait until a busy client leaves this task something of its budget.
                biased;
                () = &mut looking => return Ok(()),
                () = &mut draining, if drain_it.is_some() => if let Some(drain_it) = drain_it.take() {
                    self.draining.store(true, Ordering::Relaxed);
                    drain_it(serving.as_mut());
                },
                // Whoever waits is woken with us. HTTP/2 has a timer of its library's.
                () = &mut waiting, if self.protocol == Protocol::Http1 && !self.waits.is_over() => {}
                served = serving.as_mut() => break served?,
            }
        }
        tasks.finish().await;
        Ok(())
    }

    /// Looks at the open requests whenever that is due, until one that was cut does not leave.
    async fn look(&self) {
        let mut generations = self.proxy.snapshots.generations();
        loop {
            tokio::select! {
                Ok(()) = generations.changed() => {}
                () = self.open.due() => {}
            }
            if !self.rejudge() {
                return;
            }
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The life of a request.
    async fn handle<B>(self: Arc<Self>, asked: Asked<B>) -> Reply
    where
        B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send + 'static,
    {
        let Asked { read, headers, body } = asked;
        let at = clock::moment();
        let mut judging = Judging::begin(self.proxy.decisions.next(at.wall), at);
        let authorized = self.authorize(read, &headers, &mut judging).await;
        self.proxy.meters.decision.record(judging.watch.elapsed().as_secs_f64());
        let answer = match authorized {
            Ok(cleared) => self.forward(cleared, headers, body, &mut judging).await,
            Err(refusal) => Err(refusal),
        };
        answer.unwrap_or_else(|refusal| self.refuse(&refusal, judging))
    }

    /// The answer to a request that goes no further, recorded.
    fn refuse(&self, refusal: &Refusal, judging: Judging) -> Reply {
        self.record_refusal(refusal, &judging);
        refusal.reply(&judging.decision, self.protocol == Protocol::Http1)
    }
}
