//! The API behind both proxies: HTTP/1.1 on loopback, 64 bytes or as many as are asked for.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::World;

/// The body of a small response.
const SMALL: u64 = 64;

/// A piece of a large one.
const CHUNK: usize = 64 << 10;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// Serves until it is killed.
pub(crate) async fn serve(world: &World) -> Result<()> {
    let listener = TcpListener::bind(world.backend).await?;
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        connections.spawn(async move {
            let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request))));
            // A proxy that breaks off does so on purpose.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// `/small/N` has 64 bytes, `/bulk/N?size=S` has S.
fn answer(request: &Request<Incoming>) -> Response<Zeros> {
    let path = request.uri().path();
    let size = request.uri().query().and_then(|query| query.strip_prefix("size="));
    let left = match size.map(str::parse) {
        None if path.starts_with("/small/") => Some(SMALL),
        Some(Ok(size)) if path.starts_with("/bulk/") => Some(size),
        Some(_) | None => None,
    };
    let mut response = Response::new(Zeros { left: left.unwrap_or(0) });
    if left.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

/// Zeros of a known length.
struct Zeros {
    left: u64,
}

impl http_body::Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let count = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let Some(piece) = ZEROS.get(..count).filter(|piece| !piece.is_empty()) else { return Poll::Ready(None) };
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
