//! HTTP over any stream: requests by hyper, TLS inside the tunnel by rustls, raw bytes for what hyper would not send.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;

use crate::Error;

/// From the first byte of a request to the last of its response.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that [`raw`] keeps.
const MAX_RAW: usize = 16 << 20;

/// A request with its whole body.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    /// `Host`, or `:authority` and `:scheme`.
    pub host: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn new(method: Method, host: impl Into<String>, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), host: host.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub fn get(host: impl Into<String>, target: impl Into<String>) -> Self {
        Self::new(Method::GET, host, target)
    }

    pub fn post(host: impl Into<String>, target: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, host, target).body(body)
    }

    /// Adds a header; panics on what is none, as the caller is a test.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a header name");
        self.headers.append(name, HeaderValue::try_from(value).expect("a header value"));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    fn into_http1(mut self) -> Result<http::Request<Full<Bytes>>, Error> {
        if !self.headers.contains_key(HOST) {
            self.headers.insert(HOST, HeaderValue::try_from(&self.host).map_err(request_error)?);
        }
        let target = self.target.parse::<Uri>().map_err(request_error)?;
        self.into_request(target)
    }

    fn into_http2(self) -> Result<http::Request<Full<Bytes>>, Error> {
        let target = format!("https://{}{}", self.host, self.target).parse::<Uri>().map_err(request_error)?;
        self.into_request(target)
    }

    fn into_request(self, target: Uri) -> Result<http::Request<Full<Bytes>>, Error> {
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = target;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// A response with its whole body.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Empty when there were none.
    pub trailers: HeaderMap,
}

impl Response {
    /// The first value of a header, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    async fn collect(response: http::Response<Incoming>) -> Result<Self, Error> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(request_error)?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Self { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes(), trailers })
    }
}

fn request_error(error: impl std::fmt::Display) -> Error {
    Error::Request(error.to_string())
}

/// hyper's own text hides the cause.
fn hyper_error(error: &hyper::Error) -> Error {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::Request(format!("{error}{cause}"))
}

/// Sends one request over HTTP/1.1 and closes the stream after the response.
pub async fn request<S>(stream: S, request: Request) -> Result<Response, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Http1::new(stream).await?.send(request).await
}

/// A keep-alive HTTP/1.1 client on one stream.
pub struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Http1 {
    pub async fn new<S>(stream: S) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| hyper_error(&error))?;
        let mut owner = JoinSet::new();
        owner.spawn(async move {
            // The error reaches whoever waits for a response.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, _connection: owner })
    }

    /// Sends a request and reads the whole response, within 30 s.
    pub async fn send(&mut self, request: Request) -> Result<Response, Error> {
        let whole = async { Response::collect(self.open(request).await?).await };
        timeout(PATIENCE, whole).await.map_err(|_| Error::Timeout("HTTP response"))?
    }

    /// Sends a request and gives the response with its body unread; for streams and upgrades.
    pub async fn open(&mut self, request: Request) -> Result<http::Response<Incoming>, Error> {
        self.sender.ready().await.map_err(|error| hyper_error(&error))?;
        self.sender.send_request(request.into_http1()?).await.map_err(|error| hyper_error(&error))
    }

    /// Whether the server closed the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// An HTTP/2 client on one stream, with prior knowledge or after ALPN. Requests may run side by side.
pub struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Http2 {
    pub async fn new<S>(stream: S) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| hyper_error(&error))?;
        let mut owner = JoinSet::new();
        owner.spawn(async move {
            // The error reaches whoever waits for a response.
            let _ = connection.await;
        });
        Ok(Self { sender, _connection: owner })
    }

    /// Sends a request and reads the whole response, within 30 s.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let whole = async { Response::collect(self.open(request).await?).await };
        timeout(PATIENCE, whole).await.map_err(|_| Error::Timeout("HTTP response"))?
    }

    /// Sends a request and gives the response with its body unread.
    pub async fn open(&self, request: Request) -> Result<http::Response<Incoming>, Error> {
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|error| hyper_error(&error))?;
        sender.send_request(request.into_http2()?).await.map_err(|error| hyper_error(&error))
    }
}

/// What came back for raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    pub bytes: Bytes,
    /// Whether the server closed in time, and how.
    pub end: RawEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawEnd {
    /// End of stream.
    Closed,
    /// Reset, or TLS without close_notify.
    Broken,
    /// Still open at the deadline, or more than 16 MiB.
    Open,
}

impl RawAnswer {
    /// The status of the first HTTP/1.1 response.
    pub fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.bytes.get(9..12)?).ok()?.parse().ok()
    }
}

