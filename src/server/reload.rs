//! When to read everything again, and what follows from it.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::loader::{Extent, Loader, Outcome, Report};
use super::shared::Shared;
use super::watched::Look;
use crate::complaint::{Complaint, Severity};
use crate::limits::Limits;
use crate::snapshot::Snapshot;
use crate::{audit, clock, config, policy, proxy, telemetry};

/// How often the files are looked at. A change is read when two looks in a row agree about it: an editor, a checkout and
/// a `ConfigMap` change several files in a row, and half of them mean something else than all.
const TICK: Duration = Duration::from_millis(200);

/// How many looks in a row may disagree before the reading begins all the same: whoever writes all the time must not
/// keep a change out.
const MAX_RESTLESS: u32 = 10;

/// How often everything is read although nothing changed: certificates of API hosts are renewed by time.
const SWEEP: Duration = Duration::from_secs(600);

/// Watches, reads and replaces.
pub(super) struct Reloads {
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    /// Locked by the thread that reads.
    loader: Arc<Mutex<Loader>>,
    path: PathBuf,
    /// What the files looked like when they were last read.
    read: Look,
    /// Keeps the keys of the current bundle's issuers fresh.
    issuers: JoinSet<()>,
}

impl Reloads {
    /// Keeps `loader`'s generation up to date; `read` is a look from before its first reading.
    pub(super) fn new(shared: Arc<Shared>, limits: Arc<Limits>, loader: Loader, path: PathBuf, read: Look) -> Self {
        let mut issuers = JoinSet::new();
        issuers.spawn(shared.snapshots.load().tokens.run());
        Self { shared, limits, loader: Arc::new(Mutex::new(loader)), path, read, issuers }
    }

    /// Runs until it is dropped. `everything` asks for the configuration file too.
    pub(super) async fn run(&mut self, everything: &mut mpsc::Receiver<()>) {
        let mut sweep = pin!(tokio::time::sleep(SWEEP));
        loop {
            let extent = tokio::select! {
                extent = self.changed() => extent,
                Some(()) = everything.recv() => Extent::Everything,
                () = &mut sweep => Extent::Files,
            };
            self.reload(extent).await;
            sweep.set(tokio::time::sleep(SWEEP));
        }
    }

    /// Waits until the files differ from what was read, and rest. The user file need not wait for the others' rest.
    async fn changed(&mut self) -> Extent {
        let watched = Arc::new(lock(&self.loader).watched());
        let mut last = self.read.clone();
        let mut restless = 0;
        loop {
            tokio::time::sleep(TICK).await;
            let watched = Arc::clone(&watched);
            // A look that fails is the look of a thread that panicked; the next one tells.
            let Ok(look) = tokio::task::spawn_blocking(move || watched.look()).await else { continue };
            restless = if look == last { 0 } else { restless + 1 };
            if look != self.read && (look == last || restless > MAX_RESTLESS) {
                self.read = look;
                return Extent::Files;
            }
            if look.users != self.read.users && look.users == last.users {
                self.read.users = look.users;
                return Extent::Users;
            }
            last = look;
        }
    }

    async fn reload(&mut self, extent: Extent) {
        let (loader, path) = (Arc::clone(&self.loader), self.path.clone());
        let (shared, limits) = (Arc::clone(&self.shared), Arc::clone(&self.limits));
        let reading = tokio::task::spawn_blocking(move || {
            let mut loader = lock(&loader);
            let fresh = (extent == Extent::Everything).then(|| config::load(&path));
            let mut fixed = Ok(Vec::new());
            match fresh {
                Some(Ok((config, warnings))) => {
                    warn("config", &warnings);
                    fixed = Ok(loader.reconfigure(config));
                }
                Some(Err(complaints)) => fixed = Err(complaints),
                None => {}
            }
            let report = loader.reload(extent, clock::wall(), |snapshot| publish(&shared, &limits, snapshot));
            (fixed, report)
        });
        let (fixed, report) = match reading.await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "a reload ended by a bug of ours; files are read again when they change");
                return;
            }
        };
        match fixed {
            Ok(fixed) => {
                for section in fixed {
                    tracing::warn!(section, "changed in the configuration: needs a restart");
                }
            }
            Err(complaints) => warn("config", &complaints),
        }
        if extent == Extent::Everything
            && let Err(error) = self.shared.audit.reopen()
        {
            tracing::error!(%error, "the audit file cannot be opened again; the old one stays in use");
        }
        if report.policies.is_replaced() {
            self.issuers = JoinSet::new();
            self.issuers.spawn(self.shared.snapshots.load().tokens.run());
        }
        tell(&self.shared, &report);
    }
}

