//! The id of a decision: the same in the record, in the answer to the client, and in the log.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// 128 bits: 48 of milliseconds since the epoch, 32 of a counter, 48 that are this process's own. Ids of one process
/// sort by time, and within a millisecond by order; two processes never make the same one. Kept as it is printed.
///
/// Printed as `d-` and 26 characters of Crockford's base 32, which sort like the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId([u8; DIGITS + 2]);

/// Crockford's alphabet: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 128 bits in groups of five, the first of them of three.
const DIGITS: usize = 26;

impl DecisionId {
    /// Reads the printed form.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("d-")?;
        // The first digit stands for three bits.
        let is_number =
            digits.bytes().all(|digit| ALPHABET.contains(&digit)) && digits.as_bytes().first() < Some(&b'8');
        text.as_bytes().try_into().ok().filter(|_| is_number).map(Self)
    }

    fn of(number: u128) -> Self {
        let mut text = *b"d-00000000000000000000000000";
        let mut rest = number;
        for digit in text[2..].iter_mut().rev() {
            *digit = ALPHABET[(rest % 32) as usize];
            rest /= 32;
        }
        Self(text)
    }

    /// The printed form, which stands in every record and every forwarded request.
    pub fn text(self) -> [u8; DIGITS + 2] {
        self.0
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes ids. One for the whole process, shared by the shards: an id costs one atomic addition.
#[derive(Debug)]
pub struct DecisionIds {
    process: u64,
    counter: AtomicU32,
}

impl DecisionIds {
    /// With random bits that set this process apart.
    pub fn new(random: u64) -> Self {
        Self { process: random & 0xFFFF_FFFF_FFFF, counter: AtomicU32::new(0) }
    }

    /// The next id, at the time `now`.
    pub fn next(&self, now: SystemTime) -> DecisionId {
        let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()) & 0xFFFF_FFFF_FFFF;
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        DecisionId::of(millis << 80 | u128::from(count) << 48 | u128::from(self.process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn ids_sort_by_time_and_then_by_order_also_as_text() {
        let ids = DecisionIds::new(u64::MAX);
        let made = [ids.next(at(5)), ids.next(at(5)), ids.next(at(6)), ids.next(at(1 << 40))];
        for pair in made.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_string() < pair[1].to_string());
        }
    }

    #[test]
    fn two_processes_never_make_the_same_id() {
        assert_ne!(DecisionIds::new(1).next(at(7)), DecisionIds::new(2).next(at(7)));
    }

    #[test]
    fn the_printed_form_reads_back() {
        for random in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            let id = DecisionIds::new(random).next(at(1_795_000_000_000));
            let printed = id.to_string();
            assert_eq!(printed.len(), 28);
            assert_eq!(DecisionId::parse(&printed), Some(id));
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in
            ["", "d-", "01JDXXXXXXXXXXXXXXXXXXXXXX", "d-0000000000000000000000000", "d-U0000000000000000000000000"]
        {
            assert_eq!(DecisionId::parse(text), None, "{text}");
        }
        assert_eq!(DecisionId::parse("d-ZZZZZZZZZZZZZZZZZZZZZZZZZZ"), None, "more than 128 bits");
    }
}
