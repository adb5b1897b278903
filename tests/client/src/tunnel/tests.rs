//! The driver against a small server over real sockets on loopback: TLS, [`MiniServer`], and a stack that echoes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::sim::mini::{CLIENT, GATEWAY, MiniServer};
use crate::stack::peer::{PeerStack, SERVICE, SILENT};
use crate::{Cheat, ClientKind, Method};

const NAME: &str = "vpn.example.test";

struct Server {
    address: SocketAddr,
    roots: RootCertStore,
    /// One task; it yields whether the last connection ended with the goodbye of SSTP.
    task: JoinSet<bool>,
}

impl Server {
    async fn start(offer: Method) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = certificate.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(der.clone()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = tls_config(der.clone(), key);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(stream) = TlsAcceptor::from(config).accept(tcp).await else { return false };
            let mut server = MiniServer::new(offer);
            server.certificate = der.to_vec();
            serve(stream, server).await
        });
        Self { address, roots, task }
    }

    async fn connect(&self, method: Method) -> Result<Tunnel, Error> {
        let profile = Profile::new(NAME, "User", "clientPass", method);
        Tunnel::connect(self.address, self.roots.clone(), profile).await
    }
}

fn tls_config(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

async fn serve(mut stream: tokio_rustls::server::TlsStream<TcpStream>, mut server: MiniServer) -> bool {
    let mut peer = PeerStack::new(clock::now());
    let mut buffer = vec![0; 64 << 10];
    loop {
        for packet in std::mem::take(&mut server.packets) {
            peer.handle_packet(&packet);
        }
        peer.poll(clock::now(), |packet| server.send_packet(packet));
        let out = server.take_output();
        if stream.write_all(&out).await.is_err() || stream.flush().await.is_err() {
            return false;
        }
        match timeout(Duration::from_millis(5), stream.read(&mut buffer)).await {
            Ok(Ok(0)) | Ok(Err(_)) => return server.closed,
            Ok(Ok(count)) => server.handle_input(&buffer[..count]),
            Err(_) => {}
        }
    }
}

fn block_on<F: Future<Output = ()>>(test: impl Fn() -> F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
}

/// Streams and tunnels may live on any runtime.
#[test]
fn tunnels_may_be_shared_and_streams_sent() {
    fn sendable<T: Send + Unpin>() {}
    fn shareable<T: Send + Sync>() {}
    sendable::<Stream>();
    shareable::<Tunnel>();
}

#[test]
fn a_tunnel_comes_up_and_answers() {
    block_on(|| async {
        let mut server = Server::start(Method::EapMsChapV2).await;
        let tunnel = server.connect(Method::EapMsChapV2).await.unwrap();
        assert_eq!((tunnel.address(), tunnel.gateway()), (CLIENT, GATEWAY));
        let resolved = tunnel.resolve("orders.api.corp.example").await;
        assert_eq!(resolved, Ok(Resolved::Addresses(vec![SERVICE])));
        assert_eq!(tunnel.resolve("hidden.api.corp.example").await, Ok(Resolved::NxDomain));
        assert!(tunnel.ping(GATEWAY).await);
        let ack = tunnel.inform().await.unwrap();
        assert_eq!(dhcp::option(&ack, 53), Some(&[5][..]));
        assert_eq!(tunnel.rejected_protocols(), [0x8057, 0x80FD]);
        assert_eq!(tunnel.disconnect().await, Ended::Closed);
        assert!(server.task.join_next().await.unwrap().unwrap());
    });
}

#[test]
fn streams_carry_bytes_both_ways_at_once() {
    block_on(|| async {
        let server = Server::start(Method::MsChapV2).await;
        let tunnel = server.connect(Method::MsChapV2).await.unwrap();
        let stream = tunnel.tcp(SERVICE, 443).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sent: Vec<u8> = (0..2_000_000u32).map(|index| (index * 7 / 3) as u8).collect();
        let mut received = Vec::new();
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (_, count) = tokio::join!(write, reader.read_to_end(&mut received));
        assert_eq!(count.unwrap(), sent.len());
        assert!(received == sent);
        let counters = tunnel.packets();
        assert_eq!((counters.duplicate_bytes, counters.gaps, counters.faults), (0, 0, 0));
    });
}

#[test]
fn refusal_and_silence_are_told_apart() {
    block_on(|| async {
        let server = Server::start(Method::Pap).await;
        let tunnel = server.connect(Method::Pap).await.unwrap();
        assert_eq!(tunnel.tcp(SERVICE, 22).await.err(), Some(Error::Reset));
        let silent = tunnel.tcp_within(SILENT, 443, Duration::from_millis(50)).await;
        assert_eq!(silent.err(), Some(Error::Silent));
    });
}

#[test]
fn raw_packets_go_as_they_are_with_a_spoofed_source_too() {
    block_on(|| async {
        let server = Server::start(Method::MsChapV2).await;
        let spoofed = Ipv4Addr::new(10, 9, 9, 9);
        let profile = Profile::new(NAME, "User", "clientPass", Method::MsChapV2).cheat(Cheat::SpoofSource(spoofed));
        let tunnel = Tunnel::connect(server.address, server.roots.clone(), profile).await.unwrap();
        assert_eq!(tunnel.address(), CLIENT);
        let reset = |to: Ipv4Addr| {
            move |packet: &[u8]| {
                let ip = Ipv4::parse(packet).unwrap();
                ip.destination == to && ip.tcp().is_some_and(|segment| segment.has(ip::Tcp::RST))
            }
        };
        let syn = ip::tcp((CLIENT, 1000), (SERVICE, 22), 7, ip::Tcp::SYN, b"");
        assert!(tunnel.ask(syn, Duration::from_secs(5), reset(CLIENT)).await.unwrap().is_some());
        // The stack's own SYN has the other source.
        let echo = ip::icmp_echo(CLIENT, SILENT, 1, 1);
        let (found, refused) =
            tokio::join!(tunnel.ask(echo, Duration::from_secs(5), reset(spoofed)), tunnel.tcp(SERVICE, 22));
        assert!(found.unwrap().is_some());
        assert_eq!(refused.err(), Some(Error::Reset));
    });
}

#[test]
fn a_paused_tunnel_reads_nothing_until_it_goes_on() {
    block_on(|| async {
        let server = Server::start(Method::MsChapV2).await;
        let tunnel = server.connect(Method::MsChapV2).await.unwrap();
        let mut stream = tunnel.tcp(SERVICE, 443).await.unwrap();
        tunnel.pause_reading(true);
        stream.write_all(b"echo").await.unwrap();
        let mut buffer = [0; 4];
        assert!(timeout(Duration::from_millis(50), stream.read_exact(&mut buffer)).await.is_err());
        tunnel.pause_reading(false);
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"echo");
    });
}

