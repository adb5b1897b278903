//! One document from an issuer over HTTPS: a URL in, a bounded body out.
//!
//! What does not exist here: plain HTTP, redirects, cookies, proxies, compression, reuse of connections. The address is
//! checked after the name is resolved and right before the connection, so a name that changes its address in between
//! gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, HOST, HeaderMap};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::off_limits;

/// From the first DNS question to the last byte.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// Why there is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Not `https://host[:port][/path][?query]`.
    #[error("{url:?} is not an https URL without user and fragment")]
    Url {
        /// The URL.
        url: String,
    },
    /// No certificate authority.
    #[error("there is no usable certificate authority")]
    Roots,
    /// The name did not resolve, or nobody answered.
    #[error("cannot connect to {host}: {kind}")]
    Connect {
        /// The host.
        host: String,
        /// The system's word.
        kind: io::ErrorKind,
    },
    /// The name only has addresses where no issuer is.
    #[error("{host} has an address that is never connected to: {address}")]
    Address {
        /// The host.
        host: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host} failed: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// The library's word.
        reason: String,
    },
    /// Not HTTP, or broken off.
    #[error("{host} does not speak HTTP/1.1: {reason}")]
    Http {
        /// The host.
        host: String,
        /// The library's word.
        reason: String,
    },
    /// An answer other than 200; a redirect is one.
    #[error("{host} answered {status}")]
    Status {
        /// The host.
        host: String,
        /// What it answered.
        status: u16,
    },
    /// The body is too long.
    #[error("{host} sent more than {limit} bytes")]
    TooLong {
        /// The host.
        host: String,
        /// The limit.
        limit: usize,
    },
    /// It took too long.
    #[error("{host} took longer than {} ms", after.as_millis())]
    Timeout {
        /// The host.
        host: String,
        /// The limit.
        after: Duration,
    },
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its bytes.
    pub body: Bytes,
    /// `Cache-Control: max-age`.
    pub max_age: Option<Duration>,
}

/// Fetches documents from hosts that these authorities vouch for.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these authorities, or with the system's.
    pub fn new(roots: Option<&[CertificateDer<'static>]>) -> Result<Self, FetchError> {
        let mut store = RootCertStore::empty();
        match roots {
            Some(roots) => store.add_parsable_certificates(roots.iter().cloned()),
            None => store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        };
        if store.is_empty() {
            return Err(FetchError::Roots);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), timeout: TIMEOUT })
    }

    /// Fetches one document of at most `limit` bytes.
    pub async fn get(&self, url: &str, limit: usize) -> Result<Document, FetchError> {
        let url = Target::parse(url)?;
        let host = url.host.clone();
        match tokio::time::timeout(self.timeout, self.exchange(&url, limit)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout { host, after: self.timeout }),
        }
    }

    async fn exchange(&self, url: &Target, limit: usize) -> Result<Document, FetchError> {
        let host = || url.host.clone();
        let broken = |error: hyper::Error| FetchError::Http { host: host(), reason: error.to_string() };
        let tcp = connect(url).await?;
        let tls = self.tls.connect(url.server.clone(), tcp).await;
        let tls = tls.map_err(|error| FetchError::Tls { host: host(), reason: error.to_string() })?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (mut sender, connection) = builder.handshake(TokioIo::new(tls)).await.map_err(broken)?;

        let request = Request::get(&url.path)
            .header(HOST, &url.authority)
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| FetchError::Http { host: host(), reason: error.to_string() })?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status { host: host(), status: response.status().as_u16() });
            }
            let max_age = max_age(response.headers());
            let body = Limited::new(response.into_body(), limit).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => FetchError::TooLong { host: host(), limit },
                false => FetchError::Http { host: host(), reason: error.to_string() },
            })?;
            Ok(Document { body: body.to_bytes(), max_age })
        };
        // The connection makes the answer progress. When it ends first, what it delivered is still read.
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    #[cfg(test)]
    fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// Whether a URL is one that [`Client::get`] would try.
pub fn is_https(url: &str) -> bool {
    Target::parse(url).is_ok_and(|target| off_limits::at_host(&target.host).is_none())
}

