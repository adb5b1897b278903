//! The wiring: the only place that sees all stations.
//!
//! [`run`] starts the process's parts and ends them in the opposite order; the life of one connection stands in
//! `connection`, what a reload does in `loader` and `reload`.

mod connection;
mod cure;
pub mod loader;
mod login;
mod operations;
mod refusals;
mod reload;
mod services;
mod shared;
mod sources;
mod watched;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::audit::{Audit, DecisionIds};
use crate::complaint::Complaint;
use crate::config::{self, Config};
use crate::identity::authn::Backoff;
use crate::limits::Limits;
use crate::listener::{self, Acceptor, Ceiling, shard::Shard};
use crate::policy::{Bundle, RequestText};
use crate::proxy::{self, Proxy};
use crate::request::{CanonicalRequest, Raw, Target};
use crate::shutdown::{Drain, Watch};
use crate::snapshot::Snapshots;
use crate::tunnel::registry::{self, Registry, Why};
use crate::{admin, clock, entropy, netstack, ppp, sstp, telemetry, tunnel};
use connection::Connections;
use loader::Loader;
use operations::Operator;
use refusals::Refusals;
use shared::Shared;

/// Buckets of rate limits: at 32 bytes each, 8 MiB.
const MAX_BUCKETS: usize = 1 << 18;

/// How long open requests may go on when the server drains.
const GRACE: Duration = Duration::from_secs(20);

/// How often the metrics' histograms are kept small.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often refused logins that have no record of their own are summed into one, and a failed audit file is tried again.
const SUM: Duration = Duration::from_secs(1);

/// What the server is told from outside.
pub struct Orders {
    /// Resolves when the server shall drain and end.
    pub stop: tokio::sync::oneshot::Receiver<()>,
    /// Each message is a wish to read everything again.
    pub reload: tokio::sync::mpsc::Receiver<()>,
}

/// The addresses that were bound, once they are.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// `[listen] address`, with the real port.
    pub listen: SocketAddr,
    /// `[admin] address`, with the real port.
    pub admin: SocketAddr,
}

/// The files that the configuration names cannot be served: what [`run`] ends with when trying again will not help.
#[derive(Debug, thiserror::Error)]
#[error("{}", config::complaint::text(.0))]
pub struct Unusable(pub Vec<Complaint>);

/// Runs a server to its end on the current runtime; connections run on `shards` threads of their own.
///
/// # Errors
///
/// When it cannot start: [`Unusable`] files, or whatever the system refuses. After `ready` was called it ends by order, or
/// because a part that must not end has ended.
pub async fn run(
    path: PathBuf,
    config: Config,
    shards: usize,
    metrics: PrometheusHandle,
    mut orders: Orders,
    ready: impl FnOnce(Bound),
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen.address)
        .await
        .with_context(|| format!("[listen] address: cannot listen on {}", config.listen.address))?;
    let admin_listener = TcpListener::bind(config.admin.address)
        .await
        .with_context(|| format!("[admin] address: cannot listen on {}", config.admin.address))?;
    let admin_socket = admin::AdminSocket::bind(&config.admin.socket)
        .with_context(|| format!("[admin] socket: cannot listen on {}", config.admin.socket.display()))?;
    let audit = Audit::open(&config.audit.file, config.audit.on_failure)
        .with_context(|| format!("[audit] file: cannot append to {}", config.audit.file.display()))?;
    let bound = Bound { listen: listener.local_addr()?, admin: admin_listener.local_addr()? };

    let look = loader::watched(&config).look();
    let (loader, first, report) = Loader::first(config.clone()).map_err(Unusable)?;
    let drain = Drain::new();
    let shared = Arc::new(shared(&config, Snapshots::new(first), audit, drain.watch())?);
    reload::report_first(&shared, &report);
    metrics::gauge!(telemetry::TUNNELS_MAX).set(config.tunnel.max_sessions as f64);
    let limits = Arc::new(Limits::new(MAX_BUCKETS, clock::now()));
    let decisions = Arc::new(DecisionIds::new(entropy::number()));

    let mut threads = Vec::with_capacity(shards);
    let mut handles = Vec::with_capacity(shards);
    for number in 0..shards.max(1) {
        let (shared, limits, decisions) = (Arc::clone(&shared), Arc::clone(&limits), Arc::clone(&decisions));
        let watch = drain.watch();
        let make = move || {
            let (snapshots, audit) = (Arc::clone(&shared.snapshots), Arc::clone(&shared.audit));
            Connections { proxy: Arc::new(Proxy::new(snapshots, limits, audit, decisions, watch)), shared }
        };
        let (handle, thread) = Shard::start(number, make).context("cannot start a shard")?;
        handles.push(handle);
        threads.push(thread);
    }
    let limits_of_listener = listener::Config {
        max_unauthenticated: config.listen.max_unauthenticated,
        max_unauthenticated_per_source: config.listen.max_unauthenticated_per_source,
    };
    let acceptor = Acceptor::new(listener, limits_of_listener, handles);

    let mut control = JoinSet::new();
    let operator = Arc::new(Operator::new(Arc::clone(&shared), metrics.clone()));
    let (admin_stop, admin_stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async move { drop(admin_stopped.await) };
    control.spawn(admin::serve(admin_listener, admin_socket, operator, stopped));
    control.spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    });
    let summed = Arc::clone(&shared);
    control.spawn(async move {
        loop {
            tokio::time::sleep(SUM).await;
            summed.sum_refusals();
            summed.audit.retry();
        }
    });
    let mut reloads = reload::Reloads::new(Arc::clone(&shared), limits, loader, path, look);
    ready(bound);

    let mut reloading = pin!(reloads.run(&mut orders.reload));
    let ended = tokio::select! {
        () = acceptor.run() => Ok(()),
        () = &mut reloading => Ok(()),
        Some(task) = control.join_next() => {
            // Better no server than one without health and without records of what it refused.
            Err(task.err().map_or_else(|| anyhow::anyhow!("the admin listener ended"), anyhow::Error::from))
        }
        _ = &mut orders.stop => Ok(()),
    };
    tracing::info!(sessions = shared.registry.len(), "draining");
    drop(acceptor);
    drain.signal();
    shared.registry.end_all(Why::Drain);
    let mut stopping = tokio::task::spawn_blocking(move || {
        for thread in &threads {
            thread.signal(shared::LONGEST_END);
        }
        for thread in threads {
            thread.join();
        }
    });
    // Whose access is taken away while requests finish must lose it then, not when the server is gone.
    tokio::select! {
        joined = &mut stopping => joined.context("a shard could not be joined")?,
        () = &mut reloading => stopping.await.context("a shard could not be joined")?,
    }
    shared.sum_refusals();
    drop(admin_stop);
    control.shutdown().await;
    ended
}

