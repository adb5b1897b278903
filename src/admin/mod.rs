//! The admin listeners: health and metrics on a TCP address, sessions on a unix socket.
//!
//! On the address anybody who reaches it may ask, so it tells nothing about persons. The socket has mode 0600: who may
//! open it may see and end sessions. What is asked for comes through [`Operations`], which the wiring implements.

mod routes;
mod socket;

#[cfg(test)]
mod tests;

pub use socket::{AdminSocket, SocketError};

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::identity::SessionId;
use routes::Door;

/// Connections of one listener at a time. A monitoring system and a few people need two or three; the rest waits in the
/// kernel's queue.
const MAX_CONNECTIONS: usize = 32;

/// The time for a request's head, and for a whole connection, which carries one request: who reads or writes slower
/// holds one of few places. A head is short and comes in one piece, and a probe of our health waits no longer than this
/// for those that do not come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait after an accept that failed: the usual reason is too many open files, which passes by itself.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The largest request head; hyper takes no less.
const MAX_HEAD: usize = 8192;

/// What the admin listeners can ask of the server.
pub trait Operations: Send + Sync {
    /// Whether requests can be served; if not, why.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// The live sessions.
    fn sessions(&self) -> Vec<SessionRow>;
    /// Ends a session; false when there is none with this id.
    fn end_session(&self, id: SessionId) -> bool;
}

/// One live session, as `GET /sessions` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The id, as [`SessionId`] prints it.
    pub id: String,
    /// The person.
    pub user: String,
    /// The outer address.
    pub source: IpAddr,
    /// The login method.
    pub method: String,
    /// The crypto binding.
    pub binding: String,
    /// The login, in RFC 3339.
    pub since: String,
    /// Seconds since the login.
    pub age: u64,
    /// Open TCP streams.
    pub streams: usize,
    /// Requests so far.
    pub requests: u64,
}

/// Serves both listeners until `shutdown` is ready, then lets running requests end, at most for as long as a connection
/// may last.
pub async fn serve(
    address: TcpListener,
    socket: AdminSocket,
    operations: Arc<dyn Operations>,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    {
        let mut shutdown = std::pin::pin!(shutdown);
        let tcp_room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let unix_room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // `permit then accept` may be dropped between the two: the permit goes back, and no connection was taken yet.
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                (stream, permit) = accept_tcp(&address, &tcp_room) => {
                    connections.spawn(connection(stream, permit, Door::Address, Arc::clone(&operations)));
                }
                (stream, permit) = accept_unix(socket.listener(), &unix_room) => {
                    connections.spawn(connection(stream, permit, Door::Socket, Arc::clone(&operations)));
                }
            }
        }
    }
    drop((address, socket));
    while connections.join_next().await.is_some() {}
}

async fn permit(room: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(room).acquire_owned().await.expect("nobody closes this semaphore")
}

async fn accept_tcp(listener: &TcpListener, room: &Arc<Semaphore>) -> (tokio::net::TcpStream, OwnedSemaphorePermit) {
    let permit = permit(room).await;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => accept_failed(&error).await,
        }
    }
}

async fn accept_unix(listener: &UnixListener, room: &Arc<Semaphore>) -> (tokio::net::UnixStream, OwnedSemaphorePermit) {
    let permit = permit(room).await;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => accept_failed(&error).await,
        }
    }
}

async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "the admin listener could not accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// One connection with one request.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    permit: OwnedSemaphorePermit,
    door: Door,
    operations: Arc<dyn Operations>,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let response = routes::answer(door, request.method(), request.uri().path(), operations.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection ended early"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
    drop(permit);
}
