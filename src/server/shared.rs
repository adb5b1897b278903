//! What all connections of the process share, and what is recorded of their lives.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::connection::Gone;
use super::login::NotLoggedIn;
use crate::audit::{self, Audit};
use crate::clock;
use crate::identity::authn::Backoff;
use crate::identity::{Binding, Identity};
use crate::limits::{PreLimit, Quota};
use crate::netstack::{Host, Visible};
use crate::policy::{self, Evidence};
use crate::proxy::Summed;
use crate::snapshot::Snapshots;
use crate::tunnel::driver::{Driver, Ended};
use crate::tunnel::registry::{Registry, Session};
use crate::{telemetry, tunnel};

/// How long a session may take to end: its open requests, its farewell, its last bytes.
pub(super) const LONGEST_END: Duration = Duration::from_secs(30);

/// The process's shared state.
pub(super) struct Shared {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) registry: Arc<Registry>,
    pub(super) audit: Arc<Audit>,
    pub(super) tunnel: Arc<tunnel::Config>,
    pub(super) backoff: Mutex<Backoff>,
    pub(super) max_session: Duration,
    pub(super) max_requests: Quota,
    /// How long open requests may go on when the server drains.
    pub(super) grace: Duration,
    pub(super) draining: AtomicBool,
}

impl Shared {
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What exists for this person, as plain data for guard, DNS and DHCP.
    pub(super) fn visible(&self, login: &Identity) -> Arc<Visible> {
        let snapshot = self.snapshots.load();
        let hosts = snapshot.bundle.as_ref().map_or_else(Vec::new, |bundle| {
            policy::visible(bundle, &Evidence::of(login))
                .into_iter()
                .map(|host| Host { name: host.name.as_ref().into(), address: host.address })
                .collect()
        });
        Arc::new(Visible { hosts })
    }

    /// A fresh pre-limit for one session.
    pub(super) fn prelimit(&self) -> PreLimit {
        PreLimit::new(self.max_requests, clock::now())
    }

    pub(super) fn tunnel_up(&self, session: &Session) {
        let login = session.login();
        let tunnel = login.tunnel();
        tracing::info!(
            subject = %login.subject(),
            method = tunnel.method.as_str(),
            binding = tunnel.binding.as_str(),
            device = session.device(),
            "tunnel up"
        );
        let method = tunnel.method.as_str();
        metrics::counter!(telemetry::LOGINS, "method" => method, "result" => "accepted").increment(1);
        if tunnel.binding == Binding::Zero {
            metrics::counter!(telemetry::BINDING_ZERO, "method" => method).increment(1);
        }
        metrics::gauge!(telemetry::TUNNELS).increment(1);
        self.record(&audit::Event::TunnelUp(audit::TunnelUp {
            session: session.id(),
            user: login.subject().as_str(),
            method: tunnel.method,
            binding: tunnel.binding,
            source: tunnel.source,
            correlation: session.correlation_id(),
        }));
    }

    pub(super) fn tunnel_down(&self, session: &Session, gone: &Gone, driver: &Driver) {
        let (reason, detail) = match gone {
            Gone::Session(why) => (why.word(), why.to_string()),
            Gone::Tunnel(ended @ Ended::Machine(_)) => ("client", ended.to_string()),
            Gone::Tunnel(ended @ (Ended::Closed | Ended::Socket(_) | Ended::Tls(_))) => ("lost", ended.to_string()),
        };
        let counters = driver.counters();
        let (received, sent) = driver.bytes();
        let login = session.login();
        let duration = clock::now().saturating_duration_since(session.since());
        tracing::info!(subject = %login.subject(), reason, detail, ?duration, "tunnel down");
        metrics::counter!(telemetry::TUNNELS_ENDED, "reason" => reason).increment(1);
        metrics::counter!(telemetry::TUNNEL_BYTES, "direction" => "in").increment(received);
        metrics::counter!(telemetry::TUNNEL_BYTES, "direction" => "out").increment(sent);
        metrics::gauge!(telemetry::TUNNELS).decrement(1);
        for (dropped, count) in counters.dropped() {
            metrics::counter!(telemetry::PACKETS_DROPPED, "reason" => dropped).increment(count);
        }
        if counters.world_refused > 0 {
            tracing::info!(
                refused = counters.world_refused,
                "this client sent connections for the internet into the tunnel: its profile is force-tunnel; \
                 switch on split tunnelling"
            );
        }
        self.record(&audit::Event::TunnelDown(audit::TunnelDown {
            session: session.id(),
            user: login.subject().as_str(),
            source: login.tunnel().source,
            reason,
            lasted: duration,
            received,
            sent,
            requests: session.requests().load(Ordering::Relaxed),
        }));
    }

    /// A connection that ended before anybody was known.
    pub(super) fn login_refused(&self, peer: SocketAddr, why: &NotLoggedIn) {
        let NotLoggedIn { ended, refused, correlation } = why;
        let Some(refused) = refused else {
            tracing::info!(layer = "ppp", "refused: {ended}");
            metrics::counter!(telemetry::CONNECTIONS_REFUSED, "layer" => "ppp", "reason" => ended.word()).increment(1);
            return;
        };
        let method = refused.method.as_str();
        tracing::info!(layer = "login", name = %refused.name.escape_ascii(), method, "refused: {}", refused.reason);
        metrics::counter!(telemetry::LOGINS, "method" => method, "result" => "refused").increment(1);
        self.record(&audit::Event::LoginRefused(audit::LoginRefused {
            source: peer,
            user: &refused.name,
            method: Some(refused.method),
            reason: refused.word(),
            correlation: correlation.as_deref(),
        }));
    }

    /// The sums of what a session was refused without a record for each.
    pub(super) fn pre_limited(&self, session: &Session, summed: Summed) {
        metrics::counter!(telemetry::LIMITED, "limit" => "tunnel").increment(summed.over_rate + summed.over_flight);
        for (limit, count) in summed.by_limit() {
            let user = session.login().subject().as_str();
            self.record(&audit::Event::PreLimited(audit::PreLimited { session: session.id(), user, limit, count }));
        }
    }

    /// Writes a record that no request waits for.
    pub(super) fn record(&self, event: &audit::Event<'_>) {
        if let Err(error) = self.audit.write(event) {
            tracing::error!(%error, "an audit record is lost");
        }
    }
}
