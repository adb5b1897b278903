//! A shard: one thread with a single-threaded runtime, on which a connection lives from its handshake to its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Accepted;

/// Sockets on their way to a shard; more wait in the kernel's backlog.
const QUEUE: usize = 64;

/// What a shard does with a connection.
pub trait Serve: Send + Sync + 'static {
    /// Serves one connection to its end.
    fn serve(self: Arc<Self>, accepted: Accepted) -> impl Future<Output = ()> + Send;
}

/// The acceptor's end of a shard.
pub struct Shard {
    sender: mpsc::Sender<Accepted>,
    connections: Arc<AtomicUsize>,
}

/// The owner's end of a shard: joins the thread.
pub struct ShardThread {
    stop: watch::Sender<Option<Duration>>,
    thread: thread::JoinHandle<()>,
}

impl Shard {
    /// Starts a shard's thread.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread or no runtime.
    pub fn start<S: Serve>(
        number: usize,
        make: impl FnOnce() -> S + Send + 'static,
    ) -> io::Result<(Self, ShardThread)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (stop, stopped) = watch::channel(None);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let thread = thread::Builder::new()
            .name(format!("shard-{number}"))
            .spawn(move || runtime.block_on(run(Arc::new(make()), receiver, stopped, counted)))?;
        Ok((Self { sender, connections }, ShardThread { stop, thread }))
    }

    /// Whether its thread still takes connections.
    pub(super) fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Connections that live here.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Gives a socket to this shard. A shard that does not keep up refuses.
    pub(super) fn hand_over(&self, accepted: Accepted) -> io::Result<()> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.sender.try_send(accepted).map_err(|_| {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            io::Error::new(io::ErrorKind::ResourceBusy, "the shard's queue is full")
        })
    }
}

impl ShardThread {
    /// Tells the shard to end: its connections may go on for `grace`, then what is left is aborted.
    pub fn signal(&self, grace: Duration) {
        self.stop.send_replace(Some(grace));
    }

    /// Waits for the shard's end.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a shard panicked");
        }
    }
}

async fn run<S: Serve>(
    serve: Arc<S>,
    mut receiver: mpsc::Receiver<Accepted>,
    mut stop: watch::Receiver<Option<Duration>>,
    connections: Arc<AtomicUsize>,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(accepted) = receiver.recv() => {
                tasks.spawn(Arc::clone(&serve).serve(accepted));
            }
            Some(ended) = tasks.join_next() => {
                connections.fetch_sub(1, Ordering::Relaxed);
                report(ended);
            }
            Ok(_) = stop.wait_for(Option::is_some) => break,
        }
    }
    receiver.close();
    let grace = stop.borrow().unwrap_or_default();
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(grace, rest).await.is_err() {
        tracing::warn!(connections = tasks.len(), "aborting connections that did not end in time");
    }
}

/// A connection's panic ends that connection alone.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a bug of ours");
    }
}
