//! What all connections of the process share, and what is recorded of their lives.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connection::Gone;
use super::cure;
use super::login::{Over, Refused};
use super::refusals::Refusals;
use crate::audit::{self, Audit};
use crate::clock;
use crate::identity::authn::{Backoff, Proven};
use crate::identity::{Binding, Identity};
use crate::limits::{PreLimit, Quota};
use crate::listener::{Ceiling, establish};
use crate::netstack::{Host, Visible};
use crate::policy::{self, Evidence};
use crate::proxy::Summed;
use crate::shutdown::Watch;
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
    pub(super) refusals: Mutex<Refusals>,
    /// Of connections that did not get as far as a login.
    pub(super) lines: Mutex<Ceiling>,
    pub(super) max_session: Duration,
    pub(super) max_requests: Quota,
    /// How long open requests may go on when the server drains.
    pub(super) grace: Duration,
    pub(super) drain: Watch,
    /// Tunnels whose login goes on.
    pub(super) logging_in: AtomicUsize,
}

impl Shared {
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    /// Waits until the server drains.
    pub(super) async fn drained(&self) {
        self.drain.clone().draining().await;
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

    /// `gone` is `None` when the task of the session was aborted or panicked.
    pub(super) fn tunnel_down(&self, session: &Session, gone: Option<&Gone>, driver: &Driver) {
        let (reason, detail) = match gone {
            Some(Gone::Session(why)) => (why.word(), why.to_string()),
            Some(Gone::Tunnel(ended @ Ended::Machine(_))) => ("client", ended.to_string()),
            Some(Gone::Tunnel(ended @ (Ended::Closed | Ended::Socket(_) | Ended::Tls(_)))) => {
                ("lost", ended.to_string())
            }
            None => ("aborted", "cut off in the middle".to_owned()),
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
        let refused =
            [("full", counters.refused_full), ("world", counters.world_refused), ("closed", counters.refused)];
        for (reason, count) in refused {
            metrics::counter!(telemetry::STREAMS_REFUSED, "reason" => reason).increment(count);
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

    /// A login is bound to its connection and has its address: from here on its person is known at this source.
    pub(super) fn login_completed(&self, proven: &Proven) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        proven.completed(&mut backoff, clock::now());
    }

    /// A connection that was no tunnel.
    pub(super) fn not_established(&self, peer: SocketAddr, refused: &establish::Refused) {
        establish::report(peer, refused, self.has_line());
    }

    /// Whether one more connection without a login gets a line in the log.
    fn has_line(&self) -> bool {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).admit(clock::now())
    }

    /// A connection that ended before anybody gave a proof.
    pub(super) fn not_logged_in(&self, over: &Over) {
        let (layer, cure) = (over.layer(), cure::of_connection(over));
        if self.has_line() {
            tracing::info!(layer, cure, "refused: {over}");
        } else {
            tracing::debug!(layer, cure, "refused: {over}");
        }
        metrics::counter!(telemetry::CONNECTIONS_REFUSED, "layer" => layer, "reason" => over.word()).increment(1);
    }

    /// Somebody gave a proof and did not get a session.
    pub(super) fn login_refused(&self, peer: SocketAddr, correlation: Option<&str>, refused: &Refused) {
        let Refused { name, method, reason } = refused;
        metrics::counter!(telemetry::LOGINS, "method" => method.as_str(), "result" => "refused").increment(1);
        let text = name.escape_ascii().to_string();
        let (name_sent, method_word, cure) = (text.as_str(), method.as_str(), cure::of_login(reason));
        let singly = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).singly(reason.word(), clock::now());
        // Whom back-off refuses may have done nothing but to share an address, so at least the log names them.
        if singly || self.has_line() {
            tracing::info!(layer = "login", name = name_sent, method = method_word, cure, "refused: {reason}");
        } else {
            tracing::debug!(layer = "login", name = name_sent, method = method_word, cure, "refused: {reason}");
        }
        if !singly {
            return;
        }
        self.record(&audit::Event::LoginRefused(audit::LoginRefused {
            source: peer,
            user: name,
            method: Some(*method),
            reason: reason.word(),
            correlation,
        }));
    }

    /// Records the sums of the refused logins that have no record of their own.
    pub(super) fn sum_refusals(&self) {
        let sums = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take_sums();
        for (reason, count) in sums {
            tracing::info!(layer = "login", reason, count, "refused without a line each");
            self.record(&audit::Event::LoginsRefused(audit::LoginsRefused { reason, count }));
        }
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
