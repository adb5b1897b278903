//! An OIDC issuer on loopback: discovery, one RSA key, and the token of the bench.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::clock;
use crate::tls;
use crate::world::{AUDIENCE, World};

const KEY_ID: &str = "bench-1";

/// Longer than any run.
const LIFETIME: u64 = 24 * 3600;

/// A token of the size that real issuers make.
pub(crate) fn token(key: &Path, issuer: &str, user: &str, group: &str) -> Result<String> {
    let key = std::fs::read(key)?;
    let now = clock::unix_seconds();
    let header =
        Header { kid: Some(KEY_ID.to_owned()), typ: Some("at+jwt".to_owned()), ..Header::new(Algorithm::RS256) };
    let claims = json!({
        "iss": issuer,
        "sub": "9b2f6a34-1c52-4f7e-9a07-1d3c5be1a001",
        "preferred_username": user,
        "email": format!("{user}@bench.example"),
        "groups": [group],
        "aud": AUDIENCE,
        "scope": "openid profile orders.read",
        "jti": "5ad1c0e3-8f0b-4f5e-8a9f-7ac1b0f0c0de",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + LIFETIME,
    });
    Ok(jsonwebtoken::encode(&header, &claims, &EncodingKey::from_rsa_pem(&key)?)?)
}

/// Serves until it is killed.
pub(crate) async fn serve(world: &World) -> Result<()> {
    let documents = Arc::new(Documents::new(world.issuer, &world.tls().join("token.key"))?);
    let acceptor = tls::acceptor(world)?;
    let listener = TcpListener::bind(world.issuer).await?;
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await?;
        let (acceptor, documents) = (acceptor.clone(), Arc::clone(&documents));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(documents.answer(&request))));
            // Whoever breaks off gets no document.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

struct Documents {
    discovery: Bytes,
    keys: Bytes,
}

impl Documents {
    fn new(address: SocketAddr, key: &Path) -> Result<Self> {
        let url = format!("https://localhost:{}", address.port());
        let key = KeyPair::from_pem(&std::fs::read_to_string(key)?)?;
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).ok().context("a public key")?;
        let PublicKey::RSA(public) = spki.parsed()? else { bail!("the token key is not RSA") };
        // Base64urlUInt has no leading zero (RFC 7518 section 2); DER's INTEGER may have one.
        let number = |bytes: &[u8]| {
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            URL_SAFE_NO_PAD.encode(bytes.get(zeros..).unwrap_or_default())
        };
        let keys = json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": number(public.modulus), "e": number(public.exponent),
        }] });
        let discovery = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        Ok(Self { discovery: discovery.to_string().into(), keys: keys.to_string().into() })
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, body) = match request.uri().path() {
            "/.well-known/openid-configuration" => (StatusCode::OK, self.discovery.clone()),
            "/keys" => (StatusCode::OK, self.keys.clone()),
            _ => (StatusCode::NOT_FOUND, Bytes::new()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response
    }
}
