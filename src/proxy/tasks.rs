//! The tasks of one connection: HTTP/2's streams and upgraded ones. They end with the future that serves it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;

use super::turns::Turns;

/// Where tasks are spawned. A task may hold this handle itself, so the tasks belong to an [`Owner`] and not to it.
#[derive(Clone)]
pub(super) struct Tasks {
    tasks: Arc<Mutex<JoinSet<()>>>,
    turns: Arc<Turns>,
}

/// The owner of the tasks: when it is dropped, they are aborted.
pub(super) struct Owner(Tasks);

impl Tasks {
    /// None yet; they will run in these turns.
    pub(super) fn new(turns: Arc<Turns>) -> Self {
        Self { tasks: Arc::default(), turns }
    }

    /// Makes the caller the owner of all that is ever spawned here.
    pub(super) fn owner(&self) -> Owner {
        Owner(self.clone())
    }

    /// Runs a task until its end, or until the owner's.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        let turns = Arc::clone(&self.turns);
        tasks.spawn(async move { turns.share(task).await });
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner {
    /// Waits for what still runs.
    pub(super) async fn finish(self) {
        loop {
            let mut tasks = std::mem::take(&mut *self.0.tasks());
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.tasks().abort_all();
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(async {
            task.await;
        });
    }
}
