//! Real keys and hand-made tokens for the tests of this module.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::issuer::{IssuerConfig, PersonRule};
use super::jwk::Alg;
use crate::identity::IssuerName;

/// The present of the tests: 2026-11-23T00:00:00Z.
pub(super) const NOW: u64 = 1_795_392_000;

pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn config() -> IssuerConfig {
    IssuerConfig {
        name: IssuerName::new("corp"),
        url: "https://login.corp.example".to_owned(),
        audiences: ["wicket".to_owned()].into(),
        algs: vec![Alg::Es256, Alg::Rs256],
        clock_skew: Duration::from_secs(30),
        jwks_max_age: Duration::from_secs(3600),
        groups_claim: Some("groups".to_owned()),
        groups_allowed: ["orders-dev".to_owned(), "orders-admin".to_owned()].into(),
        groups_prefix: None,
        groups_absent_empty: false,
        person: PersonRule::Claim("preferred_username".to_owned()),
        claims: Default::default(),
        roots: None,
    }
}

/// Claims that [`config`] accepts at [`NOW`].
pub(super) fn claims() -> Value {
    json!({
        "iss": "https://login.corp.example",
        "aud": "wicket",
        "sub": "248289761001",
        "preferred_username": "alice",
        "exp": NOW + 300,
        "iat": NOW - 10,
        "jti": "id-1",
        "groups": ["orders-dev"],
    })
}

/// `base` with the members of `change`; a null removes.
pub(super) fn with(base: Value, change: Value) -> Value {
    let mut base = base;
    let object = base.as_object_mut().unwrap();
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    base
}

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) enum Pair {
    Rsa(signature::RsaKeyPair),
    Ec(signature::EcdsaKeyPair),
    Ed(signature::Ed25519KeyPair),
}

/// An issuer's private key.
pub(super) struct Signer {
    pub(super) alg: Alg,
    pub(super) kid: String,
    pub(super) pair: Pair,
}

impl Signer {
    pub(super) fn new(alg: Alg, kid: &str) -> Self {
        let der = |rcgen_alg| rcgen::KeyPair::generate_for(rcgen_alg).unwrap().serialize_der();
        let pair = match alg {
            Alg::Es256 => Pair::Ec(
                signature::EcdsaKeyPair::from_pkcs8(
                    &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                    &der(&rcgen::PKCS_ECDSA_P256_SHA256),
                )
                .unwrap(),
            ),
            Alg::Es384 => Pair::Ec(
                signature::EcdsaKeyPair::from_pkcs8(
                    &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                    &der(&rcgen::PKCS_ECDSA_P384_SHA384),
                )
                .unwrap(),
            ),
            Alg::EdDsa => Pair::Ed(signature::Ed25519KeyPair::from_pkcs8(&der(&rcgen::PKCS_ED25519)).unwrap()),
            Alg::Rs256 | Alg::Rs384 | Alg::Rs512 | Alg::Ps256 | Alg::Ps384 | Alg::Ps512 => {
                Pair::Rsa(signature::RsaKeyPair::from_pkcs8(&der(&rcgen::PKCS_RSA_SHA256)).unwrap())
            }
        };
        Self { alg, kid: kid.to_owned(), pair }
    }

    /// The public half.
    pub(super) fn jwk(&self) -> Map<String, Value> {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let parts = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": base64url(parts.n), "e": base64url(parts.e) })
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) }),
        };
        let jwk = jwk.as_object_mut().unwrap();
        jwk.insert("kid".to_owned(), self.kid.clone().into());
        jwk.insert("alg".to_owned(), self.alg.as_str().into());
        std::mem::take(jwk)
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => pair.sign(&rng, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match self.alg {
                    Alg::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Alg::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Alg::Ps256 => &signature::RSA_PSS_SHA256,
                    Alg::Ps384 => &signature::RSA_PSS_SHA384,
                    Alg::Ps512 => &signature::RSA_PSS_SHA512,
                    Alg::Rs256 | Alg::Es256 | Alg::Es384 | Alg::EdDsa => &signature::RSA_PKCS1_SHA256,
                };
                let mut made = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &rng, message, &mut made).unwrap();
                made
            }
        }
    }

    /// A token with this header and these claims, whatever they say.
    pub(super) fn token_of(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = base64url(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// A token with an ordinary header.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_of(self.header().to_string(), claims.to_string())
    }

    pub(super) fn header(&self) -> Value {
        json!({ "alg": self.alg.as_str(), "kid": self.kid, "typ": "at+jwt" })
    }
}

/// A JWKS document.
pub(super) fn jwks(signers: &[&Signer]) -> Vec<u8> {
    let keys: Vec<_> = signers.iter().map(|signer| Value::Object(signer.jwk())).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// Runs a test's future.
pub(super) fn runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// An HTTPS server on loopback that answers each path with fixed bytes and remembers who asked.
pub(super) struct Https {
    pub(super) port: u16,
    pub(super) roots: Vec<CertificateDer<'static>>,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Vec<u8>>,
    requests: Vec<String>,
}

impl Https {
    /// A path that is never answered.
    pub(super) const SILENCE: &'static str = "/silence";

    pub(super) async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(serve(acceptor.clone(), tcp, Arc::clone(&shared)));
            }
        });
        Self { port, roots: vec![certificate], state, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// Answers this path with these bytes from now on.
    pub(super) fn answer(&self, path: &str, response: &str) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), response.as_bytes().to_vec());
    }

    /// Is an issuer with this key set from now on.
    pub(super) fn issue(&self, jwks: &[u8]) {
        let discovery = json!({ "issuer": self.url(""), "jwks_uri": self.url("/jwks") });
        self.answer("/.well-known/openid-configuration", &format!("HTTP/1.1 200 OK\r\n\r\n{discovery}"));
        self.answer("/jwks", &format!("HTTP/1.1 200 OK\r\n\r\n{}", String::from_utf8_lossy(jwks)));
    }

    /// The heads of all requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// How often this path was asked for.
    pub(super) fn count(&self, path: &str) -> usize {
        let line = format!("GET {path} ");
        self.requests().iter().filter(|head| head.starts_with(&line)).count()
    }
}

async fn serve(acceptor: TlsAcceptor, tcp: TcpStream, state: Arc<Mutex<State>>) {
    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = tls.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push(head);
        state.answers.get(&path).cloned()
    };
    if path == Https::SILENCE {
        std::future::pending::<()>().await;
    }
    let answer = answer.unwrap_or_else(|| b"HTTP/1.1 404 X\r\n\r\n".to_vec());
    // The client may hang up in the middle: that is what some tests are about.
    let _ = tls.write_all(&answer).await;
    let _ = tls.shutdown().await;
}
