//! Dials an upstream: resolve, check the address, connect, TLS; all within one deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Target;
use crate::off_limits;
use crate::policy::UpstreamUrl;

/// How long dialling may take, name and TLS included.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a connection may be silent before the system asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why an upstream could not be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection within {DEADLINE:?}")]
    Timeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0} is {1}: not an address of an upstream")]
    Refused(SocketAddr, &'static str),
    #[error("{0} is our own admin socket")]
    OwnSocket(String),
    #[error("the name has no address")]
    NoAddress,
}

/// A new connection to the target.
pub(super) async fn connect(target: &Target) -> Result<Stream, ConnectError> {
    tokio::time::timeout(DEADLINE, open(target)).await.map_err(|_| ConnectError::Timeout)?
}

async fn open(target: &Target) -> Result<Stream, ConnectError> {
    match &target.spec().url {
        UpstreamUrl::Unix { path } => Ok(Box::new(dial_socket(target, path).await?)),
        UpstreamUrl::Http { host, port } => Ok(Box::new(dial(target, host, *port).await?)),
        UpstreamUrl::Https { host, port } => {
            let tcp = dial(target, host, *port).await?;
            let tls = target.tls().ok_or(ConnectError::NoAddress)?;
            let stream = TlsConnector::from(Arc::clone(&tls.config)).connect(tls.server_name.clone(), tcp).await?;
            Ok(Box::new(stream))
        }
    }
}

async fn dial(target: &Target, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    first(&addresses, target.own_listeners(), DEADLINE).await
}

