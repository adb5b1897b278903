//! A permit to a connection to the API behind us.
//!
//! The only door is [`Upstream::send`], and it takes a [`Permit`]: the method, the host and the path that are sent are
//! the permit's. Connections are pooled per shard and per target, and never shared between targets.

mod body;
mod connect;
mod cut;
mod target;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::{self, Authority, Scheme};
use http::{Request, Response, Uri, Version};
use http_body::Body as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::policy::Permit;
pub use body::{BodyError, Download, RequestBody, Sent};
use body::{Pace, Progress, Received};
use connect::Connector;
pub use cut::{Cut, Held};
pub use target::{Authorities, ClientCertificate, Target, TargetError};

/// How long an idle connection is kept: below the usual keep-alive time of servers, so that we close first.
const IDLE: Duration = Duration::from_secs(30);

/// What must come of a request's body within each timeout of its API: a client that sends a byte a second does not hold
/// a connection to the API for hours.
const MIN_BODY: u64 = 4096;

/// Idle connections kept per target and shard.
const MAX_IDLE: usize = 32;

/// Why an upstream gave no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As many requests are in flight as the target may have.
    #[error("{target}: {limit} requests are in flight already")]
    Busy {
        /// The API's name.
        target: String,
        /// The limit.
        limit: usize,
    },
    /// No answer in the API's time.
    #[error("{target}: no response within {timeout:?}")]
    Timeout {
        /// The API's name.
        target: String,
        /// The time given.
        timeout: Duration,
    },
    /// The client's body broke the API's limit or its own framing while it was being sent.
    #[error("{target}: the request's body: {source}")]
    RequestBody {
        /// The API's name.
        target: String,
        /// What was wrong with it.
        source: BodyError,
    },
    /// The exchange was cut before the response's head.
    #[error("{target}: the request is no longer allowed")]
    Cut {
        /// The API's name.
        target: String,
    },
    /// The connection could not be made.
    #[error("{target}: connect: {reason}")]
    Connect {
        /// The API's name.
        target: String,
        /// The whole chain of causes.
        reason: String,
    },
    /// The connection broke, or what came on it is not HTTP.
    #[error("{target}: {reason}")]
    Broken {
        /// The API's name.
        target: String,
        /// The whole chain of causes.
        reason: String,
    },
}

impl Error {
    /// Whether it is the upstream that failed, and not the client or its permission.
    pub fn is_upstreams(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Timeout { .. } | Self::Connect { .. } | Self::Broken { .. } => true,
            Self::RequestBody { .. } | Self::Cut { .. } => false,
        }
    }
}

/// The connections of one shard to all upstreams.
#[derive(Default)]
pub struct Upstream {
    clients: Mutex<HashMap<u64, Client<Connector, RequestBody>>>,
    /// The generation of targets that `clients` was last compared with.
    generation: AtomicU64,
}

impl Upstream {
    /// Sends what the permit owns. `headers` are complete: identity set, hop-by-hop removed.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; the upstream may have seen the request in all cases but `Busy` and `Connect`. A body whose announced
    /// length is beyond its limit is not begun.
    pub async fn send(
        &self,
        target: &Arc<Target>,
        permit: Permit,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<Download>, Error> {
        let cut = body.cut().clone();
        // A body that the upstream does not take would stay with its connection for as long as that lives.
        self.exchange(target, &permit, headers, body).await.inspect_err(|_| cut.cut())
    }

    async fn exchange(
        &self,
        target: &Arc<Target>,
        permit: &Permit,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<Download>, Error> {
        let name = || target.name().to_owned();
        if body.size_hint().lower() > body.limit() {
            let source = BodyError::TooLarge { limit: body.limit() };
            return Err(Error::RequestBody { target: name(), source });
        }
        let place = target.enter().ok_or_else(|| Error::Busy { target: name(), limit: target.in_flight_limit() })?;
        let (cut, progress) = (body.cut().clone(), Arc::clone(body.progress()));
        let request = request(permit, headers, body).map_err(|reason| Error::Broken { target: name(), reason })?;
        let response = self.client(target).request(request);
        let head = cut.guard(patient(response, &progress, target)).await;
        match head.ok_or_else(|| Error::Cut { target: name() })?? {
            // No upgrade goes up, so none can come down: what follows would be read by rules that nobody has checked.
            Ok(response) if response.status().is_informational() => {
                let reason = format!("an answer of status {} that nobody asked for", response.status().as_u16());
                Err(Error::Broken { target: name(), reason })
            }
            Ok(response) => {
                if response.version() < Version::HTTP_11 {
                    self.use_once(target);
                }
                let pace = (!progress.is_finished()).then(|| Pace::new(progress, target.timeout()));
                Ok(response.map(|incoming| cut.receive(Received::new(incoming, place), pace)))
            }
            Err(error) => Err(failure(name(), &error)),
        }
    }

    fn client(&self, target: &Arc<Target>) -> Client<Connector, RequestBody> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(target.id()).or_insert_with(|| client(target, MAX_IDLE)).clone()
    }

    /// From here on each connection to the target serves one request. The HTTP client speaks HTTP/1.0 on a connection
    /// where it was answered so, and there a body that does not tell its length is left out.
    fn use_once(&self, target: &Arc<Target>) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(target.id(), client(target, 0));
    }

