//! When to read everything again, and what follows from it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::loader::{Loader, Outcome, Report};
use super::shared::Shared;
use crate::complaint::Complaint;
use crate::limits::Limits;
use crate::{audit, config, policy, proxy, telemetry};

/// How long nothing must have changed before the reading begins: an editor, a checkout and a `ConfigMap` change several
/// files in a row, and half of them mean something else than all.
const SILENCE: Duration = Duration::from_millis(200);

/// How long changes are waited for that do not end: whoever writes all the time must not keep a revocation out.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// How often everything is read although nothing said that it changed: certificates are renewed by time, and a file
/// system may not tell.
const SWEEP: Duration = Duration::from_secs(600);

/// Watches, reads and replaces.
pub(super) struct Reloads {
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    /// Lent to the thread that reads.
    loader: Option<Loader>,
    path: PathBuf,
    changes: mpsc::Receiver<()>,
    _watcher: notify::RecommendedWatcher,
    /// Keeps the keys of the current bundle's issuers fresh.
    issuers: JoinSet<()>,
}

impl Reloads {
    /// Begins to watch the folders of certificates, users and policies.
    ///
    /// # Errors
    ///
    /// When the operating system cannot watch.
    pub(super) fn new(shared: Arc<Shared>, limits: Arc<Limits>, loader: Loader, path: PathBuf) -> notify::Result<Self> {
        // One place is enough: a change that finds it taken is part of the reload that is due.
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _due_already = sender.try_send(()).is_err();
            }
        })?;
        for folder in loader.folders() {
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        let mut issuers = JoinSet::new();
        issuers.spawn(shared.snapshots.load().tokens.run());
        Ok(Self { shared, limits, loader: Some(loader), path, changes, _watcher: watcher, issuers })
    }

    /// Runs until it is dropped. `everything` asks for the configuration file too.
    pub(super) async fn run(&mut self, everything: &mut mpsc::Receiver<()>) {
        loop {
            let all = tokio::select! {
                Some(()) = self.changes.recv() => {
                    settle(&mut self.changes, SILENCE, MAX_WAIT).await;
                    false
                }
                Some(()) = everything.recv() => true,
                () = tokio::time::sleep(SWEEP) => false,
            };
            self.reload(all).await;
        }
    }

    async fn reload(&mut self, all: bool) {
        let Some(mut loader) = self.loader.take() else { return };
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let fresh = all.then(|| config::load(&path));
            let mut fixed = Ok(Vec::new());
            match fresh {
                Some(Ok((config, warnings))) => {
                    warn("config", &warnings);
                    fixed = Ok(loader.reconfigure(config));
                }
                Some(Err(complaints)) => fixed = Err(complaints),
                None => {}
            }
            let (report, snapshot) = loader.reload();
            (loader, fixed, report, snapshot)
        });
        let (loader, fixed, report, snapshot) = match reading.await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "a reload ended by a bug of ours; restart to reload again");
                return;
            }
        };
        self.loader = Some(loader);
        match fixed {
            Ok(fixed) => {
                for section in fixed {
                    tracing::warn!(section, "changed in the configuration: needs a restart");
                }
            }
            Err(complaints) => warn("config", &complaints),
        }
        if all && let Err(error) = self.shared.audit.reopen() {
            tracing::error!(%error, "the audit file cannot be opened again; the old one stays in use");
        }
        if let Some(snapshot) = snapshot {
            if let Some(bundle) = &snapshot.bundle {
                self.limits
                    .reload(bundle.limits().filter_map(|limit| Some((limit.id.as_str(), proxy::quota(limit).ok()?))));
            }
            let tokens = Arc::clone(&snapshot.tokens);
            self.shared.snapshots.store(snapshot);
            self.issuers.abort_all();
            self.issuers.spawn(tokens.run());
        }
        tell(&self.shared, &report);
    }
}

/// Waits until no change came for the time of `silence`, or for `max_wait`.
async fn settle(changes: &mut mpsc::Receiver<()>, silence: Duration, max_wait: Duration) {
    let changing = async { while let Ok(Some(())) = timeout(silence, changes.recv()).await {} };
    let _still_changing = timeout(max_wait, changing).await.is_err();
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
    if matches!(report.users, Outcome::Replaced(_)) {
        let snapshot = shared.snapshots.load();
        let (disabled, enabled): (Vec<_>, Vec<_>) =
            snapshot.users.accounts().into_iter().partition(|account| account.is_disabled());
        let (enabled, disabled) = (enabled.len() as u64, disabled.len() as u64);
        shared.record(&audit::Event::UsersReloaded(audit::UsersReloaded { enabled, disabled }));
    }
    if let Some(ends) = report.certificate_ends {
        metrics::gauge!(telemetry::CERT_NOT_AFTER, "certificate" => "tls").set(ends);
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
                previous: None,
                apis,
                rules: 0,
                tests: bundle.tests().len() as u64,
            }));
        }
        Outcome::Kept(complaints) => {
            warn("policies", complaints);
            let kept = current.map(policy::Bundle::id);
            tracing::error!(kept, "policies not loaded: the old bundle stays in force");
            metrics::counter!(telemetry::POLICY_LOAD_FAILED).increment(1);
            let Some(first) = complaints.first() else { return };
            let (line, column) = first.place();
            shared.record(&audit::Event::PolicyLoadFailed(audit::PolicyLoadFailed {
                kept,
                complaints: complaints.len() as u64,
                code: first.code,
                file: &first.file,
                line: line as u64,
                column: column as u64,
                message: &first.message,
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_reload_waits_for_the_last_of_many_changes() {
        let (sender, mut changes) = mpsc::channel(1);
        let many = async move {
            for _ in 0..1000 {
                sender.send(()).await.unwrap();
            }
        };
        tokio::join!(settle(&mut changes, HOUR, HOUR), many);
        assert!(changes.is_closed() && changes.is_empty(), "a change was left");
    }

    #[tokio::test]
    async fn a_reload_begins_after_a_silence_and_in_spite_of_endless_changes() {
        let (sender, mut changes) = mpsc::channel(1);
        settle(&mut changes, Duration::from_millis(1), HOUR).await;
        let endless = async {
            while sender.send(()).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = settle(&mut changes, HOUR, Duration::from_millis(20)) => {}
            () = endless => unreachable!("somebody receives"),
        }
        assert!(!sender.is_closed());
    }
}
