//! The records of a shard's requests: those of one turn of its thread are written together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

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

    /// Adds a record of this time that something has to wait for.
    pub(super) fn stage(&self, at: SystemTime, event: &Event<'_>) -> Record {
        self.journal.stage(at, event)
    }

    /// Waits until whoever else has a record in this turn has added it, and writes them all.
    ///
    /// What was staged together is given back in one go, so that requests leave together too: sending one wakes its
    /// upstream, and a burst wakes it once.
    pub(super) async fn commit<T>(&self, staged: Staged<T>) -> Result<T, AuditUnavailable> {
        step_back().await;
        self.journal.commit(staged)
    }

    /// Adds a record of this time that nothing waits for, and sees to it that it is written.
    pub(super) fn note(&self, at: SystemTime, event: &Event<'_>) {
        if !self.journal.note(at, event) {
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

/// Writes what is noted when it is dropped: by its task, with its task when the runtime ends, or at once where there is
/// no runtime.
struct Flush(Arc<Journal>);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditLost, OnFailure};

    #[test]
    fn what_is_noted_is_written_also_when_the_runtime_ends_or_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let scribe = Scribe::new(Arc::new(Audit::open(&path, OnFailure::Refuse).unwrap()));
        let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
        let note = || scribe.note(SystemTime::UNIX_EPOCH, &Event::AuditLost(AuditLost { count: 1 }));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { (note(), note()) });
        assert_eq!(lines(), 0, "the task has not had its turn");
        drop(runtime);
        assert_eq!(lines(), 2);
        note();
        assert_eq!(lines(), 3);
    }
}
