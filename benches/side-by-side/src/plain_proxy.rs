//! The peer: an HTTPS reverse proxy of the same libraries without a tunnel and without a judgement.
//!
//! One thread, as one shard has; hyper's server, the pooled client of hyper-util with the same settings, TLS by rustls.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::tls;
use crate::world::World;

/// The product's own numbers.
const IDLE: Duration = Duration::from_secs(30);
const MAX_IDLE: usize = 32;

type Body = Either<Incoming, Empty<Bytes>>;

/// What every connection uses.
struct Proxy {
    client: Client<HttpConnector, Incoming>,
    backend: Authority,
}

/// Serves until it is killed.
pub(crate) async fn serve(world: &World) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .build(connector);
    let proxy = Arc::new(Proxy { client, backend: world.backend.to_string().parse()? });
    let acceptor = tls::acceptor(world)?;
    let listener = TcpListener::bind(world.plain).await?;
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (acceptor, proxy) = (acceptor.clone(), Arc::clone(&proxy));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let service = service_fn(|request| proxy.forward(request));
            // A client that breaks off does so on purpose.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Proxy {
    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, http::Error> {
        let path = request.uri().path_and_query().cloned();
        let mut uri = Uri::builder().scheme(Scheme::HTTP).authority(self.backend.clone());
        if let Some(path) = path {
            uri = uri.path_and_query(path);
        }
        *request.uri_mut() = uri.build()?;
        match self.client.request(request).await {
            Ok(response) => Ok(response.map(Either::Left)),
            Err(_) => Response::builder().status(StatusCode::BAD_GATEWAY).body(Either::Right(Empty::new())),
        }
    }
}