/// Writes bytes as they are and reads until the server closes or the deadline.
pub async fn raw<S>(mut stream: S, bytes: &[u8], deadline: Duration) -> RawAnswer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut answer = Vec::new();
    let end = timeout(deadline, exchange(&mut stream, bytes, &mut answer)).await.unwrap_or(RawEnd::Open);
    RawAnswer { bytes: answer.into(), end }
}

async fn exchange<S>(stream: &mut S, bytes: &[u8], answer: &mut Vec<u8>) -> RawEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A server that refuses early may reset while we write; its answer counts.
    let _ = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    }
    .await;
    while answer.len() < MAX_RAW {
        match stream.read_buf(answer).await {
            Ok(0) => return RawEnd::Closed,
            Ok(_) => {}
            Err(_) => return RawEnd::Broken,
        }
    }
    RawEnd::Open
}

/// A client certificate: chain and key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// TLS over a stream, without client certificate. `alpn` may be empty.
pub async fn tls<S>(stream: S, roots: RootCertStore, server_name: &str, alpn: &[&[u8]]) -> Result<TlsStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tls_with(stream, roots, server_name, alpn, None).await
}

/// TLS over a stream, with a client certificate when one is given; a refused one shows at the first read in TLS 1.3.
pub async fn tls_with<S>(
    stream: S,
    roots: RootCertStore,
    server_name: &str,
    alpn: &[&[u8]],
    identity: Option<Identity>,
) -> Result<TlsStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(server_name.to_owned()).map_err(|_| Error::ServerName(server_name.to_owned()))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    match timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await {
        Ok(connected) => connected.map_err(Error::from),
        Err(_) => Err(Error::Tcp(io::ErrorKind::TimedOut)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn keep_alive_requests_share_the_stream() {
        block_on(async {
            let (client, mut server) = duplex(4096);
            let serve = async {
                for body in ["one", "two"] {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        assert_ne!(server.read_buf(&mut head).await.unwrap(), 0);
                    }
                    let head = String::from_utf8(head).unwrap();
                    assert!(head.contains("host: orders.example"), "{head}");
                    assert!(head.contains("authorization: Bearer abc"), "{head}");
                    let answer = format!("HTTP/1.1 200 OK\r\nx-number: {body}\r\ncontent-length: 3\r\n\r\n{body}");
                    server.write_all(answer.as_bytes()).await.unwrap();
                }
            };
            let ask = async {
                let mut http = Http1::new(client).await.unwrap();
                for body in ["one", "two"] {
                    let answer = http.send(Request::get("orders.example", "/v1").bearer("abc")).await.unwrap();
                    assert_eq!((answer.status, answer.header("x-number")), (200, Some(body)));
                    assert_eq!(answer.text(), body);
                }
            };
            tokio::join!(serve, ask);
        });
    }

    #[test]
    fn http_2_requests_run_side_by_side() {
        use hyper::service::service_fn;

        block_on(async {
            let (client, server) = duplex(64 << 10);
            let service = service_fn(async |request: http::Request<Incoming>| {
                let seen = format!("{} {}", request.uri(), request.method());
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(seen))))
            });
            let mut owner = JoinSet::new();
            owner.spawn(async move {
                let io = TokioIo::new(server);
                let _ =
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
            });
            let http = Http2::new(client).await.unwrap();
            let (get, post) = tokio::join!(
                http.send(Request::get("orders.example", "/v1?x=1")),
                http.send(Request::post("orders.example", "/v2", "body")),
            );
            assert_eq!(get.unwrap().text(), "https://orders.example/v1?x=1 GET");
            assert_eq!(post.unwrap().text(), "https://orders.example/v2 POST");
        });
    }

    #[test]
    fn raw_bytes_go_as_they_are_and_the_end_is_told() {
        block_on(async {
            let (client, mut server) = duplex(4096);
            let serve = async {
                let mut got = [0; 9];
                server.read_exact(&mut got).await.unwrap();
                assert_eq!(&got, b"GARBAGE\r\n");
                server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                drop(server);
            };
            let ask = async {
                let answer = raw(client, b"GARBAGE\r\n", Duration::from_secs(5)).await;
                assert_eq!((answer.status(), answer.end), (Some(400), RawEnd::Closed));
            };
            tokio::join!(serve, ask);
        });
    }

    #[test]
    fn an_open_stream_is_told_at_the_deadline() {
        block_on(async {
            let (client, _server) = duplex(4096);
            let answer = raw(client, b"x", Duration::from_millis(5)).await;
            assert_eq!((answer.bytes.len(), answer.end), (0, RawEnd::Open));
        });
    }
}
