//! Turns: how the tasks of one session share their shard's thread with those of the others.
//!
//! The runtime takes tasks in the order in which they were woken and knows no sessions, so one session with thousands of
//! requests would run thousands of tasks between any two of a neighbour. Here a session runs freely for [`TURN`]; after
//! that its tasks queue, and only the first of them is awake, behind everybody else on the thread.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use crate::clock::Stopwatch;

/// How long a session may run before others on this thread get theirs.
const TURN: Duration = Duration::from_millis(2);

/// The turns of one session.
#[derive(Default)]
pub(super) struct Turns {
    /// What the session has run, less a [`TURN`] for each time that the others had theirs, in nanoseconds. All of its
    /// tasks are on one thread, so it is read and written in two steps.
    spent: AtomicU64,
    /// How many wait: a look at nobody takes no lock.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Who waits, in order of their numbers.
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

/// Goes behind everybody who is awake on this thread; tokio's own `yield_now` goes behind those who wait for a socket
/// too.
pub(super) async fn step_back() {
    let mut stepped = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

impl Turns {
    /// Runs a future of this session when it is its turn.
    pub(super) async fn share<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut place = Place { turns: self, number: None };
        poll_fn(|cx| {
            ready!(place.poll(cx));
            let stopwatch = Stopwatch::start();
            let polled = future.as_mut().poll(cx);
            self.set_spent(self.spent() + stopwatch.elapsed());
            polled
        })
        .await
    }

    fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    fn set_spent(&self, spent: Duration) {
        self.spent.store(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether anybody of the session runs at once.
    fn is_free(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0 && self.spent() < TURN
    }

    /// Changes the queue.
    fn with_queue<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut queue);
        self.waiting.store(queue.waiting.len(), Ordering::Relaxed);
        changed
    }
}

impl Queue {
    fn is_first(&self, number: u64) -> bool {
        self.waiting.first_key_value().is_some_and(|(first, _)| *first == number)
    }

    /// Takes the next number; whoever is first is awake.
    fn enter(&mut self, waker: &Waker) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, waker.clone());
        if self.is_first(number) {
            waker.wake_by_ref();
        }
        number
    }

    fn leave(&mut self, number: u64) {
        let was_first = self.is_first(number);
        self.waiting.remove(&number);
        if let Some((_, waker)) = self.waiting.first_key_value().filter(|_| was_first) {
            waker.wake_by_ref();
        }
    }
}

/// One future's place in the queue, if it has one.
struct Place<'a> {
    turns: &'a Turns,
    number: Option<u64>,
}

impl Place<'_> {
    /// Ready when the future may run once.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let Some(number) = self.number else {
            if self.turns.is_free() {
                return Poll::Ready(());
            }
            self.number = Some(self.turns.with_queue(|queue| queue.enter(cx.waker())));
            return Poll::Pending;
        };
        let is_first = self.turns.with_queue(|queue| {
            if let Some(waker) = queue.waiting.get_mut(&number) {
                waker.clone_from(cx.waker());
            }
            queue.is_first(number)
        });
        if !is_first {
            return Poll::Pending;
        }
        // It was behind everybody who was awake, so the others have had theirs.
        let spent = self.turns.spent().saturating_sub(TURN);
        self.turns.set_spent(spent);
        if spent >= TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Before the future runs: should it panic, nobody waits for ever.
        self.leave();
        Poll::Ready(())
    }

    fn leave(&mut self) {
        if let Some(number) = self.number.take() {
            self.turns.with_queue(|queue| queue.leave(number));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;
    use crate::clock;

    /// Runs among the tasks; the future of a test has a place of its own in the runtime.
    async fn in_a_task(future: impl Future<Output = ()> + Send + 'static) {
        let mut task = JoinSet::new();
        task.spawn(future);
        task.join_next().await.unwrap().unwrap();
    }

    /// Has the thread for a whole turn.
    fn work() {
        let began = clock::now();
        while clock::now() - began < TURN {
            std::hint::spin_loop();
        }
    }

    /// So many tasks of one session that do nothing but work, and how often they did.
    fn busy(turns: &Arc<Turns>, tasks: usize) -> (JoinSet<()>, Arc<AtomicUsize>) {
        let worked = Arc::new(AtomicUsize::new(0));
        let mut busy = JoinSet::new();
        for _ in 0..tasks {
            let (turns, worked) = (Arc::clone(turns), Arc::clone(&worked));
            busy.spawn(async move {
                let working = async {
                    loop {
                        work();
                        worked.fetch_add(1, Ordering::Relaxed);
                        step_back().await;
                    }
                };
                turns.share(working).await
            });
        }
        (busy, worked)
    }

    #[tokio::test]
    async fn a_session_with_many_tasks_runs_one_between_two_of_its_neighbour() {
        let (_busy, worked) = busy(&Arc::default(), 100);
        in_a_task(async move {
            let neighbour = Turns::default();
            let rounds = neighbour.share(async {
                for _ in 0..10 {
                    step_back().await;
                }
            });
            rounds.await;
            let worked = worked.load(Ordering::Relaxed);
            assert!((1..=11).contains(&worked), "{worked} of them ran in ten rounds");
        })
        .await;
    }

    #[tokio::test]
    async fn every_task_of_a_session_has_its_turn() {
        let turns = Arc::default();
        let (_busy, _) = busy(&turns, 3);
        let (mut tasks, done) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..20 {
            let (turns, done) = (Arc::clone(&turns), Arc::clone(&done));
            tasks.spawn(async move {
                turns.share(step_back()).await;
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        tasks.join_all().await;
        assert_eq!(done.load(Ordering::Relaxed), 20);
    }

    #[tokio::test]
    async fn a_task_that_ends_in_the_queue_or_by_a_panic_keeps_nobody_waiting() {
        in_a_task(async {
            let turns: Arc<Turns> = Arc::default();
            turns.share(async { work() }).await;
            let spawn = |tasks: &mut JoinSet<()>, what: fn()| {
                let turns = Arc::clone(&turns);
                tasks.spawn(async move { turns.share(async move { what() }).await })
            };
            let mut tasks = JoinSet::new();
            let ended = spawn(&mut tasks, || unreachable!("it has ended"));
            spawn(&mut tasks, || panic!("a bug of ours"));
            spawn(&mut tasks, || {});
            // All three wait now, and the first is the one that is awake.
            step_back().await;
            assert_eq!(turns.with_queue(|queue| queue.waiting.len()), 3);
            ended.abort();
            let mut outcomes = Vec::new();
            while let Some(outcome) = tasks.join_next().await {
                outcomes.push(outcome.map_err(|error| error.is_panic()));
            }
            outcomes.sort();
            assert_eq!(outcomes, [Ok(()), Err(false), Err(true)]);
            assert!(turns.with_queue(|queue| queue.waiting.is_empty()));
        })
        .await;
    }
}
