//! Address, server name and Host must name one host: whoever dials one API cannot speak to another.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::DuplexStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wicket_client::http::Request;

use super::bench::{BILLING, Bench, ORDERS};
use super::door::Door;

fn get(host_lines: &str) -> String {
    format!("GET /v1/orders HTTP/1.1\r\n{host_lines}\r\n")
}

#[tokio::test]
async fn nt_13_a_request_names_its_host_once_and_plainly() {
    let bench = Bench::ordinary().await;
    for (lines, status, reason) in [
        ("", 400, "malformed-header"),
        ("Host:\r\n", 400, "malformed-header"),
        ("Host: orders.api.test\r\nHost: orders.api.test\r\n", 400, "malformed-header"),
        ("Host: orders.api.test\r\nHost: billing.api.test\r\n", 400, "malformed-header"),
        ("Host: orders.api.test, billing.api.test\r\n", 400, "malformed-header"),
        ("Host: alice@orders.api.test\r\n", 400, "malformed-header"),
        ("Host: alice:secret@orders.api.test\r\n", 400, "malformed-header"),
        ("Host: orders.api.test/v1\r\n", 400, "malformed-header"),
        ("Host: orders.api.test:\r\n", 400, "malformed-header"),
        ("Host: orders.api.test:080\r\n", 400, "malformed-header"),
        ("Host: orders.api.test:443\r\n", 421, "host-mismatch"),
        ("Host: orders.api.test:8443\r\n", 421, "host-mismatch"),
        ("Host: 198.18.7.130\r\n", 421, "host-mismatch"),
        ("Host: [::1]\r\n", 421, "host-mismatch"),
        ("Host: 0x7f.1\r\n", 421, "host-mismatch"),
        ("Host: evil.test\r\n", 421, "host-mismatch"),
        ("Host: orders.api.test.evil.test\r\n", 421, "host-mismatch"),
        ("Host: orders.api.test..\r\n", 400, "malformed-header"),
        ("Host: xn--orders-.api.test\r\n", 400, "malformed-header"),
        ("Host: \u{43e}rders.api.test\r\n", 400, "malformed-header"),
    ] {
        let answer = bench.door().send(get(lines)).await;
        assert_eq!(answer.status, status, "{lines:?}: {answer:?}");
        bench.check_refused(&answer, status, reason);
    }
    for host in ["ORDERS.api.TEST", "orders.api.test.", "orders.api.test:80"] {
        let answer = bench.door().send(get(&format!("Host: {host}\r\n"))).await;
        assert_eq!(bench.check_passed(&answer).header("host"), Some(ORDERS), "the one spelling goes up");
    }
}

#[tokio::test]
async fn nt_14_the_host_is_the_one_of_the_certificate() {
    let bench = Bench::ordinary().await;
    let mut door = Door::new(bench.tls(ORDERS, &[]).await);
    let answer = door.send(get("Host: billing.api.test\r\n")).await;
    bench.check_refused(&answer, 421, "host-mismatch");
    let answer = door.send(get("Host: orders.api.test\r\n")).await;
    bench.check_passed(&answer);
}

#[tokio::test]
async fn nt_14_http2_connections_are_not_shared_between_hosts() {
    let bench = Bench::ordinary().await;
    let http = bench.h2(ORDERS).await;
    let answer = http.send(Request::get(BILLING, "/v1/orders")).await.unwrap();
    assert_eq!(answer.status, 421);
    assert!(answer.text().contains("host-mismatch"), "{}", answer.text());
    assert!(bench.backend.requests().is_empty());
    let answer = http.send(Request::get(ORDERS, "/v1/orders")).await.unwrap();
    assert_eq!(answer.status, 200, "the connection goes on");
}

#[tokio::test]
async fn nt_14_another_server_name_is_answered_alike_for_known_and_unknown_names() {
    let bench = Bench::ordinary().await;
    let mut answers = Vec::new();
    for name in [BILLING, "vault.api.test", "www.world.test"] {
        for host in [ORDERS, name] {
            let mut door = Door::new(careless_tls(bench.stream(&bench.alice(), ORDERS, 443), name).await);
            let answer = door.send(get(&format!("Host: {host}\r\n"))).await;
            bench.check_refused(&answer, 421, "host-mismatch");
            let decision = answer.decision();
            answers.push(answer.text().replace(&decision, "-"));
        }
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test]
async fn nt_15_the_address_of_one_api_serves_no_other() {
    let bench = Bench::ordinary().await;
    let answer = bench.door_to(ORDERS).send(get("Host: billing.api.test\r\n")).await;
    bench.check_refused(&answer, 421, "host-mismatch");
    let answer = bench.door_to(BILLING).send(get("Host: orders.api.test\r\n")).await;
    bench.check_refused(&answer, 421, "host-mismatch");
    let answer = bench.door_to(BILLING).send(get("Host: billing.api.test\r\n")).await;
    bench.check_passed(&answer);
}

#[tokio::test]
async fn over_tls_the_api_learns_that_it_was_https() {
    let bench = Bench::ordinary().await;
    let mut door = Door::new(bench.tls(ORDERS, &[b"http/1.1"]).await);
    let answer = door.send(get("Host: orders.api.test:443\r\n")).await;
    let seen = bench.check_passed(&answer);
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("forwarded"), Some("for=192.0.2.60;host=orders.api.test;proto=https"));
}

#[tokio::test]
async fn plain_http_on_443_ends_without_an_answer() {
    let bench = Bench::ordinary().await;
    let mut door = Door::new(bench.stream(&bench.alice(), ORDERS, 443));
    let answer = door.send(get("Host: orders.api.test\r\n")).await;
    assert!(answer.cut && answer.status == 0, "{answer:?}");
    assert!(bench.backend.requests().is_empty());
}

/// TLS by a client that accepts any certificate, whatever it asks for.
async fn careless_tls(stream: DuplexStream, server_name: &str) -> TlsStream<DuplexStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless(schemes)))
        .with_no_client_auth();
    let name = ServerName::try_from(server_name.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS")
}

#[derive(Debug)]
struct Careless(Vec<SignatureScheme>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
