//! What every connection does first: TLS, and one HTTP head.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConnection;
use rustls::server::ClientHello;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls::Certificate;
use crate::sstp::http::{self, Head, HeadReader};
use crate::telemetry;

/// How long a client may take for TLS, and again for the head.
const DEADLINE: Duration = Duration::from_secs(10);

/// What we offer to a client whose handshake fails.
const OFFER: &str = "TLS 1.3 and 1.2, ECDHE, AES-GCM and ChaCha20-Poly1305";

/// A connection whose client asked for a tunnel and was told 200.
pub struct Established {
    /// The socket.
    pub tcp: TcpStream,
    /// Its TLS.
    pub tls: ServerConnection,
    /// The certificate of this very connection, for the crypto binding.
    pub certificate: Arc<Certificate>,
    /// What TLS opened behind the head.
    pub opened: Vec<u8>,
    /// The client's own id of this connection: the only one that the Windows side logs too.
    pub correlation_id: Option<Box<str>>,
}

/// Why a connection is not a tunnel: the layer that refused, what the peer offered, what we offer, the cure.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// One address has as many connections without a login as it may have.
    #[error("too many connections from this address have not logged in")]
    TooManyOfSource,
    /// No shard took it.
    #[error("not handed over: {0}")]
    NotHandedOver(io::Error),
    /// TLS was not finished in time.
    #[error("no TLS handshake within {DEADLINE:?}")]
    TlsTimeout,
    /// No TLS at all, or nothing in common.
    #[error("{error}; the client offered {offered}; we offer {OFFER}")]
    Tls {
        /// The library's words.
        error: io::Error,
        /// What the client offered, as far as it got.
        offered: String,
    },
    /// No whole head in time.
    #[error("no request within {DEADLINE:?}")]
    HeadTimeout,
    /// The head is longer than we read.
    #[error("the request's head is longer than {} bytes", http::MAX_HEAD)]
    HeadTooLong,
    /// The client left before it asked for anything.
    #[error("closed before a request")]
    Closed(#[source] Option<io::Error>),
    /// Not SSTP; it got this status.
    #[error("not SSTP: {what}, answered {status}")]
    NotSstp {
        /// What it was.
        what: &'static str,
        /// What we answered.
        status: u16,
    },
    /// We have no room for one more tunnel.
    #[error("full, answered 503")]
    Full,
    /// The server began to drain before anybody had logged in.
    #[error("the server drains")]
    Draining,
}

impl Refused {
    /// Where on the path it ended, for logs and metrics.
    pub fn layer(&self) -> &'static str {
        match self {
            Self::TooManyOfSource | Self::NotHandedOver(_) => "accept",
            Self::TlsTimeout | Self::Tls { .. } => "tls",
            Self::HeadTimeout
            | Self::HeadTooLong
            | Self::Closed(_)
            | Self::NotSstp { .. }
            | Self::Full
            | Self::Draining => "http",
        }
    }
}

impl Refused {
    /// What to change.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::TooManyOfSource => "raise [listen] max_unauthenticated_per_source, or find who does not log in",
            Self::NotHandedOver(_) => "this server is overloaded: give it more processors, or start another one",
            Self::TlsTimeout | Self::HeadTimeout => {
                "look for what holds bytes back between the client and us, or for a port scanner"
            }
            Self::Tls { error, .. } => tls_cure(error),
            Self::HeadTooLong | Self::Closed(_) => "connect with a VPN client of type SSTP",
            Self::NotSstp { status: 401, .. } => "none is needed: a load balancer asks whether we are alive",
            Self::NotSstp { .. } => "connect with a VPN client of type SSTP; APIs are reached inside its tunnel only",
            Self::Draining => "connect again: to another server, or to this one once it is back",
            Self::Full => "raise [tunnel] max_sessions, or start another server",
        }
    }

    /// The stable word of metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TooManyOfSource => "source",
            Self::NotHandedOver(_) => "overload",
            Self::TlsTimeout | Self::HeadTimeout => "timeout",
            Self::Tls { .. } => "handshake",
            Self::HeadTooLong => "too-long",
            Self::Closed(_) => "closed",
            Self::NotSstp { .. } => "not-sstp",
            Self::Full => "full",
            Self::Draining => "drain",
        }
    }
}

