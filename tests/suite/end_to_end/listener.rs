//! The outer port, for those who want no tunnel, or do not ask for it properly.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wicket_client::http::{RawAnswer, RawEnd};
use wicket_client::wire::PATH;
use wicket_client::{Settings, raw};

use crate::world::log::lines_with;
use crate::world::pki::PKI;
use crate::world::{ORDERS, PATIENCE, SERVER_NAME, World, eventually};

async fn ask(world: &World, request: &str) -> RawAnswer {
    raw(world.tls(&[]).await.unwrap(), request.as_bytes(), PATIENCE).await
}

/// The lines of the log about one connection.
async fn logged(peer: std::net::SocketAddr) -> Vec<String> {
    let about = format!("peer={peer}");
    // Whole words, so that port 4252 is not found in 42528.
    let lines = || -> Vec<String> {
        let words = |line: &String| line.trim_end().split([' ', '}', ':']).collect::<Vec<_>>().join(" ");
        let wanted = about.replace(':', " ");
        lines_with(&about)
            .into_iter()
            .filter(|line| format!("{} ", words(line)).contains(&format!("{wanted} ")))
            .collect()
    };
    eventually("a line of the log", async || !lines().is_empty()).await;
    lines()
}

#[tokio::test]
async fn get_and_head_of_the_sstp_path_are_answered_like_windows_with_an_empty_401() {
    let world = World::start().await;
    for method in ["GET", "HEAD"] {
        let answer = ask(&world, &format!("{method} {PATH} HTTP/1.1\r\nHost: {SERVER_NAME}\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.end), (Some(401), RawEnd::Closed), "{method}");
        let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
        assert!(text.ends_with("\r\n\r\n") && text.contains("Content-Length: 0"), "{text}");
    }
    world.stop().await;
}

#[tokio::test]
async fn everything_else_is_404_or_400_and_names_no_product() {
    let world = World::start().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /v1/items HTTP/1.1\r\nHost: orders.api.example.test\r\n\r\n", 404),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 404),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GARBAGE\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: x\n\n", 400),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: \u{e4}\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 400),
        ("\0\0\0\0\r\n\r\n", 400),
    ] {
        let answer = ask(&world, request).await;
        assert_eq!((answer.status(), answer.end), (Some(status), RawEnd::Closed), "{request:?}");
        let text = String::from_utf8(answer.bytes.to_vec()).unwrap().to_lowercase();
        assert!(!text.contains("wicket") && !text.contains("server:") && text.len() < 120, "{text}");
    }
    assert_eq!(world.sessions().await.len(), 0);
    world.stop().await;
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_refused_with_one_line_in_the_log() {
    let world = World::start().await;
    let stream = world.tcp().await;
    let peer = stream.local_addr().unwrap();
    let answer = raw(stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PATIENCE).await;
    assert_ne!(answer.end, RawEnd::Open);
    assert!(!answer.bytes.starts_with(b"HTTP"), "no plaintext answer");
    let lines = logged(peer).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("speak TLS on this port"), "{lines:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_bare_probe_costs_one_line_in_the_log_and_nobody_else_anything() {
    let world = World::start().await;
    let tcp = world.tcp().await;
    let tcp_peer = tcp.local_addr().unwrap();
    drop(tcp);
    let tls = world.tls(&[]).await.unwrap();
    let tls_peer = tls.get_ref().0.local_addr().unwrap();
    drop(tls);
    for peer in [tcp_peer, tls_peer] {
        assert_eq!(logged(peer).await.len(), 1);
    }
    assert_eq!(world.get(&world.connect("alice").await, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_handshake_in_pieces_or_garbage_after_hello_disturbs_nobody() {
    let world = World::start().await;
    let mut hello = rustls::ClientConnection::new(Arc::new(config()), SERVER_NAME.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    hello.write_tls(&mut bytes).unwrap();
    for end in [1, 5, 6, bytes.len() / 2, bytes.len() - 1] {
        let mut stream = world.tcp().await;
        stream.write_all(&bytes[..end]).await.unwrap();
        drop(stream);
    }
    // The type of the record, and of the message in it.
    for at in [0, 5] {
        let mut broken = bytes.clone();
        broken[at] ^= 0xFF;
        let answer = raw(world.tcp().await, &broken, PATIENCE).await;
        assert_ne!(answer.end, RawEnd::Open, "byte {at}");
    }
    assert_eq!(world.get(&world.connect("alice").await, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_client_without_server_name_is_served() {
    let world = World::start().await;
    let settings = Settings { sni: false, ..Settings::default() };
    let tunnel = world.try_connect_with(world.profile("alice"), settings).await.unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_server_name_with_a_port_is_refused_with_its_cure_in_the_log() {
    let world = World::start().await;
    // A library sends no such name, so its ClientHello is changed: the other name is as long.
    let (name, with_port) = (SERVER_NAME.as_bytes(), b"vpn.example:4443");
    let mut hello = rustls::ClientConnection::new(Arc::new(config()), SERVER_NAME.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    hello.write_tls(&mut bytes).unwrap();
    let at = bytes.windows(name.len()).position(|window| window == name).expect("its server name");
    bytes[at..at + name.len()].copy_from_slice(with_port);
    let stream = world.tcp().await;
    let peer = stream.local_addr().unwrap();
    let answer = raw(stream, &bytes, PATIENCE).await;
    assert_ne!(answer.end, RawEnd::Open);
    let lines = logged(peer).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("the server name is not a host name: connect without a port in it"), "{lines:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_line_about_a_session_has_its_id_and_the_id_that_windows_logs() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let up = world.record(|record| record["event"] == "tunnel-up").await;
    let (session, correlation) = (up["session"].as_str().unwrap(), up["correlation"].as_str().unwrap());
    assert!(correlation.len() == 38 && correlation.starts_with('{'), "{correlation}");
    alice.disconnect().await;
    for event in ["tunnel up", "tunnel down"] {
        let of_event = || lines_with(correlation).into_iter().find(|line| line.contains(event));
        eventually(event, async || of_event().is_some()).await;
        let line = of_event().unwrap();
        assert!(line.contains(&format!("id={session} ")) && line.contains("subject=alice"), "{line}");
    }
    world.stop().await;
}

/// How the second of two handshakes went, with a client that keeps what it would need to resume the first.
async fn second_handshake<S: AsyncRead + AsyncWrite + Unpin>(
    config: &Arc<ClientConfig>,
    name: &'static str,
    open: impl AsyncFn() -> S,
) -> HandshakeKind {
    let mut kind = None;
    for _ in 0..2 {
        let connector = TlsConnector::from(Arc::clone(config));
        let mut stream = connector.connect(name.try_into().unwrap(), open().await).await.unwrap();
        kind = stream.get_ref().1.handshake_kind();
        // Tickets come with the first bytes.
        stream.write_all(format!("GET /v1/items HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        assert_ne!(stream.read_buf(&mut Vec::new()).await.unwrap(), 0);
    }
    kind.unwrap()
}

/// A server that lets everybody resume: the library as it comes.
struct Lenient {
    acceptor: TlsAcceptor,
    serving: RefCell<JoinSet<()>>,
}

impl Lenient {
    fn new() -> Self {
        Self { acceptor: TlsAcceptor::from(Arc::new(PKI.server.server_config())), serving: RefCell::default() }
    }

    fn open(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1 << 16);
        let accepting = self.acceptor.accept(far);
        self.serving.borrow_mut().spawn(async move {
            let mut stream = accepting.await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            // Until the client goes, however it does.
            drop(stream.read_to_end(&mut Vec::new()).await);
        });
        near
    }
}

#[tokio::test]
async fn nt_45_no_tls_session_is_resumed_neither_outside_nor_inside_a_tunnel() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let full = |kind| matches!(kind, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = || {
            let mut config = ClientConfig::builder_with_provider(wicketgate::listener::tls::provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Credulous))
                .with_no_client_auth();
            config.enable_early_data = true;
            Arc::new(config)
        };
        let outside = second_handshake(&client(), SERVER_NAME, async || world.tcp().await).await;
        assert!(full(outside), "{version:?} {outside:?}");
        let inside = second_handshake(&client(), ORDERS, async || world.open(&alice, ORDERS, 443).await).await;
        assert!(full(inside), "{version:?} {inside:?}");
        let server = Lenient::new();
        let lenient = second_handshake(&client(), SERVER_NAME, async || server.open()).await;
        assert_eq!(lenient, HandshakeKind::Resumed, "the client resumes where it may, {version:?}");
    }
    drop(alice);
    world.stop().await;
}

#[tokio::test]
async fn a_client_with_an_unknown_server_name_sees_the_same_certificate() {
    let world = World::start().await;
    let connector = TlsConnector::from(Arc::new(config()));
    let name = ServerName::try_from("nobody.example.org").unwrap();
    let stream = connector.connect(name, world.tcp().await).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], PKI.server.der());
    let answer = raw(stream, b"GET / HTTP/1.1\r\nHost: nobody.example.org\r\n\r\n", PATIENCE).await;
    assert_eq!(answer.status(), Some(404));
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_offers_only_http_2_is_not_failed_by_alpn() {
    let world = World::start().await;
    for alpn in [&[&b"h2"[..]][..], &[b"http/1.1"], &[b"h2", b"http/1.1"], &[b"sstp"]] {
        let stream = world.tls(alpn).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), None, "{alpn:?}");
    }
    let settings = Settings { alpn: vec![b"h2".to_vec()], ..Settings::default() };
    let tunnel = world.try_connect_with(world.profile("alice"), settings).await.unwrap();
    assert_eq!(world.get(&tunnel, "/v1/items").await.status, 200);
    let stream = world.tls(&[b"h2"]).await.unwrap();
    let answer = raw(stream, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", PATIENCE).await;
    assert_ne!(answer.end, RawEnd::Open, "and HTTP/2 is not spoken");
    world.stop().await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_read() {
    let world = World::start().await;
    let head = format!(
        "SSTP_DUPLEX_POST {PATH} HTTP/1.1\r\nHost: {SERVER_NAME}\r\nContent-Length: 18446744073709551615\r\n\r\n"
    );
    let mut stream = world.tls(&[]).await.unwrap();
    for byte in head.bytes() {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n"));
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_malformed() {
    let world = World::start().await;
    let head = |length: usize| {
        let begin = "GET / HTTP/1.1\r\nHost: x\r\nCookie: ";
        format!("{begin}{}\r\n\r\n", "c".repeat(length - begin.len() - 4))
    };
    assert_eq!(ask(&world, &head(8192)).await.status(), Some(404), "8 KiB");
    for longer in [8193, 100_000] {
        let answer = ask(&world, &head(longer)).await;
        // Whoever is still sending may lose the answer to the reset.
        assert!(matches!(answer.status(), Some(400) | None), "{longer}");
        assert_ne!(answer.end, RawEnd::Open, "{longer}");
    }
    world.stop().await;
}

/// Ten seconds each, so all at once, and only here.
#[tokio::test]
async fn whoever_does_not_finish_tls_or_the_head_is_let_go_after_ten_seconds() {
    let world = World::start().await;
    let (silent, begun, mut slow) = (world.tcp().await, world.tcp().await, world.tls(&[]).await.unwrap());
    let began = wicketgate::clock::now();
    let trickle = async {
        // A byte now and then does not buy time.
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if slow.write_all(b"G").await.is_err() || slow.flush().await.is_err() {
                return;
            }
            let mut byte = [0];
            let read = tokio::time::timeout(Duration::from_millis(1), slow.read(&mut byte)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
    };
    let all =
        async { tokio::join!(raw(silent, b"", 3 * PATIENCE), raw(begun, b"\x16\x03\x01", 3 * PATIENCE), trickle) };
    let (silent, begun, ()) = tokio::time::timeout(2 * PATIENCE, all).await.expect("all are let go");
    let took = began.elapsed();
    assert!((9..13).contains(&took.as_secs()), "{took:?}");
    assert!(silent.end != RawEnd::Open && begun.end != RawEnd::Open);
    world.stop().await;
}

/// A client that asks nobody whether a certificate is good.
fn config() -> ClientConfig {
    ClientConfig::builder_with_provider(wicketgate::listener::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        wicketgate::listener::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
