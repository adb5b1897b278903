//! Tokens that were verified a moment ago.
//!
//! Holds facts, never decisions: what a token proves depends on the token, on its issuer's configuration and on the key
//! set, and all three are in the key of an entry. Whose tunnel it may count in, and what it may do, is judged anew each
//! time. Refusals are not kept.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::jwt::Verified;

/// The most tokens that are remembered; at 16 KiB each 64 MiB, at an ordinary 1 KiB some 8 MiB.
pub(super) const MAX_VERDICTS: usize = 4096;

/// Parts with a lock of their own, so that shards do not wait for each other.
const PARTS: usize = 16;

pub(super) type TokenHash = [u8; 32];

/// One verified token, and what it was verified with.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The issuer's configuration.
    pub(super) issuer: u64,
    /// The key set.
    pub(super) epoch: u64,
    pub(super) verified: Arc<Verified>,
}

impl Verdict {
    /// When the token ends.
    pub fn counts_until(&self) -> SystemTime {
        self.verified.counts_until
    }

    pub(super) fn counts_at(&self, wall: SystemTime) -> bool {
        self.verified.counts_from <= wall && wall < self.verified.counts_until
    }
}

impl Deref for Verdict {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.verified
    }
}

#[derive(Debug, Default)]
pub(super) struct Verdicts {
    parts: [Mutex<HashMap<TokenHash, Verdict>>; PARTS],
}

impl Verdicts {
    pub(super) fn find(&self, token: &TokenHash) -> Option<Verdict> {
        self.part(token).get(token).cloned()
    }

    pub(super) fn insert(&self, token: TokenHash, verdict: Verdict, now: SystemTime) {
        let mut part = self.part(&token);
        if part.len() >= MAX_VERDICTS / PARTS && !part.contains_key(&token) {
            part.retain(|_, verdict| now < verdict.verified.counts_until);
        }
        if part.len() >= MAX_VERDICTS / PARTS && !part.contains_key(&token) {
            let first = part.iter().min_by_key(|(_, verdict)| verdict.verified.counts_until).map(|(token, _)| *token);
            if let Some(first) = first {
                part.remove(&first);
            }
        }
        part.insert(token, verdict);
    }

    pub(super) fn remove(&self, token: &TokenHash) {
        self.part(token).remove(token);
    }

    fn part(&self, token: &TokenHash) -> MutexGuard<'_, HashMap<TokenHash, Verdict>> {
        let [first, ..] = *token;
        let part = self.parts.get(usize::from(first) % PARTS).expect("a remainder is below its divisor");
        // No code panics while it holds the lock, and a map of facts is right at every moment.
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap().len()).sum()
    }
}