/// Brings a connection to the point where SSTP begins.
///
/// # Errors
///
/// [`Refused`]; the peer has got its answer, and the connection is closed.
pub async fn establish(
    socket: std::net::TcpStream,
    certificate: Arc<Certificate>,
    full: bool,
    now: SystemTime,
) -> Result<Established, Refused> {
    let tcp = TcpStream::from_std(socket).map_err(|error| Refused::Closed(Some(error)))?;
    let mut stream =
        tokio::time::timeout(DEADLINE, handshake(tcp, &certificate)).await.map_err(|_| Refused::TlsTimeout)??;
    let mut bytes = Vec::new();
    let head = tokio::time::timeout(DEADLINE, head(&mut stream, &mut bytes)).await;
    let (what, status) = match head {
        Err(_) => return Err(Refused::HeadTimeout),
        Ok(Err(Refused::HeadTooLong)) => {
            answer(&mut stream, 400).await;
            return Err(Refused::HeadTooLong);
        }
        Ok(Err(refused)) => return Err(refused),
        Ok(Ok((Head::Tunnel { correlation_id, .. }, length))) => {
            if full {
                answer(&mut stream, 503).await;
                return Err(Refused::Full);
            }
            stream
                .write_all(&http::accepted(&httpdate::fmt_http_date(now)))
                .await
                .map_err(|error| Refused::Closed(Some(error)))?;
            stream.flush().await.map_err(|error| Refused::Closed(Some(error)))?;
            let opened = bytes.split_off(length);
            let (tcp, tls) = stream.into_inner();
            return Ok(Established { tcp, tls, certificate, opened, correlation_id });
        }
        Ok(Ok((Head::HealthCheck, _))) => ("a health check", 401),
        Ok(Ok((Head::NotFound, _))) => ("another request", 404),
        Ok(Ok((Head::Malformed(what), _))) => (what, 400),
    };
    answer(&mut stream, status).await;
    Err(Refused::NotSstp { what, status })
}

async fn handshake(tcp: TcpStream, certificate: &Certificate) -> Result<TlsStream<TcpStream>, Refused> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp)
        .await
        .map_err(|error| Refused::Tls { error, offered: "no readable ClientHello".to_owned() })?;
    let offered = offer(&start.client_hello());
    start.into_stream(Arc::clone(certificate.config())).await.map_err(|error| Refused::Tls { error, offered })
}

/// What to change after a handshake that failed.
fn tls_cure(error: &io::Error) -> &'static str {
    let gone = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    );
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        _ if gone => "none, for a probe of the port; a client may not trust our certificate's issuer",
        Some(rustls::Error::AlertReceived(_)) => {
            "let the client trust our certificate's issuer, and dial a name that is in the certificate"
        }
        Some(
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidServerName)
            | rustls::Error::PeerMisbehaved(rustls::PeerMisbehaved::ServerNameMustContainOneHostName),
        ) => "the server name is not a host name: connect without a port in it, or without --tls-ext",
        Some(rustls::Error::InvalidMessage(_)) => "speak TLS on this port",
        _ => "offer TLS 1.2 or 1.3 with what we offer (RouterOS: ciphers=aes256-gcm-sha384 pfs=required)",
    }
}

/// What a client offers, for the log line of a failed handshake.
fn offer(hello: &ClientHello<'_>) -> String {
    let suites = numbers(hello.cipher_suites().iter().map(|suite| u16::from(*suite)));
    let groups = numbers(hello.named_groups().unwrap_or_default().iter().map(|group| u16::from(*group)));
    let schemes = numbers(hello.signature_schemes().iter().map(|scheme| u16::from(*scheme)));
    let name = hello.server_name().unwrap_or("none");
    format!("server name {name}, cipher suites {suites}, groups {groups}, signature schemes {schemes}")
}

/// The numbers of IANA's registry, as many as are worth a line.
fn numbers(numbers: impl Iterator<Item = u16>) -> String {
    let numbers: Vec<String> = numbers.take(32).map(|number| format!("{number:04x}")).collect();
    if numbers.is_empty() { "none".to_owned() } else { numbers.join(" ") }
}

async fn head(stream: &mut TlsStream<TcpStream>, bytes: &mut Vec<u8>) -> Result<(Head, usize), Refused> {
    let mut reader = HeadReader::default();
    loop {
        match reader.read(bytes) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(http::TooLong { .. }) => return Err(Refused::HeadTooLong),
        }
        match stream.read_buf(bytes).await {
            Ok(0) => return Err(Refused::Closed(None)),
            Ok(_) => {}
            Err(error) => return Err(Refused::Closed(Some(error))),
        }
    }
}

/// Sends a static answer. The connection ends either way, so a peer that does not take it loses only the answer.
async fn answer(stream: &mut TlsStream<TcpStream>, status: u16) {
    let send = async {
        stream.write_all(http::refusal(status)).await?;
        stream.shutdown().await
    };
    drop(tokio::time::timeout(Duration::from_secs(2), send).await);
}

/// One log line and one count for a connection that is not a tunnel. A line that is not `loud` is for debugging only.
pub fn report(peer: SocketAddr, refused: &Refused, loud: bool) {
    metrics::counter!(telemetry::CONNECTIONS_REFUSED, "layer" => refused.layer(), "reason" => refused.word())
        .increment(1);
    let (layer, cure) = (refused.layer(), refused.cure());
    if loud {
        tracing::info!(layer, %peer, cure, "refused: {refused}");
    } else {
        tracing::debug!(layer, %peer, cure, "refused: {refused}");
    }
}
