//! TLS inside the tunnel: the certificate of the address that was dialled.
//!
//! The address decides, not the server name: whoever dials a host's address gets that host's certificate, and a
//! different server name is answered 421 by the request's handling, alike for hidden, unknown and foreign names.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake inside the tunnel may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a host of the inner network answers TLS with.
///
/// # Errors
///
/// When certificate and key do not work together.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session must not carry anything from one tunnel into another.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// What the handshake told.
pub(super) struct Hello {
    pub(super) server_name: Option<Box<str>>,
    pub(super) h2: bool,
}

/// Accepts TLS on a stream of the tunnel.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: Arc<ServerConfig>,
) -> std::io::Result<(TlsStream<S>, Hello)> {
    let stream = tokio::time::timeout(DEADLINE, TlsAcceptor::from(config).accept(stream)).await??;
    let connection = stream.get_ref().1;
    let hello = Hello {
        server_name: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
        h2: connection.alpn_protocol() == Some(b"h2"),
    };
    Ok((stream, hello))
}
