//! Which refused logins get a record of their own, and the sums of the others.
//!
//! Whoever reaches the port can be refused as often as they like, so their number must not decide how much is written.
//! Nothing is lost but the names: every refusal stands in a record of its own or in a sum, and in the metrics.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::listener::Ceiling;

/// What back-off refuses without looking at the proof: says nothing that the refusals before it did not.
const LOCKED: &str = "locked";

/// The refused logins of the present second.
#[derive(Debug)]
pub(super) struct Refusals {
    ceiling: Ceiling,
    /// By reason: at most as many as there are words.
    sums: BTreeMap<&'static str, u64>,
}

impl Refusals {
    pub(super) fn new(now: Instant) -> Self {
        Self { ceiling: Ceiling::new(now), sums: BTreeMap::new() }
    }

    /// Whether a login that is refused with this word gets a record of its own. If not, it is in the next sum.
    pub(super) fn singly(&mut self, word: &'static str, now: Instant) -> bool {
        let singly = word != LOCKED && self.ceiling.admit(now);
        if !singly {
            let sum = self.sums.entry(word).or_default();
            *sum = sum.saturating_add(1);
        }
        singly
    }

    /// Takes the sums since the last time.
    pub(super) fn take_sums(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_told_singly_or_in_a_sum() {
        let now = crate::clock::now();
        let mut refusals = Refusals::new(now);
        let singly = (0..300).filter(|_| refusals.singly("credentials", now)).count();
        assert_eq!(singly, 50);
        assert!(!refusals.singly("binding", now), "the ceiling is one for all");
        assert_eq!(refusals.take_sums(), BTreeMap::from([("credentials", 250), ("binding", 1)]));
        assert_eq!(refusals.take_sums(), BTreeMap::new());
    }

    #[test]
    fn what_back_off_refuses_is_only_summed_and_takes_no_record_from_others() {
        let now = crate::clock::now();
        let mut refusals = Refusals::new(now);
        assert!((0..1000).all(|_| !refusals.singly("locked", now)));
        assert!(refusals.singly("credentials", now));
        assert_eq!(refusals.take_sums(), BTreeMap::from([("locked", 1000)]));
    }
}
