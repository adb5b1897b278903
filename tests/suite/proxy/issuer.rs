//! An issuer of tokens on loopback, and tokens that say anything.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use wicketgate::clock;
use wicketgate::identity::IssuerName;
use wicketgate::identity::authn::{Alg, IssuerConfig, PersonRule};

use super::bench::{authority, issue};

/// One for all tests: it takes long to make.
static RSA: OnceLock<Vec<u8>> = OnceLock::new();

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The present, in seconds.
pub(super) fn now() -> u64 {
    clock::unix(clock::wall())
}

/// An issuer with an elliptic key `ec` and an RSA key `rsa`.
pub(super) struct Issuer {
    pub(super) url: String,
    root: CertificateDer<'static>,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    _tasks: JoinSet<()>,
}

impl Issuer {
    pub(super) async fn start() -> Self {
        let der = |algorithm| rcgen::KeyPair::generate_for(algorithm).expect("a key").serialize_der();
        let ec = ec_key(&der(&rcgen::PKCS_ECDSA_P256_SHA256));
        let rsa = RSA.get_or_init(|| der(&rcgen::PKCS_RSA_SHA256));
        let rsa = RsaKeyPair::from_pkcs8(rsa).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
        let documents = Arc::new([
            ("/.well-known/openid-configuration", json!({ "issuer": url, "jwks_uri": format!("{url}/keys") })),
            ("/keys", json!({ "keys": [ec_jwk(&ec, "ec"), rsa_jwk(&rsa, "rsa")] })),
        ]);
        let authority = authority();
        let (leaf, key) = issue(&authority, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf], key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && matches!(tls.read_buf(&mut head).await, Ok(1..)) {}
                let head = String::from_utf8_lossy(&head).into_owned();
                let asked = head.split(' ').nth(1).unwrap_or_default();
                let found = documents.iter().find(|(path, _)| *path == asked).map(|(_, document)| document.to_string());
                let body = found.unwrap_or_default();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                // Whoever leaves early asks again.
                let _ = tls.write_all(answer.as_bytes()).await;
                let _ = tls.shutdown().await;
            }
        });
        Self { url, root: authority.der().clone(), ec, rsa, _tasks: tasks }
    }

    /// What the proxy knows of it.
    pub(super) fn config(&self) -> IssuerConfig {
        IssuerConfig {
            name: IssuerName::new("corp"),
            url: self.url.clone(),
            audiences: ["wicket".to_owned()].into(),
            algs: vec![Alg::Es256, Alg::Rs256],
            clock_skew: Duration::from_secs(30),
            jwks_max_age: Duration::from_secs(3600),
            groups_claim: Some("groups".to_owned()),
            groups_allowed: ["admin".to_owned(), "dev".to_owned()].into(),
            groups_prefix: None,
            groups_absent_empty: false,
            person: PersonRule::Claim("preferred_username".to_owned()),
            claims: Default::default(),
            roots: Some(vec![self.root.clone()]),
        }
    }

    /// Alice's claims, with these changes; a null removes.
    pub(super) fn claims(&self, change: Value) -> Value {
        let mut claims = json!({
            "iss": self.url, "aud": "wicket", "sub": "248289", "preferred_username": "alice", "groups": ["dev"],
            "iat": now() - 10, "exp": now() + 300, "jti": "the-name-of-this-token",
        });
        if let (Some(claims), Value::Object(change)) = (claims.as_object_mut(), change) {
            claims.extend(change);
            claims.retain(|_, value| !value.is_null());
        }
        claims
    }

    /// A good token with these claims changed.
    pub(super) fn token(&self, change: Value) -> String {
        self.es256(&json!({ "alg": "ES256", "kid": "ec", "typ": "at+jwt" }), self.claims(change).to_string())
    }

    /// A token of the elliptic key, with any header and any claims.
    pub(super) fn es256(&self, header: &Value, claims: impl AsRef<[u8]>) -> String {
        es256(&self.ec, header, claims)
    }

    /// A token of the RSA key.
    pub(super) fn rs256(&self, header: &Value, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims));
        let mut made = vec![0; self.rsa.public_modulus_len()];
        let random = SystemRandom::new();
        self.rsa.sign(&signature::RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut made).expect("a signature");
        format!("{signed}.{}", encode(made))
    }

    /// The RSA key's public half in the form in which it is often mistaken for a secret.
    pub(super) fn public_rsa(&self) -> &[u8] {
        self.rsa.public_key().as_ref()
    }
}

pub(super) fn ec_key(pkcs8: &[u8]) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).expect("a key")
}

pub(super) fn es256(key: &EcdsaKeyPair, header: &Value, claims: impl AsRef<[u8]>) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims));
    let made = key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", encode(made))
}

pub(super) fn ec_jwk(key: &EcdsaKeyPair, kid: &str) -> Value {
    let point = key.public_key().as_ref();
    json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
        "x": encode(&point[1..33]), "y": encode(&point[33..65]),
    })
}

fn rsa_jwk(key: &RsaKeyPair, kid: &str) -> Value {
    let parts = signature::RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
    json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": encode(parts.n), "e": encode(parts.e) })
}