fn shared(config: &Config, snapshots: Snapshots, audit: Audit, drain: Watch) -> anyhow::Result<Shared> {
    let network = &config.network;
    let tunnel = tunnel::Config {
        ppp: Arc::new(ppp::Config {
            methods: config.tunnel.methods.clone(),
            gateway: network.gateway,
            client: network.client,
            dns: network.gateway,
            // Strangers are told this before their login.
            server_name: "sstp".to_owned(),
        }),
        network: Arc::new(netstack::Config {
            gateway: network.gateway,
            client: network.client,
            services: network.services,
            suffix: network.suffix.as_str().into(),
            max_streams: config.tunnel.max_streams,
        }),
        hashes: sstp::Hashes {
            sha1: config.tunnel.binding_hash.contains(&config::BindingHash::Sha1),
            sha256: config.tunnel.binding_hash.contains(&config::BindingHash::Sha256),
        },
        zero_binding: config.tunnel.zero_binding.clone(),
    };
    let registry = registry::Limits {
        max_sessions: config.tunnel.max_sessions,
        max_sessions_per_user: config.tunnel.max_sessions_per_user,
    };
    Ok(Shared {
        snapshots: Arc::new(snapshots),
        registry: Arc::new(Registry::new(registry)),
        audit: Arc::new(audit),
        tunnel: Arc::new(tunnel),
        backoff: Mutex::new(Backoff::new(entropy::bytes())),
        refusals: Mutex::new(Refusals::new(clock::now())),
        lines: Mutex::new(Ceiling::new(clock::now())),
        max_session: config.tunnel.max_session,
        max_requests: config.tunnel.max_requests.quota().context("[tunnel] max_requests")?,
        grace: GRACE,
        drain,
        logging_in: AtomicUsize::new(0),
    })
}

/// The parser that traffic meets, for the tests inside policy files and for `explain`.
///
/// # Errors
///
/// What the parser says.
pub fn read_request(bundle: &Bundle, text: &RequestText, token: bool) -> Result<CanonicalRequest, String> {
    let raw = Raw { method: &text.method, target: Target::Http1 { target: text.target.as_bytes() }, port: text.port };
    let token = token.then_some(("authorization", &b"Bearer token"[..]));
    let headers = [("host", text.host.as_bytes())].into_iter().chain(token);
    let request = CanonicalRequest::read(&raw, headers).map_err(|malformed| malformed.to_string())?;
    proxy::admit_oddities(bundle, &request).map_err(|malformed| malformed.to_string())?;
    Ok(request)
}