/// A connection to the first of the addresses that takes one. Each has its share of the time: one that swallows what is
/// sent to it leaves the others theirs.
async fn first(
    addresses: &[SocketAddr],
    own_listeners: &[SocketAddr],
    within: Duration,
) -> Result<TcpStream, ConnectError> {
    let share = within / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = ConnectError::NoAddress;
    for &address in addresses {
        if let Some(reason) = refused(address, own_listeners) {
            last = ConnectError::Refused(address, reason);
            continue;
        }
        let Ok(connected) = tokio::time::timeout(share, TcpStream::connect(address)).await else {
            last = ConnectError::Timeout;
            continue;
        };
        match connected {
            // A listener on all addresses is found on any of this machine's, and no list has them all.
            Ok(tcp) if is_ourselves(tcp.local_addr()?, tcp.peer_addr()?, own_listeners) => {
                last = ConnectError::Refused(address, "our own listener");
            }
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
                return Ok(tcp);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

async fn dial_socket(target: &Target, path: &str) -> Result<UnixStream, ConnectError> {
    let stream = UnixStream::connect(path).await?;
    // The peer's address is the path that its server bound, whatever link led there.
    if target.own_socket().is_some() && stream.peer_addr()?.as_pathname() == target.own_socket() {
        return Err(ConnectError::OwnSocket(path.to_owned()));
    }
    Ok(stream)
}

/// Why an address that a name resolved to is not dialled: the check at load saw the name, not today's address.
fn refused(address: SocketAddr, own_listeners: &[SocketAddr]) -> Option<&'static str> {
    let ip = address.ip().to_canonical();
    let own = |listener: &SocketAddr| {
        listener.port() == address.port()
            && (listener.ip() == ip || (listener.ip().is_unspecified() && ip.is_loopback()))
    };
    off_limits::at_address(ip).or_else(|| own_listeners.iter().any(own).then_some("our own listener"))
}

/// Whether a connection ended at this machine, at a port where we listen.
fn is_ourselves(local: SocketAddr, peer: SocketAddr, own_listeners: &[SocketAddr]) -> bool {
    let own = |listener: &SocketAddr| {
        listener.port() == peer.port() && (listener.ip().is_unspecified() || listener.ip() == peer.ip())
    };
    local.ip() == peer.ip() && own_listeners.iter().any(own)
}

/// What a connection to an upstream must be able to do.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection to an upstream.
pub(super) type Stream = Box<dyn Duplex>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Authorities;
    use super::*;

    #[test]
    fn nt_50_an_upstream_that_resolves_to_metadata_or_to_ourselves_is_not_dialled() {
        let own = ["0.0.0.0:443".parse().expect("an address"), "127.0.0.1:9901".parse().expect("an address")];
        let refused = |text: &str| refused(text.parse().expect("an address"), &own).is_some();
        for address in [
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "0.0.0.0:80",
            "127.0.0.1:9901",
            "127.0.0.1:443",
            "[::ffff:127.0.0.1]:9901",
            "224.0.0.1:80",
            "100.100.100.200:80",
            "168.63.129.16:32526",
        ] {
            assert!(refused(address), "{address}");
        }
        for address in ["127.0.0.1:8080", "10.0.0.1:443", "[::1]:8080", "192.0.2.1:9901"] {
            assert!(!refused(address), "{address}");
        }
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_the_next_its_time() {
        use socket2::{Domain, Socket, Type};
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        full.listen(0).expect("a listener");
        let silent = full.local_addr().expect("an address").as_socket().expect("an IP address");
        let mut waiting = Vec::new();
        while let Ok(taken) = tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(silent)).await {
            waiting.push(taken.expect("room in its queue"));
        }
        let alive = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (addresses, within) = ([silent, alive.local_addr().expect("an address")], Duration::from_millis(400));
        let connected = tokio::time::timeout(within, first(&addresses, &[], within)).await.expect("in time");
        assert_eq!(connected.expect("a connection").peer_addr().expect("an address"), addresses[1]);
    }

    fn target(own_listeners: Vec<SocketAddr>) -> Target {
        let text = "api = \"orders\"\npolicy_version = 1\nowner = \"a@b.example\"\nhosts = [\"orders.api.example\"]\n\
                    [upstream]\nurl = \"http://upstream.example\"\n";
        let sources = [crate::policy::Source { file: "orders.toml".into(), text: text.into() }];
        let compiled = crate::policy::compile(&sources, &crate::server::loader::lone_environment(), None);
        let authorities = Authorities {
            named: BTreeMap::new(),
            system: Arc::new(rustls::RootCertStore::empty()),
            certificates: BTreeMap::new(),
            own_listeners,
            own_socket: None,
        };
        Target::new(&compiled.expect("a bundle").bundle.apis()[0], &authorities).expect("a target")
    }

    #[tokio::test]
    async fn nt_50_what_a_name_resolves_to_is_checked_before_it_is_dialled() {
        // 2852039166 is an old spelling of 169.254.169.254, and stands for a name that was harmless at load.
        for host in ["169.254.169.254", "2852039166", "0.0.0.0"] {
            let dialled = tokio::time::timeout(DEADLINE, dial(&target(Vec::new()), host, 80)).await;
            assert!(matches!(dialled, Ok(Err(ConnectError::Refused(..)))), "{host}: {dialled:?}");
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let ourselves = target(vec![address]);
        let dialled = dial(&ourselves, "localhost", address.port()).await;
        assert!(matches!(dialled, Err(ConnectError::Refused(..) | ConnectError::Io(_))), "{dialled:?}");
        let other = dial(&target(Vec::new()), "localhost", address.port()).await.expect("a connection");
        let (accepted, peer) = listener.accept().await.expect("a connection");
        assert_eq!((accepted.local_addr().ok(), Some(peer)), (Some(address), other.local_addr().ok()), "the only one");
    }

    #[test]
    fn nt_50_a_listener_on_all_addresses_is_known_by_any_of_them() {
        let own = ["0.0.0.0:443".parse().expect("an address"), "192.0.2.7:9901".parse().expect("an address")];
        let ourselves = |local: &str, peer: &str| {
            is_ourselves(local.parse().expect("an address"), peer.parse().expect("an address"), &own)
        };
        assert!(ourselves("192.0.2.7:50000", "192.0.2.7:443"));
        assert!(ourselves("[2001:db8::7]:50000", "[2001:db8::7]:443"));
        assert!(ourselves("192.0.2.7:50000", "192.0.2.7:9901"));
        assert!(!ourselves("192.0.2.7:50000", "192.0.2.8:443"), "another machine");
        assert!(!ourselves("192.0.2.7:50000", "192.0.2.7:8080"), "another server on this machine");
        assert!(!ourselves("10.0.0.7:50000", "10.0.0.7:9901"), "another server on this port");
    }
}