    /// Once for each generation: closes the idle connections to targets that are no longer in use.
    pub fn keep<'a>(&self, generation: u64, targets: impl Iterator<Item = &'a Arc<Target>>) {
        if self.generation.swap(generation, Ordering::Relaxed) == generation {
            return;
        }
        let in_use: HashSet<u64> = targets.map(|target| target.id()).collect();
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| in_use.contains(id));
    }
}

/// Waits for a response's head as long as the target's timeout, counted anew while the client's body still comes.
async fn patient<T>(response: impl Future<Output = T>, progress: &Progress, target: &Target) -> Result<T, Error> {
    let within = target.timeout();
    let mut response = std::pin::pin!(response);
    loop {
        let sent = progress.sent();
        if let Ok(response) = tokio::time::timeout(within, response.as_mut()).await {
            return Ok(response);
        }
        let target = || target.name().to_owned();
        let came = progress.sent() - sent;
        let waits_for_upstream =
            if progress.is_finished() { came == 0 } else { came < MIN_BODY && !progress.is_hungry() };
        if waits_for_upstream {
            return Err(Error::Timeout { target: target(), timeout: within });
        }
        if came < MIN_BODY && !progress.is_finished() {
            let source = BodyError::Slow { minimum: MIN_BODY, within };
            return Err(Error::RequestBody { target: target(), source });
        }
    }
}

fn client(target: &Arc<Target>, idle: usize) -> Client<Connector, RequestBody> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle)
        .http1_max_buf_size(target.max_response_header().max(8192))
        .set_host(false)
        .build(Connector::new(Arc::clone(target)))
}

fn request(permit: &Permit, mut headers: HeaderMap, body: RequestBody) -> Result<Request<RequestBody>, String> {
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        // Unless it is told so, the HTTP client takes a GET for one without a body.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let path_and_query = permit.request().origin_form(permit.upstream_path());
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    // The key of the pool, which is the target's own; where to go, the connector knows.
    parts.authority = Some(Authority::from_static("upstream"));
    parts.path_and_query = Some(path_and_query.try_into().map_err(|error: uri::InvalidUri| error.to_string())?);
    let uri = Uri::from_parts(parts).map_err(|error| error.to_string())?;
    let mut request = Request::new(body);
    *request.method_mut() =
        http::Method::from_bytes(permit.request().method().as_bytes()).map_err(|error| error.to_string())?;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The causes behind an error of the HTTP client, and what they mean to us.
fn failure(target: String, error: &hyper_util::client::legacy::Error) -> Error {
    let mut reasons = Vec::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(body) = error.downcast_ref::<BodyError>() {
            return Error::RequestBody { target, source: body.clone() };
        }
        reasons.push(error.to_string());
        cause = error.source();
    }
    let reason = reasons.join(": ");
    if error.is_connect() { Error::Connect { target, reason } } else { Error::Broken { target, reason } }
}
