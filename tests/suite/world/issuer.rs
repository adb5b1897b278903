//! An OIDC issuer over HTTPS: discovery, keys, and whatever tokens a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::pki::PKI;

/// Whom this proxy's tokens are for.
pub(crate) const AUDIENCE: &str = "wicketgate";

/// The keys of the two issuers of every world: making an RSA key takes long, so both show the same.
struct Keys {
    ec: [KeyPair; 2],
    rsa: KeyPair,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    ec: [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()],
    rsa: KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
});

/// A running issuer.
pub(crate) struct Issuer {
    pub(crate) url: String,
    key: &'static KeyPair,
    _tasks: JoinSet<()>,
}

impl Issuer {
    /// The first issuer of a world, or the second.
    pub(super) async fn start(number: usize) -> Self {
        let key = &KEYS.ec[number];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let url = format!("https://localhost:{}", address.port());
        let documents =
            Arc::new([json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string(), jwks(key).to_string()]);
        let acceptor = TlsAcceptor::from(Arc::new(PKI.localhost.server_config()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, documents) = (acceptor.clone(), Arc::clone(&documents));
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let document = &documents[usize::from(head.starts_with(b"GET /keys "))];
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{document}", document.len());
                    // Whoever has read enough may hang up.
                    drop(stream.write_all(answer.as_bytes()).await);
                    drop(stream.shutdown().await);
                });
            }
        });
        Self { url, key, _tasks: tasks }
    }

    /// Claims that count now.
    pub(crate) fn claims(&self, person: &str) -> Value {
        let now = now();
        json!({
            "iss": self.url,
            "sub": format!("id-of-{person}"),
            "preferred_username": person,
            "aud": AUDIENCE,
            "iat": now - 60,
            "exp": now + 600,
        })
    }

    /// A good token.
    pub(crate) fn token(&self, person: &str) -> String {
        self.sign(&self.claims(person))
    }

    /// A good token but for these claims; null removes.
    pub(crate) fn token_with(&self, person: &str, change: Value) -> String {
        let mut claims = self.claims(person);
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.sign(&claims)
    }

    fn sign(&self, claims: &Value) -> String {
        let header =
            Header { kid: Some("ec".to_owned()), typ: Some("at+jwt".to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }

    /// A token that nobody signed.
    pub(crate) fn unsigned(&self, person: &str) -> String {
        format!("{}.", signed_part(&json!({ "alg": "none", "typ": "at+jwt" }), &self.claims(person)))
    }

    /// A token whose MAC has the RSA public key, as its PEM, for a secret.
    pub(crate) fn confused(&self, person: &str) -> String {
        let part = signed_part(&json!({ "alg": "HS256", "typ": "at+jwt", "kid": "rsa" }), &self.claims(person));
        let mut mac = Hmac::<Sha256>::new_from_slice(KEYS.rsa.public_key_pem().as_bytes()).unwrap();
        mac.update(part.as_bytes());
        format!("{part}.{}", base64(mac.finalize().into_bytes()))
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    wicketgate::clock::wall().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn signed_part(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64(header.to_string()), base64(claims.to_string()))
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwks(key: &KeyPair) -> Value {
    let point = key.der_bytes();
    let (n, e) = rsa_numbers(KEYS.rsa.der_bytes());
    json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "ec",
          "x": base64(&point[1..33]), "y": base64(&point[33..65]) },
        { "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "rsa", "n": base64(n), "e": base64(e) },
    ] })
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017 A.1.1) of 2048 bits or more.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    let (sequence, _) = der_value(der);
    let (n, rest) = der_value(sequence);
    let (e, _) = der_value(rest);
    (n.strip_prefix(&[0]).unwrap_or(n), e)
}

/// The value of the first DER element, and what follows it.
fn der_value(der: &[u8]) -> (&[u8], &[u8]) {
    let [_tag, length, rest @ ..] = der else { panic!("no DER") };
    match length {
        0x81 => rest[1..].split_at(rest[0].into()),
        0x82 => rest[2..].split_at(usize::from(u16::from_be_bytes([rest[0], rest[1]]))),
        short => rest.split_at((*short).into()),
    }
}
