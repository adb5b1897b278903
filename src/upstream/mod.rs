//! A permit to a connection to the API behind us.
//!
//! The only door is [`Upstream::send`], and it takes a [`Permit`]: the method, the host and the path that are sent are
//! the permit's. Connections are pooled per shard and per target, and never shared between targets.

mod body;
mod connect;
mod cut;
mod exchange;
pub mod http1;
mod pool;
mod target;
mod unsent;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::field::Section;
use crate::policy::Permit;
use body::Pace;
pub use body::{BodyError, Download, Held, RequestBody, Sent};
pub use cut::Cut;
use exchange::{Exchange, Failure, Outgoing};
use http1::Head;
use pool::{Idle, Pool};
pub use target::{Authorities, ClientCertificate, Target, TargetError};
pub use unsent::Unsent;

/// What must come of a request's body within each timeout of its API: a client that sends a byte a second does not hold
/// a connection to the API for hours.
const MIN_BODY: u64 = 4096;

/// What a response's head may always have, in bytes.
const MIN_HEAD: usize = 8192;

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
    fn connect(target: &Target, error: &connect::ConnectError) -> Self {
        Self::Connect { target: target.name().to_owned(), reason: error.to_string() }
    }

    fn of(target: &Target, failure: Failure) -> Self {
        let target = target.name().to_owned();
        match failure {
            Failure::Body(BodyError::Cut) => Self::Cut { target },
            Failure::Body(BodyError::Late { within }) => Self::Timeout { target, timeout: within },
            Failure::Body(source) => Self::RequestBody { target, source },
            Failure::Io(error) => Self::Broken { target, reason: error.to_string() },
            Failure::Unreadable(error) => Self::Broken { target, reason: error.to_string() },
        }
    }

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
    pool: Arc<Pool>,
    /// The generation of targets that `pool` was last compared with.
    generation: AtomicU64,
}

impl Upstream {
    /// Sends what the permit owns. `headers` are complete: identity set, hop-by-hop removed. `cut` ends the exchange. Gives the response's head, and its body.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; the upstream may have seen the request in all cases but `Busy` and `Connect`. A body whose announced
    /// length is beyond its limit is not begun.
    pub async fn send(
        &self,
        target: &Arc<Target>,
        permit: Permit,
        headers: &[&Section],
        body: RequestBody,
        cut: &Cut,
    ) -> Result<(Head, Download), Error> {
        let failed = |failure| Error::of(target, failure);
        let wait = cut.wait(Pace::new(Arc::clone(body.progress()), target.timeout(), clock::now()));
        body.check_announced().map_err(Failure::Body).map_err(failed)?;
        let busy = || Error::Busy { target: target.name().to_owned(), limit: target.in_flight_limit() };
        let place = target.enter().ok_or_else(busy)?;
        let connection = match self.pool.take(target.id()) {
            Some(connection) => connection,
            // In a box of its own, so that a request on a kept connection does not carry the size of a handshake.
            None => {
                let connected = wait.guard(Box::pin(connect::connect(target)).as_mut()).await;
                let connected = connected.map_err(Failure::Body).map_err(failed)?;
                Idle::new(connected.map_err(|error| Error::connect(target, &error))?)
            }
        };
        let (method, path) = (permit.request().method(), permit.request().origin_form(permit.upstream_path()));
        let request = Outgoing { method, target: &path, headers, body };
        let max_head = target.max_response_header().max(MIN_HEAD);
        let back_to = (Arc::clone(&self.pool), target.id());
        cut.begin(Exchange::new(connection, request, max_head, back_to, place));
        wait.receive().await.map_err(failed)
    }

    /// Once for each generation: closes the idle connections to targets that are no longer in use.
    pub fn keep<'a>(&self, generation: u64, targets: impl Iterator<Item = &'a Arc<Target>>) {
        if self.generation.swap(generation, Ordering::Relaxed) == generation {
            return;
        }
        let in_use: HashSet<u64> = targets.map(|target| target.id()).collect();
        self.pool.keep(&in_use);
    }
}
