//! Drain: a signal, and those who watch for it.
//!
//! The owner of a server has the [`Drain`]; everything that must end before the process does holds a [`Watch`]: a
//! session, an open stream, a connection of the admin listener.

use tokio::sync::watch;

/// The owner's end. Deliberately not `Clone`: one place decides when it is over.
#[derive(Debug)]
pub struct Drain {
    signal: watch::Sender<bool>,
}

/// The end of whoever must finish; clone it for what is spawned.
#[derive(Clone, Debug)]
pub struct Watch {
    signal: watch::Receiver<bool>,
}

impl Drain {
    /// Nothing is draining yet.
    #[expect(clippy::new_without_default, reason = "a default Drain that nobody signals would be a trap")]
    pub fn new() -> Self {
        Self { signal: watch::Sender::new(false) }
    }

    /// A new watch.
    pub fn watch(&self) -> Watch {
        Watch { signal: self.signal.subscribe() }
    }

    /// Tells every watch, present and future, and does not wait.
    pub fn signal(&self) {
        self.signal.send_replace(true);
    }
}

impl Watch {
    /// Whether it has begun.
    pub fn is_draining(&self) -> bool {
        *self.signal.borrow()
    }

    /// Ready when it begins, and from then on. Cancel-safe. An owner who goes away without draining counts as a signal:
    /// nobody would be left to give it.
    pub async fn draining(&mut self) {
        let _owner_gone = self.signal.wait_for(|draining| *draining).await.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn watches_hear_the_signal_and_those_who_come_late_hear_it_too() {
        let drain = Drain::new();
        let mut early = drain.watch();
        assert!(!early.is_draining());
        {
            let mut waiting = pin!(early.draining());
            assert_eq!(poll(waiting.as_mut()), Poll::Pending);
            drain.signal();
            assert_eq!(poll(waiting.as_mut()), Poll::Ready(()));
        }
        let mut late = drain.watch();
        assert!(early.is_draining() && late.is_draining());
        assert_eq!(poll(pin!(late.draining())), Poll::Ready(()));
    }

    #[test]
    fn an_owner_who_goes_away_counts_as_a_signal() {
        let drain = Drain::new();
        let mut watch = drain.watch();
        drop(drain);
        assert_eq!(poll(pin!(watch.draining())), Poll::Ready(()));
    }
}