#[test]
fn the_end_of_the_tunnel_ends_its_streams() {
    block_on(|| async {
        let mut server = Server::start(Method::MsChapV2).await;
        let tunnel = server.connect(Method::MsChapV2).await.unwrap();
        let mut stream = tunnel.tcp(SERVICE, 443).await.unwrap();
        server.task.shutdown().await;
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        assert_eq!(tunnel.closed().await, Ended::Lost);
        assert_eq!(tunnel.tcp(SERVICE, 443).await.err(), Some(Error::Lost));
        assert_eq!(tunnel.resolve("orders.api.corp.example").await, Err(Error::Lost));
    });
}

#[test]
fn dropping_the_tunnel_ends_its_streams() {
    block_on(|| async {
        let mut server = Server::start(Method::MsChapV2).await;
        let tunnel = server.connect(Method::MsChapV2).await.unwrap();
        let mut stream = tunnel.tcp(SERVICE, 443).await.unwrap();
        drop(tunnel);
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        assert!(!server.task.join_next().await.unwrap().unwrap());
    });
}

#[test]
fn what_fails_is_named() {
    block_on(|| async {
        let server = Server::start(Method::MsChapV2).await;
        let profile = Profile::new(NAME, "User", "wrong", Method::MsChapV2);
        let refused = Tunnel::connect(server.address, server.roots.clone(), profile.clone()).await;
        assert_eq!(refused.err(), Some(Error::Refused(691)));

        let server = Server::start(Method::MsChapV2).await;
        let other = Profile { server_name: "other.example.test".into(), ..profile.clone() };
        let tls = Tunnel::connect(server.address, server.roots.clone(), other).await;
        assert!(matches!(tls.err(), Some(Error::Tls(rustls::Error::InvalidCertificate(_)))));

        let server = Server::start(Method::MsChapV2).await;
        let cheat = Profile::new(NAME, "User", "clientPass", Method::MsChapV2).cheat(Cheat::WrongMac);
        let aborted = Tunnel::connect(server.address, server.roots.clone(), cheat).await;
        let status = crate::wire::Status { attribute: 3, status: 4 };
        assert_eq!(aborted.err(), Some(Error::Aborted(Some(status))));

        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let tcp = Tunnel::connect(nobody, server.roots.clone(), profile.client(ClientKind::Pppd)).await;
        assert_eq!(tcp.err(), Some(Error::Tcp(std::io::ErrorKind::ConnectionRefused)));
    });
}

#[test]
fn tls_1_2_carries_a_tunnel_too() {
    block_on(|| async {
        let server = Server::start(Method::MsChapV2).await;
        let profile = Profile::new(NAME, "User", "clientPass", Method::MsChapV2);
        let settings = Settings { tls12_only: true, ..Settings::default() };
        let tunnel = Tunnel::connect_with(server.address, server.roots.clone(), profile, settings).await.unwrap();
        assert!(tunnel.ping(GATEWAY).await);
    });
}
