//! A future beside a busy one: it is polled when it was woken itself, and not each time that its neighbour is.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// See the module.
pub(super) struct Seldom<F> {
    future: F,
    bell: Arc<Bell>,
    /// Rings the bell.
    ringer: Waker,
    /// Whom the bell wakes, as far as known here.
    task: Option<Waker>,
}

struct Bell {
    /// Since the future was polled.
    rung: AtomicBool,
    /// Not used up by a ring: one that comes between two steps of a poll, from another thread, must leave it.
    task: Mutex<Option<Waker>>,
}

impl Bell {
    fn wake_task(&self) {
        let task = self.task().clone();
        task.into_iter().for_each(Waker::wake);
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.wake_task();
    }
}

impl<F: Future + Unpin> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
        Self { future, ringer: Waker::from(Arc::clone(&bell)), bell, task: None }
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            this.task = Some(cx.waker().clone());
            this.bell.task().clone_from(&this.task);
        }
        // After the task is known: whoever rang before is seen here, whoever rings later wakes it.
        if !(this.bell.rung.load(Ordering::Acquire) && this.bell.rung.swap(false, Ordering::AcqRel)) {
            return Poll::Pending;
        }
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.ringer))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it wakes.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_polled_first_and_when_it_was_woken_and_wakes_the_task_that_polled_last() {
        let (polls, own, done) = (Cell::new(0), Cell::new(None), Cell::new(false));
        let future = pin!(std::future::poll_fn(|cx: &mut Context<'_>| {
            polls.set(polls.get() + 1);
            own.set(Some(cx.waker().clone()));
            if done.get() { Poll::Ready("done") } else { Poll::Pending }
        }));
        let mut seldom = Seldom::new(future);
        let bell = Arc::clone(&seldom.bell);
        let tasks = [Arc::<Task>::default(), Arc::default()];
        let wakers = tasks.clone().map(Waker::from);
        let mut poll = |task: usize| Pin::new(&mut seldom).poll(&mut Context::from_waker(&wakers[task]));
        let woken = || tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed));
        let ring = || own.take().expect("it was polled").wake();
        for _ in 0..3 {
            assert!(poll(0).is_pending());
        }
        assert_eq!((polls.get(), woken()), (1, [0, 0]));
        ring();
        assert_eq!(woken(), [1, 0]);
        assert!(poll(0).is_pending() && poll(0).is_pending());
        assert_eq!(polls.get(), 2);
        assert!(poll(1).is_pending());
        assert_eq!(polls.get(), 2, "another task is no reason");
        ring();
        assert_eq!(woken(), [1, 1]);
        assert!(poll(1).is_pending());
        // A poll between the two steps of a ring from another thread.
        bell.rung.store(true, Ordering::Release);
        assert!(poll(1).is_pending());
        bell.wake_task();
        assert!(poll(1).is_pending());
        bell.wake_by_ref();
        assert_eq!(woken(), [1, 3], "no later ring is lost");
        done.set(true);
        assert_eq!(poll(1), Poll::Ready("done"));
        assert_eq!(polls.get(), 5);
    }
}
