//! The connections of one shard that no exchange has, by target.

use std::collections::{BTreeMap, HashSet};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::task::JoinSet;

use super::connect::Stream;

/// How often the idle connections are looked at, whether they are too old or their server has closed them.
const LOOK: Duration = Duration::from_secs(5);

/// For how many looks an idle connection is kept, half a minute: below the usual keep-alive time of servers, so that we
/// close first.
const MAX_LOOKS: u8 = 6;

/// Idle connections kept per target and shard.
const MAX_IDLE: usize = 32;

/// The buffers that an idle connection keeps: enough for ordinary heads.
const KEPT: usize = 16 * 1024;

/// A connection between two exchanges, with their empty buffers.
pub(super) struct Idle {
    pub(super) stream: Stream,
    /// For what comes.
    pub(super) buffer: BytesMut,
    /// For what goes.
    pub(super) out: Vec<u8>,
}

impl Idle {
    /// A connection that was just made.
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new(), out: Vec::new() }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Pool(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The youngest last; each with how often it was looked at.
    idle: BTreeMap<u64, Vec<(Idle, u8)>>,
    /// Whether somebody looks at them.
    watched: bool,
    watch: JoinSet<()>,
}

impl Pool {
    /// An idle connection to this target, the one that was used last.
    pub(super) fn take(&self, target: u64) -> Option<Idle> {
        let mut inner = self.lock();
        let idle = inner.idle.get_mut(&target)?;
        loop {
            let (mut connection, _) = idle.pop()?;
            if is_silent(&mut connection) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection, or closes it when there are enough.
    pub(super) fn give(self: &Arc<Self>, target: u64, mut connection: Idle) {
        if connection.buffer.capacity() > KEPT {
            connection.buffer = BytesMut::new();
        }
        if connection.out.capacity() > KEPT {
            connection.out = Vec::new();
        }
        let mut inner = self.lock();
        let idle = inner.idle.entry(target).or_default();
        if idle.len() < MAX_IDLE {
            idle.push((connection, 0));
        }
        if !std::mem::replace(&mut inner.watched, true) {
            while inner.watch.try_join_next().is_some() {}
            inner.watch.spawn(look(Arc::downgrade(self)));
        }
    }

    /// Closes the idle connections to all other targets.
    pub(super) fn keep(&self, targets: &HashSet<u64>) {
        self.lock().idle.retain(|target, _| targets.contains(target));
    }

    /// Closes what is too old or was closed by its server. False when nothing is left.
    fn sweep(&self) -> bool {
        let mut inner = self.lock();
        inner.idle.retain(|_, idle| {
            idle.retain_mut(|(connection, looks)| {
                *looks += 1;
                *looks < MAX_LOOKS && is_silent(connection)
            });
            !idle.is_empty()
        });
        inner.watched = !inner.idle.is_empty();
        inner.watched
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}

/// Whether a connection is silent: one that says anything, were it its end, is not for the next request.
fn is_silent(connection: &mut Idle) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let read = std::future::poll_fn(|cx| Pin::new(&mut connection.stream).poll_read(cx, &mut buffer));
    // A task that has had its turn is told that there is nothing, without a look.
    let read = pin!(tokio::task::unconstrained(read));
    read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn connection() -> (DuplexStream, Idle) {
        let (server, ours) = tokio::io::duplex(64);
        (server, Idle::new(Box::new(ours)))
    }

    #[tokio::test]
    async fn only_a_silent_connection_to_the_same_target_is_taken() {
        let pool = Arc::<Pool>::default();
        let (mut chatty, first) = connection();
        let (closed, second) = connection();
        let (_silent, third) = connection();
        for (target, connection) in [(1, third), (1, first), (1, second)] {
            pool.give(target, connection);
        }
        drop(closed);
        chatty.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.expect("room");
        assert!(pool.take(2).is_none());
        assert!(pool.take(1).is_some(), "the silent one");
        assert!(pool.take(1).is_none());
    }

    #[tokio::test]
    async fn as_many_as_are_kept_stay_until_their_server_closes_them() {
        let pool = Arc::<Pool>::default();
        let (mut servers, connections): (Vec<_>, Vec<_>) = (0..=MAX_IDLE).map(|_| connection()).unzip();
        connections.into_iter().for_each(|connection| pool.give(1, connection));
        assert!(servers.pop().expect("the last").write_all(b"x").await.is_err(), "one too many is closed");
        assert!(pool.sweep());
        servers.clear();
        assert!(!pool.sweep());
        assert!(!pool.lock().watched, "nobody looks at nothing");
    }

    #[tokio::test]
    async fn a_target_that_is_gone_takes_its_connections_with_it() {
        let pool = Arc::<Pool>::default();
        let (_server, first) = connection();
        pool.give(1, first);
        pool.keep(&HashSet::from([2]));
        assert!(pool.take(1).is_none());
    }

    #[tokio::test]
    async fn a_connection_is_too_old_after_its_time() {
        let pool = Arc::<Pool>::default();
        let (_server, connection) = connection();
        pool.give(1, connection);
        assert!((1..MAX_LOOKS).all(|_| pool.sweep()));
        let again = pool.take(1).expect("it is still kept");
        pool.give(1, again);
        assert!((1..MAX_LOOKS).all(|_| pool.sweep()), "it was used");
        assert!(!pool.sweep());
        assert!(pool.take(1).is_none());
    }

    #[test]
    fn large_buffers_are_not_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let _entered = runtime.enter();
        let pool = Arc::<Pool>::default();
        let (_server, mut connection) = connection();
        connection.buffer.reserve(2 * KEPT);
        connection.out.reserve(2 * KEPT);
        pool.give(1, connection);
        let kept = pool.take(1).expect("a connection");
        assert!(kept.buffer.capacity() <= KEPT && kept.out.capacity() <= KEPT);
    }

    #[tokio::test]
    async fn a_connection_is_looked_at_however_much_its_task_has_done() {
        let pool = Arc::<Pool>::default();
        let (mut chatty, connection) = connection();
        pool.give(1, connection);
        chatty.write_all(b"x").await.expect("room");
        while tokio::task::coop::has_budget_remaining() {
            let spent = pin!(tokio::task::coop::consume_budget());
            let _ = Future::poll(spent, &mut Context::from_waker(Waker::noop()));
        }
        assert!(pool.take(1).is_none());
    }
}
