//! What the admin listeners may ask, answered from the shared state.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use metrics_exporter_prometheus::PrometheusHandle;

use super::shared::Shared;
use crate::admin::{Operations, SessionRow};
use crate::audit::Rfc3339;
use crate::clock;
use crate::identity::SessionId;
use crate::tunnel::registry::{Session, Why};

/// The operator's view of the server.
pub(super) struct Operator {
    shared: Arc<Shared>,
    metrics: PrometheusHandle,
}

impl Operator {
    pub(super) fn new(shared: Arc<Shared>, metrics: PrometheusHandle) -> Self {
        Self { shared, metrics }
    }
}

impl Operations for Operator {
    fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if self.shared.is_draining() {
            reasons.push("draining".to_owned());
        }
        let snapshot = self.shared.snapshots.load();
        if snapshot.bundle.is_none() {
            reasons.push("no valid policies were loaded".to_owned());
        }
        for issuer in snapshot.tokens.without_keys(clock::now()) {
            reasons.push(format!("issuer {issuer}: no keys"));
        }
        if self.shared.audit.is_refusing() {
            reasons.push("audit records cannot be written".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn sessions(&self) -> Vec<SessionRow> {
        self.shared.registry.list().iter().map(|session| row(session)).collect()
    }

    fn end_session(&self, id: SessionId) -> bool {
        self.shared.registry.end(id, Why::Killed)
    }
}

fn row(session: &Session) -> SessionRow {
    let login = session.login();
    let tunnel = login.tunnel();
    SessionRow {
        id: session.id().to_string(),
        user: login.subject().to_string(),
        source: tunnel.source.ip(),
        method: tunnel.method.as_str().to_owned(),
        binding: tunnel.binding.as_str().to_owned(),
        since: Rfc3339(tunnel.since).to_string(),
        age: clock::now().saturating_duration_since(session.since()).as_secs(),
        streams: session.streams().load(Ordering::Relaxed),
        requests: session.requests().load(Ordering::Relaxed),
    }
}