struct Target {
    host: String,
    port: u16,
    server: ServerName<'static>,
    authority: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, FetchError> {
        let refused = || FetchError::Url { url: url.chars().take(200).collect() };
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let forbidden = authority.as_str().contains('@') || url.contains('#');
        if uri.scheme_str() != Some("https") || forbidden {
            return Err(refused());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // The library takes a port above 65535 for no port.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 443,
            rest => rest.and_then(port).ok_or_else(refused)?,
        };
        let server = ServerName::try_from(host.clone()).map_err(|_| refused())?;
        Ok(Self {
            host,
            port,
            server,
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

fn port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&port| port != 0)
}

async fn connect(url: &Target) -> Result<TcpStream, FetchError> {
    let failed = |error: io::Error| FetchError::Connect { host: url.host.clone(), kind: error.kind() };
    let addresses: Vec<_> = tokio::net::lookup_host((url.host.as_str(), url.port)).await.map_err(failed)?.collect();
    let off_limits = |address: &IpAddr| off_limits::at_address(*address).is_some();
    if let Some(address) = addresses.iter().map(SocketAddr::ip).find(off_limits) {
        return Err(FetchError::Address { host: url.host.clone(), address });
    }
    TcpStream::connect(addresses.as_slice()).await.map_err(failed)
}

/// RFC 9111 section 5.2.2.1; `no-store` and `no-cache` are an age of 0.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = values.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase());
    let age = |directive: String| match directive.as_str() {
        "no-store" | "no-cache" => Some(0),
        other => other.strip_prefix("max-age=")?.trim_matches('"').parse().ok(),
    };
    directives.filter_map(age).min().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::authn::testing::{Https, runtime};

    fn client(server: &Https) -> Client {
        Client::new(Some(&server.roots)).unwrap()
    }

    #[test]
    fn a_document_comes_with_its_age() {
        runtime(async {
            let server = Https::start().await;
            server.answer("/a/b", "HTTP/1.1 200 OK\r\ncache-control: public, max-age=77\r\n\r\nhello");
            let document = client(&server).get(&server.url("/a/b"), 5).await.unwrap();
            assert_eq!(&document.body[..], b"hello");
            assert_eq!(document.max_age, Some(Duration::from_secs(77)));
            let head = server.requests().remove(0);
            assert!(head.starts_with("GET /a/b HTTP/1.1\r\n"), "{head}");
            assert!(head.to_ascii_lowercase().contains(&format!("host: 127.0.0.1:{}\r\n", server.port)));
        });
    }

    #[test]
    fn nt_33_ten_mebibytes_are_not_read() {
        runtime(async {
            let server = Https::start().await;
            let long = "x".repeat(10 * 1024 * 1024);
            server.answer("/length", &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{long}", long.len()));
            server.answer("/endless", &format!("HTTP/1.1 200 OK\r\n\r\n{long}"));
            let head = "x".repeat(100 * 1024);
            server.answer("/head", &format!("HTTP/1.1 200 OK\r\nx: {head}\r\n\r\n"));
            let too_long = Err(FetchError::TooLong { host: "127.0.0.1".to_owned(), limit: 1000 });
            assert_eq!(client(&server).get(&server.url("/length"), 1000).await, too_long);
            assert_eq!(client(&server).get(&server.url("/endless"), 1000).await, too_long);
            let head = client(&server).get(&server.url("/head"), 1000).await;
            assert!(matches!(head, Err(FetchError::Http { .. })), "{head:?}");
        });
    }

    #[test]
    fn nt_33_a_redirect_is_not_followed() {
        runtime(async {
            let server = Https::start().await;
            let inner = server.url("/inner");
            server.answer("/inner", "HTTP/1.1 200 OK\r\n\r\nsecret");
            for status in [301_u16, 302, 303, 307, 308] {
                server.answer("/go", &format!("HTTP/1.1 {status} X\r\nlocation: {inner}\r\n\r\n"));
                let refused = Err(FetchError::Status { host: "127.0.0.1".to_owned(), status });
                assert_eq!(client(&server).get(&server.url("/go"), 1000).await, refused);
            }
            assert_eq!(server.count("/inner"), 0);
        });
    }

    #[test]
    fn nt_33_metadata_addresses_are_never_connected_to() {
        runtime(async {
            let server = Https::start().await;
            for address in [
                "169.254.169.254",
                "169.254.0.1",
                "[fe80::1]",
                "[::ffff:169.254.169.254]",
                "[fd00:ec2::254]",
                "[fd20:ce::254]",
                "100.100.100.200",
                "168.63.129.16",
                "0.0.0.0",
                "[::]",
            ] {
                let refused = client(&server).get(&format!("https://{address}/"), 10).await;
                assert!(matches!(refused, Err(FetchError::Address { .. })), "{address}: {refused:?}");
            }
        });
    }

    #[test]
    fn only_plain_https_urls_are_tried() {
        for url in
            ["https://a.example", "https://a.example:8443/x/y", "https://[2001:db8::1]/x", "https://a.example/keys?p=1"]
        {
            assert!(is_https(url), "{url}");
        }
        for url in [
            "http://a.example/",
            "https://user@a.example/",
            "https://a.example/#x",
            "https:///x",
            "https://a.example:0/",
            "https://a.example:99999/",
            "https://169.254.169.254/",
            "https://[fd20:ce::254]/",
            "file:///etc/passwd",
            "//a.example/",
            "/x",
            "",
            "https://a b/",
        ] {
            assert!(!is_https(url), "{url}");
        }
    }

    #[test]
    fn a_certificate_of_somebody_else_ends_it() {
        runtime(async {
            let (server, other) = (Https::start().await, Https::start().await);
            server.answer("/", "HTTP/1.1 200 OK\r\n\r\nhello");
            let refused = client(&other).get(&server.url("/"), 10).await;
            assert!(matches!(refused, Err(FetchError::Tls { .. })), "{refused:?}");
        });
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        runtime(async {
            let server = Https::start().await;
            let after = Duration::from_millis(100);
            let refused = client(&server).with_timeout(after).get(&server.url(Https::SILENCE), 10).await;
            assert_eq!(refused, Err(FetchError::Timeout { host: "127.0.0.1".to_owned(), after }));
        });
    }

    #[test]
    fn no_authority_is_an_error_at_once() {
        assert!(matches!(Client::new(Some(&[])), Err(FetchError::Roots)));
    }

    #[test]
    fn the_shortest_age_counts() {
        let age = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, value.parse().unwrap());
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age(&[]), None);
        assert_eq!(age(&["public, Max-Age=\"60\""]), Some(60));
        assert_eq!(age(&["max-age=60", "max-age=30"]), Some(30));
        assert_eq!(age(&["max-age=60, no-store"]), Some(0));
        assert_eq!(age(&["max-age=-1"]), None);
    }
}