/// A panic leaves every part whole, the old one or the new one: no bug in a policy may keep a disabled user in.
fn lock(loader: &Mutex<Loader>) -> MutexGuard<'_, Loader> {
    loader.lock().unwrap_or_else(PoisonError::into_inner)
}

fn publish(shared: &Shared, limits: &Limits, snapshot: Snapshot) {
    if let Some(bundle) = &snapshot.bundle {
        limits.reload(bundle.limits().filter_map(|limit| Some((limit.id.as_str(), proxy::quota(limit).ok()?))));
    }
    shared.snapshots.store(snapshot);
}

/// Tells how the first reading went.
pub(super) fn report_first(shared: &Shared, report: &Report) {
    tell(shared, report);
}

fn tell(shared: &Shared, report: &Report) {
    for (what, outcome) in [("certificate", &report.certificate), ("users", &report.users)] {
        let (result, complaints) = match outcome {
            Outcome::Unchanged => continue,
            Outcome::Replaced(warnings) => ("replaced", warnings),
            Outcome::Kept(complaints) => ("kept", complaints),
        };
        warn(what, complaints);
        tracing::info!(what, result, "read");
        metrics::counter!(telemetry::RELOADS, "what" => what, "result" => result).increment(1);
        shared.record(&audit::Event::Reloaded(audit::Reloaded { what, result }));
    }
    if report.users.is_replaced() {
        let snapshot = shared.snapshots.load();
        let (disabled, enabled): (Vec<_>, Vec<_>) =
            snapshot.users.accounts().into_iter().partition(|account| account.is_disabled());
        let (enabled, disabled) = (enabled.len() as u64, disabled.len() as u64);
        shared.record(&audit::Event::UsersReloaded(audit::UsersReloaded { enabled, disabled }));
    }
    for (name, ends) in &report.certificate_ends {
        metrics::gauge!(telemetry::CERT_NOT_AFTER, "certificate" => name.clone()).set(*ends);
    }
    tell_policies(shared, &report.policies);
}

fn tell_policies(shared: &Shared, outcome: &Outcome) {
    let snapshot = shared.snapshots.load();
    let current: Option<&policy::Bundle> = snapshot.bundle.as_deref();
    match outcome {
        Outcome::Unchanged => {}
        Outcome::Replaced(warnings) => {
            warn("policies", warnings);
            let Some(bundle) = current else { return };
            let apis = bundle.apis().len() as u64;
            tracing::info!(bundle = bundle.id(), apis, "policies loaded");
            metrics::counter!(telemetry::POLICY_LOADED).increment(1);
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and a bundle has at most 512 APIs")]
            metrics::gauge!(telemetry::POLICY_APIS).set(apis as f64);
            shared.record(&audit::Event::PolicyLoaded(audit::PolicyLoaded {
                bundle: bundle.id(),
                apis,
                tests: bundle.tests().len() as u64,
            }));
        }
        Outcome::Kept(complaints) => {
            warn("policies", complaints);
            let kept = current.map(policy::Bundle::id);
            let instead = kept.map_or("nothing is allowed until they are mended", |_| "the old bundle stays in force");
            tracing::error!(kept, "policies not loaded: {instead}");
            metrics::counter!(telemetry::POLICY_LOAD_FAILED).increment(1);
            let Some(first) = complaints.iter().find(|complaint| complaint.severity == Severity::Error) else { return };
            let (line, column) = first.place();
            shared.record(&audit::Event::PolicyLoadFailed(audit::PolicyLoadFailed {
                kept,
                complaints: complaints.len() as u64,
                code: first.code,
                file: &first.file,
                line: line as u64,
                column: column as u64,
                message: &first.message,
                hint: first.hint.as_deref(),
            }));
        }
    }
}

fn warn(what: &'static str, complaints: &[Complaint]) {
    for complaint in complaints {
        let (line, column) = complaint.place();
        tracing::warn!(
            what,
            code = complaint.code,
            hint = complaint.hint,
            "{}:{line}:{column}: {}",
            complaint.file,
            complaint.message
        );
    }
}
