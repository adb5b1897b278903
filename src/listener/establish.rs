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
use crate::sstp::http::{self, Head};
use crate::telemetry;

/// How long a client may take for TLS, and again for the head.
const DEADLINE: Duration = Duration::from_secs(10);

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
    /// TLS was not finished in time.
    #[error("no TLS handshake within {DEADLINE:?}")]
    TlsTimeout,
    /// No TLS at all, or nothing in common.
    #[error("{error}; the client offered {offered}; cure: {cure}")]
    Tls {
        /// The library's words.
        error: io::Error,
        /// What the client offered, as far as it got.
        offered: String,
        /// What to change.
        cure: &'static str,
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
    /// We take no new tunnels.
    #[error("draining or full, answered 503")]
    Full,
}

impl Refused {
    /// Where on the path it ended, for logs and metrics.
    pub fn layer(&self) -> &'static str {
        match self {
            Self::TlsTimeout | Self::Tls { .. } => "tls",
            Self::HeadTimeout | Self::HeadTooLong | Self::Closed(_) | Self::NotSstp { .. } | Self::Full => "http",
        }
    }
}

impl Refused {
    /// The stable word of metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TlsTimeout | Self::HeadTimeout => "timeout",
            Self::Tls { .. } => "handshake",
            Self::HeadTooLong => "too-long",
            Self::Closed(_) => "closed",
            Self::NotSstp { .. } => "not-sstp",
            Self::Full => "full",
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
        .map_err(|error| tls_refusal(error, "no readable ClientHello".to_owned()))?;
    let offered = offer(&start.client_hello());
    start.into_stream(Arc::clone(certificate.config())).await.map_err(|error| tls_refusal(error, offered))
}

fn tls_refusal(error: io::Error, offered: String) -> Refused {
    let text = error.to_string();
    let cure = if text.contains("InvalidServerName") || text.contains("server name") {
        "the server name is not a host name: connect without a port in it, or without --tls-ext"
    } else if text.contains("corrupt message") || text.contains("InvalidContentType") {
        "speak TLS on this port"
    } else if text.contains("alert") || text.contains("eof") {
        "the client gave up: it must trust our certificate's issuer and find its own name in the certificate"
    } else {
        "offer TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20 (RouterOS: ciphers=aes256-gcm-sha384 pfs=required)"
    };
    Refused::Tls { error, offered, cure }
}

/// What a client offers, for the log line of a failed handshake.
fn offer(hello: &ClientHello<'_>) -> String {
    let suites: Vec<String> =
        hello.cipher_suites().iter().take(32).map(|suite| format!("{:04x}", u16::from(*suite))).collect();
    format!(
        "server name {}, cipher suites {}",
        hello.server_name().unwrap_or("none"),
        if suites.is_empty() { "none".to_owned() } else { suites.join(" ") }
    )
}

async fn head(stream: &mut TlsStream<TcpStream>, bytes: &mut Vec<u8>) -> Result<(Head, usize), Refused> {
    loop {
        match http::read_head(bytes) {
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
    if loud {
        tracing::info!(layer = refused.layer(), %peer, "refused: {refused}");
    } else {
        tracing::debug!(layer = refused.layer(), %peer, "refused: {refused}");
    }
}
