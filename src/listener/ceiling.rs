//! How many lines strangers can make us write.

use std::time::{Duration, Instant};

/// Lines of one kind in one second. More help nobody to understand what goes on, and what anybody can cause must not fill
/// a disk.
const PER_SECOND: u32 = 50;

const SECOND: Duration = Duration::from_secs(1);

/// Counts the lines of the present second. Pure: the time is an argument.
#[derive(Debug)]
pub struct Ceiling {
    began: Instant,
    written: u32,
}

impl Ceiling {
    /// Nothing is written yet.
    pub fn new(now: Instant) -> Self {
        Self { began: now, written: 0 }
    }

    /// Whether one more line may be written. What may not is counted elsewhere, or told at a quieter level.
    pub fn admit(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= SECOND {
            *self = Self::new(now);
        }
        let admitted = self.written < PER_SECOND;
        self.written += u32::from(admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_fifty_lines_and_the_next_one_fifty_more() {
        let start = crate::clock::now();
        let mut ceiling = Ceiling::new(start);
        for second in 0..3 {
            let now = start + SECOND * second;
            assert_eq!((0..1000).filter(|_| ceiling.admit(now)).count(), 50);
            assert!(!ceiling.admit(now + SECOND - Duration::from_nanos(1)));
        }
    }
}
