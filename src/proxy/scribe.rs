//! The records of a shard's requests: those of one turn of its thread are written together.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::turns::step_back;
use crate::audit::{Audit, AuditUnavailable, Event, Journal, Record, Staged};

/// See the module.
pub(super) struct Scribe {
    journal: Arc<Journal>,
    flushes: Mutex<JoinSet<()>>,
}

impl Scribe {
    pub(super) fn new(audit: Arc<Audit>) -> Self {
        Self { journal: Arc::new(Journal::new(audit)), flushes: Mutex::default() }
    }

    /// Adds a record that something has to wait for.
    pub(super) fn stage(&self, event: &Event<'_>) -> Record {
        self.journal.stage(event)
    }

    /// Waits until whoever else has a record in this turn has added it, and writes them all.
    ///
    /// What was staged together is given back in one go, so that requests leave together too: sending one wakes its
    /// upstream, and that costs more than all else that the kernel does for it.
    pub(super) async fn commit<T>(&self, staged: Staged<T>) -> Result<T, AuditUnavailable> {
        step_back().await;
        self.journal.commit(staged)
    }

    /// Adds a record that nothing waits for, and sees to it that it is written.
    pub(super) fn note(&self, event: &Event<'_>) {
        if !self.journal.note(event) {
            return;
        }
        let flush = Flush(Arc::clone(&self.journal));
        let Ok(runtime) = Handle::try_current() else { return };
        let mut flushes = self.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        while flushes.try_join_next().is_some() {}
        // A new task is behind everybody who is awake.
        flushes.spawn_on(async move { drop(flush) }, &runtime);
    }
}

/// Writes what is noted when it is dropped: by its task, or with it when the runtime ends.
struct Flush(Arc<Journal>);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush();
    }
}
