//! What can go wrong with a tunnel or a request in it, told apart so that tests can compare.

use std::io;

use crate::sim::Ended;
use crate::wire::Status;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The outer TCP connection could not be made, or broke.
    #[error("TCP: {0}")]
    Tcp(io::ErrorKind),
    /// The TLS handshake, outside or inside, failed.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    #[error("{0:?} is no server name")]
    ServerName(String),
    /// The HTTP response to the SSTP request was not 200.
    #[error("HTTP status {0}")]
    Http(u16),
    /// The credentials were refused; 691 is the usual code.
    #[error("authentication refused with error {0}")]
    Refused(u32),
    #[error("Call Connect Nak {0:?}")]
    Nak(Status),
    /// Call Abort by the server.
    #[error("Call Abort {0:?}")]
    Aborted(Option<Status>),
    /// Call Disconnect by the server.
    #[error("Call Disconnect {0:?}")]
    Disconnected(Option<Status>),
    /// The server sent what a server must not send.
    #[error("the server broke the protocol: {0}")]
    Broken(String),
    #[error("no {0} in time")]
    Timeout(&'static str),
    /// The outer connection is gone.
    #[error("the connection is lost")]
    Lost,
    /// The tunnel is closed, by ourselves.
    #[error("the tunnel is closed")]
    Closed,
    /// No answer to a SYN.
    #[error("no answer to the SYN")]
    Silent,
    /// RST as answer to a SYN.
    #[error("connection reset")]
    Reset,
    /// No more streams, or no destination.
    #[error("no stream to this address")]
    NoStream,
    /// A DNS answer that cannot be read.
    #[error("malformed DNS answer")]
    Dns,
    /// HTTP in a stream failed.
    #[error("HTTP: {0}")]
    Request(String),
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Closed => Self::Closed,
            Ended::Http(status) => Self::Http(status),
            Ended::Refused(code) => Self::Refused(code),
            Ended::Nak(status) => Self::Nak(status),
            Ended::Aborted(status) => Self::Aborted(status),
            Ended::Disconnected(status) => Self::Disconnected(status),
            Ended::Broken(what) => Self::Broken(what),
            Ended::Timeout(what) => Self::Timeout(what),
            Ended::Lost => Self::Lost,
        }
    }
}

impl From<io::Error> for Error {
    /// A TLS error that travelled inside an I/O error comes out again.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Tcp(error.kind()),
        }
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}
