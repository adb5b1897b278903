//! How long a connection of HTTP/1.1 waits for each of its requests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::HEAD_TIMEOUT;

/// How often it is looked at within [`HEAD_TIMEOUT`] how long a wait takes, which may be longer by one part.
const PARTS: u32 = 4;

/// See the module. To begin and to end a wait costs no look at a clock.
#[derive(Default)]
pub(super) struct Waits {
    /// Counts their beginnings and their ends: an odd number is a wait.
    turns: AtomicU64,
    over: AtomicBool,
}

/// What was seen at the last look.
#[derive(Default)]
struct Seen {
    turns: u64,
    /// For how many looks it has been so.
    parts: u32,
}

impl Waits {
    /// A wait begins or ends. Only the connection's own task does this.
    pub(super) fn turn(&self) {
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Ready when one has taken too long.
    pub(super) async fn run_out(&self) {
        let mut seen = Seen::default();
        while !self.is_over() {
            tokio::time::sleep(HEAD_TIMEOUT / PARTS).await;
            self.look(&mut seen);
        }
    }

    /// Whether one has.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn look(&self, seen: &mut Seen) {
        let turns = self.turns.load(Ordering::Relaxed);
        let goes_on = turns == seen.turns && turns % 2 == 1;
        *seen = Seen { turns, parts: if goes_on { seen.parts + 1 } else { 0 } };
        if seen.parts == PARTS {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wait_that_takes_too_long_is_over_and_no_number_of_short_ones_or_long_requests() {
        let (waits, mut seen) = (Waits::default(), Seen::default());
        let mut looks = |count: u32| (0..count).for_each(|_| waits.look(&mut seen));
        looks(2 * PARTS);
        for _ in 0..9 {
            waits.turn();
            looks(PARTS);
            waits.turn();
            looks(3 * PARTS);
        }
        assert!(!waits.is_over());
        waits.turn();
        looks(PARTS);
        assert!(!waits.is_over(), "it may have begun just before the first of them");
        looks(1);
        assert!(waits.is_over());
    }
}
