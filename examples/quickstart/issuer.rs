//! A development OIDC issuer on loopback: discovery, keys, and tokens for whoever asks this process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::pki::Issued;

/// The audience of this world's tokens.
pub(crate) const AUDIENCE: &str = "wicketgate-quickstart";

const KEY_ID: &str = "quickstart-1";

/// A running issuer.
pub(crate) struct Issuer {
    /// What stands in `iss`, and where discovery is.
    pub(crate) url: String,
    key: EncodingKey,
}

impl Issuer {
    /// Starts the issuer on a free port of loopback.
    pub(crate) async fn start(tls: &Issued, tasks: &mut JoinSet<()>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address: SocketAddr = listener.local_addr()?;
        let url = format!("https://localhost:{}", address.port());
        let key = KeyPair::generate()?;
        let documents = Arc::new(Documents::new(&url, &key)?);
        let encoding = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes())?;
        let acceptor = TlsAcceptor::from(Arc::new(server_config(tls)?));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, documents) = (acceptor.clone(), Arc::clone(&documents));
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let documents = Arc::clone(&documents);
                        async move { Ok::<_, Infallible>(documents.answer(&request)) }
                    });
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    drop(connection.await);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { url, key: encoding })
    }

    /// An access token for `person`, valid from `valid_for` seconds before now when that is negative.
    pub(crate) fn token(&self, person: &str, valid_for: i64) -> Result<String> {
        let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().context("a clock after 1970")?.as_secs())?;
        let header =
            Header { kid: Some(KEY_ID.to_owned()), typ: Some("at+jwt".to_owned()), ..Header::new(Algorithm::ES256) };
        let claims = json!({
            "iss": self.url,
            "sub": format!("id-of-{person}"),
            "preferred_username": person,
            "aud": AUDIENCE,
            "iat": now - 3600,
            "exp": now + valid_for,
        });
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

struct Documents {
    discovery: String,
    keys: String,
}

impl Documents {
    fn new(url: &str, key: &KeyPair) -> Result<Self> {
        let point = key.der_bytes();
        let coordinate = |range| point.get(range).map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).context("a P-256 point");
        let keys = json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID,
            "x": coordinate(1..33)?, "y": coordinate(33..65)?,
        }] });
        let discovery = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        Ok(Self { discovery: discovery.to_string(), keys: keys.to_string() })
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let body = match request.uri().path() {
            "/.well-known/openid-configuration" => self.discovery.clone(),
            "/keys" => self.keys.clone(),
            _ => {
                let mut missing = Response::new(Full::default());
                *missing.status_mut() = StatusCode::NOT_FOUND;
                return missing;
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        response.headers_mut().insert("content-type", "application/json".parse().expect("a header value"));
        response
    }
}

fn server_config(tls: &Issued) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(tls.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?)
}
